"""Which databases may be written to: decided here alone, for the search and for stress runs.

A server's database must say by its name that it is for tests, a Redis server must be on this machine; anything else must be
allowed by name.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

from idemfuzz.abc import Unusable

__all__ = ["check_database", "check_redis"]


def check_database(name: str, *, host: str | None, shown: str, called: str, allow: Iterable[str]) -> None:
    """Whether a database of a server may be written to.

    Args:
        name: the database's own name.
        shown: its URL without the password.
        called: what the user knows it by.

    Raises:
        Unusable: it may not.
    """
    if re.search(r"test|idemfuzz", name, re.I) or {name, shown, f"{host}/{name}"} & set(allow):
        return
    raise Unusable(
        f"{called} is the database {name!r} at {shown}, and its name does not say that it is for tests. idemfuzz writes and deletes "
        f"rows, so it refuses. Use a database with 'test' in its name, or allow this one: allow=[{name!r}] on the marker, "
        f"idemfuzz_allow = {name} in the pytest configuration, --allow {name} for a stress run"
    )


def check_redis(
    host: str, port: int | None, db: int, *, is_local: bool, called: str, allow: Iterable[str]
) -> None:
    """Whether a Redis database may be written to; ``port`` is None for a socket.

    Raises:
        Unusable: it may not.
    """
    names = {host, f"{host}:{port}", f"{host}:{port}/{db}"}
    if is_local or any(fnmatch.fnmatchcase(name, bare) for bare in map(_bare, allow) for name in names):
        return
    raise Unusable(
        f"{called} is the Redis database {host}:{port}/{db} on another host, and idemfuzz writes to it and restores it hundreds of "
        f"times, so it refuses. If it is a test database, allow it by name: allow=[{host!r}] on the marker, --allow {host} for a "
        "stress run"
    )


def _bare(name: str) -> str:
    """``rediss://user:secret@host:6379/0?x=1`` is ``host:6379/0``."""
    if "://" in name:
        name = name.partition("://")[2].partition("?")[0]
    return name.rpartition("@")[2].lower().rstrip("/")
