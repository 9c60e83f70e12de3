"""Makes the commands that a job's code sends Effects, wherever its client came from.

redis-py's classes are patched while a store is open. A command finds its store by the server and database
number of its client's connection pool.

What is an Effect: a command; a transaction's ``execute`` as a whole; each command of a pipeline without MULTI, which
may be cut in the middle; a call of a registered script, whether the server knows it yet or not.
Commands that wait for a key (BLPOP, XREAD BLOCK) look, sleep and look again: the engine turns the sleep into
moving time or into another delivery's steps, so nobody hangs.

The asynchronous classes are patched, too, if they were imported: their methods become coroutines that do what is
written here, and wait where redis-py returns something to await.
"""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

from idemfuzz.abc import Errors, Gate
from idemfuzz.adapters.redis.commands import (
    SILENT,
    block_seconds,
    detail,
    is_read,
    lease_seconds,
    name_of,
    short,
    transaction_detail,
)
from idemfuzz.adapters.redis.footprint import (
    command_footprint,
    key_name,
    keys_of,
    pipeline_footprint,
)
from idemfuzz.adapters.redis.guards import AS_IT_IS
from idemfuzz.adapters.redis.wire import Wire, is_async
from idemfuzz.model import Access, Effect, FaultKind, Source
from idemfuzz.model.footprint import Footprint

if TYPE_CHECKING:
    from idemfuzz.adapters.redis.store import Address, RedisStore

__all__ = ["TAP", "Tap"]

_WRITE_FAULTS = (FaultKind.REFUSED, FaultKind.LOST, FaultKind.RESENT, FaultKind.FAILOVER)
_READ_FAULTS = (FaultKind.REFUSED,)
# While keys are watched, redis-py (5 to 8) makes a WatchError of each lost connection and never sends again.
_WATCHED_FAULTS = (FaultKind.REFUSED, FaultKind.LOST, FaultKind.FAILOVER)
_SLEEP_SECONDS_MAX = 60.0
_TRANSACTION = ("explicit_transaction", "transaction", "is_transaction")
"""What says of a pipeline that it is a transaction; the last is the asynchronous one's name for it."""
_PLAIN = frozenset({str, bytes, int, float, bool})
_REMEMBERED_MAX = 4096
_REMEMBERED_LENGTH_MAX = 200


class _Command:
    """What one command is, told from its words; the same ones come back in every trial."""

    __slots__ = ("detail", "effects", "footprint", "lease", "name", "reads", "seconds", "silent")

    def __init__(self, store: str, encoding: str, args: Sequence[Any]) -> None:
        self.name = name_of(args)
        self.silent = self.name in SILENT
        self.seconds = block_seconds(self.name, args)
        self.reads = is_read(self.name, args)
        self.footprint = command_footprint(store, args, encoding)
        self.lease = lease_seconds(self.name, args)
        self.detail = detail(self.name, args)
        self.effects: dict[tuple[Source | None, bool], Effect] = {}
        """The Effects that were made of it, by the line that sent it and whether keys were watched."""


class _Route:
    """Where the commands of one connection pool go; ``store`` is None if nobody gave us that database."""

    __slots__ = ("_commands", "address", "encoding", "errors", "guards", "name", "prefix", "store")

    def __init__(self, address: Address, store: RedisStore | None, encoding: str) -> None:
        self.address = address
        self.encoding = encoding
        self.store = store
        self.name = store.name if store is not None else f"redis:{address}"
        self.prefix = store.name if store is not None else "redis"
        self.guards = store.watched_guards if store is not None else None
        self.errors = Errors(refused=self._refused, lost=_lost)
        """How a command of a plain client fails."""
        self._commands: dict[Hashable, _Command] = {}

    def command(self, args: Sequence[Any]) -> _Command:
        if any(type(word) not in _PLAIN or len(str(word)) > _REMEMBERED_LENGTH_MAX for word in args):
            return _Command(self.name, self.encoding, args)
        # 1 and True are one key, but not one command.
        key = (*args, *map(type, args))
        command = self._commands.get(key)
        if command is None:
            if len(self._commands) >= _REMEMBERED_MAX:
                self._commands.clear()
            command = self._commands[key] = _Command(self.name, self.encoding, args)
        return command

    def _refused(self) -> BaseException:
        from redis.exceptions import ConnectionError

        return ConnectionError(f"Error 111 connecting to {self.address}. Connection refused.")


