"""Hand-written plans give exactly these histories: what a delivery does, in the order in which it happens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from idemfuzz import check
from idemfuzz.model import Event, EventKind, History

metadata = sa.MetaData()
users = sa.Table(
    "users", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("email", sa.String(80))
)


@pytest.fixture
def db(tmp_path) -> Iterator[sa.Engine]:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'a.db'}")
    metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def create(db):
    """A check-then-insert, without a unique key."""

    def create(email: str) -> None:
        with db.begin() as connection:
            if connection.execute(sa.select(users.c.id).where(users.c.email == email)).first() is None:
                connection.execute(users.insert().values(email=email))

    return create


@pytest.fixture
def insert(db):
    """A bare insert."""

    def insert(email: str) -> None:
        with db.begin() as connection:
            connection.execute(users.insert().values(email=email))

    return insert


def line(event: Event) -> str:
    """One event, short: the delivery, what it did, and what became of it."""
    if event.kind is EventKind.EFFECT:
        return f"{event.delivery} {event.effect.label}{' !' + event.outcome if event.failed else ''}"
    if event.kind is EventKind.END:
        return f"{event.delivery} ends {event.ending}"
    return f"{event.delivery} {event.kind}{' ' + event.fault.kind if event.fault else ''}"


def history_of(job, db, plan: str) -> list[str]:
    report = check(lambda: job("ada"), job=job, stores={"db": db}, plan=plan)
    (finding,) = report.findings
    assert str(finding.counterexample.plan) == plan
    assert (finding.counterexample.shown, finding.counterexample.tried) == (3, 3)
    history: History = finding.counterexample.history
    return [line(event) for event in history]


def test_duplicate(db, insert):
    assert history_of(insert, db, "v1:x2") == [
        "1 db.insert.users",
        "1 db.commit",
        "1 ends ok",
        "2 db.insert.users",
        "2 db.commit",
        "2 ends ok",
    ]


def test_kill_after_the_commit_is_followed_by_a_redelivery(db, insert):
    assert history_of(insert, db, "v1:x1:kill+db.commit#1@1.1") == [
        "1 db.insert.users",
        "1 db.commit",
        "1 fault kill",
        "1 ends killed",
        "2 db.insert.users",
        "2 db.commit",
        "2 ends ok",
    ]


def test_reply_lost_at_the_commit_surfaces_as_an_error(db, insert):
    history = history_of(insert, db, "v1:x1:lost+db.commit#1@1.1")
    assert history == [
        "1 db.insert.users",
        "1 db.commit",
        "1 fault lost",
        "1 ends failed",
        "2 db.insert.users",
        "2 db.commit",
        "2 ends ok",
    ]


def test_every_read_before_any_write(db, create):
    assert history_of(create, db, "v1:x2:order=1x1,2x1,1,2") == [
        "1 db.select.users",
        "2 db.select.users",
        "1 db.insert.users",
        "1 db.commit",
        "1 ends ok",
        "2 db.insert.users",
        "2 db.commit",
        "2 ends ok",
    ]


def test_delivery_that_meets_a_lock_waits_and_goes_on(db, create):
    """SQLite knows one writer: the second stands at its insert until the first has committed."""
    assert history_of(create, db, "v1:x2:order=1x1,2x2,1,2") == [
        "1 db.select.users",
        "2 db.select.users",
        "2 db.insert.users",
        "1 blocked",
        "2 db.commit",
        "2 ends ok",
        "1 db.insert.users",
        "1 db.commit",
        "1 ends ok",
    ]


def test_point_that_is_not_reached_is_no_pass(db, insert):
    report = check(lambda: insert("ada"), job=insert, stores={"db": db}, plan="v1:x1:kill+db.commit#9@1.1")
    assert report.verdict == "unknown"
    assert [note.code for note in report.notes] == ["IDM906"]


def test_plan_for_a_call_that_never_comes_is_no_pass(db, insert):
    for plan in ("v1:x2:call=9", "v1:x1:call=9:kill+db.commit#1@9.1", "v1:x2:call=9:order=1x1,2x2,1,2"):
        report = check(lambda: insert("ada"), job=insert, stores={"db": db}, plan=plan)
        assert report.verdict == "unknown", plan
        assert [note.code for note in report.notes] == ["IDM906"], plan


def test_kill_in_an_open_transaction_leaves_nothing(db, insert):
    """Neither the insert nor anything of the dead execution is there: one clean redelivery makes it right."""
    for plan in ("v1:x1:kill-db.insert.users#1@1.1", "v1:x1:kill+db.insert.users#1@1.1"):
        assert check(lambda: insert("ada"), job=insert, stores={"db": db}, plan=plan).holds


def test_handlers_of_a_killed_execution_do_nothing(db):
    ran = []

    def job() -> None:
        try:
            with db.begin() as connection:
                connection.execute(users.insert().values(email="ada"))
        finally:
            ran.append("finally")
            with db.begin() as connection:
                connection.execute(users.insert().values(email="from finally"))

    report = check(job, job=job, stores={"db": db}, plan="v1:x1:kill-db.insert.users#1@1.1")
    assert report.holds
    assert ran


def test_loop_iterations_are_points_of_their_own(db):
    def job() -> None:
        for number in range(3):
            with db.begin() as connection:
                connection.execute(users.insert().values(email=str(number)))

    report = check(job, job=job, stores={"db": db}, faults=["kill"])
    crash, _ = report.certificate.coverage
    assert (crash.planned, crash.ran, crash.fired, crash.pruned) == (7, 7, 7, 5)
    assert report.findings[0].counterexample.plan.faults[0].point.label == "db.commit"


def test_sleeping_moves_the_clock_and_nobody_waits(db):
    import time
    from datetime import datetime

    seen = []

    def job() -> None:
        before, ticks = datetime.now(), time.monotonic()
        time.sleep(3600)
        seen.append(
            (round((datetime.now() - before).total_seconds() / 60), round((time.monotonic() - ticks) / 60))
        )
        with db.begin() as connection:
            connection.execute(users.insert().values(email="ada"))

    check(job, job=job, stores={"db": db}, faults=["duplicate"])
    assert set(seen) == {(60, 60)}
    assert abs(time.time() - datetime.now().timestamp()) < 1
