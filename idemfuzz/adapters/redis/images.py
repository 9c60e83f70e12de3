"""What a database held at the baseline, what it holds now, and the way back.

A trial pays for what it changed. A server tells us which keys were written, whoever wrote them, by its
client tracking in broadcast mode (Redis 6 and later, Valkey). Without that, all keys are compared with the
baseline; so are those of a fake server, which lives in this process.
"""

from __future__ import annotations

import hashlib
import pickle
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from idemfuzz.adapters.redis.values import content, queries
from idemfuzz.adapters.redis.wire import Wire

__all__ = ["FakeImage", "Image", "Kept", "ServerImage", "fake_server", "read", "read_kept"]

_SCRATCH_KEY = b"idemfuzz:scratch"
_RENEWAL_SECONDS = 1.0
_TTL_SLACK_MS = 250
_REMEMBERED_MAX = 4096
_REMEMBERED_LENGTH_MAX = 4096
# Unlike time.monotonic, nobody moves this clock.
_elapsed = time.perf_counter


@dataclass(frozen=True, slots=True)
class Kept:
    """One key as it was, or is: ``ttl_ms`` is negative where it does not expire."""

    kind: bytes
    dump: bytes
    ttl_ms: float

    @property
    def expires(self) -> bool:
        return self.ttl_ms >= 0


class Image(Protocol):
    """The baseline of one database."""

    baseline: dict[bytes, Kept]
    lapsed: dict[bytes, Kept]
    """What ran out in `advance`, as it was, since the last `restore`; a key may be there again."""

    def differing(self) -> dict[bytes, Kept | None]:
        """The keys that differ from the baseline in content or in having a TTL, as they are now (None: gone).

        Contents are compared as serialised, so a key may be named that differs in nothing but its encoding.
        """
        ...

    def restore(self) -> None: ...

    def advance(self, seconds: float) -> None: ...

    def doubt(self) -> None:
        """Something was seen that the server does not report: compare everything the next time."""
        ...

    def close(self) -> None: ...


def read(wire: Wire, kept: dict[bytes, Kept]) -> dict[bytes, dict[str, Any]]:
    """The contents of keys as they are now, in one round trip."""
    asked = [(key, queries(state.kind, key)) for key, state in kept.items()]
    replies = iter(wire.ask([command for _, commands in asked for command in commands]))
    contents = {}
    for key, commands in asked:
        state = kept[key]
        contents[key] = content(state.kind, [next(replies) for _ in commands], state.dump)
    return contents


def read_kept(wire: Wire, kept: dict[bytes, Kept]) -> dict[bytes, dict[str, Any]]:
    """The contents of keys as they were, in one round trip: each is restored under a name nobody sees."""
    commands: list[tuple[Any, ...]] = []
    for state in kept.values():
        commands += [
            ("MULTI",),
            ("RESTORE", _SCRATCH_KEY, 0, state.dump, "REPLACE"),
            *queries(state.kind, _SCRATCH_KEY),
            ("DEL", _SCRATCH_KEY),
            ("EXEC",),
        ]
    replies = iter(wire.ask(commands))
    contents = {}
    for key, state in kept.items():
        results: Any = None
        for _ in range(len(queries(state.kind, key)) + 4):
            results = next(replies)
        if isinstance(results, Exception):
            raise results
        contents[key] = content(state.kind, results[1:-1], state.dump)
    return contents


