"""What idemfuzz refuses, survives and puts back, whatever a job does."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session as OrmSession

import idemfuzz
from idemfuzz import Unusable, check
from idemfuzz.engine import claims as engine_claims

ROOT = Path(__file__).parents[2]
metadata = sa.MetaData()
users = sa.Table(
    "users", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("email", sa.String(80))
)
claims = sa.Table("claims", metadata, sa.Column("name", sa.String(80), primary_key=True))


@pytest.fixture
def db(tmp_path) -> Iterator[sa.Engine]:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'a.db'}")
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(users.insert().values(email="first@example.org"))
    yield engine
    engine.dispose()


def rows(engine: sa.Engine) -> list[tuple]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.select(users).order_by(users.c.id))]


def claim(engine: sa.Engine, name: str) -> bool:
    """The first to come gets True."""
    with engine.begin() as connection:
        statement = sa.dialects.sqlite.insert(claims).values(name=name).on_conflict_do_nothing()
        return connection.execute(statement).rowcount == 1


BEFORE = [(1, "first@example.org")]


def test_server_database_without_test_in_its_name_is_refused():
    engine = sa.create_engine("postgresql+psycopg://someone:secret@localhost/shop")

    def job() -> None: ...

    with pytest.raises(Unusable, match="does not say that it is for tests") as refusal:
        check(job, job=job, stores={"db": engine})
    assert "secret" not in str(refusal.value)
    assert "idemfuzz_allow" in str(refusal.value)


def test_database_that_was_not_handed_in_is_seen_and_makes_the_verdict_unknown(db, tmp_path):
    other = sa.create_engine(f"sqlite:///{tmp_path / 'other.db'}")
    metadata.create_all(other)

    def job() -> None:
        claim(db, "a")
        with other.begin() as connection:
            connection.execute(users.insert().values(email="x"))

    report = check(job, job=job, stores={"db": db})
    assert report.verdict == "unknown"
    assert "IDM904" in [note.code for note in report.notes]
    other.dispose()


def test_rolled_back_transaction_fixture_is_refused(db):
    with db.connect() as connection, connection.begin():
        session = OrmSession(bind=connection)
        with pytest.raises(Unusable, match="rolled back at its end"):
            check(lambda: None, job=claim, stores={"session": session})
        session.close()


def test_uncommitted_changes_of_a_fixture_are_refused(db):
    with OrmSession(db) as session:
        session.execute(users.insert().values(email="pending@example.org"))
        with pytest.raises(Unusable, match="not committed"):
            check(lambda: None, job=claim, stores={"session": session})


def test_ctrl_c_in_mid_run_ends_the_search_and_restores(db):
    calls = 0

    def job() -> None:
        with db.begin() as connection:
            connection.execute(users.insert().values(email="a"))

    def scenario() -> None:
        nonlocal calls
        calls += 1
        job()
        if calls == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(scenario, job=job, stores={"db": db})
    assert rows(db) == BEFORE
    assert "do_commit" not in vars(db.dialect)


def test_ctrl_c_while_a_delivery_runs_ends_the_search_and_restores(db):
    """The main thread waits for the delivery: a real SIGINT must reach it."""

    def job() -> None:
        with db.begin() as connection:
            connection.execute(users.insert().values(email="a"))
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(0.2)

    # A worker of an earlier test may have left its own handler.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            check(job, job=job, stores={"db": db})
    finally:
        signal.signal(signal.SIGINT, before)
    assert rows(db) == BEFORE


def test_signal_handlers_that_a_worker_leaves_behind_do_not_outlive_their_trial(db):
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def job() -> None:
        claim(db, "a")

    def scenario() -> None:
        seen.append(signal.getsignal(signal.SIGINT))
        signal.signal(signal.SIGINT, lambda *_: None)
        job()

    check(scenario, job=job, stores={"db": db}, faults=["duplicate"])
    assert len(seen) > 1
    assert set(seen) == {before}
    assert signal.getsignal(signal.SIGINT) is before


def test_scenario_that_fails_plainly_shows_its_own_error(db):
    def job() -> None:
        with db.begin() as connection:
            connection.execute(users.insert().values(email="a"))
        raise LookupError("no such order")

    with pytest.raises(idemfuzz.ScenarioFailed) as failure:
        check(job, job=job, stores={"db": db})
    assert isinstance(failure.value.error, LookupError)
    assert rows(db) == BEFORE


def test_job_that_hangs_in_a_duplicate_is_a_finding(db):
    def job() -> None:
        if not claim(db, "a"):
            threading.Event().wait()

    report = check(job, job=job, stores={"db": db}, timeout=0.3, faults=["duplicate"])
    assert report.codes == ("IDM304",)
    assert rows(db) == BEFORE


def test_job_that_spins_in_a_duplicate_is_broken_off(db):
    def job() -> None:
        if not claim(db, "a"):
            while True:
                sum(range(100))

    report = check(job, job=job, stores={"db": db}, timeout=0.3, faults=["duplicate"])
    assert report.codes == ("IDM304",)


def test_job_that_calls_sys_exit_fails_that_delivery_only(db):
    def job() -> None:
        if not claim(db, "a"):
            sys.exit(3)

    report = check(job, job=job, stores={"db": db}, faults=["duplicate"])
    assert report.holds
    assert "SystemExit" in " ".join(note.text for note in report.notes)


def test_job_that_swallows_base_exceptions_for_ever_can_be_killed(db):
    def job() -> None:
        while True:
            try:
                with db.begin() as connection:
                    connection.execute(users.insert().values(email="a"))
                return
            except BaseException:
                time.sleep(1)

    report = check(job, job=job, stores={"db": db}, faults=["kill"], timeout=5.0)
    assert report.codes == ("IDM101",)
    assert rows(db) == BEFORE


def test_effects_of_threads_that_a_job_starts_belong_to_its_delivery(db):
    def work() -> None:
        with db.begin() as connection:
            connection.execute(users.insert().values(email="a"))

    def job() -> None:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    report = check(job, job=job, stores={"db": db}, faults=["duplicate", "kill"])
    assert report.codes == ("IDM101",)
    assert report.certificate.effects == 2


def test_job_that_leaks_connections_does_not_starve_the_search(db):
    leaked = []

    def job() -> None:
        connection = db.connect()
        leaked.append(connection)
        statement = sa.dialects.sqlite.insert(claims).values(name="a").on_conflict_do_nothing()
        connection.execute(statement)
        connection.commit()

    report = check(job, job=job, stores={"db": db})
    assert report.holds, report.findings
    assert len(leaked) > 20


@pytest.mark.slow
def test_job_with_thousands_of_effects_is_searched_within_the_budget(db):
    def job() -> None:
        with db.connect() as connection:
            for _ in range(3_000):
                connection.execute(sa.select(claims.c.name)).first()
        claim(db, "a")

    report = check(job, job=job, stores={"db": db}, faults=["duplicate", "kill"], timeout=60.0)
    assert report.holds
    assert report.certificate.effects == 3_002


@pytest.mark.slow
def test_more_points_than_the_budget_are_thinned_out_and_said(db):
    def job() -> None:
        for number in range(300):
            claim(db, str(number))

    report = check(job, job=job, stores={"db": db}, faults=["kill"], max_trials=10)
    assert report.holds
    crash, _ = report.certificate.coverage
    assert crash.ran <= 10 < crash.planned
    assert crash.over_budget == crash.planned - crash.ran
    assert not report.certificate.exhaustive


def test_lambda_and_closure_are_jobs():
    """Whatever Python function it is, its calls are caught; afterwards it is as it was."""
    outbox: list[str] = []
    job = lambda address: outbox.append(address)  # noqa: E731
    code = job.__code__
    report = check(lambda: job("ada@example.org"), job=job, stores={"outbox": outbox})
    assert report.codes == ("IDM108",)
    assert job.__code__ is code
    assert outbox == []


def test_what_is_no_function_is_refused_as_a_job():
    with pytest.raises(Unusable, match="is not a function"):
        check(lambda: None, job=object(), stores={})


def test_nothing_delivered_is_never_a_pass(db):
    report = check(lambda: None, job=claim, stores={"db": db})
    assert report.verdict == "unknown"
    assert [note.code for note in report.notes] == ["IDM902"]


def test_nothing_changed_is_never_a_pass(db):
    def job() -> None:
        rows(db)

    report = check(job, job=job, stores={"db": db})
    assert report.verdict == "unknown"
    assert [note.code for note in report.notes] == ["IDM903"]


def test_statements_past_sqlalchemy_are_never_a_pass(db):
    """Goal: a job that writes by a cursor of the driver's own gets no pass, as no fault could strike between its commits."""

    def job() -> None:
        for statement in (
            "CREATE TABLE IF NOT EXISTS raw (n INTEGER UNIQUE)",
            "INSERT OR IGNORE INTO raw VALUES (1)",
        ):
            connection = db.raw_connection()
            connection.cursor().execute(statement)
            connection.commit()
            connection.close()

    report = check(job, job=job, stores={"db": db})
    assert report.verdict == "unknown"
    assert [note.code for note in report.notes] == ["IDM903"]


