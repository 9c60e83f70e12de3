"""The stores that are measured, by name: each a fresh, empty database that is removed afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fakeredis
import redis
from sqlalchemy import create_engine, event
from sqlalchemy.pool import StaticPool

from idemfuzz import servers

SQL = ("sqlite-file", "sqlite-memory", "postgresql", "mariadb")
REDIS = ("fakeredis", "redis")
STORES = SQL + REDIS


@dataclass(slots=True)
class Settings:
    """What the command line asks for, and what came of it."""

    stores: frozenset[str] | None = None
    repeats: int | None = None
    write: bool = False
    """Whether the page is written, and so what it shows besides tables."""
    servers: dict[str, str] = field(default_factory=dict)
    """Name -> version of each server that took part."""
    missing: dict[str, None] = field(default_factory=dict)
    """Why a store could not be measured."""

    def times(self, default: int) -> int:
        return self.repeats or default

    def wanted(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if self.stores is None or name in self.stores]

    def opened(self, names: Sequence[str]) -> Iterator[tuple[str, Any]]:
        """Each wanted store of ``names`` in turn: its name, and its Engine or client."""
        for name in self.wanted(names):
            try:
                with opened(name) as (store, version):
                    if version:
                        self.servers[version.rpartition(" ")[0]] = version.rpartition(" ")[2]
                    yield name, store
            except servers.Unavailable as reason:
                self.missing[str(reason)] = None


@contextmanager
def opened(name: str) -> Iterator[tuple[Any, str]]:
    """An Engine or a redis-py client, and "Server 1.2" (nothing where there is no server).

    Raises:
        servers.Unavailable: this machine has no such server.
    """
    if name == "fakeredis":
        yield fakeredis.FakeRedis(), ""
    elif name in ("redis", "valkey"):
        with redis_url(name) as (url, version), redis.Redis.from_url(url) as client:
            yield client, version
    elif name == "sqlite-memory":
        # One connection for all threads, as a database in memory is mostly used.
        with _engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}) as engine:
            yield engine, ""
    elif name == "sqlite-file":
        with (
            tempfile.TemporaryDirectory() as folder,
            _engine(f"sqlite:///{Path(folder, 'bench.db')}") as engine,
        ):
            # A search does not let commits wait for the disk; what is driven bare must not wait, either.
            event.listen(
                engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF")
            )
            yield engine, ""
    else:
        kind = "mysql" if name == "mariadb" else name
        with servers.database(kind) as url, _engine(url) as engine:
            if kind == "postgresql":
                # For the same reason as with SQLite.
                event.listen(
                    engine,
                    "connect",
                    lambda connection, _: _at_once(connection, "SET synchronous_commit = off"),
                )
            found = servers.mysql() if kind == "mysql" else servers.postgresql()
            yield (
                engine,
                f"{'MariaDB' if kind == 'mysql' else 'PostgreSQL'} {found.version.partition('-')[0]}",
            )


def _at_once(connection: Any, statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)
    connection.commit()


@contextmanager
def redis_url(name: str) -> Iterator[tuple[str, str]]:
    """The URL of an empty database on what the machine has; for "valkey" the wheel's, where it is installed."""
    origin: servers.Origin | None = None
    if name == "valkey":
        try:
            servers.redis(origin="wheel")
            origin = "wheel"
        except servers.Unavailable:
            pass
    with servers.database("redis", origin=origin) as url:
        version = servers.redis(origin=origin).version
        yield url, f"{'Valkey' if 'Valkey' in version else 'Redis'} {version.partition(' ')[0]}"


@contextmanager
def _engine(url: str, **settings: Any) -> Iterator[Any]:
    engine = create_engine(url, **settings)
    try:
        yield engine
    finally:
        engine.dispose()
