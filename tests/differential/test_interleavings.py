"""The reduced search beside full enumeration, on real stores: both see the same outcomes.

Small jobs are generated: reads, writes and claims of two rows in one or two transactions, or commands on two keys.
For each, every Schedule of two deliveries is run, and then the reduced search alone. What counts as an outcome is
what is left in the store and what each delivery has read and raised. ``IDEMFUZZ_DIFFERENTIAL_JOBS`` sets how many jobs
are generated per store, ``IDEMFUZZ_DIFFERENTIAL_SEED`` which ones.
"""

from __future__ import annotations

import os
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, insert, select, text, update
from sqlalchemy.exc import DBAPIError

from idemfuzz.abc import JobCall, Options
from idemfuzz.adapters.redis import RedisAdapter
from idemfuzz.adapters.sqlalchemy import SqlAlchemyAdapter
from idemfuzz.explorers.dpor import Diverged, Tree
from idemfuzz.model import Footprint, Plan, Step
from idemfuzz.testing import Bench

JOBS = int(os.environ.get("IDEMFUZZ_DIFFERENTIAL_JOBS", "100"))
SEED = int(os.environ.get("IDEMFUZZ_DIFFERENTIAL_SEED", "11"))
SCHEDULES_MAX = 40
"""Jobs with more Schedules are left to the nightly run; of the rest none is cut short."""

metadata = MetaData()
accounts = Table(
    "accounts",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("name", String(20), unique=True),
    Column("amount", Integer, nullable=False),
)

Act = tuple[str, int]


class Enumeration:
    """A scheduler that follows a prefix and then takes the lowest: the prefixes it leaves out are run, too."""

    def __init__(self, prefix: Sequence[int]) -> None:
        self.prefix = tuple(prefix)
        self._at = 0

    def choose(self, ready: Mapping[int, Footprint | None]) -> int:
        wanted = self.prefix[self._at] if self._at < len(self.prefix) else min(ready)
        return wanted if wanted in ready else min(ready)

    def took(self, step: Step) -> None:
        self._at += 1


def every_outcome(run: Callable[[Any], tuple[Any, Sequence[Step]]], limit: int) -> set[Any] | None:
    """What every Schedule leads to; None if there are more than ``limit``."""
    left: list[tuple[int, ...]] = [()]
    found = set()
    for _ in range(limit):
        prefix = left.pop()
        outcome, steps = run(Enumeration(prefix))
        found.add(outcome)
        taken = [step.delivery for step in steps]
        for index in range(len(prefix), len(taken)):
            left += [(*taken[:index], other) for other in steps[index].choices if other != taken[index]]
        if not left:
            return found
    return None


def reduced_outcome(run: Callable[[Any], tuple[Any, Sequence[Step]]], limit: int) -> tuple[set[Any], Tree]:
    tree = Tree(symmetric=False)
    found = set()
    while (guide := tree.next()) is not None:
        for _ in range(3):
            outcome, steps = run(guide)
            try:
                tree.enter(guide, steps)
                break
            except Diverged:
                guide = guide.again()
        else:
            raise AssertionError(f"prefix {guide.prefix} does not repeat")
        found.add(outcome)
        assert tree.runs <= limit, "the reduced search runs more Schedules than there are"
    return found, tree


def sql_jobs(chance: random.Random, number: int) -> Iterator[list[list[Act]]]:
    """Lists of transactions, each a list of acts on one of two rows."""
    acts = ("look", "add", "claim", "lock", "insert", "scan")
    for _ in range(number):
        sizes = chance.choice([(1,), (2,), (1, 1), (3,)])
        yield [[(chance.choice(acts), chance.randint(1, 2)) for _ in range(size)] for size in sizes]


def run_sql(engine: Engine, transactions: list[list[Act]], seen: list[Any]) -> None:
    try:
        for acts in transactions:
            with engine.begin() as connection:
                for act, row in acts:
                    seen.append(perform(connection, act, row))
    except DBAPIError as error:
        # Which of the ways in which a database refuses is of its own choosing.
        seen.append(type(error).__name__)
        raise


def perform(connection: Any, act: str, row: int) -> Any:
    mine = accounts.c.id == row
    if act == "look":
        return connection.scalar(select(accounts.c.amount).where(mine))
    if act == "scan":
        return tuple(connection.scalars(select(accounts.c.amount).order_by(accounts.c.id)))
    if act == "add":
        return connection.execute(update(accounts).where(mine).values(amount=accounts.c.amount + 1)).rowcount
    if act == "claim":
        free = mine & (accounts.c.amount == 0)
        return connection.execute(update(accounts).where(free).values(amount=10)).rowcount
    if act == "lock":
        query = select(accounts.c.amount).where(mine)
        if connection.dialect.name != "sqlite":
            query = query.with_for_update()
        return connection.scalar(query)
    connection.execute(insert(accounts).values(id=10 + row, name=f"new {row}", amount=5))
    return "inserted"


