"""Jobs that meet themselves and hold: claims, versions, locks and constraints as people use them.

Each of them holds for a duplicate, for two deliveries at once, and for a worker that dies anywhere: where a claim comes
before the work, the work is in the claim's transaction, or the claim can be taken over.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from redis.exceptions import LockError, WatchError
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker
from sqlalchemy.orm.exc import StaleDataError

from safe.sql import add_if_new

if TYPE_CHECKING:
    from collections.abc import Iterator

metadata = MetaData()
Redis = Any

orders = Table(
    "shop_orders",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("status", String(20), nullable=False),
    Column("owner", String(40)),
    Column("leased_until", Float),
    Column("version", Integer, nullable=False, default=1),
)
shipments = Table(
    "shop_shipments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("order_id", Integer, nullable=False, index=True),
    sqlite_autoincrement=True,
)
"""No unique key: only the lock or the claim keeps a second row away."""
holds = Table(
    "shop_holds",
    metadata,
    Column("order_id", Integer, primary_key=True, autoincrement=False),
    Column("since", BigInteger),
)
"""Milliseconds."""
claims = Table("shop_claims", metadata, Column("name", String(60), primary_key=True))
balances = Table(
    "shop_balances",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("cents", Integer, nullable=False),
)
invoices = Table(
    "shop_invoices",
    metadata,
    Column("order_id", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, nullable=False, unique=True),
)
outbox = Table(
    "shop_outbox",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("event", String(60), nullable=False, unique=True),
    Column("body", Text, nullable=False),
    sqlite_autoincrement=True,
)
inbox = Table(
    "shop_inbox",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("body", String(40), nullable=False),
)
archive = Table(
    "shop_archive",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("body", String(40), nullable=False),
    sqlite_autoincrement=True,
)
plans = Table(
    "shop_plans",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("customer", String(40), nullable=False),
    Column("state", String(20), nullable=False),
    sqlite_autoincrement=True,
)
one_active = Index(
    "one_active_plan",
    plans.c.customer,
    unique=True,
    postgresql_where=plans.c.state == "active",
    sqlite_where=plans.c.state == "active",
)

SHOP = (orders, shipments)


def seed_order(world: Any) -> None:
    with world.db.begin() as connection:
        connection.execute(insert(orders).values(id=7, status="new", version=1))


def seed_hold(world: Any) -> None:
    seed_order(world)
    with world.db.begin() as connection:
        connection.execute(insert(holds).values(order_id=7))


def seed_balances(world: Any) -> None:
    seed_order(world)
    with world.db.begin() as connection:
        connection.execute(insert(balances), [{"name": "ada", "cents": 500}, {"name": "grace", "cents": 0}])


def seed_inbox(world: Any) -> None:
    with world.db.begin() as connection:
        connection.execute(insert(inbox), [{"id": 1, "body": "hello"}, {"id": 2, "body": "bye"}])


def seed_plans(world: Any) -> None:
    with world.db.begin() as connection:
        connection.execute(insert(plans).values(customer="ada", state="ended"))


class Busy(Exception):
    """Another worker is on it: the queue shall come again."""


def _status(connection: Connection, order: int) -> str:
    return str(connection.execute(select(orders.c.status).where(orders.c.id == order)).scalar_one())


def _ship(connection: Connection, order: int) -> None:
    connection.execute(insert(shipments).values(order_id=order))
    connection.execute(update(orders).where(orders.c.id == order).values(status="shipped"))


def _ship_if_new(connection: Connection, order: int) -> None:
    if _status(connection, order) == "new":
        _ship(connection, order)


def _shipped(db: Engine, order: int) -> bool:
    with db.connect() as connection:
        return _status(connection, order) == "shipped"


# -- claims in the same transaction --------------------------------------------------------------------------------


def claim_row_first(db: Engine, order: int) -> None:
    """The claim's key blocks the other one until this transaction has ended, well or badly."""
    try:
        with db.begin() as connection:
            connection.execute(insert(claims).values(name=f"ship {order}"))
            _ship(connection, order)
    except IntegrityError:
        return


