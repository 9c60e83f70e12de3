"""Jobs that are right one after another and wrong at the same time: the lock, the check or the claim is misplaced.

Unlike `races`, most of these have a guard; it stands beside the door. A kill, a repetition or a lost reply alone does no
harm to a job here unless its line in the table says so.
"""

from __future__ import annotations

import threading
import time
import uuid
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, delete, func, insert, literal, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from quality.keys import Busy
from quality.schema import (
    accounts,
    contacts,
    imports,
    notifications,
    orders,
    products,
    users,
)
from quality.updates import upsert_one_more

RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


def _status(connection: Connection, order_id: int) -> str:
    return str(connection.execute(select(orders.c.status).where(orders.c.id == order_id)).scalar_one())


def _look(engine: Engine, order_id: int) -> str:
    """In a transaction of its own."""
    with engine.connect() as connection:
        return _status(connection, order_id)


def _ship(connection: Connection, order_id: int) -> None:
    connection.execute(insert(notifications).values(order_id=order_id, text="shipped"))
    connection.execute(update(orders).where(orders.c.id == order_id).values(status="shipped"))


def _ship_if_new(connection: Connection, order_id: int) -> None:
    if _status(connection, order_id) == "new":
        _ship(connection, order_id)


# -- no lock at all: a look, then an act ----------------------------------------------------------------------------


def invite(engine: Engine, email: str) -> None:
    """The look goes to two tables, the row into the second."""
    with engine.begin() as connection:
        for table in (users, contacts):
            if connection.execute(select(table.c.id).where(table.c.email == email)).first() is not None:
                return
        connection.execute(insert(contacts).values(email=email))


def invite_repeatable_read(engine: Engine, email: str) -> None:
    """Both snapshots are empty, and neither transaction writes what the other one has read: write skew."""
    with engine.execution_options(isolation_level="REPEATABLE READ").begin() as connection:
        if connection.execute(select(contacts.c.id).where(contacts.c.email == email)).first() is None:
            connection.execute(insert(contacts).values(email=email))


def book_last_place(engine: Engine, order_id: int) -> None:
    """The count is part of the INSERT, and still counts committed rows only (READ COMMITTED)."""
    booked = select(func.count()).select_from(notifications).scalar_subquery()
    free = select(literal(order_id), literal("booked")).where(booked < 1)
    with engine.begin() as connection:
        connection.execute(insert(notifications).from_select(["order_id", "text"], free))


def replace_notifications(engine: Engine, order_id: int) -> None:
    """DELETE and INSERT can be repeated as often as one likes, but not at the same time."""
    with engine.begin() as connection:
        connection.execute(delete(notifications).where(notifications.c.order_id == order_id))
        connection.execute(insert(notifications).values(order_id=order_id, text="shipped"))


def credit_behind_flag(engine: Engine, order_id: int, account: str) -> None:
    """Two that read the same balance write the same sum, which hides it; one that reads the other's does not."""
    if _look(engine, order_id) != "new":
        return
    with engine.begin() as connection:
        balance = connection.execute(
            select(accounts.c.balance).where(accounts.c.name == account)
        ).scalar_one()
        connection.execute(update(accounts).where(accounts.c.name == account).values(balance=balance + 5))
        connection.execute(update(orders).where(orders.c.id == order_id).values(status="credited"))


def transfer_behind_flag(engine: Engine, order_id: int, payer: str, payee: str) -> None:
    """The transfer is one transaction; the question whether it was made is another."""
    if _look(engine, order_id) != "new":
        return
    with engine.begin() as connection:
        for name, amount in ((payer, -5), (payee, 5)):
            connection.execute(
                update(accounts).where(accounts.c.name == name).values(balance=accounts.c.balance + amount)
            )
        connection.execute(update(orders).where(orders.c.id == order_id).values(status="paid"))


def call_between(engine: Engine, gateway: Any, order_id: int) -> None:
    """The call bears a key, so twice is once; the UPDATE after it does not ask again."""
    if _look(engine, order_id) != "new":
        return
    gateway.ship(order_id, idempotency_key=f"order-{order_id}")
    with engine.begin() as connection:
        connection.execute(
            update(orders)
            .where(orders.c.id == order_id)
            .values(status="shipped", version=orders.c.version + 1)
        )


