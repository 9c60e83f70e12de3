"""Programs put together by chance, of what jobs do and of how they mean to keep a second run away.

``IDEMFUZZ_DIFFERENTIAL_PROGRAMS`` sets how many a test takes, ``IDEMFUZZ_DIFFERENTIAL_SEED`` which ones.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Collection, Iterator, Sequence

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
)
from differential.truth import does_something

PROGRAMS = int(os.environ.get("IDEMFUZZ_DIFFERENTIAL_PROGRAMS", "300" if NIGHTLY else "24"))
SEED = int(os.environ.get("IDEMFUZZ_DIFFERENTIAL_SEED", "5"))


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