def claim_row_in_savepoint(db: Engine, order: int) -> None:
    """The violation undoes the savepoint, and the transaction goes on."""
    with db.begin() as connection:
        try:
            with connection.begin_nested():
                connection.execute(insert(claims).values(name=f"ship {order}"))
        except IntegrityError:
            return
        _ship(connection, order)


def claim_row_if_new(db: Engine, order: int) -> None:
    """ON CONFLICT DO NOTHING, or INSERT IGNORE, and a look at the row count."""
    with db.begin() as connection:
        if add_if_new(connection, claims, name=f"ship {order}"):
            _ship(connection, order)


def claim_by_status(db: Engine, order: int) -> None:
    """UPDATE ... WHERE status = 'new' locks the row; the row count says who came first."""
    with db.begin() as connection:
        mine = connection.execute(
            update(orders).where(orders.c.id == order, orders.c.status == "new").values(status="shipped")
        )
        if mine.rowcount:
            connection.execute(insert(shipments).values(order_id=order))


def claim_by_returning(db: Engine, order: int) -> None:
    """The same, where the row itself comes back."""
    with db.begin() as connection:
        mine = connection.execute(
            update(orders)
            .where(orders.c.id == order, orders.c.status == "new")
            .values(status="shipped")
            .returning(orders.c.id)
        ).first()
        if mine is not None:
            connection.execute(insert(shipments).values(order_id=mine.id))


def move_to_archive(db: Engine, message: int) -> None:
    """Whoever deletes the row moves it."""
    with db.begin() as connection:
        body = connection.execute(select(inbox.c.body).where(inbox.c.id == message)).scalar()
        if connection.execute(delete(inbox).where(inbox.c.id == message)).rowcount:
            connection.execute(insert(archive).values(body=body))


def transfer_with_outbox(db: Engine, order: int, payer: str, payee: str, cents: int) -> None:
    """Two balances, in the order of their names, and an outbox whose key is the claim."""
    with db.begin() as connection:
        if not add_if_new(connection, outbox, event=f"paid {order}", body=f"{payer} to {payee}: {cents}"):
            return
        for name, amount in sorted([(payer, -cents), (payee, cents)]):
            connection.execute(
                update(balances).where(balances.c.name == name).values(cents=balances.c.cents + amount)
            )


def start_plan(db: Engine, customer: str) -> None:
    """A partial unique index: one active plan per customer, whatever has ended before."""
    try:
        with db.begin() as connection:
            connection.execute(insert(plans).values(customer=customer, state="active"))
    except IntegrityError:
        return


def number_invoice(db: Engine, order: int) -> int:
    """max + 1, and once more if somebody was quicker; both keys are unique."""
    for _ in range(5):
        try:
            with db.begin() as connection:
                known = connection.execute(select(invoices.c.number).where(invoices.c.order_id == order))
                number = known.scalar()
                if number is None:
                    highest = connection.execute(select(func.max(invoices.c.number))).scalar()
                    number = (highest or 1000) + 1
                    connection.execute(insert(invoices).values(order_id=order, number=number))
                return int(number)
        except IntegrityError:
            continue
    raise Busy(order)


class Base(DeclarativeBase):
    pass


class Contact(Base):
    __tablename__ = "shop_contacts"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(80), unique=True)


class Address(Base):
    __tablename__ = "shop_addresses"

    contact_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    city: Mapped[str] = mapped_column(String(40))


def get_or_create_contact(db: Engine, email: str, city: str) -> None:
    """Look, add in a savepoint, look again; then merge what hangs on it."""
    with Session(db) as session, session.begin():
        wanted = select(Contact).where(Contact.email == email)
        contact = session.scalars(wanted).first()
        if contact is None:
            contact = Contact(email=email)
            try:
                with session.begin_nested():
                    session.add(contact)
            except IntegrityError:
                # FOR UPDATE reads what is committed, also where the transaction has a snapshot.
                contact = session.scalars(wanted.with_for_update()).one()
        try:
            with session.begin_nested():
                session.merge(Address(contact_id=contact.id, city=city))
        except IntegrityError:
            pass


# -- locks of the database ------------------------------------------------------------------------------------------


def lock_then_look(db: Engine, order: int) -> None:
    """SELECT ... FOR UPDATE comes first, so that the look sees what the other one has done."""
    with db.begin() as connection:
        status = connection.execute(
            select(orders.c.status).where(orders.c.id == order).with_for_update()
        ).scalar_one()
        if status == "new":
            _ship(connection, order)