def test_database_that_a_driver_opens_itself_is_told(db, tmp_path):
    """Goal: no pass for what nobody looks at, and no word of what is looked at, or dies with its connection."""
    connect = sqlite3.connect

    def job(name: object) -> None:
        claim(db, "a")
        own = sqlite3.connect(name)
        own.execute("CREATE TABLE IF NOT EXISTS seen (n)")
        own.close()

    report = check(lambda: job(tmp_path / "own.db"), job=job, stores={"db": db})
    assert report.verdict == "unknown"
    assert [note.code for note in report.notes] == ["IDM904"]
    assert "own.db' by sqlite3 itself" in report.notes[0].text
    for known in (":memory:", tmp_path / "a.db"):
        assert check(lambda known=known: job(known), job=job, stores={"db": db}).verdict == "holds"
    assert sqlite3.connect is connect


@pytest.mark.slow
@pytest.mark.parametrize("library", ["psycopg", "psycopg2", "pymysql", "asyncpg"])
def test_server_that_a_driver_connects_to_itself_is_told(library: str, db, lend):
    """Goal: the same for each of the drivers that people use bare."""
    driver = pytest.importorskip(library)
    url = sa.make_url(lend("mysql" if library == "pymysql" else "postgresql"))

    def job() -> None:
        claim(db, "a")
        where = {
            "user": url.username,
            "password": url.password or "",
            "port": url.port,
            "database": url.database,
        }
        where["host"] = url.host or url.query.get("host") or "localhost"
        where = {name: value for name, value in where.items() if value is not None}
        if library == "psycopg":
            where["dbname"] = where.pop("database")
        if library == "pymysql" and "unix_socket" in url.query:
            where["unix_socket"] = url.query["unix_socket"]

        async def come_and_go() -> None:
            await (await driver.connect(**where)).close()

        if library == "asyncpg":
            asyncio.run(come_and_go())
        else:
            driver.connect(**where).close()

    report = check(job, job=job, stores={"db": db})
    assert report.verdict == "unknown"
    assert [note.code for note in report.notes] == ["IDM904"]
    assert f"the database {url.database!r} by {library} itself" in report.notes[0].text


