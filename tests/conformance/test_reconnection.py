"""A session that was made as new cannot be told from a new one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from idemfuzz.abc import Options
from idemfuzz.adapters.sqlalchemy import SqlAlchemyAdapter
from idemfuzz.model import FaultKind, Side
from idemfuzz.testing.bench import Bench, fault_at

sqlalchemy = pytest.importorskip("sqlalchemy")

pytestmark = pytest.mark.parametrize("sql_url", ["postgresql", "mysql"], indirect=True)

_SESSION_ID = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT CONNECTION_ID()"}
_STATE = {
    "postgresql": (
        ("SELECT pg_advisory_lock(77)", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"),
        ("SET work_mem = '77kB'", "SHOW work_mem"),
        ("CREATE TEMP TABLE scratch (n int)", "SELECT to_regclass('scratch')"),
        ("PREPARE mine AS SELECT 1", "SELECT count(*) FROM pg_prepared_statements WHERE name = 'mine'"),
    ),
    "mysql": (
        ("SELECT GET_LOCK('mine', 1)", "SELECT IS_USED_LOCK('mine')"),
        ("SET @mine = 7", "SELECT @mine"),
        ("SET SESSION lock_wait_timeout = 77", "SELECT @@lock_wait_timeout"),
        (
            "SET NAMES latin1",
            "SELECT @@character_set_client, @@collation_connection, @@autocommit, @@sql_mode",
        ),
        ("USE information_schema", "SELECT DATABASE()"),
    ),
}


class _Kept:
    """One engine on a bench, whose connections are made by the watched dialect."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE notes (n int primary key)")
        store = SqlAlchemyAdapter().adopt("db", engine, Options())
        assert store is not None
        self.bench = Bench(stores=[store])

    def scalar(self, statement: str) -> Any:
        with self.engine.connect() as connection:
            return tuple(connection.exec_driver_sql(statement).one())

    def session_id(self) -> Any:
        # By the driver: what a job asks for in SQL is not answered twice alike.
        with self.engine.connect() as connection:
            driver = connection.connection.driver_connection
            return driver.thread_id() if hasattr(driver, "thread_id") else driver.info.backend_pid

    def kill_after(self, *statements: str) -> None:
        def job() -> None:
            with self.engine.connect() as connection:
                for statement in statements:
                    connection.exec_driver_sql(statement)
                connection.exec_driver_sql("INSERT INTO notes VALUES (1)")

        events = self.bench.deliver(job).events
        point = next(point for effect, point in events if effect.label == "db.insert.notes")
        assert self.bench.deliver(job, fault_at(FaultKind.KILL, point, Side.BEFORE)).fired == 1


@pytest.fixture
def kept(engine: Any) -> Any:
    kept = _Kept(engine)
    with kept.bench:
        # What was connected before is closed in truth; from here on the dialect is watched.
        engine.dispose()
        yield kept


def test_a_killed_session_is_made_as_new(kept: Any) -> None:
    before = kept.session_id()
    kept.kill_after("INSERT INTO notes VALUES (2)")
    assert kept.session_id() == before
    assert kept.scalar("SELECT count(*) FROM notes") == (0,)


def test_who_asked_for_the_session_gets_another(kept: Any) -> None:
    before = kept.session_id()
    kept.kill_after(_SESSION_ID[kept.engine.url.get_backend_name()])
    assert kept.session_id() != before


def test_nothing_of_the_session_stays(kept: Any) -> None:
    for make, look in _STATE[kept.engine.url.get_backend_name()]:
        before = kept.scalar(look)
        kept.kill_after(make)
        assert kept.scalar(look) == before, make


@pytest.mark.parametrize("kind", [FaultKind.REFUSED, FaultKind.LOST])
def test_a_fault_is_a_disconnect(kept: Any, kind: FaultKind) -> None:
    """Goal: SQLAlchemy invalidates, the ``connect`` event comes again, the transaction is over."""
    connected: list[object] = []
    sqlalchemy.event.listen(kept.engine, "connect", lambda connection, record: connected.append(connection))
    seen: list[tuple[bool, bool]] = []

    def job() -> None:
        with kept.engine.connect() as connection:
            connection.exec_driver_sql("DELETE FROM notes")
            try:
                connection.commit()
            except sqlalchemy.exc.DBAPIError as error:
                seen.append((error.connection_invalidated, connection.invalidated))

    point = next(point for effect, point in kept.bench.deliver(job).events if effect.label == "db.commit")
    connected.clear()
    side = Side.BEFORE if kind is FaultKind.REFUSED else Side.AFTER
    assert kept.bench.deliver(job, fault_at(kind, point, side)).fired == 1
    assert seen == [(True, True)]
    kept.scalar("SELECT 1")
    assert len(connected) == 1


def test_what_the_job_sets_on_the_driver_is_set_back(kept: Any) -> None:
    def set_up() -> Callable[[], None]:
        connection = kept.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        connection.exec_driver_sql("DELETE FROM notes")
        return connection.exec_driver_sql

    _, point = kept.bench.deliver(set_up).events[-1]
    kept.bench.deliver(set_up, fault_at(FaultKind.KILL, point, Side.AFTER))
    with kept.engine.connect() as connection:
        connection.exec_driver_sql("INSERT INTO notes VALUES (9)")
    assert kept.scalar("SELECT count(*) FROM notes") == (0,)


def test_a_server_that_closed_the_kept_session_is_connected_to_again(kept: Any) -> None:
    before = kept.session_id()
    kept.kill_after()
    end = {"postgresql": "SELECT pg_terminate_backend(%s)", "mysql": "KILL %s"}
    other = sqlalchemy.create_engine(kept.engine.url)
    with other.connect() as connection:
        connection.exec_driver_sql(end[kept.engine.url.get_backend_name()] % before)
    other.dispose()
    assert kept.session_id() != before