class ServerImage:
    """The image of a database on a real server."""

    def __init__(self, pool: Any) -> None:
        self._wire = Wire(pool)
        self._tracking: _Tracking | None = _Tracking.start(pool)
        self._written: set[bytes] = set()
        self._seen: dict[bytes, Kept | None] = {}
        self.lapsed: dict[bytes, Kept] = {}
        self._kinds: dict[bytes, bytes] = {}
        self._all_doubtful = False
        self._renewed = _elapsed()
        self.baseline: dict[bytes, Kept] = {
            key: state for key, state in self._look(self._scan()).items() if state is not None
        }
        # The server does not report what is done to a stream's consumer groups, nor an expiry that it has not
        # noticed.
        self._streams = frozenset(key for key, state in self.baseline.items() if state.kind == b"stream")
        self._expiring = {key: state.ttl_ms for key, state in self.baseline.items() if state.expires}
        self._first_expiry_ms = min(self._expiring.values(), default=float("inf"))

    def differing(self) -> dict[bytes, Kept | None]:
        self._listen()
        self._seen = self._look(self._candidates())
        return {key: now for key, now in self._seen.items() if _differs(self.baseline.get(key), now)}

    def restore(self) -> None:
        # What is not reported yet, the next look will find.
        new = self._listen() if self._tracking is None or self._tracking.pending() else set()
        unseen = self._candidates() - self._seen.keys()
        self._seen |= self._look(unseen | new | self._streams)
        commands = [*self._inverse()]
        elapsed = _elapsed() - self._renewed
        if self._expiring and elapsed > _RENEWAL_SECONDS:
            commands += [("PEXPIRE", key, max(1, int(ttl))) for key, ttl in self._expiring.items()]
            self._renewed = _elapsed()
        if commands:
            for command, reply in zip(commands, self._wire.ask(commands), strict=True):
                if isinstance(reply, Exception):
                    message = f"cannot restore the key {command[1]!r} by {command[0]}: {reply}"
                    raise RuntimeError(message) from reply
        # Our own writes are reported, too, and so looked at once more in the next trial, which costs less than to
        # wait for the report here.
        self._seen = {}
        self._written = set()
        self._all_doubtful = False
        self.lapsed.clear()

    def advance(self, seconds: float) -> None:
        self._listen()
        keys = [*(self._candidates() | self._expiring.keys())]
        replies = self._wire.ask([("PTTL", key) for key in keys])
        passed_ms = int(seconds * 1000)
        commands = []
        for key, ttl in zip(keys, replies, strict=True):
            if ttl >= 0:
                commands.append(("PEXPIRE", key, ttl - passed_ms) if ttl > passed_ms else ("DEL", key))
        over = self._look([key for verb, key, *_ in commands if verb == "DEL"])
        self.lapsed.update((key, state) for key, state in over.items() if state is not None)
        self._wire.ask(commands)
        self._written.update(command[1] for command in commands)

    def doubt(self) -> None:
        self._all_doubtful = True

    def close(self) -> None:
        self._wire.close()
        if self._tracking is not None:
            self._tracking.close()

    def _listen(self) -> set[bytes]:
        """Take in which keys were written up to now; returns the new ones."""
        if self._tracking is None:
            self._all_doubtful = True
            return set()
        written = self._tracking.written()
        if written is None:
            self._all_doubtful = True
            return set()
        self._written |= written
        return written

    def _candidates(self) -> set[bytes]:
        """Every key that may differ from the baseline."""
        if self._all_doubtful:
            return {*self._scan(), *self.baseline, *self._written}
        elapsed_ms = (_elapsed() - self._renewed) * 1000
        doubtful = self._written | self._streams
        if elapsed_ms >= self._first_expiry_ms:
            doubtful |= {key for key, ttl in self._expiring.items() if ttl <= elapsed_ms}
        return doubtful

    def _inverse(self) -> Iterator[tuple[Any, ...]]:
        for key, now in self._seen.items():
            base = self.baseline.get(key)
            if base is None:
                if now is not None:
                    yield ("DEL", key)
            elif now is None or now.dump != base.dump:
                yield ("RESTORE", key, max(1, int(base.ttl_ms)) if base.expires else 0, base.dump, "REPLACE")
            elif base.expires and (not now.expires or abs(now.ttl_ms - base.ttl_ms) > _TTL_SLACK_MS):
                yield ("PEXPIRE", key, max(1, int(base.ttl_ms)))
            elif now.expires and not base.expires:
                yield ("PERSIST", key)

    def _look(self, keys: Iterable[bytes]) -> dict[bytes, Kept | None]:
        wanted = [key for key in keys if key != _SCRATCH_KEY]
        replies = self._wire.ask([(verb, key) for key in wanted for verb in ("PTTL", "DUMP")])
        ttls = dict(zip(wanted, replies[::2], strict=True))
        dumps = dict(zip(wanted, replies[1::2], strict=True))
        for key, dump in dumps.items():
            if isinstance(dump, Exception):
                raise RuntimeError(f"cannot read the key {key!r}: {dump}") from dump
        # Equal DUMPs are of one type.
        unknown = [key for key, dump in dumps.items() if dump is not None and dump not in self._kinds]
        kinds = dict(zip(unknown, self._wire.ask([("TYPE", key) for key in unknown]), strict=True))
        found: dict[bytes, Kept | None] = {}
        for key, dump in dumps.items():
            if dump is None:
                found[key] = None
                continue
            kind = kinds[key] if key in kinds else self._kinds[dump]
            found[key] = Kept(kind, dump, ttls[key])
            if len(dump) <= _REMEMBERED_LENGTH_MAX:
                self._kinds[dump] = kind
        if len(self._kinds) > _REMEMBERED_MAX:
            self._kinds.clear()
        return found

    def _scan(self) -> set[bytes]:
        keys: set[bytes] = set()
        cursor: bytes | int = 0
        while True:
            cursor, found = self._wire.one("SCAN", cursor, "COUNT", 1000)
            keys.update(found)
            if int(cursor) == 0:
                return keys