def number_after_look(engine: Engine, order_id: int) -> None:
    """max(id) + 1 collides on the primary key, which saves most, but not who asks for the number last."""
    with engine.connect() as connection:
        known = select(notifications.c.id).where(notifications.c.order_id == order_id)
        if connection.execute(known).first() is not None:
            return
    with engine.begin() as connection:
        number = connection.execute(select(func.coalesce(func.max(notifications.c.id), 0) + 1)).scalar_one()
        connection.execute(insert(notifications).values(id=number, order_id=order_id, text="shipped"))


def resume_where_left(engine: Engine, order_id: int) -> None:
    """Each step is whole and moves the status on; a duplicate resumes in the middle of a delivery that is alive."""
    if _look(engine, order_id) == "new":
        with engine.begin() as connection:
            connection.execute(
                update(orders).where(orders.c.id == order_id, orders.c.status == "new").values(status="paid")
            )
    if _look(engine, order_id) == "paid":
        with engine.begin() as connection:
            _ship(connection, order_id)


# -- a claim or a version that is not asked ---------------------------------------------------------------------------


def claim_without_asking(engine: Engine, order_id: int) -> None:
    """UPDATE ... WHERE status = 'new' claims, and nobody looks at how many rows it changed."""
    with engine.begin() as connection:
        if _status(connection, order_id) != "new":
            return
        connection.execute(
            update(orders).where(orders.c.id == order_id, orders.c.status == "new").values(status="shipped")
        )
        connection.execute(insert(notifications).values(order_id=order_id, text="shipped"))


def count_file_once(engine: Engine, file: str) -> None:
    """A file that was not seen is counted by an upsert, which adds; that its own row came second is ignored."""
    with engine.begin() as connection:
        if connection.execute(select(imports.c.state).where(imports.c.file == file)).first() is not None:
            return
        ignore = "IGNORE" if connection.dialect.name in ("mysql", "mariadb") else ""
        nothing = "" if ignore else "ON CONFLICT DO NOTHING"
        statement = f"INSERT {ignore} INTO imports (file, state) VALUES (:file, 'done') {nothing}"
        connection.execute(text(statement), {"file": file})
        upsert_one_more(connection, "files")


def version_compared_in_python(engine: Engine, order_id: int, account: str) -> None:
    """An optimistic version that is read again and compared, instead of standing in the WHERE."""
    ours = select(orders.c.version, orders.c.status).where(orders.c.id == order_id)
    with engine.connect() as connection:
        before = connection.execute(ours).one()
    if before.status != "new":
        return
    with engine.begin() as connection:
        if connection.execute(ours).one().version != before.version:
            raise Busy(order_id)
        connection.execute(
            update(accounts).where(accounts.c.name == account).values(balance=accounts.c.balance + 5)
        )
        connection.execute(
            update(orders).where(orders.c.id == order_id).values(status="paid", version=before.version + 1)
        )


class Base(DeclarativeBase):
    pass


class Parcel(Base):
    __tablename__ = "parcels"
    id: Mapped[int] = mapped_column(primary_key=True)
    sent: Mapped[bool] = mapped_column(default=False)


class Label(Base):
    __tablename__ = "labels"
    id: Mapped[int] = mapped_column(primary_key=True)
    parcel_id: Mapped[int]


def trust_the_identity_map(engine: Engine, parcel_id: int) -> None:
    """The row is locked and read anew, but the object in the session keeps what it has known before."""
    with Session(engine) as session, session.begin():
        parcel = session.get_one(Parcel, parcel_id)
        session.scalars(select(Parcel).where(Parcel.id == parcel_id).with_for_update()).one()
        if not parcel.sent:
            session.add(Label(parcel_id=parcel_id))
            parcel.sent = True


# -- a lock of the database that locks the wrong thing, or at the wrong time -------------------------------------------


def lock_after_look(engine: Engine, order_id: int, sku: str) -> None:
    """The product is locked, when the order has been looked at already."""
    with engine.begin() as connection:
        if _status(connection, order_id) != "new":
            return
        connection.execute(select(products.c.stock).where(products.c.sku == sku).with_for_update())
        connection.execute(update(products).where(products.c.sku == sku).values(stock=products.c.stock - 1))
        connection.execute(update(orders).where(orders.c.id == order_id).values(status="packed"))


