"""Whatever a search finds, and however it ends, every store is left exactly as it was found."""

from __future__ import annotations

import builtins
import os
import random
import smtplib
import sqlite3
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import (
    Column,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    delete,
    insert,
    text,
    update,
)

import idemfuzz
from safe import schemas
from safe.case import World
from safe.conftest import STACKS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize(
        ("store", "stacks"), [pytest.param(s, STACKS[s], id=s) for s in STACKS], indirect=True
    ),
]

metadata = MetaData()
parents = Table(
    "parents",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(40), nullable=False),
    Column("touched", Integer, nullable=False, default=0),
    sqlite_autoincrement=True,
)
children = Table(
    "children",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("parent_id", ForeignKey("parents.id")),
    Column("label", String(40)),
    sqlite_autoincrement=True,
)
keyless = Table("keyless", metadata, Column("word", String(40)), Column("number", Integer))


def wreck(db: Engine, cache: Any, folder: Path, gateway: Any, fail: Callable[[], None]) -> None:
    """A job that is as wrong as can be: it inserts, changes and deletes in every store, and commits in between."""
    with db.begin() as connection:
        parent = connection.execute(insert(parents).values(name="new")).inserted_primary_key[0]
        connection.execute(insert(children), [{"parent_id": parent, "label": f"c{i}"} for i in range(3)])
        connection.execute(update(parents).where(parents.c.id == 1).values(touched=parents.c.touched + 1))
    fail()
    with db.begin() as connection:
        connection.execute(delete(children).where(children.c.label == "old"))
        connection.execute(delete(keyless).where(keyless.c.number == 1))
        connection.execute(insert(keyless), [{"word": "twin", "number": 7}, {"word": "twin", "number": 7}])
        connection.execute(insert(schemas.products).values(sku=None, net=9))
        connection.execute(schemas.samples.update().values(raw=b"gone", words="gone", tree=None))
    cache.incr("counter")
    cache.rpush("list", "c")
    cache.sadd("set", "c")
    cache.hset("hash", "c", "3")
    cache.zadd("zset", {"c": 3})
    cache.xadd("stream", {"c": "3"})
    cache.delete("short", "gone")
    cache.expire("counter", 30)
    cache.persist("long")
    cache.set("new", "x", ex=50)
    (folder / "kept.txt").write_text("overwritten")
    (folder / "sub" / "gone.bin").unlink(missing_ok=True)
    (folder / "fresh").mkdir(exist_ok=True)
    (folder / "fresh" / f"{random.random()}.txt").write_text("fresh")
    gateway.charge(5)


def fill(world: World) -> None:
    """Tables with gaps in their ids, keys of every type with and without expiry, files."""
    tables = [parents, children, keyless]
    metadata.create_all(world.db, tables=tables)
    schemas.metadata.create_all(world.db, tables=[schemas.products, schemas.product_history, schemas.samples])
    schemas.create_trigger(world)
    schemas.seed_samples(world)
    with world.db.begin() as connection:
        connection.execute(insert(parents), [{"name": name} for name in ("one", "two", "lost")])
        connection.execute(delete(parents).where(parents.c.name == "lost"))
        connection.execute(
            insert(children), [{"parent_id": 1, "label": "old"}, {"parent_id": 2, "label": "new"}]
        )
        connection.execute(
            insert(keyless), [{"word": "twin", "number": 1}] * 3 + [{"word": None, "number": None}]
        )
    cache = world.redis
    cache.set("counter", 41)
    cache.set("bytes", b"\x00\xff\xfe")
    cache.rpush("list", "a", "b", "a")
    cache.sadd("set", "a", "b")
    cache.hset("hash", mapping={"a": "1", "b": "2"})
    cache.zadd("zset", {"a": 1.5, "b": 2})
    cache.xadd("stream", {"a": "1"}, id="5-1")
    cache.set("short", "x", ex=500)
    cache.set("long", "x", ex=90000)
    cache.set("gone", "x")
    (world.folder / "kept.txt").write_bytes(b"kept\x00\n")
    (world.folder / "kept.txt").chmod(0o640)
    (world.folder / "sub").mkdir()
    (world.folder / "sub" / "gone.bin").write_bytes(bytes(range(256)))


# -- pictures of the stores ------------------------------------------------------------------------------------


def picture(world: World) -> dict[str, Any]:
    """All that there is: rows, next ids, definitions; dumps of keys; contents and modes of files."""
    return {
        "sql": sql_picture(world.db),
        "redis": redis_picture(world.redis),
        "files": files_picture(world.folder),
    }


def sql_picture(db: Engine) -> Any:
    backend = db.url.get_backend_name()
    with db.connect() as connection:

        def rows(statement: str) -> list[tuple[Any, ...]]:
            return [tuple(row) for row in connection.execute(text(statement))]

        if backend == "sqlite":
            driver: Any = connection.connection.driver_connection
            assert isinstance(driver, sqlite3.Connection)
            return [*driver.iterdump(), *rows("SELECT name, sql FROM sqlite_master ORDER BY name")]
        if backend == "postgresql":
            tables = [
                n for (n,) in rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
            ]
            sequences = [
                n
                for (n,) in rows(
                    "SELECT sequencename FROM pg_sequences WHERE schemaname = 'public' ORDER BY 1"
                )
            ]
            return {
                **{name: rows(f"SELECT t::text FROM {name} t ORDER BY 1") for name in tables},
                **{name: rows(f"SELECT last_value, is_called FROM {name}") for name in sequences},
                "objects": rows(
                    "SELECT relname, relkind FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
                ),
            }
        tables = [
            n
            for (n,) in rows(
                "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() ORDER BY 1"
            )
        ]
        return {
            **{name: sorted(map(repr, rows(f"SELECT * FROM {name}"))) for name in tables},
            # With the next AUTO_INCREMENT value in it.
            "objects": [rows(f"SHOW CREATE TABLE {name}") for name in tables],
        }