def _lost() -> BaseException:
    from redis.exceptions import ConnectionError

    return ConnectionError("Connection closed by server.")


class Tap:
    """The patches of redis-py, in place while at least one store is open."""

    def __init__(self) -> None:
        self._stores: list[RedisStore] = []
        self._gate: Gate | None = None
        self._routes: WeakKeyDictionary[Any, _Route] = WeakKeyDictionary()
        self._pipelines: dict[Hashable, WeakSet[Any]] = {}
        self._originals: list[tuple[type, str, Any]] = []
        self._locks_patched = False
        self._strangers: dict[str, None] = {}
        self._watched: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()

    def open(self, store: RedisStore, gate: Gate) -> None:
        if not self._stores:
            self._strangers.clear()
            self._patch()
        if store.watched_guards is not None and not self._locks_patched:
            self._patch_locks()
        self._gate = gate
        self._stores.append(store)
        self._routes.clear()

    def close(self, store: RedisStore) -> None:
        if store not in self._stores:
            return
        self._stores.remove(store)
        self._routes.clear()
        if not self._stores:
            for owner, name, original in reversed(self._originals):
                setattr(owner, name, original)
            self._originals.clear()
            self._locks_patched = False
            self._pipelines.clear()
            self._watched.clear()
            self._gate = None

    def strangers(self) -> tuple[str, ...]:
        """The databases that deliveries used though nobody gave them, since the first store was opened."""
        return tuple(self._strangers)

    def name_of(self, client: Any) -> str:
        """What the Effects and footprints of this client's database are called."""
        return self._route(client).name

    def settle(self, scope: Hashable, *, failed: bool) -> None:
        """An Execution has ended: if it failed, its pipelines are gone with it."""
        if failed:
            self.sever(scope)
        else:
            self._pipelines.pop(scope, None)

    def sever(self, scope: Hashable) -> None:
        """The pipelines of an Execution lose their connections, and so their WATCHes."""
        for pipeline in self._pipelines.pop(scope, ()):
            if pipeline.connection is not None:
                pipeline.watching = False
                self._done(pipeline.connection.disconnect())
                self._done(pipeline.reset())

    # -- patching ----------------------------------------------------------------------------------------

    def _patch(self) -> None:
        from redis.client import Pipeline, Redis
        from redis.commands.core import Script

        kinds: list[tuple[type, type, type]] = [(Redis, Pipeline, Script)]
        if "redis.asyncio" in sys.modules:
            from redis.asyncio.client import Pipeline as AsyncPipeline
            from redis.asyncio.client import Redis as AsyncRedis
            from redis.commands.core import AsyncScript

            kinds.append((AsyncRedis, AsyncPipeline, AsyncScript))
        for client, pipeline, script in kinds:
            self._replace(client, "execute_command", self._command)
            self._replace(pipeline, "immediate_execute_command", self._command)
            self._replace(pipeline, "execute", self._pipeline)
            self._replace(script, "__call__", self._script)

    def _patch_locks(self) -> None:
        """Only for a proof: all that a Lock does in the database, each as a whole."""
        from redis.lock import Lock

        kinds: list[Any] = [Lock]
        if "redis.asyncio" in sys.modules:
            from redis.asyncio.lock import Lock as AsyncLock

            kinds.append(AsyncLock)
        for kind in kinds:
            for name in ("do_acquire", "do_release", "do_extend", "do_reacquire", "owned"):
                self._replace(kind, name, partial(self._lock, acquires=name == "do_acquire"))
        self._locks_patched = True

    def _lock(self, gate: Gate, original: Any, lock: Any, args: Any, options: Any, *, acquires: bool) -> Any:
        route = self._route(lock.redis)
        name = lock.name.decode() if isinstance(lock.name, bytes) else str(lock.name)
        if route.guards is not None and route.guards.is_unlocked(name, gate.source(), acquires=acquires):
            return True
        return original(lock, *args, **options)

    def _replace(self, owner: type, name: str, tapped: Callable[..., Any]) -> None:
        original = getattr(owner, name)
        self._originals.append((owner, name, original))

        def method(instance: Any, *args: Any, **kwargs: Any) -> Any:
            gate = self._gate
            if gate is None or gate.scope() is None:
                return original(instance, *args, **kwargs)
            return tapped(gate, original, instance, args, kwargs)

        async def coroutine_method(instance: Any, *args: Any, **kwargs: Any) -> Any:
            gate = self._gate
            if gate is None or gate.scope() is None:
                return await original(instance, *args, **kwargs)

            def waited_for(*args: Any, **kwargs: Any) -> Any:
                return gate.wait(original(*args, **kwargs))

            return tapped(gate, waited_for, instance, args, kwargs)

        replacement: Any = coroutine_method if inspect.iscoroutinefunction(original) else method
        replacement.__name__ = name
        replacement.__wrapped__ = original
        setattr(owner, name, replacement)

    def _done(self, result: Any) -> Any:
        """What a method of redis-py's returned; of an asynchronous one, when it is there."""
        if inspect.isawaitable(result) and self._gate is not None:
            return self._gate.wait(result)
        return result

    # -- the effects -------------------------------------------------------------------------------------

    def _command(self, gate: Gate, original: Any, client: Any, args: Any, options: Any) -> Any:
        if not args:
            return original(client, *args, **options)
        route = self._route(client)
        source = gate.source()
        reply = AS_IT_IS
        if route.guards is not None:
            args, reply = route.guards.command(args, source, route.encoding)
        command = route.command(args)
        name = command.name
        if command.silent:
            return original(client, *args, **options)
        if name in ("SWAPDB", "FLUSHALL"):
            for store in self._stores:
                store.doubt()
        watching = getattr(client, "watching", False)
        if watching or name == "WATCH":
            self._remember(gate, client)
        elif command.seconds is not None:
            return self._wait(gate, client, route, name, args, options, command.seconds)
        if name == "WATCH":
            known = self._watched.setdefault(client, set()) if watching else set()
            known.update(key_name(key, route.encoding) for key in keys_of(name, args) or ())
            self._watched[client] = known
        self._note(route, command.reads, command.footprint)
        effect = command.effects.get((source, watching))
        if effect is None:
            effect = command.effects[source, watching] = _effect(
                route,
                name,
                command.detail,
                command.reads,
                command.footprint,
                watching=watching,
                lease=command.lease,
                source=source,
            )
        plain = not watching and not hasattr(client, "command_stack")
        errors = route.errors if plain else self._errors(client, route, watching=watching)

        def send() -> Any:
            answered = original(client, *args, **options)
            return answered if reply is AS_IT_IS else reply

        return gate.perform(effect, send, errors=errors, describe=short)

    def _pipeline(self, gate: Gate, original: Any, pipeline: Any, args: Any, options: Any) -> Any:
        if not pipeline.command_stack and not pipeline.watching:
            return original(pipeline, *args, **options)
        route = self._route(pipeline)
        commands, replies = self._guarded(gate, route, pipeline.command_stack)
        if route.guards is not None:
            pipeline.command_stack = [(words, dict(settings)) for words, settings in commands]
        state = {name: getattr(pipeline, name) for name in _TRANSACTION if name in vars(pipeline)}
        scripts = set(pipeline.scripts)
        watching = pipeline.watching
        self._remember(gate, pipeline)

        def resend() -> Any:
            # The first execute has emptied the pipeline.
            pipeline.command_stack = [(words, dict(settings)) for words, settings in commands]
            pipeline.scripts = set(scripts)
            for name, value in state.items():
                setattr(pipeline, name, value)
            return original(pipeline, *args, **options)

        kind = "MULTI" if any(state.values()) else "PIPELINE"
        words = [command for command, _ in commands]
        apart = kind == "PIPELINE" and len(commands) > 1 and not watching
        if kind == "MULTI" and route.guards is not None:
            apart = route.guards.is_piecewise(words, gate.source())
        if apart:
            raise_on_error = bool(args[0] if args else options.get("raise_on_error", True))
            return self._piecewise(gate, original, pipeline, commands, raise_on_error, state, replies)
        reads = all(is_read(name_of(command), command) for command in words)
        leases = [
            lease for command in words if (lease := lease_seconds(name_of(command), command)) is not None
        ]
        watched = self._watched.pop(pipeline, set()) if watching else ()
        footprint = pipeline_footprint(route.name, words, watched, route.encoding)
        effect = self._effect(
            route,
            kind,
            transaction_detail(kind, words),
            reads,
            footprint,
            watching=watching,
            lease=min(leases, default=None),
        )
        errors = self._errors(pipeline, route, watching=watching, resend=resend)

        def send() -> Any:
            return _answered(original(pipeline, *args, **options), replies)

        return gate.perform(effect, send, errors=errors, describe=short)

    @staticmethod
    def _guarded(
        gate: Gate, route: _Route, commands: Sequence[Any]
    ) -> tuple[list[tuple[Sequence[Any], dict[str, Any]]], Mapping[int, Any]]:
        """A pipeline's commands as they are sent, and the replies that are not the server's own."""
        if route.guards is None:
            return list(commands), {}
        source = gate.source()
        sent, replies = [], {}
        for number, (words, settings) in enumerate(commands):
            words, reply = route.guards.command(words, source, route.encoding)
            sent.append((words, settings))
            if reply is not AS_IT_IS:
                replies[number] = reply
        return sent, replies

    def _piecewise(
        self,
        gate: Gate,
        original: Any,
        pipeline: Any,
        commands: Sequence[Any],
        raise_on_error: bool,
        state: Mapping[str, Any],
        instead: Mapping[int, Any],
    ) -> Any:
        """Without MULTI each command takes effect by itself: others come between, and a kill leaves a part."""
        route = self._route(pipeline)
        scripts = set(pipeline.scripts)

        def send(part: Sequence[Any]) -> list[Any]:
            pipeline.command_stack = [(words, dict(settings)) for words, settings in part]
            pipeline.scripts = set(scripts)
            for name, value in state.items():
                setattr(pipeline, name, value)
            return list(original(pipeline, False))

        replies: list[Any] = []
        try:
            for number, command in enumerate(commands, 1):
                words = command[0]
                name = name_of(words)
                effect = self._effect(
                    route,
                    "PIPELINE",
                    f"PIPELINE {number}/{len(commands)}: {detail(name, words)}",
                    is_read(name, words),
                    command_footprint(route.name, words, route.encoding),
                    lease=lease_seconds(name, words),
                )
                last = number == len(commands)
                if not last:
                    # redis-py sends a pipeline again as a whole, which is what its last command stands for.
                    faults = tuple(fault for fault in effect.faults if fault is not FaultKind.RESENT)
                    effect = replace(effect, faults=faults)
                errors = self._errors(pipeline, route, resend=(lambda: send(commands)[-1:]) if last else None)
                got: list[Any] = gate.perform(
                    effect, partial(send, [command]), errors=errors, describe=_first
                )
                replies += got
        finally:
            self._done(pipeline.reset())
        if raise_on_error:
            pipeline.raise_first_error(commands, replies)
        return _answered(replies, instead)

    def _script(self, gate: Gate, original: Any, script: Any, args: Any, options: Any) -> Any:
        client = options.get("client") or (args[2] if len(args) > 2 else None) or script.registered_client
        if hasattr(client, "command_stack") or not hasattr(client, "connection_pool"):
            return original(script, *args, **options)
        keys, values = [*args, None, None][:2]
        keys, values = options.get("keys", keys) or [], options.get("args", values) or []
        route = self._route(client)
        words = ("EVALSHA", script.sha[:8], len(keys), *keys, *values)
        # A script that the server does not know is sent: whether it does is of no interest.
        footprint = command_footprint(route.name, ("EVAL", *words[1:]), route.encoding)
        effect = self._effect(route, "EVALSHA", detail("EVALSHA", words), False, footprint)
        errors = self._errors(client, route)
        return gate.perform(effect, lambda: original(script, *args, **options), errors=errors, describe=short)

    def _wait(
        self, gate: Gate, client: Any, route: _Route, name: str, args: Any, options: Any, seconds: float
    ) -> Any:
        """A blocking command: look, sleep, and look again, until there is something or the time is over."""

        def look() -> Any:
            # Within MULTI no command blocks.
            pipeline = client.pipeline(transaction=True)
            pipeline.command_stack.append((args, dict(options)))
            return self._done(pipeline.execute())[0]

        footprint = command_footprint(route.name, args, route.encoding)
        effect = self._effect(route, name, detail(name, args), False, footprint)
        errors = self._errors(client, route)
        deadline = time.monotonic() + seconds if seconds else None
        while True:
            result = gate.perform(effect, look, errors=errors, describe=short)
            left = _SLEEP_SECONDS_MAX if deadline is None else deadline - time.monotonic()
            if result or left <= 0:
                return result
            if is_async(client.connection_pool):
                gate.wait(sys.modules["asyncio"].sleep(left))
            else:
                time.sleep(left)

    def _effect(
        self,
        route: _Route,
        name: str,
        text: str,
        read: bool,
        footprint: Footprint | None,
        *,
        watching: bool = False,
        lease: float | None = None,
    ) -> Effect:
        self._note(route, read, footprint)
        return _effect(route, name, text, read, footprint, watching=watching, lease=lease)

    def _note(self, route: _Route, read: bool, footprint: Footprint | None) -> None:
        """A command is about to be sent."""
        if route.store is None:
            self._strangers[str(route.address)] = None
        elif not read:
            route.store.touch(footprint)

    def _remember(self, gate: Gate, pipeline: Any) -> None:
        scope = gate.scope()
        if scope is not None:
            self._pipelines.setdefault(scope.key, WeakSet()).add(pipeline)

    def _errors(
        self,
        client: Any,
        route: _Route,
        *,
        watching: bool = False,
        resend: Callable[[], Any] | None = None,
    ) -> Errors:
        """How a command fails in redis-py's terms; afterwards the client is as redis-py leaves it."""
        from redis.exceptions import ConnectionError, WatchError

        def fail(message: str) -> BaseException:
            if hasattr(client, "command_stack"):
                self._done(client.reset())
            if watching:
                return WatchError("A ConnectionError occurred while watching one or more keys")
            return ConnectionError(message)

        def raise_watch_error() -> Any:
            raise fail("")

        return Errors(
            refused=lambda: fail(f"Error 111 connecting to {route.address}. Connection refused."),
            lost=lambda: fail("Connection closed by server."),
            resend=raise_watch_error if watching else resend,
        )

    # -- whose command is it -----------------------------------------------------------------------------

    def _route(self, client: Any) -> _Route:
        pool = client.connection_pool
        route = self._routes.get(pool)
        if route is None:
            route = self._routes[pool] = self._find(pool)
        return route

    def _find(self, pool: Any) -> _Route:
        from idemfuzz.adapters.redis.store import Address

        address = Address.of(pool)
        encoding = str(pool.connection_kwargs.get("encoding") or "utf-8")
        for store in self._stores:
            if store.address == address:
                return _Route(address, store, encoding)
        if address.is_local and not address.is_fake:
            # The same server under another name: a socket and a port, an alias of this host.
            run_id = run_id_of(pool)
            for store in self._stores:
                if run_id is not None and store.identity == (run_id, address.db):
                    return _Route(address, store, encoding)
        return _Route(address, None, encoding)


