"""One Redis database as a Store."""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import os
import re
import sys
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from idemfuzz import permission
from idemfuzz.abc import Gate, Options, Unusable
from idemfuzz.adapters.redis.footprint import key_name
from idemfuzz.adapters.redis.guards import Guards
from idemfuzz.adapters.redis.images import FakeImage, Image, Kept, ServerImage, fake_server, read, read_kept
from idemfuzz.adapters.redis.tap import TAP, run_id_of
from idemfuzz.adapters.redis.values import pattern, text
from idemfuzz.adapters.redis.wire import Wire, connection_to, is_async
from idemfuzz.model import Delta, Difference, Fact, FactKind, Footprint, Guard

__all__ = ["EXCLUDED_KEY_PATTERNS", "Address", "RedisStore", "exclude_keys"]

EXCLUDED_KEY_PATTERNS: tuple[str, ...] = (
    # Celery's broker and result backend (kombu's Redis transport).
    "_kombu.*",
    "unacked",
    "unacked_index",
    "unacked_mutex",
    "celery",
    "celery\x06\x16*",
    "celery-task-meta-*",
    "celery-taskset-meta-*",
)
"""Glob patterns of keys that are a queue's bookkeeping: restored like all others, but no part of the state.

RQ's keys are added when a store is opened, under whichever prefix RQ uses.
"""

_FACTS_MAX = 4096
_extra_patterns: dict[str, None] = {}


def exclude_keys(*patterns: str) -> None:
    """In all stores opened later: count keys that match a glob pattern of these as a queue's bookkeeping."""
    _extra_patterns.update(dict.fromkeys(patterns))


def _excluded() -> re.Pattern[str]:
    patterns = {*EXCLUDED_KEY_PATTERNS, *_extra_patterns}
    patterns.add(os.environ.get("RQ_KEY_PREFIX", "rq") + ":*")
    # What a subclass or a setting of RQ says goes first; RQ is not imported for this.
    for module, name, attribute in (
        ("rq.queue", "Queue", "redis_queue_namespace_prefix"),
        ("rq.queue", "Queue", "redis_queues_keys"),
        ("rq.job", "Job", "redis_job_namespace_prefix"),
    ):
        prefix = getattr(getattr(sys.modules.get(module), name, None), attribute, None)
        if isinstance(prefix, str):
            patterns.add(prefix + "*")
    return re.compile("|".join(fnmatch.translate(one) for one in sorted(patterns)))


