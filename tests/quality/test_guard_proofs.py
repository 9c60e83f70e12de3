"""Planted guards: what carries a job is named, what carries nothing is named, too, and mends are what they are said to be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import WatchError
from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    insert,
    select,
    text,
    update,
)

import idemfuzz
from idemfuzz.abc import Unusable
from idemfuzz.model import Report

metadata = MetaData()
orders = Table(
    "proof_orders",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("status", String(20), nullable=False),
    Column("touched", Integer, nullable=False, default=0),
)
shipments = Table(
    "proof_shipments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("order_id", Integer, nullable=False),
    Column("address", String(40), nullable=False),
    UniqueConstraint("order_id", "address", name="one_shipment"),
    sqlite_autoincrement=True,
)
notes = Table(
    "proof_notes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("order_id", Integer, nullable=False),
    Column("body", String(40), nullable=False),
    sqlite_autoincrement=True,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def db(stacks: Any) -> Any:
    metadata.create_all(stacks.engine)
    with stacks.engine.begin() as connection:
        connection.execute(insert(orders).values(id=7, status="new", touched=0))
    return stacks.engine


@pytest.fixture
def cache(stacks: Any) -> Any:
    return stacks.redis


def prove(job: Callable[[], None], **stores: Any) -> Report:
    return idemfuzz.check(job, job=job, stores=stores, prove=True, max_trials=80)


def roles(report: Report) -> dict[str, str]:
    assert report.verdict == "holds", [f.summary for f in report.findings] or report.notes
    assert report.proof is not None
    return {" & ".join(guard.name for guard in r.guards): str(r.role) for r in report.proof.removals}


def test_a_redis_claim_in_front_of_a_conditional_update_is_decoration(db: Any, cache: Any) -> None:
    """Goal: what looks like the guard is not it."""

    def ship() -> None:
        cache.set("claim:7", "me", nx=True, ex=60)
        with db.begin() as connection:
            mine = update(orders).where(orders.c.id == 7, orders.c.status == "new").values(status="shipped")
            if connection.execute(mine).rowcount:
                connection.execute(insert(notes).values(order_id=7, body="shipped"))

    assert roles(prove(ship, db=db, cache=cache)) == {
        "UPDATE proof_orders WHERE status": "carries",
        "SET claim:7 NX": "decoration",
    }


def test_a_condition_that_only_looks_like_one_is_decoration(db: Any) -> None:
    """Goal: what is absolute needs no precondition."""

    def touch() -> None:
        with db.begin() as connection:
            connection.execute(
                update(orders).where(orders.c.id == 7, orders.c.touched < 5).values(touched=5, status="seen")
            )

    assert roles(prove(touch, db=db)) == {"UPDATE proof_orders WHERE touched": "decoration"}


def test_a_unique_key_behind_a_condition_carries_together_with_it(db: Any) -> None:
    dialect = db.dialect.name

    def ship() -> None:
        with db.begin() as connection:
            mine = update(orders).where(orders.c.id == 7, orders.c.status == "new").values(status="shipped")
            if not connection.execute(mine).rowcount:
                return
            new = insert(shipments).values(order_id=7, address="Rome")
            sql = str(new.compile(db, compile_kwargs={"literal_binds": True}))
            if dialect == "mysql":
                sql = sql.replace("INSERT", "INSERT IGNORE")
            else:
                sql = sql.partition(" RETURNING")[0] + " ON CONFLICT (order_id, address) DO NOTHING"
            connection.execute(text(sql))

    assert roles(prove(ship, db=db)) == {
        "UPDATE proof_orders WHERE status & UNIQUE(proof_shipments.order_id, address)": "together"
    }


def test_a_lock_around_a_guarded_statement_is_decoration(db: Any, cache: Any) -> None:
    def ship() -> None:
        with cache.lock("ship:7", timeout=60):
            with db.begin() as connection:
                mine = (
                    update(orders).where(orders.c.id == 7, orders.c.status == "new").values(status="shipped")
                )
                if connection.execute(mine).rowcount:
                    connection.execute(insert(notes).values(order_id=7, body="shipped"))

    assert roles(prove(ship, db=db, cache=cache)) == {
        "UPDATE proof_orders WHERE status": "carries",
        "Lock(ship:7)": "decoration",
    }


def test_watch_and_multi_are_told_apart(cache: Any) -> None:
    """Goal: WATCH keeps the other one away; MULTI keeps a crash from leaving a part."""

    def pay() -> None:
        with cache.pipeline() as pipeline:
            for _ in range(5):
                try:
                    pipeline.watch("paid")
                    if pipeline.sismember("paid", "o7"):
                        return
                    pipeline.multi()
                    pipeline.incrby("balance", 5)
                    pipeline.sadd("paid", "o7")
                    pipeline.execute()
                    return
                except WatchError:
                    continue

    assert roles(prove(pay, cache=cache)) == {"WATCH paid": "carries", "MULTI of INCRBY, SADD": "carries"}


def test_a_multi_of_what_can_be_repeated_is_decoration(cache: Any) -> None:
    def index() -> None:
        with cache.pipeline() as pipeline:
            pipeline.sadd("all", 7)
            pipeline.hset("order:7", "status", "new")
            pipeline.execute()

    assert roles(prove(index, cache=cache)) == {"MULTI of SADD, HSET": "decoration"}


def test_without_guards_nothing_is_claimed(db: Any) -> None:
    def mark() -> None:
        with db.begin() as connection:
            connection.execute(update(orders).where(orders.c.id == 7).values(status="seen"))

    report = prove(mark, db=db)
    assert roles(report) == {}
    from idemfuzz.reporting.text import render

    assert "none seen" in render(report)


def test_a_clean_delivery_that_differs_proves_nothing(db: Any) -> None:
    """Goal: an upsert of a row that is there would add one: that shows nothing of duplicates, and it is said so."""
    dialect = db.dialect.name
    clause = (
        "ON DUPLICATE KEY UPDATE status = 'seen'"
        if dialect == "mysql"
        else "ON CONFLICT (id) DO UPDATE SET status = 'seen'"
    )

    def mark() -> None:
        with db.begin() as connection:
            connection.execute(
                text(f"INSERT INTO proof_orders (id, status, touched) VALUES (7, 'seen', 0) {clause}")
            )

    report = prove(mark, db=db)
    assert roles(report) == {"PRIMARY KEY(proof_orders.id)": "unprovable"}
    assert report.proof is not None
    assert "clean delivery" in report.proof.removals[0].why


# -- mends --------------------------------------------------------------------------------------------------------------


def test_a_unique_key_mends_a_bare_insert(db: Any) -> None:
    """Goal: the key is verified by the same search, and the line to have it is given."""

    def note() -> None:
        with db.begin() as connection:
            connection.execute(insert(notes).values(order_id=7, body="hello"))

    report = prove(note, db=db)
    assert report.verdict == "violated"
    mends = {mend.guards[0].name: mend for mend in report.mends}
    key = mends["UNIQUE(proof_notes.order_id, body)"]
    assert key.verified
    assert key.plans > 5
    assert "IntegrityError" in key.why
    # "body" is a word of MariaDB's own.
    assert (
        key.how.replace("`", "")
        == "CREATE UNIQUE INDEX uq_proof_notes_order_id ON proof_notes (order_id, body)"
    )
    # It was there for the search only.
    with db.begin() as connection:
        for _ in range(2):
            connection.execute(insert(notes).values(order_id=8, body="twice"))


def test_serializable_does_not_mend_a_plain_duplicate(db: Any) -> None:
    """Goal: what is not enough is not said to be."""

    def count() -> None:
        with db.begin() as connection:
            connection.execute(update(orders).where(orders.c.id == 7).values(touched=orders.c.touched + 1))

    report = prove(count, db=db)
    assert report.verdict == "violated"
    assert not any(mend.verified for mend in report.mends)


@pytest.mark.parametrize("stacks", ["postgresql+valkey", "mariadb+redis"], indirect=True)
def test_serializable_mends_a_check_then_act(db: Any) -> None:
    def ship() -> None:
        with db.begin() as connection:
            if connection.execute(select(notes.c.id).where(notes.c.order_id == 7)).first() is None:
                connection.execute(insert(notes).values(order_id=7, body="shipped"))

    mends = {mend.guards[0].name: mend.verified for mend in prove(ship, db=db).mends}
    assert mends == {"UNIQUE(proof_notes.order_id, body)": True, "SERIALIZABLE": True}


def mends_of(report: Report) -> dict[str, bool]:
    assert report.verdict == "violated", report.notes
    return {mend.guards[0].name: mend.verified for mend in report.mends}


ONE = "one transaction for 2 commits"


def test_one_transaction_mends_two_commits(db: Any) -> None:
    """Goal: what a crash between the commits tears is whole when there is one commit; nothing of it is left behind."""

    def ship() -> None:
        with db.begin() as connection:
            mine = update(orders).where(orders.c.id == 7, orders.c.status == "new").values(status="shipped")
            if not connection.execute(mine).rowcount:
                return
        with db.begin() as connection:
            connection.execute(insert(notes).values(order_id=7, body="shipped"))

    report = prove(ship, db=db)
    assert [finding.mechanism for finding in report.findings] == ["two commits that should be one"]
    (mend,) = (mend for mend in report.mends if mend.guards[0].name == ONE)
    assert mend.verified, mend.why
    assert mend.plans > 5
    assert "begin()" in mend.how
    # Afterwards each commit is one again.
    with db.begin() as connection:
        connection.execute(insert(notes).values(order_id=8, body="first"))
    with db.connect() as connection:
        connection.execute(insert(notes).values(order_id=8, body="second"))
        connection.rollback()
        assert connection.execute(select(notes.c.body).where(notes.c.order_id == 8)).scalars().all() == [
            "first"
        ]


def test_one_transaction_is_not_tried_for_a_plain_insert(db: Any) -> None:
    """Goal: two rows that any duplicate writes again are twice there, in one commit or in two."""

    def note() -> None:
        for body in ("first", "second"):
            with db.begin() as connection:
                connection.execute(insert(notes).values(order_id=7, body=body))

    assert ONE not in mends_of(idemfuzz.check(note, job=note, stores={"db": db}, prove=True, max_trials=20))


def test_one_transaction_does_not_mend_what_is_in_redis(db: Any, cache: Any) -> None:
    """Goal: a mark outside of the database is in no transaction of its: it is not said to help."""

    def ship() -> None:
        if not cache.set("claim:7", "me", nx=True):
            return
        with db.begin() as connection:
            connection.execute(update(orders).where(orders.c.id == 7).values(status="paid"))
        with db.begin() as connection:
            connection.execute(insert(notes).values(order_id=7, body="shipped"))

    assert mends_of(prove(ship, db=db, cache=cache))[ONE] is False


@pytest.mark.parametrize("stacks", ["sqlite+fakeredis"], indirect=True)
def test_one_transaction_of_an_async_job(db: Any) -> None:
    """Goal: coroutines share a thread, which a lock that is kept for longer would stop: it is not tried."""

    async def ship() -> None:
        with db.begin() as connection:
            mine = update(orders).where(orders.c.id == 7, orders.c.status == "new").values(status="shipped")
            if not connection.execute(mine).rowcount:
                return
        with db.begin() as connection:
            connection.execute(insert(notes).values(order_id=7, body="shipped"))

    assert ONE not in mends_of(prove(ship, db=db))


def test_a_rollback_of_the_second_part_keeps_the_first(db: Any) -> None:
    """Goal: with one transaction the job does what it did: what it rolls back itself goes, what it committed stays."""

    def ship() -> None:
        with db.begin() as connection:
            mine = update(orders).where(orders.c.id == 7, orders.c.status == "new").values(status="shipped")
            if not connection.execute(mine).rowcount:
                return
        with db.connect() as connection:
            connection.execute(insert(notes).values(order_id=7, body="a mistake"))
            connection.rollback()
        with db.begin() as connection:
            connection.execute(insert(notes).values(order_id=7, body="shipped"))

    assert mends_of(prove(ship, db=db))[ONE] is True


# -- bad input ------------------------------------------------------------------------------------------------------------


def test_proofs_and_several_levels_are_refused(db: Any) -> None:
    with pytest.raises(Unusable, match="single isolation level"):
        idemfuzz.check(lambda: None, stores={"db": db}, prove=True, isolation=["SERIALIZABLE"])


def test_without_being_asked_nothing_is_proven(db: Any) -> None:
    def mark() -> None:
        with db.begin() as connection:
            connection.execute(
                update(orders).where(orders.c.id == 7, orders.c.status == "new").values(status="seen")
            )

    report = idemfuzz.check(mark, job=mark, stores={"db": db}, max_trials=10)
    assert report.proof is None
