"""Jobs whose bug hangs on their arguments or on what is in the database, with the smallest example that shows it.

Each is right for most of what is drawn. What it must be smallest in is stated: the example, and the plan's faults,
deliveries and segments.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import fakeredis
from hypothesis import strategies as st
from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from idemfuzz.model import Plan

metadata = MetaData()
entries = Table(
    "entries",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(200)),
    Column("number", Integer),
)
marks = Table("marks", metadata, Column("name", String(200), primary_key=True), Column("number", Integer))
accounts = Table(
    "accounts", metadata, Column("name", String(200), primary_key=True), Column("balance", Integer)
)

DUPLICATE, OVERLAP, KILL = (2, 0, 0), (2, 0, 2), (1, 1, 0)
"""Deliveries, faults and segments of the smallest plan."""


def size_of(plan: Plan) -> tuple[int, int, int]:
    return plan.deliveries, len(plan.faults), len(plan.overlap)


@dataclass(slots=True)
class Stores:
    engine: Engine
    redis: fakeredis.FakeRedis


@dataclass(frozen=True, slots=True)
class Planted:
    """One line of the table. ``job`` gets the stores first, then what is drawn."""

    job: Callable[..., Any]
    args: tuple[Any, ...] = ()
    state: Any = None
    setup: Callable[[Stores, Any], Any] | None = None
    code: str = ""
    smallest: tuple[Any, ...] = ()
    smallest_state: Any = None
    size: tuple[int, int, int] = DUPLICATE
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.job.__name__


# -- what the jobs are made of -----------------------------------------------------------------------------


def bare(stores: Stores, name: object, number: int = 0) -> None:
    """Inserts once more with each delivery."""
    with stores.engine.begin() as connection:
        connection.execute(insert(entries).values(name=str(name)[:200], number=number))


def once(stores: Stores, name: object) -> None:
    """Inserts once, however often it is called."""
    try:
        with stores.engine.begin() as connection:
            connection.execute(insert(marks).values(name=repr(name)[:200], number=1))
    except IntegrityError:
        pass


def checked(stores: Stores, name: object) -> None:
    """Looks before it inserts: right, but for a second delivery at the same time."""
    with stores.engine.begin() as connection:
        if connection.execute(select(entries.c.id).where(entries.c.name == str(name))).first() is None:
            connection.execute(insert(entries).values(name=str(name), number=0))


def torn(stores: Stores, name: object) -> None:
    """Sets its guard in a transaction of its own: a kill after it loses the rest."""
    try:
        with stores.engine.begin() as connection:
            connection.execute(insert(marks).values(name=repr(name)[:200], number=1))
    except IntegrityError:
        return
    bare(stores, name)


def rows(stores: Stores, names: list[Any]) -> None:
    with stores.engine.begin() as connection:
        for name in names:
            connection.execute(insert(entries).values(name=str(name), number=0))


def balance(stores: Stores, amount: int) -> None:
    with stores.engine.begin() as connection:
        connection.execute(insert(accounts).values(name="ada", balance=amount))


def pushed(stores: Stores, names: list[str]) -> None:
    for name in names:
        stores.redis.rpush("queue", name)


def count(stores: Stores) -> int:
    with stores.engine.begin() as connection:
        found: int = connection.execute(select(func.count()).select_from(entries)).scalar_one()
        return found


# -- jobs whose bug hangs on an argument -------------------------------------------------------------------


def long_name(stores: Stores, name: str) -> None:
    (bare if len(name) > 3 else once)(stores, name)


def large_amount(stores: Stores, amount: int) -> None:
    (bare if amount > 1000 else once)(stores, amount)


def refund(stores: Stores, amount: int) -> None:
    (bare if amount < 0 else once)(stores, amount)


def third_item(stores: Stores, items: list[int]) -> None:
    for index, item in enumerate(items):
        (bare if index == 2 else once)(stores, (index, item))


def same_twice(stores: Stores, items: list[int]) -> None:
    for item in items:
        (bare if items.count(item) > 1 else once)(stores, item)


def forced(stores: Stores, name: str, force: bool) -> None:
    (bare if force else once)(stores, name)


def with_note(stores: Stores, note: str | None) -> None:
    (once if note is None else bare)(stores, note)


def one_status(stores: Stores, status: str) -> None:
    (bare if status == "late" else once)(stores, status)


def one_field(stores: Stores, order: dict[str, Any]) -> None:
    (bare if order["urgent"] and order["quantity"] > 1 else once)(stores, order["quantity"])


def empty_line(stores: Stores, lines: list[dict[str, int]]) -> None:
    for index, line in enumerate(lines):
        (bare if line["quantity"] == 0 else once)(stores, index)


def late_day(stores: Stores, day: datetime.date) -> None:
    (bare if day > datetime.date(2030, 12, 31) else once)(stores, day)


def not_ascii(stores: Stores, name: str) -> None:
    (once if name.isascii() else bare)(stores, name.encode().hex())


def crossed(stores: Stores, low: int, high: int) -> None:
    (bare if low > high else once)(stores, (low, high))


def two_bytes(stores: Stores, body: bytes) -> None:
    (bare if len(body) > 1 else once)(stores, body.hex())


def counted_in_redis(stores: Stores, name: str) -> None:
    if len(name) > 2:
        stores.redis.incr("names")
    else:
        stores.redis.sadd("names:seen", name)


def torn_if_large(stores: Stores, amount: int) -> None:
    (torn if amount >= 10 else once)(stores, amount)


def torn_second(stores: Stores, items: list[int]) -> None:
    for index, item in enumerate(items):
        (torn if index == 1 else once)(stores, (index, item))


def racy_if_fast(stores: Stores, mode: str, name: str) -> None:
    (checked if mode == "fast" else once)(stores, name)


def racy_third(stores: Stores, items: list[int]) -> None:
    for index, item in enumerate(items):
        (checked if index == 2 else once)(stores, f"{index}/{item}")


# -- jobs whose bug hangs on the state ---------------------------------------------------------------------


def crowded(stores: Stores, name: str) -> None:
    (bare if count(stores) >= 2 else once)(stores, name)


def overdrawn(stores: Stores, amount: int) -> None:
    with stores.engine.begin() as connection:
        left = connection.execute(select(accounts.c.balance)).scalar_one() - amount
    (bare if left < 0 else once)(stores, amount)


def known_name(stores: Stores, name: str) -> None:
    with stores.engine.begin() as connection:
        changed = connection.execute(
            update(entries).where(entries.c.name == name).values(number=entries.c.number + 1)
        )
    if not changed.rowcount:
        once(stores, name)


def racy_if_crowded(stores: Stores, name: str) -> None:
    (checked if count(stores) >= 1 else once)(stores, f"new {name}")


def torn_if_crowded(stores: Stores, name: str) -> None:
    with stores.engine.begin() as connection:
        others = connection.execute(
            select(func.count()).select_from(entries).where(entries.c.name != name)
        ).scalar_one()
    (torn if others >= 2 else once)(stores, name)


def long_queue(stores: Stores, name: str) -> None:
    if stores.redis.llen("queue") >= 3:
        stores.redis.rpush("overflow", name)
    else:
        stores.redis.sadd("waiting", name)


TEXT = st.text("ab", max_size=8)
NUMBERS = st.lists(st.integers(0, 9), max_size=5)
LINES = st.lists(st.fixed_dictionaries({"quantity": st.integers(0, 5)}), max_size=4)

PLANTED = (
    Planted(long_name, (TEXT,), code="IDM101", smallest=("aaaa",)),
    Planted(large_amount, (st.integers(),), code="IDM101", smallest=(1001,)),
    Planted(refund, (st.integers(),), code="IDM101", smallest=(-1,)),
    Planted(third_item, (NUMBERS,), code="IDM101", smallest=([0, 0, 0],)),
    Planted(same_twice, (NUMBERS,), code="IDM101", smallest=([0, 0],)),
    Planted(forced, (TEXT, st.booleans()), code="IDM101", smallest=("", True)),
    Planted(with_note, (st.none() | TEXT,), code="IDM101", smallest=("",)),
    Planted(one_status, (st.sampled_from(["new", "paid", "late"]),), code="IDM101", smallest=("late",)),
    Planted(
        one_field,
        (st.fixed_dictionaries({"urgent": st.booleans(), "quantity": st.integers(0, 9)}),),
        code="IDM101",
        smallest=({"urgent": True, "quantity": 2},),
    ),
    Planted(empty_line, (LINES,), code="IDM101", smallest=([{"quantity": 0}],)),
    Planted(
        late_day,
        (st.dates(datetime.date(2000, 1, 1), datetime.date(2099, 12, 31)),),
        code="IDM101",
        smallest=(datetime.date(2031, 1, 1),),
    ),
    Planted(not_ascii, (st.text(max_size=5),), code="IDM101", smallest=("\x80",)),
    Planted(crossed, (st.integers(0, 99), st.integers(0, 99)), code="IDM101", smallest=(1, 0)),
    Planted(two_bytes, (st.binary(max_size=6),), code="IDM101", smallest=(b"\0\0",)),
    Planted(counted_in_redis, (TEXT,), code="IDM103", smallest=("aaa",)),
    Planted(torn_if_large, (st.integers(0, 99),), code="IDM202", smallest=(10,), size=KILL),
    Planted(torn_second, (NUMBERS,), code="IDM202", smallest=([0, 0],), size=KILL),
    Planted(
        racy_if_fast,
        (st.sampled_from(["slow", "fast"]), TEXT),
        code="IDM101",
        smallest=("fast", ""),
        size=OVERLAP,
    ),
    Planted(racy_third, (NUMBERS,), code="IDM101", smallest=([0, 0, 0],), size=OVERLAP),
    Planted(crowded, ("x",), NUMBERS, rows, "IDM101", ("x",), [0, 0]),
    Planted(overdrawn, (st.integers(0, 99),), st.integers(0, 99), balance, "IDM101", (1,), 0),
    Planted(known_name, ("a",), st.lists(st.sampled_from("zyxa"), max_size=4), rows, "IDM102", ("a",), ["a"]),
    Planted(racy_if_crowded, ("x",), NUMBERS, rows, "IDM101", ("x",), [0], OVERLAP),
    Planted(torn_if_crowded, (TEXT,), NUMBERS, rows, "IDM202", ("",), [0, 0], KILL),
    Planted(long_queue, (TEXT,), st.lists(TEXT, max_size=5), pushed, "IDM103", ("",), ["", "", ""]),
)


# -- right jobs --------------------------------------------------------------------------------------------


def each_once(stores: Stores, items: list[int]) -> None:
    for item in items:
        once(stores, item)


def refuses_bad_ones(stores: Stores, amount: int) -> None:
    if amount < 0:
        raise ValueError(f"an amount of {amount}")
    once(stores, amount)


def does_nothing_for_most(stores: Stores, items: list[int]) -> None:
    if len(items) > 3:
        once(stores, len(items))


def set_balance(stores: Stores, amount: int) -> None:
    with stores.engine.begin() as connection:
        connection.execute(update(accounts).values(balance=amount))


def purge(stores: Stores, name: str) -> None:
    with stores.engine.begin() as connection:
        connection.execute(delete(entries).where(entries.c.name == name))
    once(stores, name)


def remembered_in_redis(stores: Stores, name: str) -> None:
    stores.redis.sadd("names", name)


def changes_its_argument(stores: Stores, items: list[int]) -> None:
    while items:
        once(stores, items.pop())


RIGHT = (
    Planted(each_once, (NUMBERS,)),
    Planted(refuses_bad_ones, (st.integers(-9, 9),)),
    Planted(does_nothing_for_most, (NUMBERS,)),
    Planted(set_balance, (st.integers(1, 99),), st.just(0), balance),
    Planted(purge, (st.sampled_from("ab"),), st.lists(st.sampled_from("ab"), max_size=4), rows),
    Planted(remembered_in_redis, (TEXT,)),
    Planted(changes_its_argument, (NUMBERS,)),
)
