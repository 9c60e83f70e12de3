"""Small jobs as values: acts on a database, on Redis and outside, performed by a real world or by a model of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Protocol

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
class Watched:
    """The flag of a name is watched and looked at; then acts on Redis are sent together, unless it has changed."""

    name: str
    otherwise: type[Exception]
    """What is raised if the flag is there."""
    acts: tuple[Act, ...]

    def __str__(self) -> str:
        return (
            f"WATCH flag {self.name}, if there {self.otherwise.__name__}, "
            f"MULTI {', '.join(map(str, self.acts))} EXEC or Busy"
        )


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


Part = Act | Transaction | Multi | Watched | Swallowed | Locked

SQL = (
    *("add line", "add to count", "set status", "add token", "read count", "write count"),
    *("mark if missing", "cancel"),
)
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
KEYS = (
    *("INCR", "SET", "RPUSH", "SADD", "push once", "SET token", "SADD token"),
    *("HSET", "HINCRBY", "ZADD", "DEL list", "LPOP", "LMOVE"),
)
"""Work in Redis, a command each."""
NUMBERS = ("read number", "write number")
"""A number in Redis, read and written by hand."""
CALLS = ("call", "mail", "mail named", "post", "post keyed", "put")
"""Work elsewhere: a client that is a mock, mails without and with a Message-ID, and HTTP requests."""
IN_PROCESS = frozenset({"call"})
"""What cannot be seen from another process: the calls of a mock."""
CHILDREN = ("enqueue", "enqueue once")
"""Jobs of the job's own, with a new id and with one that RQ holds to be unique."""
FILES = ("append to file", "write file", "replace file")
"""Work in a folder."""
STOCK = 50
"""How many elements the list of each name has, for LPOP and LMOVE: more than are ever taken."""


@dataclass(frozen=True, slots=True)
class Program:
    """A job."""

    parts: tuple[Part, ...]

    def __str__(self) -> str:
        return "; ".join(map(str, self.parts))

    def flat(self) -> Iterator[Act | Transaction | Multi | Watched]:
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
        return any(act.seconds == SHORT_SECONDS for act in self.acts)

    @property
    def verbs(self) -> set[str]:
        """All that it does."""
        return {act.verb for act in self.acts}

    def renamed(self, names: Mapping[str, str]) -> Program:
        """The same with other rows, keys and files."""
        return Program(tuple(_renamed(part, names) for part in self.parts))

    @property
    def acts(self) -> Iterator[Act]:
        for part in self.flat():
            yield from [part] if isinstance(part, Act) else part.acts


def _renamed(part: Any, names: Mapping[str, str]) -> Any:
    if isinstance(part, tuple):
        return tuple(_renamed(inner, names) for inner in part)
    if not is_dataclass(part) or isinstance(part, type):
        return part
    changed = {one.name: _renamed(getattr(part, one.name), names) for one in fields(part)}
    if "name" in changed:
        changed["name"] = names[changed["name"]]
    return replace(part, **changed)


class World(Protocol):
    """Where a program is performed. Only an asynchronous one really waits."""

    async def act(self, act: Act) -> None: ...

    async def multi(self, acts: tuple[Act, ...]) -> None: ...

    async def watched(self, part: Watched) -> None: ...

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
        case Watched():
            await world.watched(part)
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