def redis_picture(client: Any) -> dict[bytes, tuple[bytes, Any, str]]:
    def life(key: bytes) -> str:
        left = client.pttl(key)
        # A search takes seconds, and a TTL that runs down meanwhile is in order.
        return "for ever" if left < 0 else f"about {round(left / 1000 / 60)} min"

    def content(key: bytes) -> Any:
        # A set and a hash have no order of their own: the server may dump their members in another one.
        unordered = {b"set": client.smembers, b"hash": client.hgetall}.get(client.type(key))
        return client.dump(key) if unordered is None else unordered(key)

    return {key: (client.type(key), content(key), life(key)) for key in sorted(client.keys())}


def files_picture(folder: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(folder)): (
            stat.filemode(path.stat().st_mode),
            path.read_bytes() if path.is_file() else sorted(os.listdir(path)),
        )
        for path in sorted(folder.rglob("*"))
    }


def process_picture() -> dict[str, Any]:
    """What a search replaces while it runs."""
    return {
        "sleep": time.sleep,
        "monotonic": time.monotonic,
        "perf_counter": time.perf_counter,
        "time": time.time,
        "open": builtins.open,
        "replace": os.replace,
        "start": threading.Thread.start,
        "sendmail": smtplib.SMTP.sendmail,
        "execute": redis.Redis.execute_command,
        "code": wreck.__code__,
        "random": random.getstate(),
    }


@pytest.fixture
def before(world: World) -> dict[str, Any]:
    fill(world)
    return picture(world)


def search(
    world: World, *, fail: Callable[[], None] = lambda: None, last: Callable[[], None] = lambda: None
) -> Any:
    def scenario() -> None:
        wreck(world.db, world.redis, world.folder, world.gateway, fail)
        last()

    stores = {"db": world.db, "redis": world.redis, "folder": world.folder, "gateway": world.gateway}
    return idemfuzz.check(scenario, job=wreck, stores=stores, max_trials=30)


def assert_as_before(world: World, before: dict[str, Any], process: dict[str, Any]) -> None:
    now = picture(world)
    for name in before:
        assert now[name] == before[name]
    assert process_picture() == process
    # The engine works on, and its next ids are the ones that would have come anyway.
    with world.db.begin() as connection:
        assert connection.execute(insert(parents).values(name="next")).inserted_primary_key[0] == 4


class Breakage(Exception):
    """Raised on purpose."""


def nth(number: int, error: BaseException) -> Callable[[], None]:
    """Raises at the n-th call."""
    calls = iter(range(1, 10_000))

    def step() -> None:
        if next(calls) == number:
            raise error

    return step


def test_after_findings(world: World, before: dict[str, Any]) -> None:
    """Goal: a search that finds a lot leaves nothing behind. Method: a job that is wrong everywhere."""
    process = process_picture()
    assert search(world).verdict == "violated"
    assert_as_before(world, before, process)


def test_mocks_are_as_before(world: World, before: dict[str, Any]) -> None:
    """Goal: a mock that a fixture hands in forgets the search, too."""
    world.gateway.ping()
    search(world)
    assert [name for name, _, _ in world.gateway.mock_calls] == ["ping"]


def test_after_a_scenario_that_fails(world: World, before: dict[str, Any]) -> None:
    """Goal: nothing is left of a test that fails by itself. Method: its last line raises, in the first run."""
    process = process_picture()
    with pytest.raises(idemfuzz.ScenarioFailed):
        search(world, last=nth(1, Breakage()))
    assert_as_before(world, before, process)


def test_after_a_scenario_that_fails_in_a_trial(world: World, before: dict[str, Any]) -> None:
    """Goal: nor of one that fails in the middle of the search. Method: the last line raises in the fifth run."""
    process = process_picture()
    search(world, last=nth(5, Breakage()))
    assert_as_before(world, before, process)


@pytest.mark.parametrize("number", [1, 2, 6])
def test_after_ctrl_c_in_the_scenario(world: World, before: dict[str, Any], number: int) -> None:
    """Goal: Ctrl-C ends the search, and nothing is left. Method: in the first run, the second, and amid the trials."""
    process = process_picture()
    with pytest.raises(KeyboardInterrupt):
        search(world, last=nth(number, KeyboardInterrupt()))
    assert_as_before(world, before, process)


def test_after_an_error_inside_the_job(world: World, before: dict[str, Any]) -> None:
    """Goal: the same for a job that breaks between two transactions. Method: in one delivery in the middle."""
    process = process_picture()
    search(world, fail=nth(4, Breakage()))
    assert_as_before(world, before, process)


def test_without_findings(world: World, before: dict[str, Any]) -> None:
    """Goal: a search that holds leaves nothing behind either. Method: a right job among the same tables."""
    process = process_picture()
    report = idemfuzz.check(
        lambda: schemas.store_sample(world.db, "new"), job=schemas.store_sample, stores={"db": world.db}
    )
    assert report.verdict == "holds"
    assert_as_before(world, before, process)