class _Tracking:
    """Asks the server to report every key that is written, by whomever, in whichever database."""

    def __init__(self, pool: Any) -> None:
        self._wire = Wire(pool)
        self._connect()

    @classmethod
    def start(cls, pool: Any) -> _Tracking | None:
        """None where the server cannot do it."""
        from redis.exceptions import RedisError

        try:
            tracking = cls(pool)
        except RedisError:
            return None
        if tracking.written() is None:
            tracking.close()
            return None
        return tracking

    def written(self) -> set[bytes] | None:
        """The keys written since the last call; None if they are not known.

        The server queues its reports before it answers the writer, so all writes that are answered by now are
        reported before our PING is answered.
        """
        from redis.exceptions import RedisError

        connection = self._wire.connection
        keys: set[bytes] = set()
        known = True
        try:
            connection.send_command("PING", "here", check_health=False)
            while True:
                message = connection.read_response()
                if message[0] == b"pong":
                    return keys if known else None
                if message[0] == b"message":
                    known = known and message[2] is not None
                    keys.update(message[2] or ())
        except (RedisError, OSError):
            # The reports up to here are lost: the caller compares all. The next come on a new connection.
            try:
                connection.disconnect()
                self._connect()
            except (RedisError, OSError):
                connection.disconnect()
            return None

    def pending(self) -> bool:
        """Whether there is a report that has arrived and was not taken in."""
        from redis.exceptions import RedisError

        try:
            return bool(self._wire.connection.can_read(timeout=0))
        except (RedisError, OSError):
            return True

    def close(self) -> None:
        self._wire.close()

    def _connect(self) -> None:
        connection = self._wire.connection
        own_id = self._wire.one("CLIENT", "ID")
        self._wire.one("CLIENT", "TRACKING", "ON", "REDIRECT", own_id, "BCAST")
        connection.send_command("SUBSCRIBE", "__redis__:invalidate")
        connection.read_response()


def fake_server(connection: Any) -> Any:
    """The in-process server of a fakeredis connection, or None."""
    server = getattr(connection, "_server", None)
    return server if hasattr(server, "dbs") and hasattr(server, "lock") else None


