"""A connection of our own to a client's server, below redis-py's clients and so below the tap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["Wire", "connection_to", "is_async"]

_BATCH_MAX = 500


def connection_to(pool: Any) -> Any:
    """A new, unconnected connection as ``pool`` would make it, but RESP2, undecoded and without retries."""
    settings = {
        name: value
        for name, value in pool.connection_kwargs.items()
        # Maintenance notifications (redis-py 8) need RESP3.
        if not name.startswith("maint_") and name not in ("retry", "retry_on_error", "retry_on_timeout")
    }
    kind = pool.connection_class
    if is_async(pool):
        kind = _synchronous(kind)
        settings = {name: value for name, value in settings.items() if _is_about_the_server(name)}
    settings.update(decode_responses=False, protocol=2)
    return kind(**settings)


def is_async(pool: Any) -> bool:
    """Whether ``pool`` is one of redis.asyncio's."""
    return any(base.__module__ == "redis.asyncio.connection" for base in type(pool).__mro__)


def _synchronous(kind: type) -> Any:
    """The class of connections that lead to the same place without an event loop."""
    import redis.connection

    if any(base.__module__.partition(".")[0] == "fakeredis" for base in kind.__mro__):
        import fakeredis

        return fakeredis.FakeRedisConnection
    names = (base.__name__ for base in kind.__mro__ if base.__module__ == "redis.asyncio.connection")
    return getattr(redis.connection, next(names, "Connection"))


def _is_about_the_server(name: str) -> bool:
    return name.startswith(
        ("host", "port", "path", "db", "user", "pass", "ssl", "socket_", "encoding")
    ) or name in (
        "server",
        "version",
        "server_type",
        "lua_modules",
        "client_class",
    )


class Wire:
    """Sends commands in as few round trips as possible; error replies are returned, not raised."""

    def __init__(self, pool: Any) -> None:
        from redis import exceptions

        self.connection = connection_to(pool)
        self._response_error = exceptions.ResponseError
        self._lost = (exceptions.ConnectionError, exceptions.TimeoutError)

    def ask(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """The replies to all ``commands``, in order.

        Raises:
            redis.exceptions.ConnectionError: the server is gone (an idle connection is renewed first).
        """
        replies: list[Any] = []
        for start in range(0, len(commands), _BATCH_MAX):
            batch = commands[start : start + _BATCH_MAX]
            try:
                replies += self._exchange(batch)
            except self._lost:
                # Everything that is asked here may be asked twice.
                self.connection.disconnect()
                replies += self._exchange(batch)
        return replies

    def one(self, *command: Any) -> Any:
        """The reply to one command.

        Raises:
            redis.exceptions.ResponseError: the server refused it.
        """
        reply = self.ask([command])[0]
        if isinstance(reply, Exception):
            raise reply
        return reply

    def close(self) -> None:
        self.connection.disconnect()

    def _exchange(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        connection = self.connection
        connection.send_packed_command([_packed(commands)])
        replies = []
        for _ in commands:
            try:
                replies.append(connection.read_response())
            except self._response_error as error:
                replies.append(error)
        return replies


def _packed(commands: Sequence[tuple[Any, ...]]) -> bytes:
    """As redis-py would send them, but at a tenth of its price."""
    parts = []
    for command in commands:
        parts.append(b"*%d\r\n" % len(command))
        for word in command:
            data = word if isinstance(word, bytes) else str(word).encode()
            parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)
