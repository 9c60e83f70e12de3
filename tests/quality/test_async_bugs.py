"""Planted bugs in jobs that are coroutines are found, on each asyncio driver: code and mechanism, by no hint at all."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any
from unittest.mock import AsyncMock

import pytest
from sqlalchemy import insert

import idemfuzz
from quality import asynchronous as jobs
from quality.case import DUPLICATE, KILL, OVERLAP, TIMEOUT, Size, described

CASES: dict[Callable[..., Any], tuple[str, Size]] = {
    jobs.bare_insert: ("IDM101", DUPLICATE),
    jobs.check_then_insert: ("IDM101", OVERLAP),
    jobs.two_commits: ("IDM202", KILL),
    jobs.check_then_add: ("IDM102", OVERLAP),
    jobs.flag_before_work: ("IDM201", KILL),
    jobs.look_then_count: ("IDM103", OVERLAP),
    jobs.marks_in_finally: ("IDM202", TIMEOUT),
    jobs.swallows_cancellation: ("IDM302", TIMEOUT),
    jobs.posts_then_marks: ("IDM105", KILL),
    jobs.calls_the_gateway: ("IDM108", DUPLICATE),
}
STACKS = ("aiosqlite+fakeredis", "aiosqlite-memory+fakeredis", "asyncpg+redis", "psycopg+redis")


@pytest.mark.slow
@pytest.mark.parametrize("async_stacks", STACKS, indirect=True)
@pytest.mark.parametrize("job", CASES, ids=lambda job: job.__name__)
def test_bug_is_found(job: Callable[..., Any], async_stacks: Any, request: pytest.FixtureRequest) -> None:
    """Goal: no miss and no wrong name. Method: the table; each finding is reproduced each time."""
    given = _world(job, async_stacks, request)
    stores = {name: value for name, value in given.items() if name != "url"}
    report = idemfuzz.check(lambda: job(**given), job=job, stores=stores)
    code, size = CASES[job]
    sizes = {(f.code, Size.of(f.counterexample.plan)) for f in report.findings}
    assert (code, size) in sizes, described(report)
    assert report.verdict == "violated", described(report)
    for finding in report.findings:
        assert finding.counterexample.shown == finding.counterexample.tried


@pytest.mark.parametrize("async_stacks", STACKS[:1], indirect=True)
def test_a_plan_shows_its_finding_each_time(async_stacks: Any, request: pytest.FixtureRequest) -> None:
    """Goal: determinism. Method: the plan of a race, twenty searches over, has one and the same history."""
    given = _world(jobs.check_then_insert, async_stacks, request)
    told = set()
    for _ in range(20):
        report = idemfuzz.check(
            lambda: jobs.check_then_insert(**given),
            job=jobs.check_then_insert,
            stores=given,
            plan="v1:x2:call=1:order=1+engine.select.async_users#1,2",
        )
        (finding,) = report.findings
        history = finding.counterexample.history.effects
        told.add((finding.code, tuple((e.delivery, e.effect.label) for e in history if e.effect)))
    assert len(told) == 1


def _world(job: Callable[..., Any], stacks: Any, request: pytest.FixtureRequest) -> dict[str, Any]:
    wanted = inspect.signature(job).parameters
    given: dict[str, Any] = {}
    if "engine" in wanted:
        given["engine"] = stacks.engine
        asyncio.run(_make(stacks.engine))
    if "redis" in wanted:
        given["redis"] = stacks.redis
    if "gateway" in wanted:
        given["gateway"] = AsyncMock()
    if "url" in wanted:
        given["url"] = request.getfixturevalue("url")
    return given


async def _make(engine: Any) -> None:
    async with engine.begin() as connection:
        await connection.run_sync(jobs.metadata.create_all)
        await connection.execute(insert(jobs.accounts).values(id=1, cents=0, paid=0))
    if engine.url.database:
        # The next loop gets connections of its own.
        await engine.dispose()