class FakeImage:
    """The image of a database of an in-process fakeredis server.

    The keys are compared where they are: no command is sent. Its clock is the wall clock, which the engine
    moves, so `advance` only takes down what has run out. That is still in its place until somebody asks for it.
    """

    def __init__(self, server: Any, number: int, wire: Wire) -> None:
        self._server = server
        self._number = number
        self._wire = wire
        self._begun = _elapsed()
        self._shift_seconds = 0.0
        self.lapsed: dict[bytes, Kept] = {}
        self._item_class: Any = None
        self._known_kinds: dict[type, bytes] = {bytes: b"string"}
        # Per key: the value if it is immutable, the pickled value, the expiry.
        self._values: dict[bytes, tuple[Any, bytes, float | None]] = {}
        with server.lock:
            items = self._items()
            for key, item in items.items():
                self._item_class = type(item)
                plain = item.value if type(item.value) is bytes else None
                self._values[key] = (plain, pickle.dumps(item.value), item.expireat)
        kinds = self._kinds(items)
        self.baseline: dict[bytes, Kept] = {
            key: self._kept(kinds[key], item, self._values[key][1]) for key, item in items.items()
        }
        first_expiry_ms = min((kept.ttl_ms for kept in self.baseline.values() if kept.expires), default=1e9)
        self._renewal_seconds = min(_RENEWAL_SECONDS, first_expiry_ms / 2000)

    def differing(self) -> dict[bytes, Kept | None]:
        with self._server.lock:
            present = self._items()
            changed = dict(self._differing(present))
            pickled = {key: pickle.dumps(item.value) for key, item in changed.items()}
        kinds = self._kinds(changed)
        found: dict[bytes, Kept | None] = dict.fromkeys(key for key in self._values if key not in present)
        found.update((key, self._kept(kinds[key], item, pickled[key])) for key, item in changed.items())
        return found

    def restore(self) -> None:
        elapsed = _elapsed() - self._begun
        if elapsed - self._shift_seconds > self._renewal_seconds:
            self._shift_seconds = elapsed
        with self._server.lock:
            database = self._database()
            present = self._items()
            for key, _ in [*self._differing(present, exact_expiry=True)]:
                held = self._values.get(key)
                if held is None:
                    del database[key]
                    database.notify_watch(key)
                else:
                    self._put(database, key, held)
            for key in self._values.keys() - present.keys():
                self._put(database, key, self._values[key])
        self.lapsed.clear()

    def advance(self, seconds: float) -> None:
        """fakeredis reads the wall clock, which the engine has moved."""
        with self._server.lock:
            inner = getattr(self._database(), "_dict", None)
            if type(inner) is not dict:
                return
            now = time.time()
            over = {
                key: item for key, item in inner.items() if item.expireat is not None and item.expireat < now
            }
            pickled = {key: pickle.dumps(item.value) for key, item in over.items()}
        for key, item in over.items():
            kind = self._known_kinds.get(type(item.value))
            if kind is not None:
                self.lapsed[key] = Kept(kind, hashlib.sha1(pickled[key]).digest() + pickled[key], 0.0)

    def doubt(self) -> None:
        """Nothing: everything is compared anyway."""

    def close(self) -> None:
        self._values.clear()

    def _database(self) -> Any:
        database = self._server.dbs[self._number]
        database.time = time.time()
        return database

    def _items(self) -> dict[bytes, Any]:
        """All live keys with their items (``value``, ``expireat``)."""
        database = self._database()
        inner = getattr(database, "_dict", None)
        if type(inner) is not dict:
            return dict(database.items())
        # The mapping's own iteration is forty times slower.
        now = database.time
        return {key: item for key, item in inner.items() if item.expireat is None or item.expireat >= now}

    def _differing(
        self, present: dict[bytes, Any], *, exact_expiry: bool = False
    ) -> Iterator[tuple[bytes, Any]]:
        values = self._values
        for key, item in present.items():
            held = values.get(key)
            if held is None:
                yield key, item
                continue
            plain, pickled, expiry = held
            value = item.value
            if plain is not None:
                differs = value is not plain and (type(value) is not bytes or value != plain)
            else:
                differs = pickle.dumps(value) != pickled
            if item.expireat is not expiry:
                expected = self._expiry(held)
                if exact_expiry:
                    differs |= item.expireat != expected
                else:
                    differs |= item.expireat is None or expected is None
            if differs:
                yield key, item

    def _expiry(self, held: tuple[Any, bytes, float | None]) -> float | None:
        return None if held[2] is None else held[2] + self._shift_seconds

    def _put(self, database: Any, key: bytes, held: tuple[Any, bytes, float | None]) -> None:
        item = self._item_class(held[0] if held[0] is not None else pickle.loads(held[1]))
        item.expireat = self._expiry(held)
        database[key] = item
        database.notify_watch(key)

    def _kinds(self, items: dict[bytes, Any]) -> dict[bytes, bytes]:
        """What TYPE says, which is asked for the first value of each class."""
        known = self._known_kinds
        unknown = {type(item.value): key for key, item in items.items() if type(item.value) not in known}
        if unknown:
            known.update(
                zip(unknown, self._wire.ask([("TYPE", key) for key in unknown.values()]), strict=True)
            )
        kinds = {key: known[type(item.value)] for key, item in items.items()}
        # A key that has run out meanwhile says nothing of its class.
        self._known_kinds = {kind: name for kind, name in known.items() if name != b"none"}
        return kinds

    @staticmethod
    def _kept(kind: bytes, item: Any, pickled: bytes) -> Kept:
        ttl_ms = -1.0 if item.expireat is None else max(0.0, (item.expireat - time.time()) * 1000)
        # This is what DUMP of fakeredis returns.
        return Kept(kind, hashlib.sha1(pickled).digest() + pickled, ttl_ms)


def _differs(base: Kept | None, now: Kept | None) -> bool:
    if base is None or now is None:
        return base is not now
    return base.dump != now.dump or base.expires != now.expires