def _identity(key: bytes, state: Kept) -> tuple[bytes, bytes, bool]:
    return key, state.dump, state.expires


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is: host and port, path of a socket, or id of a fake server; and its number."""

    host: str
    port: int | None
    db: int
    is_fake: bool = False

    @classmethod
    def of(cls, pool: Any) -> Address:
        """Where the connections of ``pool`` lead; nothing is connected for this."""
        settings = pool.connection_kwargs
        db = int(settings.get("db") or 0)
        if is_fake(pool):
            server = fake_server(connection_to(pool))
            if server is not None:
                return cls(f"fake-{id(server):x}", None, db, is_fake=True)
        if settings.get("path"):
            return cls(str(settings["path"]), None, db)
        host = str(settings.get("host") or "localhost").lower()
        # localhost may be either; a server that listens on one of them only is found out by its run id.
        return cls("localhost" if _is_loopback(host) else host, int(settings.get("port") or 6379), db)

    @property
    def is_local(self) -> bool:
        return self.is_fake or self.port is None or self.host == "localhost"

    def __str__(self) -> str:
        if self.is_fake:
            return f"fakeredis/{self.db}"
        return f"{self.host}/{self.db}" if self.port is None else f"{self.host}:{self.port}/{self.db}"

    def check_permission(self, *, called: str, allow: Iterable[str]) -> None:
        """Whether it may be written to.

        Raises:
            Unusable: it may not.
        """
        permission.check_redis(
            self.host, self.port, self.db, is_local=self.is_local, called=called, allow=allow
        )


def is_fake(pool: Any) -> bool:
    """Whether ``pool`` leads to an in-process fake."""
    return any(base.__module__.partition(".")[0] == "fakeredis" for base in pool.connection_class.__mro__)


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1", "0.0.0.0", "::") or re.fullmatch(r"127(\.\d+){3}", host) is not None


class RedisStore:
    """A Redis database: every key of it is captured, compared and restored, of whatever type.

    It does not see keys of other databases, script caches, functions, channels or server settings. SWAPDB by
    another process goes unnoticed on a server that reports writes (see `images`).
    """

    kind = "redis"

    def __init__(self, name: str, client: Any, options: Options) -> None:
        self.name = name
        self._pool = client.connection_pool
        self._options = options
        self.address = Address.of(self._pool)
        self._identity: Hashable = None
        self._wire: Wire | None = None
        self._image: Image | None = None
        self._gate: Gate | None = None
        self._excluded = re.compile("")
        self._facts: dict[tuple[bytes, bytes, bool], Fact] = {}
        self._marked: dict[bytes, Kept | None] = {}
        self._passed_seconds = 0.0
        self._touched: set[str | None] = set()
        self._guards = Guards(name)

    def __repr__(self) -> str:
        return f"RedisStore({self.name!r}, {self.address})"

    @property
    def identity(self) -> Hashable:
        """The server's run id, or its address where it does not say, and the database number."""
        if self._identity is None:
            run_id = None if self.address.is_fake else run_id_of(self._pool)
            where = run_id or (self.address.host, self.address.port)
            self._identity = (where, self.address.db)
        return self._identity

    @property
    def place(self) -> str:
        """Where it is: one text in every process."""
        return str(self.address)

    @property
    def in_process(self) -> bool:
        """Whether another process would have one of its own."""
        return self.address.is_fake

    def open(self, gate: Gate) -> None:
        """Remember every key of the database, and start tapping.

        Raises:
            Unusable: the database is on another host and not allowed by name, or does not answer.
        """
        from redis.exceptions import RedisError

        self.address.check_permission(called=repr(self.name), allow=self._options.allow)
        try:
            self._wire = Wire(self._pool)
            server = fake_server(self._wire.connection) if self.address.is_fake else None
            if server is not None:
                self._image = FakeImage(server, self.address.db, self._wire)
            else:
                self._wire.one("PING")
                self._image = ServerImage(self._pool)
        except (RedisError, OSError) as error:
            raise Unusable(
                f"The Redis database {self.address} (given as {self.name!r}) does not answer: {error}. "
                "Start the server, or run 'idemfuzz doctor' to see what this machine has."
            ) from error
        self._excluded = _excluded()
        self._facts.clear()
        self._gate = gate
        TAP.open(self, gate)

    def changes(self) -> Delta:
        wire, image = self._opened()
        differing = {
            key: now
            for key, now in image.differing().items()
            if not self._is_bookkeeping(key) and not (now is None and self._has_run_out(key))
        }
        lapsed = {
            key: state
            for key, state in image.lapsed.items()
            if not self._is_bookkeeping(key)
            and (differing[key] is None if key in differing else key not in image.baseline)
        }
        if not differing and not lapsed:
            return Delta()
        now = {key: state for key, state in differing.items() if state is not None}
        base = {key: image.baseline[key] for key in differing if key in image.baseline}
        self._learn(now, functools.partial(read, wire))
        self._learn(base, functools.partial(read_kept, wire))
        self._learn(lapsed, functools.partial(read_kept, wire))
        added, removed = [], []
        for key in sorted(differing):
            fact = self._facts[_identity(key, now[key])] if key in now else None
            old = self._facts[_identity(key, base[key])] if key in base else None
            # Serialised differently, but the same: a set in another order.
            if fact is not None and old is not None and fact.fields == old.fields:
                continue
            if fact is not None:
                added.append(fact)
            if old is not None:
                removed.append(old)
        gone = tuple(self._facts[_identity(key, state)] for key, state in sorted(lapsed.items()))
        return Delta(tuple(added), tuple(removed), gone)

    def _learn(
        self, states: dict[bytes, Kept], ask: Callable[[dict[bytes, Kept]], dict[bytes, dict[str, Any]]]
    ) -> None:
        """See to it that the Facts of these keys are known: a serialised value need be read once only."""
        unknown = {key: state for key, state in states.items() if _identity(key, state) not in self._facts}
        if not unknown:
            return
        for key, fields in ask(unknown).items():
            self._facts[_identity(key, unknown[key])] = self._fact(key, unknown[key], fields)

    def restore(self) -> None:
        self._opened()[1].restore()
        if len(self._facts) > _FACTS_MAX:
            self._facts.clear()
        self._passed_seconds = 0.0
        self._touched.clear()

    def perturb(self) -> bool:
        """False: Redis makes up no ids but those of stream entries, which are compared by presence alone."""
        return False

    def advance(self, seconds: float) -> None:
        """Every key's TTL runs down by ``seconds``.

        The clock of a real server stays: an EXPIREAT that the job computes from moved time is not corrected.
        """
        self._passed_seconds += seconds
        self._opened()[1].advance(seconds)

    def touch(self, footprint: Footprint | None) -> None:
        """A job's command may write this."""
        if footprint is None:
            self._touched.add(None)
        else:
            self._touched.update(r.name for r in footprint.writes if r.store == self.name)

    def _has_run_out(self, key: bytes) -> bool:
        """Whether a key of the baseline is gone because time passed, and no job has anything to do with it."""
        assert self._image is not None
        base = self._image.baseline.get(key)
        if base is None or not base.expires or base.ttl_ms > self._passed_seconds * 1000:
            return False
        return not self._touched & {None, key_name(key, "utf-8")}

    @property
    def watched_guards(self) -> Guards | None:
        """Whom the tap tells of all commands, and lets change them; nobody without a proof."""
        return self._guards if self._options.prove else None

    @property
    def uses(self) -> int:
        """How often deliveries would have used a guard that is away, since the last `alter`."""
        return self._guards.uses

    def guards(self) -> Sequence[Guard]:
        """NX, WATCH, MULTI and Locks, as far as deliveries were seen to use them."""
        return self._guards.found()

    def mends(
        self, differences: Sequence[Difference], volatile: Callable[[str, str], bool]
    ) -> Sequence[Guard]:
        """NX for each SET of a key that the job looks at before."""
        return self._guards.mends()

    def alter(self, without: Collection[Guard], with_: Collection[Guard] = ()) -> None:
        """Go on without these guards and with those; nothing of it is in the database."""
        self._guards.take(without, with_)

    def remedy(self, guard: Guard) -> str:
        """What a person would write to have this guard."""
        return f"{guard.name}, and go on only if it answers OK"

    def sever(self, scope: Hashable) -> None:
        TAP.sever(scope)

    def settle(self, scope: Hashable, *, failed: bool) -> None:
        TAP.settle(scope, failed=failed)

    def mark(self) -> None:
        """Remember what there is now, for `rewind`."""
        assert self._image is not None
        self._marked = self._image.differing()

    def rewind(self) -> None:
        """Back to what there was at `mark`: the writes since then are lost."""
        assert self._image is not None
        assert self._wire is not None
        now = self._image.differing()
        commands: list[tuple[Any, ...]] = []
        for key in now.keys() | self._marked.keys():
            base = self._image.baseline.get(key)
            wanted, found = self._marked.get(key, base), now.get(key, base)
            if wanted is None and found is not None:
                commands.append(("DEL", key))
            elif wanted is not None and wanted != found:
                ttl = max(1, int(wanted.ttl_ms)) if wanted.expires else 0
                commands.append(("RESTORE", key, ttl, wanted.dump, "REPLACE"))
        self._wire.ask(commands)
        self._marked = {}

    def close(self) -> None:
        TAP.close(self)
        if self._gate is not None and is_async(self._pool):
            # The loop that its connections belong to may be gone before its next user comes.
            with contextlib.suppress(Exception):
                self._gate.wait(self._pool.disconnect())
        if self._image is not None:
            self._image.close()
            self._image = None
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def doubt(self) -> None:
        """A command was seen whose writes the server does not report."""
        if self._image is not None:
            self._image.doubt()

    def strangers(self) -> tuple[str, ...]:
        """The Redis databases that deliveries used though they were not given."""
        return TAP.strangers()

    def _opened(self) -> tuple[Wire, Image]:
        if self._wire is None or self._image is None:
            raise RuntimeError(f"the store {self.name!r} is not open")
        return self._wire, self._image

    def _is_bookkeeping(self, key: bytes) -> bool:
        return self._excluded.match(key.decode("utf-8", "replace")) is not None

    def _fact(self, key: bytes, state: Kept, fields: dict[str, Any]) -> Fact:
        name = text(key)
        return Fact(
            store=self.name,
            kind=FactKind.KEY,
            group=pattern(name),
            fields={"key": name, "type": state.kind.decode(), **fields, "ttl": state.expires},
            identity=("key",),
            expires=state.expires,
        )