COMMANDS = ("GET", "SET", "INCR", "SETNX", "DEL", "RPUSH", "LLEN", "MULTI", "EXISTS")


def redis_jobs(chance: random.Random, number: int) -> Iterator[list[Act]]:
    for _ in range(number):
        yield [(chance.choice(COMMANDS), chance.randint(1, 2)) for _ in range(chance.randint(1, 3))]


def run_redis(client: Any, acts: list[Act], seen: list[Any]) -> None:
    for act, number in acts:
        key = f"k{number}"
        match act:
            case "SET":
                answer = client.set(key, "x")
            case "SETNX":
                answer = client.set(f"{key}:claim", "1", nx=True)
            case "INCR":
                answer = client.incr(f"{key}:n")
            case "RPUSH":
                answer = client.rpush(f"{key}:l", "x")
            case "LLEN":
                answer = client.llen(f"{key}:l")
            case "DEL":
                answer = client.delete(key, f"{key}:claim")
            case "EXISTS":
                answer = client.exists(key, f"{key}:claim")
            case "MULTI":
                with client.pipeline() as pipe:
                    answer = pipe.incr(f"{key}:n").get("k1").execute()
            case _:
                answer = client.get(key)
        seen.append(str(answer))


def compare(
    bench: Bench, store: Any, job: Callable[[list[Any]], None], state: Callable[[], Any], shown: object
) -> tuple[int, int, int]:
    """Both searches over one job; the numbers of all Schedules that were run, of reduced ones, and of classes."""
    counts = [0]

    def run(scheduler: Any) -> tuple[Any, Sequence[Step]]:
        counts[0] += 1
        seen: dict[int, list[Any]] = defaultdict(list)
        call = JobCall("job", lambda identity, delivery: job(seen[delivery]))
        delivered = bench.deliver(call, Plan(2), scheduler=scheduler)
        outcome = (state(), tuple((delivery, tuple(read)) for delivery, read in sorted(seen.items())))
        store.changes()
        store.restore()
        return outcome, delivered.steps

    everything = every_outcome(run, SCHEDULES_MAX)
    if everything is None:
        return 0, 0, 0
    enumerated = counts[0]
    found, tree = reduced_outcome(run, 2 * enumerated + 10)
    assert found == everything, f"{shown}: lost {everything - found}, made up {found - everything}"
    return enumerated, tree.runs, len(tree.classes)


@pytest.mark.slow
def test_sql_outcomes_are_those_of_every_schedule(
    engine: Engine, record_property: Callable[[str, object], None]
) -> None:
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(accounts), [{"id": n, "name": f"old {n}", "amount": 0} for n in (1, 2)])

    def state() -> Any:
        with engine.connect() as connection:
            return tuple(map(tuple, connection.execute(text("SELECT id, amount FROM accounts ORDER BY id"))))

    total = [0, 0, 0]
    compared = 0
    store = SqlAlchemyAdapter().adopt("db", engine, Options())
    assert store is not None
    with Bench(stores=[store]) as bench:
        for transactions in sql_jobs(random.Random(SEED), 4 * JOBS):
            counted = compare(
                bench, store, lambda seen, t=transactions: run_sql(engine, t, seen), state, transactions
            )
            total = [a + b for a, b in zip(total, counted, strict=True)]
            compared += counted != (0, 0, 0)
            if compared == JOBS:
                break
    assert compared == JOBS
    assert total[1] < total[0]
    record_property("schedules", tuple(total))


@pytest.mark.slow
def test_redis_outcomes_are_those_of_every_schedule(redis_client: Any) -> None:
    redis_client.set("k1", "0")

    def state() -> Any:
        return tuple(sorted((k, redis_client.dump(k)) for k in redis_client.scan_iter()))

    compared = 0
    store = RedisAdapter().adopt("redis", redis_client, Options())
    assert store is not None
    with Bench(stores=[store]) as bench:
        for acts in redis_jobs(random.Random(SEED), 4 * JOBS):
            counted = compare(
                bench, store, lambda seen, a=acts: run_redis(redis_client, a, seen), state, acts
            )
            compared += counted != (0, 0, 0)
            if compared == JOBS:
                break
    assert compared == JOBS
