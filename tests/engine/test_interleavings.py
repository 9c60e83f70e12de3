"""Overlapping deliveries on real stores: what is searched, what is told, and that it repeats."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError

from idemfuzz import Unusable, check
from idemfuzz.model import Coverage, Plan, Report

metadata = sa.MetaData()
users = sa.Table(
    "users", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("email", sa.String(80))
)
claims = sa.Table(
    "claims",
    metadata,
    sa.Column("name", sa.String(80), primary_key=True),
    sa.Column("state", sa.String(20), nullable=False),
)


@pytest.fixture
def db(engine: sa.Engine) -> sa.Engine:
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(claims.insert(), [{"name": n, "state": "new"} for n in ("a", "b")])
    return engine


def row(report: Report, explorer: str) -> Coverage:
    return next(covered for covered in report.certificate.coverage if covered.explorer == explorer)


def check_then_insert(db: sa.Engine) -> None:
    with db.begin() as connection:
        if connection.execute(sa.select(users).where(users.c.email == "ada")).first() is None:
            connection.execute(users.insert().values(email="ada"))


def claim_then_insert(db: sa.Engine) -> None:
    with db.begin() as connection:
        mine = (claims.c.name == "a") & (claims.c.state == "new")
        if connection.execute(claims.update().where(mine).values(state="done")).rowcount:
            connection.execute(users.insert().values(email="ada"))


def test_check_then_act_falls_in_the_second_execution(db):
    """Goal: found within the first two of the search. Method: no more trials are allowed."""
    report = check(
        check_then_insert_of(db), job=check_then_insert, stores={"db": db}, faults=["overlap"], max_trials=2
    )
    assert report.codes == ("IDM101",)


def check_then_insert_of(db: sa.Engine) -> Any:
    return lambda: check_then_insert(db)


def test_a_right_job_is_certified_with_every_class(db):
    report = check(
        lambda: claim_then_insert(db), job=claim_then_insert, stores={"db": db}, faults=["overlap"]
    )
    assert report.holds
    covered = row(report, "interleave")
    assert covered.exhaustive
    assert covered.classes is not None
    assert covered.ran <= 1.3 * covered.classes
    assert report.certificate.exhaustive


def test_one_plan_gives_one_history(db):
    """Goal: deterministic. Method: the order of a finding, thirty times, and the same events each time."""
    found = check(check_then_insert_of(db), job=check_then_insert, stores={"db": db}, faults=["overlap"])
    plan = found.findings[0].counterexample.plan
    histories = set()
    for _ in range(30):
        report = check(check_then_insert_of(db), job=check_then_insert, stores={"db": db}, plan=plan)
        (finding,) = report.findings
        history = finding.counterexample.history
        histories.add(tuple((e.kind, e.delivery, e.effect.label if e.effect else e.text) for e in history))
    assert len(histories) == 1


def test_a_saved_order_survives_an_edit_elsewhere(db):
    """Goal: a plan names effects, not numbers of steps. Method: a log line is added in front."""
    found = check(check_then_insert_of(db), job=check_then_insert, stores={"db": db}, faults=["overlap"])
    text = str(found.findings[0].counterexample.plan)
    assert "order=1+db." in text

    def edited() -> None:
        with db.begin() as connection:
            connection.execute(sa.select(claims)).all()
        check_then_insert(db)

    again = check(edited, job=edited, stores={"db": db}, plan=Plan.parse(text))
    assert again.codes == ("IDM101",)


def test_three_deliveries_by_option(db):
    report = check(
        lambda: claim_then_insert(db),
        job=claim_then_insert,
        stores={"db": db},
        faults=["overlap"],
        overlapping=3,
        max_trials=1000,
    )
    assert report.holds
    two = check(lambda: claim_then_insert(db), job=claim_then_insert, stores={"db": db}, faults=["overlap"])
    assert (row(report, "interleave").classes or 0) > (row(two, "interleave").classes or 0)


def test_what_is_too_large_is_sampled_and_the_bound_is_printed(db):
    def job() -> None:
        for number in range(6):
            with db.begin() as connection:
                connection.execute(claims.update().values(state=f"{number}"))

    report = check(job, job=job, stores={"db": db}, faults=["overlap"], max_trials=24)
    covered = row(report, "interleave")
    assert covered.exhaustive is False
    assert covered.ran <= 24
    assert covered.why is not None
    assert "fewer than" in covered.why
    assert "a bug of depth 2 shows with a chance of" in covered.why
    assert not report.certificate.exhaustive


@pytest.mark.parametrize("sql_url", ["postgresql", "mysql"], indirect=True)
def test_a_deadlock_is_an_outcome(db):
    """Two rows are locked in opposite orders, as the thread's number says; the victim comes again."""
    turns = iter(("ab", "ba") * 500)

    def job() -> None:
        first, second = next(turns)
        for _ in range(5):
            try:
                with db.begin() as connection:
                    for name in (first, second):
                        connection.execute(claims.update().where(claims.c.name == name).values(state="done"))
                return
            except DBAPIError:
                continue
        raise RuntimeError("always the victim")

    report = check(job, job=job, stores={"db": db}, faults=["overlap"], max_trials=40)
    assert report.verdict != "violated", report.findings


