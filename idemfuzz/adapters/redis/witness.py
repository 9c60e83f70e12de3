"""Every redis-py client of a worker process: its commands are Effects; nothing is captured or restored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from idemfuzz.abc import Gate
from idemfuzz.adapters.redis.commands import SILENT, detail, is_read, name_of, short, transaction_detail
from idemfuzz.model import Access, Effect

__all__ = ["RedisWitness", "address_of"]


def address_of(client: Any) -> str:
    """One text per Redis database, the same in every process."""
    from idemfuzz.adapters.redis.store import Address

    return str(Address.of(client.connection_pool))


class RedisWitness:
    """Patches redis-py's classes; a pipeline is one Effect.

    ``names`` says by address what a database is called, so that labels are those of the search. With ``piecewise`` a
    pipeline without MULTI is sent command by command, so that a kill can come in the middle of it.
    """

    def __init__(self, gate: Gate, names: Mapping[str, str], *, piecewise: bool = False) -> None:
        self._gate = gate
        self._names = names
        self._piecewise = piecewise
        self._known: dict[int, str] = {}

    def attach(self) -> None:
        from redis.client import Pipeline, Redis

        self._replace(Redis, "execute_command", self._command)
        self._replace(Pipeline, "immediate_execute_command", self._command)
        self._replace(Pipeline, "execute", self._pipeline)

    def _replace(self, owner: type, name: str, watched: Callable[..., Any]) -> None:
        original = getattr(owner, name)
        gate = self._gate

        def method(client: Any, *args: Any, **kwargs: Any) -> Any:
            if gate.scope() is None:
                return original(client, *args, **kwargs)
            return watched(original, client, args, kwargs)

        method.__name__ = name
        setattr(owner, name, method)

    def _command(self, original: Any, client: Any, args: Any, options: Any) -> Any:
        if not args or (name := name_of(args)) in SILENT:
            return original(client, *args, **options)
        store = self._name(client)
        access = Access.READ if is_read(name, args) else Access.DURABLE
        effect = Effect(f"{store}.{name}", store, access, detail(name, args))
        return self._gate.perform(effect, lambda: original(client, *args, **options), describe=short)

    def _pipeline(self, original: Any, pipeline: Any, args: Any, options: Any) -> Any:
        words = [command[0] for command in pipeline.command_stack]
        if not words and not pipeline.watching:
            return original(pipeline, *args, **options)
        store = self._name(pipeline)
        kind = "MULTI" if pipeline.transaction or pipeline.explicit_transaction else "PIPELINE"
        if self._piecewise and kind == "PIPELINE" and len(words) > 1 and not pipeline.watching:
            return self._by_command(original, pipeline, store, args, options)
        reads = all(is_read(name_of(command), command) for command in words)
        access = Access.READ if reads else Access.DURABLE
        effect = Effect(f"{store}.{kind}", store, access, transaction_detail(kind, words))
        return self._gate.perform(effect, lambda: original(pipeline, *args, **options), describe=short)

    def _by_command(self, original: Any, pipeline: Any, store: str, args: Any, options: Any) -> Any:
        commands, scripts = list(pipeline.command_stack), set(pipeline.scripts)
        replies: list[Any] = []

        def send(command: Any) -> list[Any]:
            pipeline.command_stack, pipeline.scripts = [command], set(scripts)
            return list(original(pipeline, False))

        for command in commands:
            words = command[0]
            access = Access.READ if is_read(name_of(words), words) else Access.DURABLE
            effect = Effect(f"{store}.PIPELINE", store, access, detail(name_of(words), words))
            replies += self._gate.perform(effect, partial(send, command), describe=short)
        if args[0] if args else options.get("raise_on_error", True):
            pipeline.raise_first_error(commands, replies)
        return replies

    def _name(self, client: Any) -> str:
        number = id(client.connection_pool)
        if number not in self._known:
            self._known[number] = self._names.get(address_of(client), "redis")
        return self._known[number]
