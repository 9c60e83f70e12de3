"""Small jobs as values: acts on a database, on Redis and outside, which a real world performs and a model of it, too.

The model knows what each act does and nothing of idemfuzz: a few dictionaries, transactions that are copies, and a clock.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, insert, select, update
from sqlalchemy.exc import IntegrityError

metadata = MetaData()
lines = Table("lines", metadata, Column("id", Integer, primary_key=True), Column("name", String(20)))
marks = Table("marks", metadata, Column("name", String(20), primary_key=True))
counts = Table(
    "counts",
    metadata,
    Column("name", String(20), primary_key=True),
    Column("value", Integer, nullable=False),
)
orders = Table(
    "orders",
    metadata,
    Column("name", String(20), primary_key=True),
    Column("status", String(20), nullable=False),
)

NAMES = ("a", "b")
"""What rows and keys are called; `counts` and `orders` have a row of each name."""

SHORT_SECONDS, LONG_SECONDS = 30, 7 * 86400
"""A time to live that runs out before a redelivery may come, and one that does not."""


STEPS = {
    "move status": ("new", "done"),
    "begin status": ("new", "working"),
    "end status": ("working", "done"),
}
"""From which status to which."""


class Leave(Exception):
    """The job ends here, and is content."""


class Busy(Exception):
    """The job ends here, and wants to be delivered again."""


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that a job does."""

    verb: str
    name: str = "a"
    seconds: int | None = None
    """How long a key lives."""
    otherwise: type[Exception] = Leave
    """What is raised if it is not this run's to do."""

    def __str__(self) -> str:
        ex = "" if self.seconds is None else f" EX {self.seconds}"
        other = f", else {self.otherwise.__name__}" if self.verb in CONDITIONAL else ""
        return f"{self.verb} {self.name}{ex}{other}"


@dataclass(frozen=True, slots=True)
class Transaction:
    """Acts on the database that are committed together."""

    acts: tuple[Act, ...]

    def __str__(self) -> str:
        return f"BEGIN {', '.join(map(str, self.acts))} COMMIT"


@dataclass(frozen=True, slots=True)
class Multi:
    """Acts on Redis that are sent together."""

    acts: tuple[Act, ...]

    def __str__(self) -> str:
        return f"MULTI {', '.join(map(str, self.acts))} EXEC"


@dataclass(frozen=True, slots=True)
class Swallowed:
    """Whatever error comes of it, the job goes on."""

    part: Part

    def __str__(self) -> str:
        return f"try {self.part} except pass"


@dataclass(frozen=True, slots=True)
class Locked:
    """A lock is taken, and given back whatever happens in between."""

    take: Act
    body: tuple[Part, ...]

    def __str__(self) -> str:
        return f"{self.take}; try {'; '.join(map(str, self.body))} finally release {self.take.name}"


Part = Act | Transaction | Multi | Swallowed | Locked

SQL = ("add line", "add to count", "set status", "add token", "read count", "write count")
"""Work in the database."""
CONDITIONAL = (
    "unless marked",
    "mark",
    "move status",
    "begin status",
    "end status",
    "unless done",
    "unless flagged",
    "take",
)
"""What may raise ``otherwise``."""
KEYS = ("INCR", "SET", "RPUSH", "SADD", "push once", "SET token", "SADD token")
"""Work in Redis."""
OUTSIDE = (*KEYS, "call")
"""Work that no transaction takes back."""


@dataclass(frozen=True, slots=True)
class Program:
    """A job."""

    parts: tuple[Part, ...]

    def __str__(self) -> str:
        return "; ".join(map(str, self.parts))

    def flat(self) -> Iterator[Act | Transaction | Multi]:
        """Its parts without what is around them."""
        todo = list(self.parts)
        while todo:
            match todo.pop():
                case Swallowed(part):
                    todo.append(part)
                case Locked(take, body):
                    todo += [take, *body]
                case other:
                    yield other  # type: ignore[misc]

    @property
    def is_plain(self) -> bool:
        """Whether each transaction is one statement, so that other runs see all of it or nothing."""
        return all(len(part.acts) == 1 for part in self.flat() if isinstance(part, Transaction))

    @property
    def hastens(self) -> bool:
        """Whether something in it runs out soon."""
        acts = [act for part in self.flat() for act in ([part] if isinstance(part, Act) else part.acts)]
        return any(act.seconds == SHORT_SECONDS for act in acts)


class World(Protocol):
    """Where a program is performed. Only an asynchronous one really waits."""

    async def act(self, act: Act) -> None: ...

    async def multi(self, acts: tuple[Act, ...]) -> None: ...

    async def transaction(self, acts: tuple[Act, ...]) -> None: ...


async def perform(program: Program, world: World) -> None:
    """Run it once, as a worker would."""
    try:
        for part in program.parts:
            await _perform(part, world)
    except Leave:
        return


