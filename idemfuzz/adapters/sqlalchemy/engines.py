"""Hears of each Engine that connects: a job may make one of its own, to a database that is watched or to one that nobody handed in.

`Engine`'s own methods are wrapped while a database is watched, and not a moment longer.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Engine

if TYPE_CHECKING:
    from idemfuzz.adapters.sqlalchemy.tap import DialectTap

__all__ = ["is_watched", "join", "leave", "note_stranger", "part", "strangers", "watch"]

_taps: dict[Hashable, DialectTap] = {}
_joined: set[Hashable] = set()
_identities: weakref.WeakKeyDictionary[Engine, Hashable] = weakref.WeakKeyDictionary()
_strangers: dict[str, None] = {}


def strangers() -> Sequence[str]:
    """Databases and schemas that a delivery touched and that nobody handed in, or that cannot be looked at."""
    return tuple(_strangers)


def note_stranger(text: str) -> None:
    _strangers[text] = None


def is_watched(backend: str, name: str) -> bool:
    """Whether a database is watched, as far as its name tells; of SQLite its path."""
    kinds = ("mysql", "mariadb") if backend == "mysql" else (backend,)
    return any(known[0] in kinds and known[-1] == name for known in _taps if isinstance(known, tuple))


def watch(identity: Hashable, tap: DialectTap) -> None:
    """From now on ``tap`` is told of all Engines to the database ``identity``."""
    if not _taps:
        _strangers.clear()
        _wrap_connect()
    _taps[identity] = tap


def leave(identity: Hashable) -> None:
    """Take back `watch`."""
    if _taps.pop(identity, None) is not None and not _taps:
        Engine.connect = Engine.connect.__wrapped__  # type: ignore[attr-defined, method-assign]


def join(identity: Hashable) -> None:
    """A delivery that has committed something goes on with the connection that holds it, whichever Engine it asks."""
    if not _joined:
        _wrap_raw_connection()
    _joined.add(identity)


def part(identity: Hashable) -> None:
    """Take back `join`."""
    _joined.discard(identity)
    if not _joined:
        Engine.raw_connection = Engine.raw_connection.__wrapped__  # type: ignore[attr-defined, method-assign]


def _wrap_connect() -> None:
    """A listener to ``engine_connect`` would slow down every statement of them all."""
    connect = Engine.connect

    def watched(engine: Engine) -> Any:
        connection = connect(engine)
        _connected(connection)
        return connection

    watched.__wrapped__ = connect  # type: ignore[attr-defined]
    Engine.connect = watched  # type: ignore[method-assign, assignment]


def _connected(connection: Any) -> None:
    engine = connection.engine
    tap = _taps.get(_identity_of(engine))
    if tap is not None:
        tap.met(engine, connection)
    elif any(known.is_delivering for known in _taps.values()):
        note_stranger(engine.url.render_as_string(hide_password=True))


def _wrap_raw_connection() -> None:
    connect = Engine.raw_connection

    def raw_connection(engine: Engine) -> Any:
        tap = _taps.get(_identity_of(engine)) if _joined else None
        held = tap.held_connection() if tap is not None else None
        return held if held is not None else connect(engine)

    raw_connection.__wrapped__ = connect  # type: ignore[attr-defined]
    Engine.raw_connection = raw_connection  # type: ignore[method-assign, assignment]


def _identity_of(engine: Engine) -> Hashable:
    """What identifies an Engine's database does not change, and a job may connect often."""
    known = _identities.get(engine)
    if known is None:
        from idemfuzz.adapters.sqlalchemy.flavour import identity_of

        known = _identities[engine] = identity_of(engine)
    return known
