"""SQLAlchemy 2.x engines, sessions and session makers as Stores: SQLite, PostgreSQL, MariaDB and MySQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from idemfuzz.abc import Options, Unusable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from idemfuzz.adapters.sqlalchemy.store import SqlStore

__all__ = ["SqlAlchemyAdapter"]


class SqlAlchemyAdapter:
    """Adopts Engine, Connection, Session, sessionmaker and scoped_session values; one Store per database.

    So it does with their twins of SQLAlchemy's asyncio extension.
    """

    name = "sqlalchemy"

    def __init__(self) -> None:
        self._stores: list[SqlStore] = []

    def adopt(self, name: str, value: object, options: Options) -> SqlStore | None:
        if not any(cls.__module__.partition(".")[0] == "sqlalchemy" for cls in type(value).__mro__):
            return None
        from idemfuzz.adapters.sqlalchemy.store import SqlStore

        engine = _engine_of(name, value)
        if engine is None:
            return None
        store = SqlStore(name, engine, options)
        store.hand(value)
        self._stores.append(store)
        return store

    def twin(self, value: object) -> object | None:
        """A second worker's Session in place of ``value``; None if ``value`` is no Session."""
        if not any(
            cls.__module__.startswith(("sqlalchemy.orm", "sqlalchemy.ext.asyncio"))
            for cls in type(value).__mro__
        ):
            return None
        from sqlalchemy.orm import Session

        from idemfuzz.adapters.sqlalchemy.awaited import core_of

        core = core_of(value)
        if not isinstance(core, Session):
            return None
        own: dict[str, Any] = {} if core is value else {"sync_session_class": type(core)}
        session: Any = value
        return type(session)(  # type: ignore[no-any-return]
            bind=session.bind,
            expire_on_commit=core.expire_on_commit,
            autoflush=core.autoflush,
            binds=_binds(core),
            **own,
        )

    def strangers(self) -> Sequence[str]:
        from idemfuzz.adapters.sqlalchemy.engines import strangers

        return strangers()


def _binds(session: Any) -> Any:
    return dict(getattr(session, "_Session__binds", {})) or None


def _engine_of(name: str, value: Any) -> Any:
    """The Engine behind ``value``, or None.

    Raises:
        Unusable: ``value`` is bound to one connection whose transaction somebody else ends.
    """
    from sqlalchemy.engine import Connection, Engine
    from sqlalchemy.orm import Session, scoped_session, sessionmaker

    from idemfuzz.adapters.sqlalchemy.awaited import core_of

    value = core_of(value)
    if isinstance(value, Engine):
        return value
    if isinstance(value, Connection):
        if value.in_transaction():
            raise _rolled_back(name)
        return value.engine
    if isinstance(value, scoped_session):
        value = value.session_factory
    if isinstance(value, sessionmaker) or type(value).__module__ == "sqlalchemy.ext.asyncio.session":
        # An asynchronous maker of sessions, or a scope of such, is no subclass of the synchronous one.
        value = getattr(value, "session_factory", value)
        bind = core_of(value.kw.get("bind"))
    elif isinstance(value, Session):
        bind = value.bind
    else:
        return None
    if isinstance(bind, Connection):
        if bind.in_transaction():
            raise _rolled_back(name)
        return bind.engine
    return bind if isinstance(bind, Engine) else None


def _rolled_back(name: str) -> Unusable:
    return Unusable(
        f"the fixture {name!r} wraps the test in one transaction that is rolled back at its end: no commit of the job "
        "is a real one there, so crashes and duplicates cannot be told apart. "
        "Give this test an Engine, a sessionmaker or a Session bound to an Engine; idemfuzz restores the database itself."
    )