def perform_at_once(program: Program, world: World) -> None:
    """The same in a world that never waits."""
    try:
        perform(program, world).send(None)
    except StopIteration:
        return
    raise AssertionError("it has waited")


async def _perform(part: Part, world: World) -> None:
    match part:
        case Act():
            await world.act(part)
        case Transaction(acts):
            await world.transaction(acts)
        case Multi(acts):
            await world.multi(acts)
        case Swallowed(inner):
            try:
                await _perform(inner, world)
            except (Leave, Busy):
                raise
            except Exception:
                pass
        case Locked(take, body):
            await world.act(take)
            try:
                for inner in body:
                    await _perform(inner, world)
            finally:
                await world.act(Act("release", take.name))


# -- the real world --------------------------------------------------------------------------------------------------


_PUSH_ONCE = "if redis.call('SETNX', KEYS[1], '1') == 1 then redis.call('RPUSH', KEYS[2], 'done') end"


class Reality:
    """Real stores, or what stands in for them in a test."""

    def __init__(self, db: Any, redis: Any, gateway: Any) -> None:
        self._db, self._redis, self._gateway = db, redis, gateway
        self._read = dict.fromkeys(NAMES, 0)

    async def transaction(self, acts: tuple[Act, ...]) -> None:
        with self._db.begin() as connection:
            self._statements(acts, connection)

    async def multi(self, acts: tuple[Act, ...]) -> None:
        with self._redis.pipeline() as pipeline:
            for act in acts:
                self._command(act, pipeline)
            pipeline.execute()

    async def act(self, act: Act) -> None:
        if act.verb == "call":
            self._gateway.charge(act.name)
        else:
            self._heed(act, self._command(act, self._redis))

    def _command(self, act: Act, redis: Any) -> Any:
        """What the client answers."""
        key, flag = f"{act.verb.lower()}:{act.name}", f"flag:{act.name}"
        match act.verb:
            case "SET token":
                return redis.set(key, uuid.uuid4().hex)
            case "SADD token":
                return redis.sadd(key, uuid.uuid4().hex)
            case "INCR":
                return redis.incr(key)
            case "SET":
                return redis.set(key, "done")
            case "RPUSH":
                return redis.rpush(key, "done")
            case "SADD":
                return redis.sadd(key, "done")
            case "push once":
                return redis.eval(_PUSH_ONCE, 2, f"pushed:{act.name}", key)
            case "flag":
                return redis.set(flag, "1", ex=act.seconds)
            case "unless flagged":
                return redis.get(flag)
            case "take":
                return redis.set(flag, "1", nx=True, ex=act.seconds)
            case "release":
                return redis.delete(flag)
        raise AssertionError(act)

    @staticmethod
    def _heed(act: Act, answer: Any) -> None:
        if (act.verb == "unless flagged" and answer is not None) or (act.verb == "take" and not answer):
            raise act.otherwise

    def _statements(self, acts: tuple[Act, ...], connection: Connection) -> None:
        for act in acts:
            self._statement(act, connection)

    def _statement(self, act: Act, connection: Connection) -> None:
        mine = orders.c.name == act.name
        match act.verb:
            case "add line":
                connection.execute(insert(lines).values(name=act.name))
            case "add token":
                connection.execute(insert(lines).values(name=uuid.uuid4().hex[:20]))
            case "read count":
                self._read[act.name] = connection.scalar(
                    select(counts.c.value).where(counts.c.name == act.name)
                )
            case "write count":
                one_more = self._read[act.name] + 1
                connection.execute(update(counts).where(counts.c.name == act.name).values(value=one_more))
            case "add to count":
                one_more = update(counts).where(counts.c.name == act.name).values(value=counts.c.value + 1)
                connection.execute(one_more)
            case "set status":
                connection.execute(update(orders).where(mine).values(status="done"))
            case "move status" | "begin status" | "end status":
                before, after = STEPS[act.verb]
                moved = update(orders).where(mine, orders.c.status == before).values(status=after)
                if not connection.execute(moved).rowcount:
                    raise act.otherwise
            case "unless done":
                if connection.scalar(select(orders.c.status).where(mine)) == "done":
                    raise act.otherwise
            case "unless marked":
                if connection.scalar(select(marks.c.name).where(marks.c.name == act.name)) is not None:
                    raise act.otherwise
            case "mark":
                try:
                    connection.execute(insert(marks).values(name=act.name))
                except IntegrityError:
                    raise act.otherwise from None
            case _:
                raise AssertionError(act)