def test_random_job_is_nondeterministic_and_not_blamed(db):
    import random

    dice = random.Random(1)

    def job() -> None:
        with db.begin() as connection:
            for _ in range(dice.randrange(1, 50)):
                connection.execute(users.insert().values(email="a"))

    report = check(job, job=job, stores={"db": db})
    assert report.verdict == "unknown"
    assert [note.code for note in report.notes] == ["IDM901"]


def test_shared_session_is_cloned_for_an_overlapping_delivery(db):
    """A Session passed in is what a second worker would have one of its own of."""

    def job(session: OrmSession) -> None:
        if session.scalar(sa.select(users.c.id).where(users.c.email == "a")) is None:
            session.execute(users.insert().values(email="a"))
        session.commit()

    with OrmSession(db) as session:
        report = check(lambda: job(session), job=job, stores={"session": session})
    assert report.codes == ("IDM101",)


def test_session_shared_through_a_closure_leaves_overlap_unknown(db):
    with OrmSession(db) as session:

        def job() -> None:
            if session.get(_User, 7) is None:
                session.add(_User(id=7, email="a"))
            session.commit()

        report = check(job, job=job, stores={"session": session})
    assert report.verdict == "unknown"
    assert "IDM905" in [note.code for note in report.notes]


class _Base(sa.orm.DeclarativeBase):
    metadata = metadata


class _User(_Base):
    __table__ = users


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"deliveries": 1}, "deliveries=1 is not usable"),
        ({"faults": ["crash"]}, "the faults are"),
        ({"colour": "red"}, "unknown option colour='red'"),
        ({"max_trials": 0}, "max_trials=0 is not usable"),
        ({"redelivery_window": -3}, "redelivery_window=-3 is not usable"),
        ({"plan": "v9:x2"}, "starts with 'v9'"),
        ({"plan": "v1:x2:explode+a#1@1.1"}, "cannot read 'explode"),
        ({"timeout": "soon"}, "timeout='soon' is not usable"),
    ],
)
def test_unusable_option_is_named_with_its_value(options, message):
    with pytest.raises(Unusable) as refusal:
        check(lambda: None, job=claim, stores={}, **options)
    assert message in str(refusal.value)


_ELSEWHERE = """
import sys
import sqlalchemy as sa
from idemfuzz import check

engine = sa.create_engine(sys.argv[1])

def job():
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO users (email) VALUES ('left@example.org')"))
    print("under way", flush=True)
    open(sys.argv[2]).read()

check(job, job=job, stores={"db": engine}, timeout=60)
"""


@pytest.mark.slow
def test_two_processes_do_not_search_one_database_and_a_killed_search_is_told(db, tmp_path, monkeypatch):
    def insert() -> None:
        with db.begin() as connection:
            connection.execute(users.insert().values(email="b@example.org"))

    def search() -> idemfuzz.Report:
        return check(lambda: insert(), job=insert, stores={"accounts": db}, faults=["duplicate"])

    monkeypatch.setattr(engine_claims, "_WAIT_SECONDS_MAX", 0.1)
    pipe = tmp_path / "never"
    os.mkfifo(pipe)
    command = [sys.executable, "-c", _ELSEWHERE, str(db.url), str(pipe)]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert other.stdout.readline() == "under way\n"
        with pytest.raises(
            Unusable, match=rf"'accounts' is in use by another search or stress run \(process {other.pid}"
        ):
            search()
    finally:
        other.kill()
        other.communicate()
    with pytest.warns(UserWarning, match="a search or stress run of 'accounts' was killed"):
        assert search().codes == ("IDM101",)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert search().codes == ("IDM101",)