def lock_no_row(engine: Engine, order_id: int) -> None:
    """FOR UPDATE locks the rows that it finds, which are none."""
    with engine.begin() as connection:
        found = connection.execute(
            select(notifications.c.id).where(notifications.c.order_id == order_id).with_for_update()
        ).first()
        if found is None:
            connection.execute(insert(notifications).values(order_id=order_id, text="shipped"))


def lock_until_commit(engine: Engine, order_id: int) -> None:
    """SKIP LOCKED in one transaction, the mark in the next: the lock ends with the first."""
    with engine.begin() as connection:
        mine = connection.execute(
            select(orders.c.id)
            .where(orders.c.id == order_id, orders.c.status == "new")
            .with_for_update(skip_locked=True)
        ).first()
    if mine is not None:
        with engine.begin() as connection:
            _ship(connection, order_id)


def lock_in_autocommit(engine: Engine, order_id: int) -> None:
    """Where each statement commits itself, FOR UPDATE locks until its own end."""
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        status = connection.execute(
            select(orders.c.status).where(orders.c.id == order_id).with_for_update()
        ).scalar_one()
    if status == "new":
        with engine.begin() as connection:
            _ship(connection, order_id)


def victim_marks_failed(engine: Engine, order_id: int) -> None:
    """Two shared locks that both want to write are a deadlock; the victim spoils what the winner has done."""
    try:
        with engine.begin() as connection:
            status = connection.execute(
                select(orders.c.status).where(orders.c.id == order_id).with_for_update(read=True)
            ).scalar_one()
            if status == "new":
                connection.execute(update(orders).where(orders.c.id == order_id).values(status="shipped"))
    except OperationalError as error:
        if "deadlock" not in str(error).lower():
            raise
        with engine.begin() as connection:
            connection.execute(update(orders).where(orders.c.id == order_id).values(status="failed"))


def advisory_lock_of_another_transaction(engine: Engine, order_id: int) -> None:
    """pg_advisory_xact_lock belongs to its transaction, which is not the one that ships."""
    with engine.begin() as connection:
        connection.execute(select(func.pg_advisory_xact_lock(order_id)))
    with engine.begin() as connection:
        _ship_if_new(connection, order_id)


def advisory_unlock_before_commit(engine: Engine, order_id: int) -> None:
    """The next one gets in between the unlock and the COMMIT."""
    with engine.begin() as connection:
        connection.execute(select(func.pg_advisory_lock(order_id)))
        try:
            _ship_once(connection, order_id)
        finally:
            connection.execute(select(func.pg_advisory_unlock(order_id)))


def named_unlock_before_commit(engine: Engine, order_id: int) -> None:
    """The same with GET_LOCK."""
    lock = func.concat(func.database(), ":", order_id)
    with engine.begin() as connection:
        connection.execute(select(func.get_lock(lock, 10)))
        try:
            _ship_once(connection, order_id)
        finally:
            connection.execute(select(func.release_lock(lock)))


def _ship_once(connection: Connection, order_id: int) -> None:
    """No row is written that both would have to lock."""
    known = select(notifications.c.id).where(notifications.c.order_id == order_id)
    if connection.execute(known).first() is None:
        connection.execute(insert(notifications).values(order_id=order_id, text="shipped"))


# -- a lock elsewhere --------------------------------------------------------------------------------------------------

_one_at_a_time = threading.Lock()


def lock_of_the_process(engine: Engine, order_id: int) -> None:
    """A threading.Lock keeps this worker's threads apart, and no other worker's."""
    with _one_at_a_time, engine.begin() as connection:
        _ship_once(connection, order_id)


def unlock_before_commit(engine: Engine, redis: Any, order_id: int) -> None:
    """The transaction outlives the lock that stands inside it."""
    with engine.begin() as connection, redis.lock(f"lock:{order_id}", timeout=60):
        _ship_once(connection, order_id)
        # __exit__ of the lock comes first.


def redis_lock_after_look(engine: Engine, redis: Any, order_id: int) -> None:
    """Whoever waits for the lock acts on what was true before it waited."""
    if _look(engine, order_id) != "new":
        return
    with redis.lock(f"lock:{order_id}", timeout=60), engine.begin() as connection:
        _ship(connection, order_id)


