"""Right coroutines get the verdict "holds", with no finding and no doubt, on each asyncio driver."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import respx
from sqlalchemy import insert

import idemfuzz
from safe import asynchronous as jobs

RIGHT = [
    job
    for name, job in vars(jobs).items()
    if inspect.iscoroutinefunction(job) and job.__module__ == jobs.__name__
]
STACKS = ("aiosqlite+fakeredis", "aiosqlite-memory+fakeredis", "asyncpg+redis", "psycopg+redis")
SERVERS = STACKS[2:]
LINES = [
    pytest.param(job, stack, id=f"{job.__name__}-{stack}")
    for job in RIGHT
    # SQLite has no FOR UPDATE: there, this job is wrong.
    for stack in (SERVERS if job is jobs.lock_the_row else STACKS)
]


@pytest.mark.slow
@pytest.mark.parametrize(("job", "async_stacks"), LINES, indirect=["async_stacks"])
def test_right_job_holds(job: Callable[..., Any], async_stacks: Any) -> None:
    """Goal: no false alarm and no false doubt. Method: each job, on each stack that it uses."""
    wanted = inspect.signature(job).parameters
    given = {name: getattr(async_stacks, name) for name in ("engine", "redis") if name in wanted}
    if "engine" in given:
        asyncio.run(_make(async_stacks.engine))
    url = {"url": "https://pay.test"} if "url" in wanted else {}
    with respx.mock(assert_all_called=False) as server:
        server.post("https://pay.test/charges").mock(return_value=httpx.Response(201))
        report = idemfuzz.check(lambda: job(**given, **url), job=job, stores=given)

    shown = [f"{f.code} {f.summary} [{f.counterexample.plan}]" for f in report.findings]
    assert report.verdict == "holds", shown or report.notes
    assert not shown
    certificate = report.certificate
    assert certificate.effects
    assert certificate.redeliveries
    assert not [covered for covered in certificate.coverage if covered.skipped]


async def _make(engine: Any) -> None:
    async with engine.begin() as connection:
        await connection.run_sync(jobs.metadata.create_all)
        await connection.execute(insert(jobs.orders).values(id=1, status="new"))
        await connection.execute(insert(jobs.Balance).values(id=1, cents=0, paid=False, version=1))
    if engine.url.database:
        # The next loop gets connections of its own.
        await engine.dispose()
