"""Databases that a job talks to by the driver itself, past SQLAlchemy: nothing of it is seen, and this is said.

Only who connects is looked at: ``connect`` of sqlite3, psycopg, psycopg2, PyMySQL and asyncpg, called in a delivery by anybody
but SQLAlchemy. So is Django's ORM, where it connects. A connection that was there before is not heard of, nor one of a pool.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

from idemfuzz.abc import Gate
from idemfuzz.adapters.libraries import LibraryTap, Perform

__all__ = ["DriversTap"]

_OURS = ("sqlalchemy", "aiosqlite", "idemfuzz", "coverage")
"""Who connects on behalf of an Engine, or of its own. SQLAlchemy asks `sqlite3.dbapi2`, and aiosqlite asks `sqlite3` for it."""


class DriversTap(LibraryTap):
    """Taps the drivers' ``connect``; imports none of them by itself. To connect is no Effect."""

    name = "drivers"

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(_DATABASES, DriversTap._tap_driver))
        self._strangers: dict[str, None] = {}

    def attach(self, gate: Gate, values: Mapping[str, object]) -> None:
        self._strangers.clear()
        super().attach(gate, values)

    def strangers(self) -> Sequence[str]:
        """Databases that a delivery connected to and that no Engine of a fixture is for."""
        return tuple(self._strangers)

    def _tap_driver(self, module: ModuleType) -> None:
        def ask(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Perform | None:
            return (
                None
                if _connecting() in _OURS
                else functools.partial(self._connect, module.__name__, args, kwargs)
            )

        self.tap(module, "connect", ask)

    def _connect(
        self,
        library: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        gate: Gate,
        connect: Callable[[], Any],
    ) -> Any:
        connection = connect()
        database = _DATABASES[library](connection, args, kwargs)
        if database is not None and not _is_watched(*database):
            self._strangers[f"the database {database[1]!r} by {library} itself"] = None
        return connection


def _connecting() -> str:
    """The package that has called what is tapped: two frames of the wrapper lie between, and two of ours."""
    return str(sys._getframe(4).f_globals.get("__name__")).partition(".")[0]


def _is_watched(backend: str, name: str) -> bool:
    engines = sys.modules.get("idemfuzz.adapters.sqlalchemy.engines")
    return engines is not None and engines.is_watched(backend, name)


# -- which database: the backend as SQLAlchemy calls it, and the name; None for one that dies with its connection --

_Database = tuple[str, str] | None


def _of_sqlite(connection: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Database:
    (path,) = [path for _, name, path in connection.execute("PRAGMA database_list") if name == "main"]
    return ("sqlite", os.path.realpath(path)) if path else None


def _of_libpq(connection: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Database:
    return "postgresql", str(connection.info.dbname)


def _of_pymysql(connection: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Database:
    name = connection.db
    return "mysql", name.decode() if isinstance(name, bytes) else str(name)


def _of_asyncpg(connection: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Database:
    address = args[0] if args else kwargs.get("dsn") or ""
    return "postgresql", kwargs.get("database") or unquote(urlsplit(str(address)).path.lstrip("/"))


_DATABASES: Mapping[str, Callable[[Any, Sequence[Any], Mapping[str, Any]], _Database]] = {
    "sqlite3": _of_sqlite,
    "psycopg": _of_libpq,
    "psycopg2": _of_libpq,
    "pymysql": _of_pymysql,
    "asyncpg": _of_asyncpg,
}
