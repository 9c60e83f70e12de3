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
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from nightly import NIGHTLY

from differential.programs import (
    CALLS,
    CHILDREN,
    FILES,
    KEYS,
    LONG_SECONDS,
    NAMES,
    NUMBERS,
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
    Watched,
    perform,
    perform_at_once,
)
from differential.reality import AsyncReality, Outside, Reality, fill, fill_redis
from differential.truth import breaks, does_something
from idemfuzz import Report, check
from idemfuzz.explorers import FAULT_NAMES, OPTIONAL

PROGRAMS = int(os.environ.get("IDEMFUZZ_DIFFERENTIAL_PROGRAMS", "300" if NIGHTLY else "40"))
SEED = int(os.environ.get("IDEMFUZZ_DIFFERENTIAL_SEED", "5"))
NOT_TOGETHER = tuple(sorted(set(FAULT_NAMES) - OPTIONAL - {"overlap", "stall"}))
"""For a transaction of several statements, of which the model does not know what two runs at once see."""


def programs(chance: random.Random, number: int, without: Collection[str] = ()) -> Iterator[Program]:
    """So many programs that do something, and do nothing of what is named in ``without``."""
    while number:
        made = program(chance)
        if not made.verbs.intersection(without) and does_something(made):
            number -= 1
            yield made


def program(chance: random.Random) -> Program:
    """Some work, and one way or none to keep a second run away."""
    # Most of them do nearly only what may be done twice: else hardly any would be right.
    repeatable = chance.random() < 0.6
    if chance.random() < 0.3:
        acts = tuple(_sql(chance, repeatable) for _ in range(chance.randint(1, 3)))
        work: list[Part] = [Transaction(acts), *_outside(chance, chance.randint(0, 2), True)]
        chance.shuffle(work)
    else:
        work = []
        for _ in range(chance.randint(1, 3)):
            if chance.random() < 0.4:
                work.append(Transaction((_sql(chance, repeatable),)))
            else:
                work += _outside(chance, 1, repeatable)
    work = [Swallowed(part) if chance.random() < 0.07 else part for part in work]
    return Program(tuple(chance.choice(WAYS)(chance, work)))


REPEATABLE = frozenset(
    {
        *("set status", "mark if missing", "cancel"),
        *("SET", "SADD", "push once", "SET token", "HSET", "ZADD", "DEL list"),
        *("mail named", "post keyed", "put", "enqueue once", "write file", "replace file"),
    }
)
"""What may be done twice."""


def _some(chance: random.Random, verbs: Sequence[str], repeatable: bool) -> Act:
    if repeatable and chance.random() < 0.9:
        verbs = [verb for verb in verbs if verb in REPEATABLE]
    return Act(chance.choice(verbs), chance.choice(NAMES))


def _sql(chance: random.Random, repeatable: bool) -> Act:
    return _some(chance, SQL, repeatable)


def _outside(chance: random.Random, number: int, repeatable: bool) -> Iterator[Part]:
    """Work that no transaction takes back."""
    for _ in range(number):
        match chance.randrange(10):
            case 0:
                yield Multi(tuple(_some(chance, KEYS, repeatable) for _ in range(2)))
            case 1 | 2:
                yield _some(chance, CALLS, repeatable)
            case 3:
                yield _some(chance, CHILDREN, repeatable)
            case 4:
                yield _some(chance, FILES, repeatable)
            case 5 if not repeatable:
                name = chance.choice(NAMES)
                yield from (Act(verb, name) for verb in NUMBERS)
            case _:
                yield _some(chance, KEYS, repeatable)


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


def _watch(chance: random.Random, work: list[Part]) -> list[Part]:
    """The same by WATCH, with what of the work goes into the MULTI."""
    name, seconds = chance.choice(NAMES), chance.choice([None, LONG_SECONDS])
    inside = [part for part in work if isinstance(part, Act) and part.verb in KEYS]
    others = [part for part in work if part not in inside]
    acts = (*inside, Act("flag", name, seconds))
    parts: list[Part] = [*others]
    parts.insert(chance.randint(0, len(parts)), Watched(name, _otherwise(chance), acts))
    return parts


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
    _watch,
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


@pytest.fixture
def outside(smtp: tuple[str, int], tmp_path: Path) -> Outside:
    folder = tmp_path / "out"
    folder.mkdir()
    return Outside(Mock(name="gateway"), smtp, folder)


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
