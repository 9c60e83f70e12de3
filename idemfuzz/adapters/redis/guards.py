"""Guards in Redis commands: NX, WATCH, MULTI and redis-py's Lock; and the same commands without them.

Without NX, the command writes and answers as if it had come first. Instead of a job's keys, WATCH gets one that nobody
touches, so that the client behaves as if it watched. Without MULTI, each command takes effect by itself. A Lock without
its guard is always got and never asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from idemfuzz.adapters.redis.commands import is_read, name_of, short
from idemfuzz.adapters.redis.footprint import key_name, keys_of
from idemfuzz.model import Guard, GuardKind, Source

__all__ = ["AS_IT_IS", "Guards"]

AS_IT_IS: Any = object()
"""The reply is the server's own."""
_UNWATCHED = "idemfuzz:nobody-touches-this"
_PLAIN = {"SETNX": "SET", "HSETNX": "HSET", "MSETNX": "MSET"}
_OPTIONAL = ("SET", "ZADD")
_ZADD_OPTIONS = (b"NX", b"XX", b"GT", b"LT", b"CH", b"INCR")
_COMPUTED = (b"INCR", b"GET", b"CH")
"""Options of these commands that make the reply another thing than "done"."""


class Guards:
    """What the commands to one Redis store use, and what is taken away of it."""

    def __init__(self, store: str) -> None:
        self.uses = 0
        self._store = store
        self._found: dict[Guard, None] = {}
        self._locks: set[str] = set()
        self._plain_sets: dict[str, Guard] = {}
        self._looked: set[str] = set()
        self._away: frozenset[tuple[GuardKind, str]] = frozenset()
        self._put_in: frozenset[str] = frozenset()

    def found(self) -> list[Guard]:
        """Each guard once, with the line that was seen first."""
        return [guard for guard in self._found if not (guard.kind is GuardKind.NX and self._is_lock(guard))]

    def mends(self) -> list[Guard]:
        """NX for each SET of a key that the job looks at before: two that look at once both find nothing."""
        return [guard for key, guard in self._plain_sets.items() if key in self._looked]

    def take(self, away: Collection[Guard], put_in: Collection[Guard] = ()) -> None:
        """From now on commands are sent without these, and with those."""
        self.uses = 0
        self._away = frozenset((guard.kind, guard.mark) for guard in away)
        self._put_in = frozenset(guard.mark for guard in put_in)

    def command(self, args: Sequence[Any], source: Source | None, encoding: str) -> tuple[Sequence[Any], Any]:
        """What is sent for a command, and what is answered then."""
        name = name_of(args)
        if name == "WATCH":
            return self._watch(args, source, encoding), AS_IT_IS
        key = self._key(name, args, encoding)
        if name in _PLAIN or (name in _OPTIONAL and _place_of(args, b"NX") is not None):
            return self._only_if_new(name, key, args, source)
        if name in ("GET", "EXISTS", "HGET"):
            self._looked.add(key)
        elif name == "SET" and _place_of(args, b"XX") is None:
            mark = _mark(key, source)
            self._plain_sets.setdefault(
                key, Guard(GuardKind.NX, self._store, f"SET {short(key)} NX", mark, source)
            )
            if mark in self._put_in:
                return (*args, "NX"), AS_IT_IS
        return args, AS_IT_IS

    def is_piecewise(self, commands: Sequence[Sequence[Any]], source: Source | None) -> bool:
        """Whether a transaction's commands are sent one by one."""
        writes = [words for words in commands if not is_read(name_of(words), words)]
        if len(commands) < 2 or not writes:
            return False
        names = ", ".join(dict.fromkeys(name_of(words) for words in commands))
        mark = _mark(names, source)
        self._found.setdefault(Guard(GuardKind.MULTI, self._store, f"MULTI of {names}", mark, source))
        return self._is_away(GuardKind.MULTI, mark)

    def is_unlocked(self, name: str, source: Source | None, *, acquires: bool) -> bool:
        """Whether a Lock's methods do nothing but succeed."""
        if acquires:
            self._locks.add(name)
            self._found.setdefault(Guard(GuardKind.LOCK, self._store, f"Lock({short(name)})", name, source))
        return self._is_away(GuardKind.LOCK, name)

    def _watch(self, args: Sequence[Any], source: Source | None, encoding: str) -> Sequence[Any]:
        keys = ", ".join(short(key_name(key, encoding)) for key in keys_of("WATCH", args) or ())
        mark = _mark(keys, source)
        self._found.setdefault(Guard(GuardKind.WATCH, self._store, f"WATCH {keys}", mark, source))
        return (args[0], _UNWATCHED) if self._is_away(GuardKind.WATCH, mark) else args

    def _only_if_new(
        self, name: str, key: str, args: Sequence[Any], source: Source | None
    ) -> tuple[Sequence[Any], Any]:
        if name in _OPTIONAL and any(_place_of(args, option) is not None for option in _COMPUTED):
            return args, AS_IT_IS
        mark = _mark(f"{name} {key}", source)
        shown = f"{name} {short(key)}" + (" NX" if name in _OPTIONAL else "")
        self._found.setdefault(Guard(GuardKind.NX, self._store, shown, mark, source))
        if not self._is_away(GuardKind.NX, mark):
            return args, AS_IT_IS
        if name in _PLAIN:
            return (_PLAIN[name], *args[1:]), True if name != "HSETNX" else 1
        place = _place_of(args, b"NX")
        words = [word for number, word in enumerate(args) if number != place]
        # After its key, ZADD has scores and members by twos.
        return words, AS_IT_IS if name == "SET" else (len(words) - 2) // 2

    def _is_away(self, kind: GuardKind, mark: str) -> bool:
        away = (kind, mark) in self._away
        self.uses += away
        return away

    def _is_lock(self, guard: Guard) -> bool:
        return any(guard.mark.startswith(f"SET {name}@") for name in self._locks)

    @staticmethod
    def _key(name: str, args: Sequence[Any], encoding: str) -> str:
        keys = keys_of(name, args)
        return key_name(keys[0], encoding) if keys else ""


def _mark(text: str, source: Source | None) -> str:
    return f"{text}@{source.file}:{source.line}" if source is not None else f"{text}@"


def _place_of(args: Sequence[Any], option: bytes) -> int | None:
    """Where an option stands: of SET behind the value, of ZADD between the key and the first score."""
    sorted_set = str(args[0]).upper() == "ZADD"
    for number in range(2 if sorted_set else 3, len(args)):
        word = _word(args[number])
        if word == option:
            return number
        if sorted_set and word not in _ZADD_OPTIONS:
            return None
    return None


def _word(argument: Any) -> bytes:
    if isinstance(argument, str):
        return argument.upper().encode()
    return argument.upper() if isinstance(argument, bytes) else b""