class AsyncReality(Reality):
    """The same with an AsyncEngine and an asynchronous client."""

    async def transaction(self, acts: tuple[Act, ...]) -> None:
        async with self._db.begin() as connection:
            await connection.run_sync(lambda plain: self._statements(acts, plain))

    async def multi(self, acts: tuple[Act, ...]) -> None:
        async with self._redis.pipeline() as pipeline:
            for act in acts:
                self._command(act, pipeline)
            await pipeline.execute()

    async def act(self, act: Act) -> None:
        if act.verb == "call":
            self._gateway.charge(act.name)
        else:
            self._heed(act, await self._command(act, self._redis))


# -- the model -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Database:
    lines: list[str] = field(default_factory=list)
    marks: set[str] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NAMES, 0))
    orders: dict[str, str] = field(default_factory=lambda: dict.fromkeys(NAMES, "new"))


@dataclass(slots=True)
class State:
    """All that a job can leave behind."""

    db: Database = field(default_factory=Database)
    keys: dict[str, Any] = field(default_factory=dict)
    ends: dict[str, float] = field(default_factory=dict)
    """When a key runs out."""
    calls: list[str] = field(default_factory=list)
    now: float = 0.0

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
        for key in [key for key, end in self.ends.items() if end <= self.now]:
            del self.keys[key], self.ends[key]

    @property
    def lasting(self) -> Any:
        """What of it a person would miss, in a form that can be compared: what runs out is none of it."""
        keys = {key: value for key, value in self.keys.items() if key not in self.ends}
        return deepcopy(
            (sorted(self.db.lines), self.db.marks, self.db.counts, self.db.orders, keys, sorted(self.calls))
        )


class Step(Protocol):
    """What surrounds each thing that a run does."""

    def __call__(self) -> AbstractContextManager[None]: ...

    @property
    def is_resent(self) -> bool:
        """Whether a client sends what is under way to Redis twice."""


class Model:
    """One run in a `State` that others may share. Each thing that it does is done within a ``step``."""

    def __init__(self, state: State, step: Step) -> None:
        self._state, self._step = state, step
        self._read = dict.fromkeys(NAMES, 0)

    async def transaction(self, acts: tuple[Act, ...]) -> None:
        """All of it takes place at once: exact for one statement, and for several where nobody else is there."""
        with self._step():
            db = deepcopy(self._state.db)
            for act in acts:
                self._statement(act, db)
            self._state.db = db

    async def multi(self, acts: tuple[Act, ...]) -> None:
        with self._step():
            for act in acts * (2 if self._step.is_resent else 1):
                self._command(act)

    async def act(self, act: Act) -> None:
        with self._step():
            if self._step.is_resent and act.verb != "call":
                with suppress(Leave, Busy):
                    self._command(act)  # Its reply is lost: the job sees that to the second one.
            self._command(act)

    def _command(self, act: Act) -> None:
        keys, key, flag = self._state.keys, f"{act.verb.lower()}:{act.name}", f"flag:{act.name}"
        match act.verb:
            case "INCR":
                keys[key] = keys.get(key, 0) + 1
            case "SET":
                keys[key] = "done"
            case "RPUSH":
                keys.setdefault(key, []).append("done")
            case "SET token":
                keys[key] = "a token"
            case "SADD token":
                keys.setdefault(key, []).append("a token")
            case "SADD":
                keys.setdefault(key, set()).add("done")
            case "push once":
                if f"pushed:{act.name}" not in keys:
                    keys[f"pushed:{act.name}"] = "1"
                    keys[key] = ["done"]
            case "call":
                self._state.calls.append(act.name)
            case "flag":
                self._flag(flag, act.seconds)
            case "unless flagged":
                if flag in keys:
                    raise act.otherwise
            case "take":
                if flag in keys:
                    raise act.otherwise
                self._flag(flag, act.seconds)
            case "release":
                keys.pop(flag, None)
                self._state.ends.pop(flag, None)

    def _flag(self, flag: str, seconds: int | None) -> None:
        self._state.keys[flag] = "1"
        self._state.ends.pop(flag, None)
        if seconds is not None:
            self._state.ends[flag] = self._state.now + seconds

    def _statement(self, act: Act, db: Database) -> None:
        match act.verb:
            case "add line":
                db.lines.append(act.name)
            case "add token":
                db.lines.append("a token")
            case "read count":
                self._read[act.name] = db.counts[act.name]
            case "write count":
                db.counts[act.name] = self._read[act.name] + 1
            case "add to count":
                db.counts[act.name] += 1
            case "set status":
                db.orders[act.name] = "done"
            case "move status" | "begin status" | "end status":
                before, after = STEPS[act.verb]
                if db.orders[act.name] != before:
                    raise act.otherwise
                db.orders[act.name] = after
            case "unless done":
                if db.orders[act.name] == "done":
                    raise act.otherwise
            case "unless marked":
                if act.name in db.marks:
                    raise act.otherwise
            case "mark":
                if act.name in db.marks:
                    raise act.otherwise
                db.marks.add(act.name)
