"""Every Engine of a worker process: its statements and commits are Effects; nothing is captured or restored."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from idemfuzz.abc import Gate
from idemfuzz.adapters.sqlalchemy.flavour import identity_of
from idemfuzz.adapters.sqlalchemy.statement import shown, understand
from idemfuzz.model import Access, Effect

__all__ = ["EngineWitness", "address_of", "engines_here", "forget_connections"]


def address_of(engine: Engine) -> str:
    """One text per database, the same in every process."""
    return repr(identity_of(engine))


def engines_here() -> list[Engine]:
    """All that this process has. A child that looks for them copies the memory of its parent, page by page."""
    return [found for found in gc.get_objects() if issubclass(type(found), Engine)]


def forget_connections(engines: Iterable[Engine]) -> None:
    """In a forked child: the pools' connections are the parent's, and are neither used nor closed here."""
    for engine in engines:
        engine.dispose(close=False)


class EngineWitness:
    """Wraps the dialect of each Engine when it connects; a driver's own connections are not seen.

    ``names`` says by address what a database is called, so that labels are those of the search.
    """

    def __init__(self, gate: Gate, names: Mapping[str, str]) -> None:
        self._gate = gate
        self._names = names
        self._wrapped: list[Any] = []
        self._dirty: set[int] = set()

    def attach(self) -> None:
        event.listen(Engine, "engine_connect", self._connected)

    def _connected(self, connection: Any) -> None:
        engine = connection.engine
        dialect: Any = engine.dialect
        if any(dialect is known for known in self._wrapped):
            return
        self._wrapped.append(dialect)
        name = self._names.get(address_of(engine), "db")
        for method in ("do_execute", "do_executemany"):
            setattr(dialect, method, self._execute(name, getattr(dialect, method)))
        dialect.do_execute_no_params = self._execute_plain(name, dialect.do_execute_no_params)
        dialect.do_commit = self._commit(name, dialect.do_commit)
        dialect.do_rollback = self._rollback(dialect.do_rollback)

    def _execute(self, name: str, original: Callable[..., None]) -> Callable[..., None]:
        def do_execute(cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
            self._statement(
                name, cursor, statement, parameters, lambda: original(cursor, statement, parameters, context)
            )

        return do_execute

    def _execute_plain(self, name: str, original: Callable[..., None]) -> Callable[..., None]:
        def do_execute_no_params(cursor: Any, statement: str, context: Any = None) -> None:
            self._statement(name, cursor, statement, None, lambda: original(cursor, statement, context))

        return do_execute_no_params

    def _statement(
        self, name: str, cursor: Any, sql: str, parameters: Any, action: Callable[[], None]
    ) -> None:
        if self._gate.scope() is None:
            action()
            return
        statement = understand(sql)
        if statement.writes:
            self._dirty.add(id(cursor.connection))
        access = Access.PENDING if statement.writes else Access.READ
        effect = Effect(f"{name}.{statement.label}", name, access, shown(statement, parameters))
        self._gate.perform(effect, action, describe=lambda _: _rows(cursor))

    def _commit(self, name: str, original: Callable[[Any], None]) -> Callable[[Any], None]:
        def do_commit(proxied: Any) -> None:
            if self._gate.scope() is None:
                original(proxied)
                return
            number = id(getattr(proxied, "dbapi_connection", proxied))
            access = Access.DURABLE if number in self._dirty else Access.READ
            self._gate.perform(Effect(f"{name}.commit", name, access, "COMMIT"), lambda: original(proxied))
            self._dirty.discard(number)

        return do_commit

    def _rollback(self, original: Callable[[Any], None]) -> Callable[[Any], None]:
        def do_rollback(proxied: Any) -> None:
            self._dirty.discard(id(getattr(proxied, "dbapi_connection", proxied)))
            original(proxied)

        return do_rollback


def _rows(cursor: Any) -> str:
    count = getattr(cursor, "rowcount", -1)
    return f"{count} row{'' if count == 1 else 's'}" if isinstance(count, int) and count >= 0 else ""