def run_id_of(pool: Any) -> str | None:
    """What tells a running server from all others; None where it does not say."""
    from redis.exceptions import RedisError

    try:
        wire = Wire(pool)
        try:
            answer = bytes(wire.one("INFO", "server"))
        finally:
            wire.close()
    except (RedisError, OSError, TypeError):
        return None
    for line in answer.splitlines():
        if line.startswith(b"run_id:"):
            return line[7:].decode()
    return None


def _effect(
    route: _Route,
    name: str,
    text: str,
    read: bool,
    footprint: Footprint | None,
    *,
    watching: bool = False,
    lease: float | None = None,
    source: Source | None = None,
) -> Effect:
    faults = _READ_FAULTS if read else _WATCHED_FAULTS if watching else _WRITE_FAULTS
    return Effect(
        label=f"{route.prefix}.{name}",
        store=route.name,
        access=Access.READ if read else Access.DURABLE,
        detail=text,
        faults=faults,
        source=source,
        footprint=footprint,
        lease_seconds=lease,
    )


def _answered(replies: Any, instead: Mapping[int, Any]) -> Any:
    """A pipeline's replies, with some that are not the server's own."""
    if not instead or not isinstance(replies, list):
        return replies
    return [instead.get(number, reply) for number, reply in enumerate(replies)]


def _first(replies: list[Any]) -> str:
    return short(replies[0])


TAP = Tap()
