"""Connections of asyncio drivers, as plain ones.

SQLAlchemy's asyncio dialects adapt their drivers' connections to its synchronous core, but what they offer can be used
within a task of the right loop alone. A search needs a few things of a connection wherever it is: to know its session,
to end its transaction, to close it. That is what a `plain` connection can do, whatever driver stands behind it.
"""

from __future__ import annotations

import contextlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

from idemfuzz.abc import Gate, Unusable

__all__ = ["DRIVERS", "Plain", "closing", "core_of", "driver_of", "forget", "is_async", "plain", "within"]

T = TypeVar("T")

DRIVERS = ("aiosqlite", "asyncpg", "psycopg", "psycopg_async")
"""The asyncio drivers that are known here."""


class Plain(ABC):
    """A server's connection behind an asyncio driver; looks like psycopg's, as far as it goes."""

    def __init__(self, adapted: Any, gate: Gate) -> None:
        self.driver = driver_of(adapted)
        self._adapted = adapted
        self._gate = gate

    @property
    def info(self) -> Plain:
        return self

    @property
    def autocommit(self) -> bool:
        return bool(self._adapted.autocommit)

    @property
    @abstractmethod
    def closed(self) -> bool: ...

    @property
    @abstractmethod
    def backend_pid(self) -> int: ...

    @property
    @abstractmethod
    def transaction_status(self) -> int:
        """As libpq has it: 0 is idle, 2 in a transaction."""

    @abstractmethod
    def rollback(self) -> None: ...

    @abstractmethod
    def close(self) -> None:
        """Break the connection, now and without asking the server."""

    @abstractmethod
    def execute_at_once(self, sql: str) -> None:
        """A statement of ours, outside any transaction."""

    @abstractmethod
    def has_written(self) -> bool:
        """Whether its transaction has written anything. Asked outside of deliveries alone."""


_WRITTEN = "SELECT (pg_current_xact_id_if_assigned() IS NOT NULL)::text"


class _Asyncpg(Plain):
    @property
    def closed(self) -> bool:
        return bool(self.driver.is_closed())

    @property
    def backend_pid(self) -> int:
        return int(self.driver.get_server_pid())

    @property
    def transaction_status(self) -> int:
        return 2 if self.driver.is_in_transaction() else 0

    def rollback(self) -> None:
        if self.transaction_status:
            self._gate.wait(self.driver.execute("ROLLBACK"))

    def close(self) -> None:
        self.driver.terminate()

    def execute_at_once(self, sql: str) -> None:
        self._gate.wait(self.driver.execute(sql))

    def has_written(self) -> bool:
        return bool(self._gate.wait(self.driver.fetchval(_WRITTEN)) == "true")


class _Psycopg(Plain):
    """Its connection has libpq's own below it, which needs no loop."""

    @property
    def closed(self) -> bool:
        return bool(self.driver.closed)

    @property
    def backend_pid(self) -> int:
        return int(self.driver.info.backend_pid)

    @property
    def transaction_status(self) -> int:
        return int(self.driver.info.transaction_status)

    def rollback(self) -> None:
        if self.transaction_status:
            self.driver.pgconn.exec_(b"ROLLBACK")

    def close(self) -> None:
        self.driver.pgconn.finish()

    def execute_at_once(self, sql: str) -> None:
        result = self.driver.pgconn.exec_(sql.encode())
        if result.error_message:
            raise self._adapted.dbapi.OperationalError(result.error_message.decode(errors="replace"))

    def has_written(self) -> bool:
        return bool(self.driver.pgconn.exec_(_WRITTEN.encode()).get_value(0, 0) == b"true")


_plain: dict[int, tuple[Any, Any]] = {}


def is_async(engine: Any) -> bool:
    """Whether a (synchronous) Engine is the core of an AsyncEngine.

    Raises:
        Unusable: it is, and its driver is not known here.
    """
    if not engine.dialect.is_async:
        return False
    if engine.dialect.driver not in DRIVERS:
        raise Unusable(
            f"the asyncio driver {engine.dialect.driver!r} is not known to idemfuzz; it knows {', '.join(DRIVERS[:3])}"
        )
    return True


def core_of(value: Any) -> Any:
    """The synchronous object behind one of SQLAlchemy's asyncio extension; any other value itself.

    An ``async_sessionmaker`` has none.
    """
    extension = sys.modules.get("sqlalchemy.ext.asyncio")
    if extension is None:
        return value
    if isinstance(value, extension.AsyncEngine):
        return value.sync_engine
    if isinstance(value, extension.AsyncConnection):
        return value.sync_connection
    return value.sync_session if isinstance(value, extension.AsyncSession) else value


def driver_of(adapted: Any) -> Any:
    """The driver's own connection."""
    return getattr(adapted, "driver_connection", adapted)


def plain(connection: Any, gate: Gate) -> Any:
    """``connection`` itself, if it is a synchronous driver's; otherwise what can be used in its place, always the same."""
    if not hasattr(connection, "run_async"):
        return connection
    driver = driver_of(connection)
    kind = type(driver).__module__.partition(".")[0]
    if kind == "aiosqlite":
        # SQLite's own connection waits for nothing; nobody but its thread uses it, and that one is idle now.
        return driver._conn
    known = _plain.get(id(driver))
    if known is None or known[0] is not driver:
        known = _plain[id(driver)] = driver, (_Asyncpg if kind == "asyncpg" else _Psycopg)(connection, gate)
    return known[1]


def forget() -> None:
    """The search is over."""
    _plain.clear()


def within(engine: Any, gate: Gate, action: Callable[[], T]) -> T:
    """Do something with an Engine's synchronous core from outside of its tasks."""
    if not engine.dialect.is_async:
        return action()
    from sqlalchemy.util import greenlet_spawn

    return gate.wait(greenlet_spawn(action))


def closing(original: Callable[[Any], None], gate: Gate) -> Callable[[Any], None]:
    """A dialect's ``do_close`` or ``do_terminate``, which may be called from outside of any task."""
    import greenlet

    def close(connection: Any) -> None:
        driver = driver_of(connection)
        if type(driver).__module__.partition(".")[0] == "aiosqlite":
            _close_sqlite(driver)
        elif getattr(greenlet.getcurrent(), "__sqlalchemy_greenlet_provider__", False):
            original(connection)
        else:
            with contextlib.suppress(Exception):
                plain(connection, gate).close()

    return close


def _close_sqlite(driver: Any) -> None:
    """Close the connection here, then let its thread end: a file that is closed a little later may still be locked."""
    from aiosqlite import core

    connection, driver._connection, driver._running = driver._connection, None, False
    if connection is not None:
        connection.close()
        driver._tx.put_nowait((None, lambda: core._STOP_RUNNING_SENTINEL))