def test_who_waits_goes_on_after_who_set_it_free(db):
    """Goal: a history in which a wait ends before the commit that ends it cannot be. Method: one row, both update."""

    def job() -> None:
        with db.begin() as connection:
            connection.execute(claims.update().where(claims.c.name == "a").values(state="done"))

    assert_in_order(db, job)


def assert_in_order(db: sa.Engine, job: Any) -> None:
    plan = Plan.parse("v1:x2:order=1x1,2,1")

    def failing() -> None:
        job()
        with db.begin() as connection:
            connection.execute(users.insert().values(email="ada"))

    for _ in range(10):
        report = check(failing, job=failing, stores={"db": db}, plan=plan)
        (finding,) = report.findings
        told = [
            f"{e.delivery} {e.effect.label}"
            for e in finding.counterexample.history.effects
            if e.effect and e.effect.label in ("db.update.claims", "db.commit")
        ]
        assert told.index("2 db.update.claims") > told.index("1 db.commit")


def test_a_lock_in_the_process_costs_no_seconds(db):
    """An in-process lock cannot be asked for; its waiter is known by a thread that does nothing."""
    lock = threading.Lock()

    def job() -> None:
        with lock:
            claim_then_insert(db)

    begun = time.monotonic()
    report = check(job, job=job, stores={"db": db}, plan=Plan.parse("v1:x2:order=1x1,2,1"))
    assert report.holds
    assert not any(note.code == "IDM304" for note in report.notes)
    # Not a measurement: the former way took a second for each Step.
    assert time.monotonic() - begun < 5


def test_isolation_says_at_which_level_the_job_holds(db):
    levels = {"sqlite": ["SERIALIZABLE"]}.get(db.dialect.name, ["READ COMMITTED", "SERIALIZABLE"])

    def job() -> None:
        for _ in range(6):
            try:
                check_then_insert(db)
            except DBAPIError:
                continue
            return
        raise RuntimeError("never served")

    report = check(job, job=job, stores={"db": db}, faults=["overlap"], isolation=levels)
    told = dict(report.certificate.levels)
    assert list(told) == levels
    if len(levels) > 1:
        assert told["READ COMMITTED"] == "violated"
        assert told["SERIALIZABLE"] == "holds"
        assert "at READ COMMITTED" in report.findings[0].title
    with db.connect() as connection:
        assert connection.get_isolation_level() == connection.default_isolation_level


def test_an_unknown_isolation_level_is_refused(db):
    with pytest.raises(Unusable, match=r"isolation level 'SNAPSHOT' is not known to 'db'"):
        check(check_then_insert_of(db), job=check_then_insert, stores={"db": db}, isolation=["snapshot"])


