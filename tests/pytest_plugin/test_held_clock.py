"""A clock that the test itself holds, by freezegun or time-machine, is moved on for the job, and put back."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow

JOBS = """
import datetime
import sqlalchemy as sa

metadata = sa.MetaData()
marks = sa.Table(
    "marks",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("email", sa.String),
    sa.Column("bucket", sa.String),
    sa.Column("processed_at", sa.DateTime),
    sa.UniqueConstraint("email", "bucket"),
)


def keep(engine, email, bucket):
    with engine.begin() as connection:
        stamp = {"processed_at": datetime.datetime.now()}
        known = marks.c.email == email, marks.c.bucket == bucket
        if not connection.execute(sa.update(marks).where(*known).values(stamp)).rowcount:
            connection.execute(sa.insert(marks).values(email=email, bucket=bucket, **stamp))


def by_argument(engine, email):
    keep(engine, email, "once")


def by_minute(engine, email):
    keep(engine, email, datetime.datetime.now().strftime("%Y-%m-%d %H:%M"))
"""

TESTS = """
import datetime
import jobs
from {module} import {hold} as hold

AT = "2026-03-01 12:00:00"
FIRST = datetime.datetime.fromisoformat(AT)

@pytest.fixture
def db(tmp_path):
    engine = sa.create_engine(f"sqlite:///{{tmp_path / 'marks.db'}}")
    jobs.metadata.create_all(engine)
    yield engine
    engine.dispose()

@pytest.fixture
def held():
    with hold(AT{more}):
        yield

@hold(AT{more})
def by_decorator(db, job):
    assert datetime.datetime.now() == FIRST
    job(db, "ada")

def in_the_body(db, job):
    with hold(AT{more}):
        job(db, "ada")

def by_fixture(db, job):
    assert datetime.datetime.now() == FIRST
    job(db, "ada")

def check(body, db, job):
    return idemfuzz.check(lambda: body(db, job), job=job, stores={{"db": db}}, faults=["late", "duplicate"])

@pytest.mark.parametrize("body", [by_decorator, in_the_body])
def test_held_by_the_test(db, body):
    right, wrong = (check(body, db, job) for job in (jobs.by_argument, jobs.by_minute))
    assert right.verdict == "holds", right.findings
    assert [f.code for f in wrong.findings] == ["IDM101"]

def test_held_by_a_fixture(held, db):
    right, wrong = (check(by_fixture, db, job) for job in (jobs.by_argument, jobs.by_minute))
    assert right.verdict == "holds", right.findings
    assert [f.code for f in wrong.findings] == ["IDM101"]
    assert datetime.datetime.now() == FIRST
"""


@pytest.mark.parametrize(
    ("module", "hold", "more"),
    [("freezegun", "freeze_time", ""), ("time_machine", "travel", ", tick=False")],
)
def test_a_held_clock_goes_on_for_the_job(suite, pytester, module, hold, more):
    """Goal: a key by the minute is found, a key by the argument is silent, and the clock is back where it was held."""
    pytest.importorskip(module)
    pytester.makepyfile(jobs=JOBS)
    suite(TESTS.format(module=module, hold=hold, more=more)).assert_outcomes(passed=3)


MIDNIGHT = """
import datetime
import jobs
import time_machine

def by_day(engine, email):
    jobs.keep(engine, email, str(datetime.date.today()))

@pytest.fixture
def db(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'marks.db'}")
    jobs.metadata.create_all(engine)
    yield engine
    engine.dispose()

@pytest.mark.idempotent(job=by_day)
@time_machine.travel("2026-03-01 23:55:00+00:00")
def test_before_midnight(db):
    by_day(db, "ada")

@pytest.mark.idempotent(job=by_day)
@time_machine.travel("2026-03-01 12:00:00+00:00")
def test_at_noon(db):
    by_day(db, "ada")

@pytest.mark.idempotent(job=jobs.by_argument)
@time_machine.travel("2026-03-01 23:55:00+00:00")
def test_by_argument(db):
    jobs.by_argument(db, "ada")
"""


def test_a_key_by_the_day_is_outrun_where_the_day_turns(suite, pytester):
    """Goal: what `docs/limits.md` says of such keys; a key by the argument is silent at midnight, too."""
    pytest.importorskip("time_machine")
    pytester.makepyfile(jobs=JOBS)
    result = suite(MIDNIGHT)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*test_before_midnight*IDM101*"])
