"""Databases that a job talks to by the driver itself, past SQLAlchemy: nothing of it is seen, and this is said.

Only who connects is looked at: ``connect`` of sqlite3, psycopg, psycopg2, PyMySQL and asyncpg, called in a delivery by anybody
but SQLAlchemy. So is Django's ORM, where it connects. A connection that was there before is not heard of, nor one of a pool.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from idemfuzz.abc import Gate

__all__ = ["DriversTap"]

_OURS = ("sqlalchemy", "aiosqlite", "idemfuzz", "coverage")
"""Who connects on behalf of an Engine, or of its own. SQLAlchemy asks `sqlite3.dbapi2`, and aiosqlite asks `sqlite3` for it."""


class DriversTap:
    """Wraps the drivers' ``connect`` from attach to detach; imports none of them by itself."""

    name = "drivers"

    def __init__(self) -> None:
        self._gate: Gate | None = None
        self._wrapped: list[tuple[Any, Callable[..., Any], Callable[..., Any]]] = []
        self._strangers: dict[str, None] = {}

    def attach(self, gate: Gate, values: Mapping[str, object]) -> None:
        self._gate = gate
        self._strangers.clear()
        self.reset()

    def reset(self) -> None:
        """A driver may have been imported since."""
        known = {id(module) for module, *_ in self._wrapped}
        for library in _DATABASES:
            module = sys.modules.get(library)
            if module is not None and id(module) not in known:
                original = module.connect
                wrapper = self._wrap(library, original)
                self._wrapped.append((module, original, wrapper))
                module.connect = wrapper  # type: ignore[attr-defined]

    def detach(self) -> None:
        self._gate = None
        while self._wrapped:
            module, original, wrapper = self._wrapped.pop()
            if module.connect is wrapper:
                module.connect = original

    def strangers(self) -> Sequence[str]:
        """Databases that a delivery connected to and that no Engine of a fixture is for."""
        return tuple(self._strangers)

    def _wrap(self, library: str, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def connect(*args: Any, **kwargs: Any) -> Any:
            connection = original(*args, **kwargs)
            caller = str(sys._getframe(1).f_globals.get("__name__")).partition(".")[0]
            if self._gate is not None and self._gate.scope() is not None and caller not in _OURS:
                database = _DATABASES[library](connection, args, kwargs)
                if database is not None and not _is_watched(*database):
                    self._strangers[f"the database {database[1]!r} by {library} itself"] = None
            return connection

        return connect


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
