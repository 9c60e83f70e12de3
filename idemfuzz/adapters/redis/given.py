"""A Redis server that was given by its URL: may it be written to, and does it answer?"""

from __future__ import annotations

from collections.abc import Iterable

from idemfuzz.abc import Unusable

__all__ = ["check_given", "place_of"]

_CONNECT_SECONDS_MAX = 5.0


def check_given(url: str, *, called: str, allow: Iterable[str]) -> None:
    """Refuse before anything starts what could only fail later.

    Raises:
        Unusable: the text is no URL, the server may not be written to, or it does not answer.
    """
    from redis import Redis
    from redis.exceptions import RedisError

    from idemfuzz.adapters.redis.store import Address

    shown = url.rpartition("@")[2]
    try:
        client = Redis.from_url(url, socket_connect_timeout=_CONNECT_SECONDS_MAX)
    except ValueError as error:
        raise Unusable(
            f"{called} {shown} is not usable ({error}); expected redis://HOST:PORT/NUMBER or unix://PATH"
        ) from error
    Address.of(client.connection_pool).check_permission(called=called, allow=allow)
    try:
        with client:
            client.ping()
    except (RedisError, OSError) as error:
        raise Unusable(
            f"{called} {shown} does not answer: {str(error).rstrip('.')}. Start it, or leave {called} out for a server of the run's own"
        ) from error


def place_of(url: str) -> str:
    """Where it is: the same text as that of a store there; nothing connects for it."""
    from redis import Redis

    from idemfuzz.adapters.redis.store import Address

    return str(Address.of(Redis.from_url(url).connection_pool))
