"""Reconnecting without connecting: a closed connection's session is made as new and handed out again.

A new connection to a server takes from 4 ms (PostgreSQL) to 40 ms (PyMySQL, which builds a TLS context each time), and
most trials break one. What SQLAlchemy does about it stays as it is: the pool closes, connects and runs its ``connect``
events; only the dialect's ``close`` keeps the driver's connection, and its ``connect`` gives it out again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

_REVEALING = re.compile(
    r"pg_backend_pid|pg_stat_|pg_locks|pg_blocking_pids|pg_my_temp_schema|inet_client_port|\blisten\b"
    r"|connection_id\s*\(|processlist|pseudo_thread_id|innodb_trx|performance_schema",
    re.I,
)
_SETTINGS = (
    "autocommit",
    "isolation_level",
    "read_only",
    "readonly",
    "deferrable",
    "row_factory",
    "cursor_factory",
    "prepare_threshold",
    "autocommit_mode",
    "sql_mode",
    "init_command",
    "charset",
    "collation",
    "encoding",
    "db",
)
_MARK = "idemfuzz_disconnected"


class Renewing(Protocol):
    """What `Reconnections` needs of a flavour."""

    def rests(self, connection: Any) -> bool:
        """Whether a driver connection is open, and outside any transaction once it is rolled back."""
        ...

    def renew(self, connection: Any) -> bool:
        """Give an idle connection the session of a new one; False, or any error, where that cannot be had."""
        ...


@dataclass(frozen=True, slots=True)
class _Made:
    """A driver connection, how it was made, and how the driver had set it up at first."""

    connection: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    settings: Mapping[str, Any]


@lru_cache(maxsize=4096)
def reveals(text: str) -> bool:
    """Whether a statement can tell one session from another: who has seen that must get a really new one."""
    return _REVEALING.search(text) is not None


def disconnected(error: BaseException) -> BaseException:
    """``error``, which SQLAlchemy shall take for a broken connection whatever the driver says of it."""
    setattr(error, _MARK, True)
    return error


class Reconnections:
    """Wraps dialects from `wrap` to `unwrap`. Connections made before `wrap`, or not by the dialect, are left alone.

    The next user of a kept connection cannot tell it from a new one by SQL: transactions, locks, settings, temporary tables and
    prepared statements are gone. It can by means of the driver's own (``connection.info.backend_pid``).
    """

    def __init__(self, flavour: Renewing) -> None:
        self._flavour = flavour
        self._made: dict[int, _Made] = {}
        self._spare: list[_Made] = []
        self._known: set[int] = set()

    def wrap(self, dialect: Any) -> None:
        dialect.connect = self._connect(dialect.connect)
        dialect.do_close = self._close(dialect.do_close)
        dialect.do_terminate = self._close(dialect.do_terminate)
        dialect.is_disconnect = self._is_disconnect(dialect.is_disconnect)

    def unwrap(self, dialect: Any) -> None:
        for method in ("connect", "do_close", "do_terminate", "is_disconnect"):
            vars(dialect).pop(method, None)

    def clear(self) -> None:
        """Close what was kept."""
        while self._spare:
            self._spare.pop().connection.close()
        self._made.clear()
        self._known.clear()

    def reveal(self, connection: Any) -> None:
        """The job has seen which session this is."""
        self._known.add(id(connection))

    def keeps(self, connection: Any) -> bool:
        """Whether closing this connection will keep it."""
        made = self._made.get(id(connection))
        return made is not None and id(connection) not in self._known and self._flavour.rests(connection)

    def release(self, connection: Any) -> bool:
        """Take everything from a session that a process leaves when it dies; False if only closing does that."""
        if not self.keeps(connection):
            return False
        made = self._made[id(connection)]
        try:
            if _as_made(made) and self._flavour.renew(connection):
                return True
        except Exception:
            pass  # The driver knows better; the connection is closed in truth.
        self._made.pop(id(connection), None)
        return False

    def _connect(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def connect(*args: Any, **kwargs: Any) -> Any:
            for made in [made for made in self._spare if (made.args, made.kwargs) == (args, kwargs)]:
                self._spare.remove(made)
                # Asked now and not when it was kept: the server may have closed it meanwhile.
                if self.release(made.connection):
                    return made.connection
                made.connection.close()
            connection = original(*args, **kwargs)
            self._made[id(connection)] = _Made(connection, args, dict(kwargs), _settings(connection))
            return connection

        return connect

    def _close(self, original: Callable[[Any], None]) -> Callable[[Any], None]:
        def close(connection: Any) -> None:
            if any(made.connection is connection for made in self._spare):
                return
            if self.keeps(connection) and self._ended(connection):
                self._spare.append(self._made[id(connection)])
                return
            self._made.pop(id(connection), None)
            self._known.discard(id(connection))
            original(connection)

        return close

    def _ended(self, connection: Any) -> bool:
        try:
            connection.rollback()
        except Exception:
            return False
        return True

    def _is_disconnect(self, original: Callable[..., bool]) -> Callable[..., bool]:
        def is_disconnect(error: Any, *args: Any, **kwargs: Any) -> bool:
            return getattr(error, _MARK, False) or original(error, *args, **kwargs)

        return is_disconnect


def _settings(connection: Any) -> dict[str, Any]:
    return {name: getattr(connection, name) for name in _SETTINGS if _is_plain(connection, name)}


def _is_plain(connection: Any, name: str) -> bool:
    return hasattr(connection, name) and not callable(vars(type(connection)).get(name))


def _as_made(made: _Made) -> bool:
    """Undo what was set on the driver's object; True if it is as it was."""
    for name, value in made.settings.items():
        if getattr(made.connection, name) != value:
            setattr(made.connection, name, value)
    return _settings(made.connection) == made.settings
