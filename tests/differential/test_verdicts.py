"""The verdict on generated jobs beside the truth: no miss, and no false alarm.

Small jobs are put together of what jobs do (rows, counters, keys, calls outside) and of how they mean to keep a second run
away: flags, claims, locks, unique rows, preconditions, in the right place or not. A model of each is run through everything
that may happen to it; then the search judges the real one.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any

import pytest

from differential.generator import PROGRAMS, SEED, programs
from differential.programs import CHILDREN, Program, perform, perform_at_once
from differential.reality import AsyncReality, Outside, Reality, fill, fill_redis
from differential.truth import breaks
from idemfuzz import Report, check
from idemfuzz.explorers import FAULT_NAMES, OPTIONAL

NOT_TOGETHER = tuple(sorted(set(FAULT_NAMES) - OPTIONAL - {"overlap", "stall"}))
"""For a transaction of several statements, of which the model does not know what two runs at once see."""


NOT_ASYNCHRONOUS = frozenset(CHILDREN)
"""What no coroutine does: RQ's queue has no asynchronous client."""


def job(db: Any, redis: Any, outside: Outside, program: Program) -> None:
    perform_at_once(program, Reality(db, redis, outside))


async def async_job(db: Any, redis: Any, outside: Outside, program: Program) -> None:
    await perform(program, AsyncReality(db, redis, outside))


def judged(job: Callable[..., Any], stack: Any, outside: Outside, program: Program) -> Report:
    return check(
        lambda: job(stack.engine, stack.redis, outside, program),
        job=job,
        stores={
            "db": stack.engine,
            "redis": stack.redis,
            "gateway": outside.gateway,
            "folder": outside.folder,
        },
        faults=None if program.is_plain else list(NOT_TOGETHER),
        max_trials=2_000,
    )


def shown(report: Report) -> str:
    found = [f"{f.code} {f.summary} by {f.counterexample.plan}" for f in report.findings]
    return "; ".join(found or map(str, report.notes))


@pytest.mark.slow
@pytest.mark.parametrize("stacks", ["sqlite+fakeredis", "postgresql+valkey", "mariadb+redis"], indirect=True)
def test_the_verdict_is_the_truth(
    stacks: Any, outside: Outside, record_property: Callable[[str, object], None]
) -> None:
    """Goal: found is what is wrong, and nothing else, also where ways are combined as nobody thought of."""
    with stacks.engine.begin() as connection:
        fill(connection)
    fill_redis(stacks.redis)
    record_property("verdicts", compare(job, stacks, outside))


@pytest.mark.slow
@pytest.mark.parametrize("async_stacks", ["aiosqlite+fakeredis", "asyncpg+redis"], indirect=True)
def test_the_verdict_on_a_coroutine_is_the_truth(
    async_stacks: Any, outside: Outside, record_property: Callable[[str, object], None]
) -> None:
    """Goal: the same for jobs that are awaited."""

    async def begin() -> None:
        async with async_stacks.engine.begin() as connection:
            await connection.run_sync(fill)
        await async_stacks.engine.dispose()
        for answer in fill_redis(async_stacks.redis):
            await answer
        await async_stacks.redis.aclose()

    asyncio.run(begin())
    record_property("verdicts", compare(async_job, async_stacks, outside, NOT_ASYNCHRONOUS))


def compare(
    job: Callable[..., Any], stack: Any, outside: Outside, without: Collection[str] = ()
) -> Mapping[str, int]:
    """How many programs got which verdict."""
    seen: Counter[str] = Counter()
    wrong = []
    for number, program in enumerate(programs(random.Random(SEED), PROGRAMS, without)):
        truth = breaks(program)
        report = judged(job, stack, outside, program)
        verdict = str(report.verdict)
        seen[f"{'wrong' if truth else 'right'}: {verdict}"] += 1
        if verdict != ("violated" if truth else "holds"):
            wrong.append(f"{number}: {program}\n  truth: {truth or 'right'}\n  {verdict}: {shown(report)}")
    print(dict(seen))
    assert not wrong, "\n".join(wrong)
    assert min(seen["right: holds"], seen["wrong: violated"]) >= PROGRAMS // 10, seen
    return dict(seen)
