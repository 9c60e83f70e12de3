"""Redis, Valkey and fakeredis through redis-py's clients, synchronous or not."""

from __future__ import annotations

from typing import Any

from idemfuzz.abc import Options
from idemfuzz.adapters.redis.store import EXCLUDED_KEY_PATTERNS, RedisStore, exclude_keys
from idemfuzz.adapters.redis.tap import TAP

__all__ = ["EXCLUDED_KEY_PATTERNS", "RedisAdapter", "RedisStore", "exclude_keys"]


class RedisAdapter:
    """Adopts ``redis.Redis``, ``fakeredis.FakeRedis``, their asyncio twins and ``rq.Queue`` (its connection) as Stores.

    It does not know cluster clients and bare connection pools.
    """

    name = "redis"

    def adopt(self, name: str, value: object, options: Options) -> RedisStore | None:
        """A Store for the database that ``value`` talks to; redis-py is not imported for other values."""
        client = _client(value)
        return None if client is None else RedisStore(name, client, options)

    def strangers(self) -> tuple[str, ...]:
        """The databases that deliveries used though nobody gave them to us (``host:port/db``)."""
        return TAP.strangers()


_CLIENTS = {"redis.client.Redis", "redis.asyncio.client.Redis"}
_PIPELINES = {"redis.client.Pipeline", "redis.asyncio.client.Pipeline"}


def _client(value: Any) -> Any:
    """The client that ``value`` is or, for a queue of RQ, holds."""
    if _is_client(type(value)):
        return value
    if any(base.__module__.partition(".")[0] == "rq" for base in type(value).__mro__):
        connection = getattr(value, "connection", None)
        return connection if _is_client(type(connection)) else None
    return None


def _is_client(kind: type) -> bool:
    names = {f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__}
    # A pipeline is a client by inheritance, but not a database that somebody hands in.
    return bool(names & _CLIENTS) and not names & _PIPELINES
