"""What only two workers at once can break."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, String, exists, func, insert, literal, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from quality.schema import contacts, counters, imports, orders, products, reservations, seats, users


def check_then_insert(engine: Engine, email: str) -> None:
    with engine.begin() as connection:
        if connection.execute(select(users.c.id).where(users.c.email == email)).first() is None:
            connection.execute(insert(users).values(email=email))


class Base(DeclarativeBase):
    pass


class Country(Base):
    __tablename__ = "countries"
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(String(2))


def get_or_create(engine: Engine, code: str) -> None:
    """The ORM's idiom, without the constraint that it needs."""
    with Session(engine) as session:
        country = session.scalars(select(Country).where(Country.code == code)).first()
        if country is None:
            session.add(Country(code=code))
            session.commit()


def take_seat(engine: Engine, seat: str, guest: str) -> None:
    """Looked up in one transaction, taken in another."""
    with engine.connect() as connection:
        taken = connection.execute(select(seats.c.taken).where(seats.c.number == seat)).scalar_one()
    if taken:
        return
    with engine.begin() as connection:
        connection.execute(update(seats).where(seats.c.number == seat).values(taken=True))
        connection.execute(insert(reservations).values(seat=seat, guest=guest))


def take_stock(engine: Engine, order_id: int, sku: str) -> None:
    """One transaction is not enough where the check takes no lock."""
    with engine.begin() as connection:
        if connection.execute(select(orders.c.stock_taken).where(orders.c.id == order_id)).scalar_one():
            return
        connection.execute(update(products).where(products.c.sku == sku).values(stock=products.c.stock - 1))
        connection.execute(update(orders).where(orders.c.id == order_id).values(stock_taken=True))


def insert_where_not_exists(engine: Engine, email: str) -> None:
    """One statement is not atomic against another one's uncommitted row (READ COMMITTED)."""
    missing = select(literal(email)).where(~exists().where(contacts.c.email == email))
    with engine.begin() as connection:
        connection.execute(insert(contacts).from_select(["email"], missing))


def check_then_push(redis: Any, event: str) -> None:
    if redis.lpos("events", event) is None:
        redis.rpush("events", event)


def watch_too_late(redis: Any, event: str) -> None:
    """WATCH guards what is read after it; this one looked before."""
    if redis.sismember("seen", event):
        return
    with redis.pipeline() as pipeline:
        pipeline.watch("seen")
        pipeline.multi()
        pipeline.sadd("seen", event)
        pipeline.rpush("events", event)
        pipeline.execute()


def watch_without_multi(redis: Any, event: str) -> None:
    """In immediate mode, after WATCH and without MULTI, commands are sent as they come: nothing is guarded."""
    with redis.pipeline() as pipeline:
        pipeline.watch("events")
        if pipeline.lpos("events", event) is None:
            pipeline.rpush("events", event)


def set_flag_with_get(redis: Any, gateway: Any, order_id: int) -> None:
    """Charged under a key of its own, so that a crash is harmless; but the tally is not."""
    if redis.hget("charged", str(order_id)):
        return
    gateway.charge(order_id, idempotency_key=f"order-{order_id}")
    with redis.pipeline(transaction=True) as pipeline:
        pipeline.hset("charged", str(order_id), "1")
        pipeline.incr("charged:total")
        pipeline.execute()


def count_imported(engine: Engine, files: list[str]) -> None:
    """A total that is read, kept in a variable and written back: what came in between is overwritten."""
    for file in files:
        with engine.begin() as connection:
            if connection.execute(select(imports.c.state).where(imports.c.file == file)).first() is not None:
                continue
            connection.execute(insert(imports).values(file=file, state="done"))
        with engine.connect() as connection:
            total = connection.execute(select(func.count()).select_from(imports)).scalar_one()
        with engine.begin() as connection:
            connection.execute(update(counters).where(counters.c.name == "files").values(value=total))


def keep_balance(engine: Engine, steps: dict[str, int]) -> None:
    """Each step is marked once, and the balance goes through a variable between its SELECT and its UPDATE."""
    for step, cents in steps.items():
        with engine.begin() as connection:
            if connection.execute(select(imports.c.state).where(imports.c.file == step)).first() is not None:
                continue
            connection.execute(insert(imports).values(file=step, state="done"))
        with engine.connect() as connection:
            value = connection.execute(
                select(counters.c.value).where(counters.c.name == "files")
            ).scalar_one()
        with engine.begin() as connection:
            connection.execute(update(counters).where(counters.c.name == "files").values(value=value + cents))


def keep_score(redis: Any, points: dict[str, int]) -> None:
    """GET and SET of one key with another delivery's SET in between."""
    for reason, count in points.items():
        if redis.sadd("counted", reason):
            redis.set("score", int(redis.get("score") or 0) + count)