def lock_half_of_it(engine: Engine, redis: Any, order_id: int) -> None:
    """The look is locked, the act is not."""
    with redis.lock(f"lock:{order_id}", timeout=60):
        status = _look(engine, order_id)
    if status == "new":
        with engine.begin() as connection:
            _ship(connection, order_id)


def lock_not_got(engine: Engine, redis: Any, order_id: int) -> None:
    """acquire() says whether; nobody listens."""
    lock = redis.lock(f"lock:{order_id}", timeout=60)
    lock.acquire(blocking=False)
    try:
        if _look(engine, order_id) == "new":
            with engine.begin() as connection:
                _ship(connection, order_id)
    finally:
        if lock.owned():
            lock.release()


def lock_not_got_in_time(engine: Engine, redis: Any, order_id: int) -> None:
    """The same, after five seconds of waiting for a holder that is slow."""
    lock = redis.lock(f"lock:{order_id}", timeout=60)
    lock.acquire(blocking_timeout=5)
    try:
        if _look(engine, order_id) == "new":
            with engine.begin() as connection:
                _ship(connection, order_id)
    finally:
        if lock.owned():
            lock.release()


def lease_runs_out(engine: Engine, redis: Any, order_id: int) -> None:
    """Everything is inside the lease, but nothing asks at the end whether it still holds."""
    token = uuid.uuid4().hex
    if not redis.set(f"lease:{order_id}", token, nx=True, ex=30):
        raise Busy(order_id)
    try:
        if _look(engine, order_id) == "new":
            with engine.begin() as connection:
                _ship(connection, order_id)
    finally:
        redis.eval(RELEASE, 1, f"lease:{order_id}", token)


class Claim(Base):
    __tablename__ = "claims"
    order_id: Mapped[int] = mapped_column(primary_key=True)
    until: Mapped[float]


def lease_in_a_row(engine: Engine, order_id: int) -> None:
    """The claim is taken over by who finds it run out, and nothing asks at the end whose it is."""
    now = time.time()
    ours = select(Claim.until).where(Claim.order_id == order_id)
    with engine.begin() as connection:
        until = connection.execute(ours).scalar()
        if until is None:
            connection.execute(insert(Claim).values(order_id=order_id, until=now + 30))
        elif until > now or not _taken_over(connection, order_id, until, now + 30):
            raise Busy(order_id)
    if _look(engine, order_id) == "new":
        with engine.begin() as connection:
            _ship(connection, order_id)


def _taken_over(connection: Connection, order_id: int, seen: float, until: float) -> bool:
    mine = Claim.order_id == order_id, Claim.until == seen
    return connection.execute(update(Claim).where(*mine).values(until=until)).rowcount == 1


class Hold(Base):
    __tablename__ = "holds"
    order_id: Mapped[int] = mapped_column(primary_key=True)
    since: Mapped[datetime]


def lease_in_a_value(engine: Engine, redis: Any, order_id: int) -> None:
    """SETNX and GETSET, as Redis' own page once had it: the value says until when, and nothing asks at the end whose it is."""
    lock, now = f"lock:{order_id}", time.time()
    if not redis.setnx(lock, now + 30):
        until = float(redis.get(lock) or 0)
        if until > now or float(redis.getset(lock, now + 30) or 0) != until:
            raise Busy(order_id)
    if _look(engine, order_id) == "new":
        with engine.begin() as connection:
            _ship(connection, order_id)
    redis.delete(lock)


def hold_that_gets_old(engine: Engine, order_id: int) -> None:
    """A hold has only its age; who finds it two minutes old takes it for a dead worker's."""
    now = datetime.now()
    with engine.begin() as connection:
        since = connection.execute(select(Hold.since).where(Hold.order_id == order_id)).scalar()
        if since is None:
            connection.execute(insert(Hold).values(order_id=order_id, since=now))
        else:
            if now - since < timedelta(minutes=2):
                raise Busy(order_id)
            mine = Hold.order_id == order_id, Hold.since == since
            if connection.execute(update(Hold).where(*mine).values(since=now)).rowcount != 1:
                raise Busy(order_id)
    if _look(engine, order_id) == "new":
        with engine.begin() as connection:
            _ship(connection, order_id)


def release_in_finally(engine: Engine, redis: Any, order_id: int) -> None:
    """Who did not get the lock frees it all the same: the third one is in while the first still works."""
    try:
        if not redis.set(f"lock:{order_id}", "1", nx=True, ex=60):
            raise Busy(order_id)
        if _look(engine, order_id) == "new":
            with engine.begin() as connection:
                _ship(connection, order_id)
    finally:
        redis.delete(f"lock:{order_id}")