def test_a_stall_outruns_a_lease(redis_client, db):
    def job() -> None:
        with redis_client.lock("lock", timeout=30):
            check_then_insert(db)

    report = check(job, job=job, stores={"db": db, "redis": redis_client})
    (finding,) = report.findings
    assert finding.code == "IDM101"
    assert "+31s" in str(finding.counterexample.plan)
    assert "stalls for 31 s" in finding.cause
    longer = check(job, job=job, stores={"db": db, "redis": redis_client}, faults=["overlap", "kill", "late"])
    assert longer.holds


def test_a_dedupe_key_that_runs_out_within_the_window_is_found_and_another_is_not(redis_client):
    def job(seconds: int) -> None:
        # Claim and work in one step: nothing but time can part them.
        script = "if redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[1]) then redis.call('RPUSH', KEYS[2], 'x') end"
        redis_client.eval(script, 2, "seen", "events", seconds)

    short = check(lambda: job(60), job=job, stores={"redis": redis_client}, faults=["late"])
    assert short.codes == ("IDM103",)
    assert "late=" in str(short.findings[0].counterexample.plan)
    assert check(lambda: job(86_400), job=job, stores={"redis": redis_client}, faults=["late"]).holds
    wide = check(
        lambda: job(86_400),
        job=job,
        stores={"redis": redis_client},
        faults=["late"],
        redelivery_window=90_000,
    )
    assert wide.codes == ("IDM103",)


def test_a_failover_loses_the_claim(redis_client, db):
    """Only where it is asked for: Redis alone cannot guard against it."""

    def job() -> None:
        if redis_client.set("claim", "1", nx=True):
            with db.begin() as connection:
                connection.execute(users.insert().values(email="ada"))

    report = check(job, job=job, stores={"db": db, "redis": redis_client}, faults=["failover"])
    assert report.codes == ("IDM101",)
    assert "failover-redis.SET#1@1.1" in str(report.findings[0].counterexample.plan)
    assert not row(check(job, job=job, stores={"db": db, "redis": redis_client}), "replay").skipped
    assert redis_client.get("claim") is None


def test_two_kills_are_needed(db):
    """The first retry is on its guard, and forgets to be so the second time."""

    def job() -> None:
        with db.begin() as connection:
            state = connection.scalar(sa.select(claims.c.state).where(claims.c.name == "a"))
            if state == "done":
                return
            retried = state == "begun"
            connection.execute(
                claims.update().where(claims.c.name == "a").values(state="new" if retried else "begun")
            )
        with db.begin() as connection:
            if not retried or connection.scalar(sa.select(sa.func.count()).select_from(users)) == 0:
                connection.execute(users.insert().values(email="ada"))
            connection.execute(
                claims.update().where(claims.c.name == "a").values(state="done" if retried else "begun")
            )
        with db.begin() as connection:
            connection.execute(claims.update().where(claims.c.name == "a").values(state="done"))

    report = check(job, job=job, stores={"db": db}, faults=["kill"])
    assert report.codes
    plans = [finding.counterexample.plan for finding in report.findings]
    assert any(len(plan.faults) == 2 for plan in plans), plans


def test_a_unique_row_holds_beside_a_rival_that_is_killed(db):
    def job() -> None:
        try:
            with db.begin() as connection:
                connection.execute(claims.insert().values(name="c", state="done"))
        except IntegrityError:
            pass

    report = check(job, job=job, stores={"db": db}, faults=["kill", "overlap"])
    assert report.holds
    assert row(report, "rival").fired


def test_a_finding_that_needs_no_rival_is_told_without_one(db):
    def job() -> None:
        with db.begin() as connection:
            connection.execute(users.insert().values(email="ada"))

    report = check(job, job=job, stores={"db": db})
    (finding,) = report.findings
    assert finding.counterexample.plan == replace(Plan(), deliveries=2)