class Parcel(Base):
    __tablename__ = "shop_parcels"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sent: Mapped[bool] = mapped_column(default=False)
    labels: Mapped[int] = mapped_column(default=0)
    version: Mapped[int] = mapped_column(default=1)

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012


def seed_parcel(world: Any) -> None:
    with Session(world.db) as session:
        session.add(Parcel(id=1, sent=False, labels=0))
        session.commit()


def refresh_under_lock(db: Engine, parcel_id: int) -> None:
    """The object was looked at before; locking it reads it again."""
    with Session(db) as session:
        if session.get_one(Parcel, parcel_id).sent:
            return
        session.commit()
        parcel = session.get_one(Parcel, parcel_id, with_for_update=True, populate_existing=True)
        if not parcel.sent:
            parcel.sent, parcel.labels = True, parcel.labels + 1
        session.commit()


def retry_stale_version(db: Engine, parcel_id: int) -> None:
    """The ORM's version counter; who has read an old one starts over."""
    for _ in range(5):
        try:
            with Session(db) as session, session.begin():
                parcel = session.get_one(Parcel, parcel_id)
                if parcel.sent:
                    return
                parcel.sent, parcel.labels = True, parcel.labels + 1
            return
        except StaleDataError:
            continue
    raise Busy(parcel_id)


def _code(error: DBAPIError) -> object:
    """SQLSTATE of PostgreSQL, the number of MariaDB."""
    number = error.orig.args[0] if error.orig is not None and error.orig.args else None
    if isinstance(number, int):
        return number
    return getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)


_LOCKED = ("55P03", 1205, 3572)
_TRY_AGAIN = ("40001", "40P01", 1213, 1020)


def leave_it_to_the_other(db: Engine, order: int) -> None:
    """NOWAIT: who finds the row locked is content. If the other one dies, its own redelivery does the work."""
    try:
        with db.begin() as connection:
            status = connection.execute(
                select(orders.c.status).where(orders.c.id == order).with_for_update(nowait=True)
            ).scalar_one()
            if status == "new":
                _ship(connection, order)
    except OperationalError as error:
        if _code(error) not in _LOCKED:
            raise


def come_back_later(db: Engine, order: int) -> None:
    """NOWAIT, and another try after a pause."""
    for _ in range(10):
        try:
            with db.begin() as connection:
                status = connection.execute(
                    select(orders.c.status).where(orders.c.id == order).with_for_update(nowait=True)
                ).scalar_one()
                if status == "new":
                    _ship(connection, order)
            return
        except OperationalError as error:
            if _code(error) not in _LOCKED:
                raise
        time.sleep(0.2)
    raise Busy(order)


def skip_what_is_locked(db: Engine, order: int) -> None:
    """SKIP LOCKED, and the mark in the same transaction."""
    with db.begin() as connection:
        mine = connection.execute(
            select(orders.c.id)
            .where(orders.c.id == order, orders.c.status == "new")
            .with_for_update(skip_locked=True)
        ).first()
        if mine is not None:
            _ship(connection, order)


def ship_under_session_lock(db: Engine, order: int) -> None:
    """pg_advisory_lock outlives the transaction; with a connection of its own it ends when that is closed at the latest."""
    with db.connect() as connection:
        # Not back to the pool: what an interrupted unlock leaves behind must not go to the next one.
        connection.detach()
        connection.execute(select(func.pg_advisory_lock(order)))
        connection.commit()
        try:
            with connection.begin():
                _ship_if_new(connection, order)
        finally:
            connection.execute(select(func.pg_advisory_unlock(order)))


def ship_if_nobody_does(db: Engine, order: int) -> None:
    """pg_try_advisory_xact_lock: whoever does not get it leaves the work to who has it."""
    with db.begin() as connection:
        if connection.execute(select(func.pg_try_advisory_xact_lock(order))).scalar():
            _ship_if_new(connection, order)


