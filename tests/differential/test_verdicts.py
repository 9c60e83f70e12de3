"""The verdict on generated jobs beside the truth: no miss, and no false alarm.

Small jobs are put together of what jobs do (rows, counters, keys, calls outside) and of how they mean to keep a second run
away: flags, claims, locks, unique rows, preconditions, in the right place or not. A model of each is run through everything
that may happen to it; then the search judges the real one. ``IDEMFUZZ_DIFFERENTIAL_PROGRAMS`` sets how many are generated per
stack, ``IDEMFUZZ_DIFFERENTIAL_SEED`` which ones.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from unittest.mock import Mock

import pytest
from nightly import NIGHTLY
from sqlalchemy import insert

from differential.programs import (
    KEYS,
    LONG_SECONDS,
    NAMES,
    SHORT_SECONDS,
    SQL,
    Act,
    Busy,
    Leave,
    Locked,
    Multi,
    Part,
    Program,
    Swallowed,
    Transaction,
    perform,
    perform_at_once,
)
from differential.reality import AsyncReality, Reality, counts, metadata, orders
from differential.truth import breaks, does_something
from idemfuzz import Report, check
from idemfuzz.explorers import FAULT_NAMES, OPTIONAL

PROGRAMS = int(os.environ.get("IDEMFUZZ_DIFFERENTIAL_PROGRAMS", "300" if NIGHTLY else "40"))
SEED = int(os.environ.get("IDEMFUZZ_DIFFERENTIAL_SEED", "5"))
NOT_TOGETHER = tuple(sorted(set(FAULT_NAMES) - OPTIONAL - {"overlap", "stall"}))
"""For a transaction of several statements, of which the model does not know what two runs at once see."""


def programs(chance: random.Random, number: int) -> Iterator[Program]:
    while number:
        made = program(chance)
        if does_something(made):
            number -= 1
            yield made


def program(chance: random.Random) -> Program:
    """Some work, and one way or none to keep a second run away."""
    # Half of them do nearly only what may be done twice: else hardly any would be right.
    repeatable = chance.random() < 0.5
    if chance.random() < 0.3:
        acts = tuple(_sql(chance, repeatable) for _ in range(chance.randint(1, 3)))
        work: list[Part] = [Transaction(acts), *(_outside(chance, True) for _ in range(chance.randint(0, 2)))]
        chance.shuffle(work)
    else:
        work = [
            _outside(chance, repeatable)
            if chance.random() < 0.5
            else Transaction((_sql(chance, repeatable),))
            for _ in range(chance.randint(1, 3))
        ]
    work = [Swallowed(part) if chance.random() < 0.07 else part for part in work]
    return Program(tuple(chance.choice(WAYS)(chance, work)))


def _sql(chance: random.Random, repeatable: bool) -> Act:
    return Act(
        "set status" if repeatable and chance.random() < 0.9 else chance.choice(SQL), chance.choice(NAMES)
    )


def _outside(chance: random.Random, repeatable: bool) -> Part:
    if chance.random() < 0.15:
        return Multi(tuple(_key(chance, repeatable) for _ in range(2)))
    if chance.random() < 0.15 and not repeatable:
        return Act("call", chance.choice(NAMES))
    return _key(chance, repeatable)


def _key(chance: random.Random, repeatable: bool) -> Act:
    verbs = ("SET", "SADD", "push once", "SET token") if repeatable and chance.random() < 0.9 else KEYS
    return Act(chance.choice(verbs), chance.choice(NAMES))


def _nothing(chance: random.Random, work: list[Part]) -> list[Part]:
    return work


def _flag(chance: random.Random, work: list[Part]) -> list[Part]:
    """Look whether it is there; set it somewhere, or together with some work."""
    parts = list(work)
    flag = Act("flag", seconds=_seconds(chance))
    place = chance.randint(0, len(work))
    there = parts[place] if place < len(parts) else None
    if isinstance(there, Act) and there.verb in KEYS:
        parts[place] = Multi((there, flag))
    else:
        parts.insert(place, flag)
    return [Act("unless flagged", otherwise=_otherwise(chance)), *parts]


def _claim(chance: random.Random, work: list[Part]) -> list[Part]:
    return [Act("take", seconds=_seconds(chance), otherwise=_otherwise(chance)), *work]


def _lock(chance: random.Random, work: list[Part]) -> list[Part]:
    take = Act("take", seconds=_seconds(chance), otherwise=Busy)
    return [Locked(take, tuple(work))] if chance.random() < 0.5 else [take, *work, Act("release")]


def _precondition(chance: random.Random, work: list[Part]) -> list[Part]:
    """A row that says whose turn it is: in a transaction of its own or with other work, first or later."""
    verb = chance.choice(["move status", "mark"])
    return _put(chance, work, Act(verb, otherwise=_otherwise(chance)), first=chance.random() < 0.6)


def _phases(chance: random.Random, work: list[Part]) -> list[Part]:
    """new, working, done: each step asks for the one before."""
    begin, end = (Act(verb, otherwise=_otherwise(chance)) for verb in ("begin status", "end status"))
    done = Transaction((Act("unless done"),))
    parts = [Transaction((begin,)), *_put(chance, work, end, first=False)]
    return [done, *parts] if chance.random() < 0.5 else parts


def _look(chance: random.Random, work: list[Part]) -> list[Part]:
    """Read a row first, write it later."""
    look, write = chance.choice(
        [
            (Act("unless done", otherwise=_otherwise(chance)), Act("set status")),
            (Act("unless marked", otherwise=_otherwise(chance)), Act("mark", otherwise=_otherwise(chance))),
        ]
    )
    return [Transaction((look,)), *_put(chance, work, write, first=False)]


def _locked_precondition(chance: random.Random, work: list[Part]) -> list[Part]:
    return _lock(chance, _precondition(chance, work))


def _put(chance: random.Random, work: list[Part], act: Act, *, first: bool) -> list[Part]:
    """The act in a transaction of its own, or at the head of one that is there."""
    parts = list(work)
    there = [index for index, part in enumerate(parts) if isinstance(part, Transaction)]
    if there and chance.random() < 0.6:
        index = there[0] if first else chance.choice(there)
        transaction = parts[index]
        assert isinstance(transaction, Transaction)
        parts[index] = Transaction((act, *transaction.acts))
    else:
        parts.insert(0 if first else chance.randint(0, len(parts)), Transaction((act,)))
    return parts


WAYS: tuple[Callable[[random.Random, list[Part]], list[Part]], ...] = (
    _nothing,
    _flag,
    _claim,
    _lock,
    _precondition,
    _precondition,
    _phases,
    _look,
    _locked_precondition,
)


def _seconds(chance: random.Random) -> int | None:
    return chance.choice([None, SHORT_SECONDS, LONG_SECONDS])


def _otherwise(chance: random.Random) -> type[Exception]:
    return chance.choice([Leave, Busy])


def job(db: Any, redis: Any, gateway: Any, program: Program) -> None:
    perform_at_once(program, Reality(db, redis, gateway))


async def async_job(db: Any, redis: Any, gateway: Any, program: Program) -> None:
    await perform(program, AsyncReality(db, redis, gateway))


def judged(job: Callable[..., Any], stack: Any, program: Program) -> Report:
    stores = {"db": stack.engine, "redis": stack.redis, "gateway": Mock(name="gateway")}
    return check(
        lambda: job(**stores, program=program),
        job=job,
        stores=stores,
        faults=None if program.is_plain else list(NOT_TOGETHER),
        max_trials=2_000,
    )


def shown(report: Report) -> str:
    found = [f"{f.code} {f.summary} by {f.counterexample.plan}" for f in report.findings]
    return "; ".join(found or map(str, report.notes))


@pytest.mark.slow
@pytest.mark.parametrize("stacks", ["sqlite+fakeredis", "postgresql+valkey", "mariadb+redis"], indirect=True)
def test_the_verdict_is_the_truth(stacks: Any, record_property: Callable[[str, object], None]) -> None:
    """Goal: found is what is wrong, and nothing else, also where ways are combined as nobody thought of."""
    with stacks.engine.begin() as connection:
        fill(connection)
    record_property("verdicts", compare(job, stacks))


@pytest.mark.slow
@pytest.mark.parametrize("async_stacks", ["aiosqlite+fakeredis", "asyncpg+redis"], indirect=True)
def test_the_verdict_on_a_coroutine_is_the_truth(
    async_stacks: Any, record_property: Callable[[str, object], None]
) -> None:
    """Goal: the same for jobs that are awaited."""

    async def begin() -> None:
        async with async_stacks.engine.begin() as connection:
            await connection.run_sync(fill)
        await async_stacks.engine.dispose()

    asyncio.run(begin())
    record_property("verdicts", compare(async_job, async_stacks))


def fill(connection: Any) -> None:
    metadata.create_all(connection)
    connection.execute(insert(counts), [{"name": name, "value": 0} for name in NAMES])
    connection.execute(insert(orders), [{"name": name, "status": "new"} for name in NAMES])


def compare(job: Callable[..., Any], stack: Any) -> Mapping[str, int]:
    """How many programs got which verdict."""
    seen: Counter[str] = Counter()
    wrong = []
    for number, program in enumerate(programs(random.Random(SEED), PROGRAMS)):
        truth = breaks(program)
        report = judged(job, stack, program)
        verdict = str(report.verdict)
        seen[f"{'wrong' if truth else 'right'}: {verdict}"] += 1
        if verdict != ("violated" if truth else "holds"):
            wrong.append(f"{number}: {program}\n  truth: {truth or 'right'}\n  {verdict}: {shown(report)}")
    print(dict(seen))
    assert not wrong, "\n".join(wrong)
    assert min(seen["right: holds"], seen["wrong: violated"]) >= PROGRAMS // 10, seen
    return dict(seen)