def break_stale_lock(engine: Engine, redis: Any, order_id: int) -> None:
    """Two see that a dead worker's lock is old; the second to break it breaks that of the first."""
    lock = f"lock:{order_id}"
    since = redis.get(lock)
    if since is not None:
        if time.time() - float(since) < 300:
            raise Busy(order_id)
        redis.delete(lock)
    if not redis.set(lock, time.time(), nx=True):
        raise Busy(order_id)
    try:
        if _look(engine, order_id) == "new":
            with engine.begin() as connection:
                _ship(connection, order_id)
    finally:
        redis.delete(lock)


def break_lock_of_the_dead(engine: Engine, redis: Any, order_id: int) -> None:
    """The same, where no old lock lies about until a worker is killed."""
    break_stale_lock(engine, redis, order_id)


def setnx_then_expire(engine: Engine, redis: Any, order_id: int) -> None:
    """A kill between the two commands locks every later delivery out."""
    if not redis.setnx(f"lock:{order_id}", "1"):
        raise Busy(order_id)
    redis.expire(f"lock:{order_id}", 60)
    try:
        if _look(engine, order_id) == "new":
            with engine.begin() as connection:
                _ship(connection, order_id)
    finally:
        redis.delete(f"lock:{order_id}")


# -- Redis alone -------------------------------------------------------------------------------------------------------


def get_then_set(redis: Any, event: str) -> None:
    """A flag is looked at, and set together with the work."""
    if redis.get(f"done:{event}"):
        return
    with redis.pipeline(transaction=True) as pipeline:
        pipeline.set(f"done:{event}", "1")
        pipeline.rpush("events", event)
        pipeline.execute()


def sismember_then_sadd(redis: Any, event: str) -> None:
    """SADD says whether the member is new; the question was put to SISMEMBER."""
    if not redis.sismember("seen", event):
        with redis.pipeline(transaction=True) as pipeline:
            pipeline.sadd("seen", event)
            pipeline.xadd("log", {"event": event})
            pipeline.execute()


def hexists_then_hincrby(redis: Any, order: str, cents: int) -> None:
    if not redis.hexists("paid", order):
        with redis.pipeline(transaction=True) as pipeline:
            pipeline.hset("paid", order, cents)
            pipeline.hincrby("totals", "cents", cents)
            pipeline.execute()


def fill_if_empty(redis: Any, batch: str, items: list[str]) -> None:
    if redis.llen(f"batch:{batch}") == 0:
        redis.rpush(f"batch:{batch}", *items)


def replace_list(redis: Any, batch: str, items: list[str]) -> None:
    """DEL and RPUSH can be repeated, but are two."""
    redis.delete(f"batch:{batch}")
    redis.rpush(f"batch:{batch}", *items)


def watch_another_key(redis: Any, event: str) -> None:
    """WATCH and MULTI in the right order, over a key that nobody writes."""
    with redis.pipeline() as pipeline:
        pipeline.watch(f"event:{event}")
        if pipeline.sismember("seen", event):
            return
        pipeline.multi()
        pipeline.sadd("seen", event)
        pipeline.rpush("events", event)
        pipeline.execute()


def both_step_back(redis: Any, report: str) -> None:
    """Each announces itself, then counts: if both have announced, each leaves the work to the other."""
    me = uuid.uuid4().hex
    with redis.pipeline(transaction=True) as pipeline:
        pipeline.sadd(f"busy:{report}", me)
        pipeline.expire(f"busy:{report}", 60)
        pipeline.execute()
    try:
        if redis.scard(f"busy:{report}") == 1:
            redis.hset("reports", report, "done")
    finally:
        redis.srem(f"busy:{report}", me)


def watch_around_half(redis: Any, order: str, cents: int) -> None:
    """The balance is watched, the question whether the order was paid is not."""
    if redis.hexists("paid", order):
        return
    with redis.pipeline() as pipeline:
        pipeline.watch("balance")
        balance = int(pipeline.get("balance") or 0)
        pipeline.multi()
        pipeline.set("balance", balance + cents)
        pipeline.hset("paid", order, cents)
        pipeline.execute()