def ship_under_get_lock(db: Engine, order: int) -> None:
    """GET_LOCK around a whole transaction, on a connection that is closed afterwards."""
    lock = func.concat(func.database(), ":ship:", order)
    with db.connect() as connection:
        connection.detach()
        if connection.execute(select(func.get_lock(lock, 10))).scalar() != 1:
            raise Busy(order)
        connection.commit()
        try:
            with connection.begin():
                _ship_if_new(connection, order)
        finally:
            connection.execute(select(func.release_lock(lock)))


def retry_serialization_failure(db: Engine, order: int) -> None:
    """SERIALIZABLE: check, then insert; the codes that mean "once more" are asked for by name."""
    serial = db.execution_options(isolation_level="SERIALIZABLE")
    for _ in range(5):
        try:
            with serial.begin() as connection:
                known = select(shipments.c.id).where(shipments.c.order_id == order)
                if connection.execute(known).first() is None:
                    connection.execute(insert(shipments).values(order_id=order))
            return
        except OperationalError as error:
            if _code(error) not in _TRY_AGAIN:
                raise
    raise Busy(order)


def retry_deadlock(db: Engine, order: int) -> None:
    """Two shared locks that both want to write: one is the victim, tries again, and finds the work done."""
    for _ in range(5):
        try:
            with db.begin() as connection:
                status = connection.execute(
                    select(orders.c.status).where(orders.c.id == order).with_for_update(read=True)
                ).scalar_one()
                if status == "new":
                    _ship_after_update(connection, order)
            return
        except OperationalError as error:
            if _code(error) not in _TRY_AGAIN:
                raise
    raise Busy(order)


def _ship_after_update(connection: Connection, order: int) -> None:
    connection.execute(update(orders).where(orders.c.id == order).values(status="shipped"))
    connection.execute(insert(shipments).values(order_id=order))


def compare_version_in_where(db: Engine, order: int) -> None:
    """Read in one transaction, written in another, if nobody has written in between."""
    for _ in range(5):
        with db.connect() as connection:
            row = connection.execute(select(orders).where(orders.c.id == order)).one()
        if row.status == "shipped":
            return
        with db.begin() as connection:
            mine = connection.execute(
                update(orders)
                .where(orders.c.id == order, orders.c.version == row.version)
                .values(status="shipped", version=row.version + 1)
            )
            if mine.rowcount:
                connection.execute(insert(shipments).values(order_id=order))
                return
    raise Busy(order)


# -- claims that outlive a transaction -------------------------------------------------------------------------------


def take_over_when_lease_is_over(db: Engine, order: int) -> None:
    """new -> working (whose, until when) -> shipped; each step asks for the one before, the last one for its owner."""
    me, now = uuid.uuid4().hex, time.time()
    with db.begin() as connection:
        free = (orders.c.status == "new") | ((orders.c.status == "working") & (orders.c.leased_until <= now))
        mine = connection.execute(
            update(orders)
            .where(orders.c.id == order, free)
            .values(status="working", owner=me, leased_until=now + 60)
        )
        if not mine.rowcount:
            if _status(connection, order) == "shipped":
                return
            raise Busy(order)
    with db.begin() as connection:
        still_mine = connection.execute(
            update(orders)
            .where(orders.c.id == order, orders.c.owner == me)
            .values(status="shipped", owner=None, leased_until=None)
        )
        if not still_mine.rowcount:
            raise Busy(order)
        connection.execute(insert(shipments).values(order_id=order))


def take_over_what_is_old(db: Engine, order: int) -> None:
    """The same with the age of a hold in place of its end: the last step asks for the very hold that the first one took."""
    now = int(time.time() * 1000)
    old = now - 120_000
    with db.begin() as connection:
        free = (holds.c.since.is_(None)) | (holds.c.since < old)
        if not connection.execute(
            update(holds).where(holds.c.order_id == order, free).values(since=now)
        ).rowcount:
            raise Busy(order)
    with db.begin() as connection:
        mine = update(holds).where(holds.c.order_id == order, holds.c.since == now).values(since=None)
        if not connection.execute(mine).rowcount:
            raise Busy(order)
        if _status(connection, order) == "new":
            connection.execute(update(orders).where(orders.c.id == order).values(status="shipped"))
            connection.execute(insert(shipments).values(order_id=order))


