"""Right jobs that keep something in their process's memory: none of it guards."""

from __future__ import annotations

import functools
import os
import threading
import uuid
from typing import Any

from sqlalchemy import (
    Column,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    insert,
    select,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

metadata = MetaData()
parcels = Table(
    "memory_parcels",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("order_no", String(40), unique=True),
    Column("zone", String(40)),
)
zones = Table(
    "memory_zones", metadata, Column("name", String(40), primary_key=True), Column("label", String(40))
)


class Base(DeclarativeBase):
    metadata = metadata


class Customer(Base):
    """Its ``vans`` come into being when the first query configures all mappings, so within the first delivery."""

    __tablename__ = "memory_customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40))


class Van(Base):
    __tablename__ = "memory_vans"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("memory_customers.id"), unique=True)
    customer = relationship(Customer, backref="vans")


class Depot:
    """An application's own object around an engine."""

    def __init__(self, url: str) -> None:
        self.engine = create_engine(url)


_depot: Depot | None = None
_labels: dict[str, str] = {}
_engine: Engine | None = None
_engines: dict[str, Engine] = {}
_lock = threading.Lock()
_handled: list[str] = []


def seed_zones(world: Any) -> None:
    with world.db.begin() as connection:
        connection.execute(
            insert(zones), [{"name": "eu", "label": "Europe"}, {"name": "us", "label": "America"}]
        )


def _send(db: Engine, order_no: str, zone: str) -> None:
    try:
        with db.begin() as connection:
            connection.execute(insert(parcels).values(order_no=order_no, zone=zone))
    except IntegrityError:
        pass


def _label(db: Engine, zone: str) -> str:
    if zone not in _labels:
        with db.connect() as connection:
            _labels[zone] = connection.execute(select(zones.c.label).where(zones.c.name == zone)).scalar_one()
    return _labels[zone]


def send_with_remembered_label(db: Engine, order_no: str, zone: str) -> None:
    """A look-up is kept; whoever does not have it looks again."""
    _send(db, order_no, _label(db, zone))


def send_by_lazy_engine(url: str, order_no: str) -> None:
    """The engine is made when it is first needed."""
    global _engine
    with _lock:
        if _engine is None or str(_engine.url) != str(create_engine(url).url):
            _engine = create_engine(url)
    _send(_engine, order_no, "eu")


def seed_customer(world: Any) -> None:
    with world.db.begin() as connection:
        connection.execute(insert(Customer).values(id=1, name="Ada"))


def give_a_van(db: Engine) -> None:
    """A relationship's other side, and a unique key."""
    with Session(db) as session:
        customer = session.scalars(select(Customer)).one()
        if not customer.vans:
            session.add(Van(customer=customer))
            try:
                session.commit()
            except IntegrityError:
                session.rollback()


def send_by_lazy_depot(url: str, order_no: str) -> None:
    """An object of the application's own around an engine, made when it is first needed."""
    global _depot
    if _depot is None or str(_depot.engine.url) != str(create_engine(url).url):
        _depot = Depot(url)
    _send(_depot.engine, order_no, "eu")


def send_by_engine_in_dict(url: str, order_no: str) -> None:
    """One engine for each URL."""
    if url not in _engines:
        _engines[url] = create_engine(url)
    _send(_engines[url], order_no, "eu")


@functools.lru_cache
def _engine_for(url: str) -> Engine:
    return create_engine(url)


def send_by_memoised_engine(url: str, order_no: str) -> None:
    _send(_engine_for(url), order_no, "eu")


@functools.cache
def _settings(*names: str, default: str = "") -> dict[str, str]:
    return {name: os.environ.get(name, default) for name in names}


def send_by_memoised_settings(db: Engine, order_no: str) -> None:
    zone = _settings("IDEMFUZZ_TEST_ZONE", default="eu")["IDEMFUZZ_TEST_ZONE"]
    _send(db, order_no, zone)


def send_under_a_lock_too(db: Engine, order_no: str) -> None:
    """The lock of the process spares the database some work; the unique key is what guards."""
    with _lock:
        _send(db, order_no, "eu")
        _handled.append(order_no)


@functools.lru_cache(maxsize=1)
def _worker() -> str:
    return uuid.uuid4().hex


def push_as_this_worker(redis: Any, event: str) -> None:
    """The lock's token is the worker's own, made once in its life."""
    lock = redis.lock(f"lock:{event}", timeout=30)
    lock.acquire(token=_worker())
    try:
        redis.sadd("events", event)
    finally:
        if redis.get(f"lock:{event}") == _worker().encode():
            lock.release()


def count_what_was_handled(db: Engine, order_no: str) -> None:
    """What the test looks at in the end is not asked by the job."""
    _send(db, order_no, "eu")
    _handled.append(order_no)


def handled() -> list[str]:
    return list(_handled)
