"""How long does a suite of 100 marked jobs take, with default bounds, on two cores? (target: below 60 s)

100 tests of right jobs: 40 on SQLite, 30 on fakeredis, 30 on both; and the same with PostgreSQL and Redis. Each test
has tables and keys of its own; a server's database is made once per process. `pytest -n 2`, started anew; the start counts.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.stores import Settings
from benchmarks.table import Table, Target
from idemfuzz import servers

_SECONDS_MAX = 60.0
_TESTS = """
import fakeredis
import pytest
import redis
from sqlalchemy import create_engine

from benchmarks import jobs
from idemfuzz import servers

SERVERS = {servers}


@pytest.fixture(scope="session")
def engine(tmp_path_factory):
    if SERVERS:
        with servers.database("postgresql") as url:
            engine = create_engine(url)
            yield engine
            engine.dispose()
    else:
        engine = create_engine(f"sqlite:///{{tmp_path_factory.mktemp('suite') / 'suite.db'}}")
        yield engine
        engine.dispose()


@pytest.fixture
def db(engine):
    jobs.TABLES.create_all(engine)
    yield engine
    jobs.TABLES.drop_all(engine)


@pytest.fixture(scope="session")
def client():
    if SERVERS:
        with servers.database("redis") as url:
            yield redis.Redis.from_url(url)
    else:
        yield fakeredis.FakeRedis()


@pytest.fixture
def cache(client):
    yield client
    client.flushdb()


def both(engine, client):
    jobs.upsert(engine)
    client.set("order", "order-1")


@pytest.mark.parametrize("number", range(40))
@pytest.mark.idempotent(job=jobs.upsert)
def test_sql(number, db):
    jobs.upsert(db)


@pytest.mark.parametrize("number", range(30))
@pytest.mark.idempotent(job=jobs.put)
def test_keys(number, cache):
    jobs.put(cache)


@pytest.mark.parametrize("number", range(30))
@pytest.mark.idempotent(job=both)
def test_both(number, db, cache):
    both(db, cache)
"""


def measure(settings: Settings) -> Table:
    table = Table("A suite", ("stores", "jobs", "result", "seconds"))
    kinds = {"SQLite, fakeredis": ("sqlite-file",), "PostgreSQL, Redis": ("postgresql",)}
    for stores, needed in kinds.items():
        if not settings.wanted(needed):
            continue
        real = needed == ("postgresql",)
        if real:
            try:
                settings.servers["PostgreSQL"] = servers.postgresql().version
                settings.servers["Redis"] = servers.redis().version.partition(" ")[0]
            except servers.Unavailable as reason:
                settings.missing[str(reason)] = None
                continue
        result, seconds = _run(real)
        table.rows.append((stores, "100", result, f"{seconds:.1f}"))
        table.targets.append(
            Target(
                f"a suite of 100 jobs, default bounds, 2 cores ({stores})",
                "-",
                f"< {_SECONDS_MAX:.0f} s",
                f"{seconds:.0f} s, {result}",
                seconds < _SECONDS_MAX and result == "100 passed",
            )
        )
    return table


def _run(real: bool) -> tuple[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        (folder / "test_suite.py").write_text(_TESTS.format(servers=real), encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-n",
            "2",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:randomly",
        ]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        begun = time.perf_counter()
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        seconds = time.perf_counter() - begun
    found = re.search(r"(?:\d+ \w+, )*\d+ passed[^in]*|\d+ failed[^\n]*", done.stdout)
    return (found[0].strip() if found else f"failed: {done.stdout[-200:]}{done.stderr[-200:]}"), seconds