def ship_under_lease_in_a_value(db: Engine, redis: Any, order: int) -> None:
    """A lease in a value keeps most away; the status in the same transaction as the shipment keeps all away."""
    lock, now = f"lock:{order}", time.time()
    lease = json.dumps({"by": uuid.uuid4().hex, "until": now + 30})
    if not redis.setnx(lock, lease):
        held = redis.get(lock)
        if held is not None and json.loads(held)["until"] > now:
            raise Busy(order)
        redis.set(lock, lease)
    claim_by_status(db, order)
    redis.delete(lock)


def charge_under_key(db: Engine, gateway: Any, order: int) -> None:
    """The call bears a key, so that the provider makes one of two; the mark asks for the status."""
    if _shipped(db, order):
        return
    gateway.charge(order, idempotency_key=f"order-{order}")
    claim_by_status(db, order)


# -- locks and claims in Redis -----------------------------------------------------------------------------------------

_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


def ship_under_breakable_lock(db: Engine, cache: Redis, order: int) -> None:
    """An old lock is broken by whoever finds it as it was seen; nobody breaks the one that came in its place."""
    name = f"lock:{order}"
    held = cache.get(name)
    if held is not None:
        if time.time() - float(held.split(b":")[0]) < 300:
            raise RuntimeError(f"order {order} is being shipped by another worker")
        cache.eval(_RELEASE, 1, name, held)
    mine = f"{time.time()}:{uuid.uuid4().hex}"
    if not cache.set(name, mine, nx=True):
        raise RuntimeError(f"order {order} is being shipped by another worker")
    try:
        with db.begin() as connection:
            _ship_if_new(connection, order)
    finally:
        cache.eval(_RELEASE, 1, name, mine)


def ship_under_lock_left_to_expire(db: Engine, cache: Redis, order: int) -> None:
    """Who finds the order shipped goes home and leaves the lock to its half minute."""
    if not cache.set(f"lock:{order}", "1", nx=True, ex=30):
        raise Busy(order)
    with db.begin() as connection:
        new = (orders.c.id == order) & (orders.c.status == "new")
        if not connection.execute(update(orders).where(new).values(status="shipped")).rowcount:
            return
        connection.execute(insert(shipments).values(order_id=order))
    cache.delete(f"lock:{order}")


def ship_under_redis_lock(db: Engine, cache: Redis, order: int) -> None:
    """redis-py's Lock keeps the others waiting; should it run out, the status in the WHERE decides."""
    try:
        with cache.lock(f"ship:{order}", timeout=60, blocking_timeout=120):
            claim_by_status(db, order)
    except LockError:
        if not _shipped(db, order):
            raise


def ship_under_claim(db: Engine, cache: Redis, order: int) -> None:
    """SET NX keeps most duplicates away from the database, whose unique key keeps the rest."""
    if _shipped(db, order):
        return
    claim, me = f"claim:{order}", uuid.uuid4().hex
    if not cache.set(claim, me, nx=True, ex=60) and cache.get(claim) != me.encode():
        raise Busy(order)
    try:
        claim_row_if_new(db, order)
    finally:
        cache.eval(_RELEASE, 1, claim, me)


def ship_as_first(db: Engine, cache: Redis, order: int) -> None:
    """INCR == 1 is the claim, which expires; the work can be repeated."""
    with cache.pipeline(transaction=True) as pipeline:
        pipeline.incr(f"turn:{order}")
        pipeline.expire(f"turn:{order}", 60)
        turn = pipeline.execute()[0]
    if turn > 1 and not _shipped(db, order):
        raise Busy(order)
    claim_by_status(db, order)
    cache.delete(f"turn:{order}")


def mark_after_work(db: Engine, cache: Redis, order: int) -> None:
    """A set of what is done saves the database a question; it is written last, and the work can be repeated."""
    if cache.sismember("shipped", order):
        return
    claim_by_status(db, order)
    cache.sadd("shipped", order)


def note_and_work(db: Engine, cache: Redis, order: int) -> bool:
    """ZADD NX says whether the order is new to Redis; the work is done in either case, and once."""
    first = cache.zadd("orders", {str(order): 1700000000}, nx=True)
    claim_by_status(db, order)
    return bool(first)


def pay_in_transaction(cache: Redis, order: str, cents: int) -> None:
    """redis-py's transaction(): WATCH, look, MULTI, and all of it again if anything was written meanwhile."""

    def pay(pipeline: Any) -> None:
        paid, balance = pipeline.hexists("paid", order), int(pipeline.get("balance") or 0)
        pipeline.multi()
        if not paid:
            pipeline.set("balance", balance + cents)
            pipeline.hset("paid", order, cents)

    cache.transaction(pay, "paid", "balance")


def push_if_missing(cache: Redis, event: str) -> None:
    """WATCH the list itself; who is disturbed looks again."""
    with cache.pipeline() as pipeline:
        for _ in range(10):
            try:
                pipeline.watch("events")
                if pipeline.lpos("events", event) is not None:
                    return
                pipeline.multi()
                pipeline.rpush("events", event)
                pipeline.execute()
                return
            except WatchError:
                continue
    raise Busy(event)


_ADVANCE = """
if redis.call('HGET', KEYS[1], 'state') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'state', ARGV[2])
redis.call('HINCRBY', KEYS[1], 'moves', 1)
return 1
"""


def seed_machine(world: Any) -> None:
    world.redis.hset("machine:1", mapping={"state": "off", "moves": 0})


def switch_on(cache: Redis, machine: int) -> bool:
    """Compare and set in Lua."""
    return bool(cache.eval(_ADVANCE, 1, f"machine:{machine}", "off", "on"))


def build_then_rename(cache: Redis, members: list[str]) -> None:
    """A new set is built beside the old one, under a name of its own, and takes its place at once."""
    building = f"building:{uuid.uuid4().hex}"
    with cache.pipeline(transaction=True) as pipeline:
        pipeline.sadd(building, *members)
        pipeline.expire(building, 300)
        pipeline.execute()
    with cache.pipeline(transaction=True) as pipeline:
        pipeline.persist(building)
        pipeline.rename(building, "members")
        pipeline.execute()


# -- what belongs to the thread, the context, or the process ------------------------------------------------------------

_local = threading.local()
_current: ContextVar[Session] = ContextVar("shop_session")
_one_at_a_time = threading.Lock()
Scoped = scoped_session(sessionmaker())


def bind_scoped(world: Any) -> None:
    seed_order(world)
    Scoped.remove()
    Scoped.configure(bind=world.db)
    world.extra["scoped"] = Scoped


def ship_scoped(order: int) -> None:
    """A session per thread: what the other thread has begun is not in here."""
    try:
        mine = Scoped.execute(
            update(orders).where(orders.c.id == order, orders.c.status == "new").values(status="shipped")
        )
        if mine.rowcount:
            Scoped.execute(insert(shipments).values(order_id=order))
        Scoped.commit()
    finally:
        Scoped.remove()


def ship_thread_local(db: Engine, order: int) -> None:
    """A connection per thread, found by whoever works deeper in the call stack."""
    with db.begin() as _local.connection:
        try:
            _claim_here(order)
        finally:
            del _local.connection


def _claim_here(order: int) -> None:
    if add_if_new(_local.connection, claims, name=f"ship {order}"):
        _ship(_local.connection, order)


@contextmanager
def _unit_of_work(db: Engine) -> Iterator[None]:
    with Session(db) as session, session.begin():
        token = _current.set(session)
        try:
            yield
        finally:
            _current.reset(token)


def ship_in_context(db: Engine, order: int) -> None:
    """A session per context variable."""
    with _unit_of_work(db):
        session = _current.get()
        mine = session.execute(
            update(orders).where(orders.c.id == order, orders.c.status == "new").values(status="shipped")
        )
        if mine.rowcount:
            session.execute(insert(shipments).values(order_id=order))


def ship_under_lock_of_the_process(db: Engine, order: int) -> None:
    """Threads of one worker wait here; those of other workers, at the key."""
    with _one_at_a_time:
        claim_row_if_new(db, order)


def upsert_newer(db: Engine, name: str, cents: int) -> None:
    """ON CONFLICT DO UPDATE ... WHERE: only what is newer is written."""
    with db.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO shop_balances (name, cents) VALUES (:name, :cents) "
                "ON CONFLICT (name) DO UPDATE SET cents = excluded.cents WHERE excluded.cents > shop_balances.cents"
            ),
            {"name": name, "cents": cents},
        )
