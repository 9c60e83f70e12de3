"""The protocols that an adapter implements, and what the engine gives it.

An adapter is an object with a ``name`` that implements one or more of three roles: it *adopts* values as
Stores (`StoreAdapter`), it *taps* a library so that its actions become Effects (`Tap`), it knows a job *queue*
(`Queue`). Adapters of other distributions are found through the entry point group ``idemfuzz.adapters``; each
entry point names a function without arguments that returns the adapter.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection, Generator, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

from idemfuzz.model import (
    Delta,
    Difference,
    Effect,
    Event,
    Fact,
    FaultKind,
    Footprint,
    Guard,
    History,
    Identity,
    Lapse,
    Plan,
    Step,
)

T = TypeVar("T")

__all__ = [
    "Errors",
    "Explorer",
    "Extent",
    "Gate",
    "Guarded",
    "Irremovable",
    "JobCall",
    "Options",
    "Outcome",
    "Proposal",
    "Queue",
    "Reference",
    "Scheduler",
    "Scope",
    "SearchingExplorer",
    "Store",
    "StoreAdapter",
    "Tap",
    "Unusable",
    "Wording",
    "named_arguments",
]


class Unusable(Exception):
    """A set-up that idemfuzz refuses: what happened, the likely cause, and what to do.

    Front ends show the message alone, and end with exit code 2.
    """


@dataclass(frozen=True, slots=True)
class Errors:
    """How one Effect fails in its library's own terms; a callable returns the exception to raise.

    ``lost`` may also drop the connection, as the library would have lost it. ``busy`` tells whether an
    exception only means "somebody else holds the lock; try again" (SQLite).
    """

    refused: Callable[[], BaseException] | None = None
    lost: Callable[[], BaseException] | None = None
    resend: Callable[[], Any] | None = None
    busy: Callable[[BaseException], bool] | None = None
    waiting: Callable[[], bool] | None = None
    """Asks the server whether this Effect, under way in another thread, waits for a lock."""


class Scope(Protocol):
    """The Execution that the current thread works for, as adapters see it."""

    @property
    def key(self) -> Hashable:
        """One value per Execution."""
        ...

    @property
    def overlapping(self) -> bool:
        """Whether another Execution may be under way at the same time."""
        ...

    @property
    def crowded(self) -> bool:
        """Whether somebody else may be at work: another Execution, or another strand of this one."""
        ...

    @property
    def effects(self) -> int:
        """How many Effects the Execution has reached so far."""
        ...

    @property
    def dead(self) -> bool:
        """Whether the Execution was killed, and only its remains are being cleared away."""
        ...


class Gate(Protocol):
    """The only meeting point of adapters, schedules and faults."""

    def scope(self) -> Scope | None:
        """The Execution this thread works for; None outside deliveries and inside a larger Effect."""
        ...

    def perform(
        self,
        effect: Effect,
        action: Callable[[], T],
        *,
        errors: Errors = Errors(),
        describe: Callable[[T], str] | None = None,
        call: Fact | Callable[[T], Fact | None] | None = None,
    ) -> T:
        """Do ``action`` as one Effect: the gate may wait before it, fail it, or end the Execution around it.

        Effects inside ``action`` are part of this one. Outside a delivery it is a plain call. ``call`` is the
        outside call that this Effect makes, if it is one (a function of the result where that tells): counted when the
        action is done.
        """
        ...

    def source(self) -> Any:
        """The innermost line of the user's own code on this thread's stack, or None."""
        ...

    def wait(self, awaitable: Awaitable[T]) -> T:
        """Wait for ``awaitable`` from a plain function: within a job's coroutine, or outside of deliveries.

        So the action of an asynchronous library is ``lambda: gate.wait(original(...))``. Outside of deliveries the
        loop is the scenario's own, which stands still then, or another one if there is none.
        """
        ...

    def aside(self, action: Callable[[], T]) -> T:
        """Do what blocks its thread: within a job's coroutine on another thread, so that other deliveries can go on meanwhile."""
        ...


@runtime_checkable
class Store(Protocol):
    """An adapter to one thing with state. All methods run outside deliveries.

    One that learns its changes from something else than the state itself may also have ``verify() -> str | None``: asked
    between trials at the end of a search, it looks at all of the state and says what speaks against what it has told.
    """

    name: str
    kind: str

    @property
    def identity(self) -> Hashable:
        """Equal for two adapters to one and the same thing."""
        ...

    def open(self, gate: Gate) -> None:
        """Check that the store may be used, remember its state as the baseline, start tapping.

        Raises:
            Unusable: it was not given to us, or nothing can be restored here.
        """
        ...

    def changes(self) -> Delta:
        """What differs from the baseline now."""
        ...

    def restore(self) -> None:
        """Back to the baseline; costs what was changed."""
        ...

    def perturb(self) -> bool:
        """Move the next generated ids, so that a Reference shows where they flow; False where that cannot be."""
        ...

    def advance(self, seconds: float) -> None:
        """Let the store's own clock (leases, TTLs) move on."""
        ...

    def sever(self, scope: Hashable) -> None:
        """An Execution is killed right now: the server sees its connections drop. Called on its own thread."""
        ...

    def settle(self, scope: Hashable, *, failed: bool) -> None:
        """An Execution has ended: roll back and release what its process would have dropped.

        ``failed``: it ended by an exception or a kill, so nothing that it shares with others goes on either.
        """
        ...

    def close(self) -> None:
        """Stop tapping; leave the baseline behind."""
        ...


class Irremovable(Exception):
    """A guard cannot be taken away (or put in) here; the message says why. Nothing was changed."""


@runtime_checkable
class Guarded(Protocol):
    """A Store that knows the guards which deliveries used in it, and can do without them for a while.

    One may also have ``finish()``: called within a delivery that ends well, when all that the job does is done.

    All of it happens between the job and the driver, or in the database's schema; the job's source stays as it is.
    """

    uses: int
    """How often deliveries would have used a guard that is away, since the last `alter`."""

    def guards(self) -> Sequence[Guard]:
        """What deliveries were seen to use since `Store.open`."""
        ...

    def mends(
        self, differences: Sequence[Difference], volatile: Callable[[str, str], bool]
    ) -> Sequence[Guard]:
        """Guards that deliveries do not use, and that might have prevented these differences.

        ``volatile`` says of a table and a column whether its values are made up.
        """
        ...

    def alter(self, without: Collection[Guard], with_: Collection[Guard] = ()) -> None:
        """From now on the job runs without these guards, and with those; what an earlier call changed is as it was.

        Called between trials, with the baseline in place.

        Raises:
            Irremovable: it cannot be; everything is as it was.
        """
        ...

    def remedy(self, guard: Guard) -> str:
        """The statement or setting that a person would use to have this guard."""
        ...


class Wording(Protocol):
    """How one store says what a remedy needs, in its own dialect; a Store that has one has it as ``wording``.

    All of it is text for a person to copy: without values, without a semicolon.
    """

    def name(self, identifier: str) -> str:
        """As it stands in a statement."""
        ...

    def unique_key(self, table: str, columns: Sequence[str]) -> str:
        """Makes a unique key over existing columns."""
        ...

    def insert_once(self, table: str, columns: Sequence[str], key: Sequence[str]) -> str:
        """Inserts a row, or nothing where the unique ``key`` is there already."""
        ...

    def marks(self, table: str, column: str) -> str:
        """Makes a table of what was done, with one text column as its key."""
        ...

    def update(self, table: str, values: Mapping[str, str], where: Sequence[str]) -> str:
        """Sets columns to expressions."""
        ...


class StoreAdapter(Protocol):
    """Recognises values (fixtures, named objects) as Stores.

    An adapter may also have ``twin(value) -> object | None`` (what a second worker would have instead of
    ``value``: a Session of its own) and ``strangers() -> Sequence[str]`` (things touched that were not given).
    """

    name: str

    def adopt(self, name: str, value: object, options: Options) -> Store | None:
        """A Store for ``value``, or None if this adapter does not know such values."""
        ...


class Tap(Protocol):
    """Makes a library's outside calls Effects, from attach to detach.

    It may also have ``look(scenario)``, called before the first Trial, and ``records``: the ids of objects that are the
    outside's memory (what a fake keeps of its calls), and so no worker's.
    """

    name: str

    def attach(self, gate: Gate, values: Mapping[str, object]) -> None: ...

    def reset(self) -> None:
        """A new Trial starts: forget what the last one left in process (a mock's calls)."""
        ...

    def detach(self) -> None: ...


@dataclass(frozen=True, slots=True)
class JobCall:
    """One call of a Job in the scenario, caught on its way: ``perform(identity, delivery)`` runs the body once."""

    name: str
    perform: Callable[[Identity, int], Any]
    queue: Queue | None = None
    identified: bool = False
    """Whether the job can see an id of its own, so that same id and new id differ."""
    awaited: bool = False
    """Whether ``perform`` returns a coroutine that belongs to the event loop of whoever called the job."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """What it is called with, by the names of the job's parameters, where these are known."""


def named_arguments(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """What a call passes in, by the names of the function's parameters; empty where it does not fit them."""
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return {}
    named: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        match bound.signature.parameters[name].kind:
            case inspect.Parameter.VAR_KEYWORD:
                named.update(value)
            case inspect.Parameter.VAR_POSITIONAL:
                pass
            case _:
                named[name] = value
    return named


class Queue(Protocol):
    """What idemfuzz must know of a job queue."""

    name: str

    def functions(self, value: object) -> Iterable[Callable[..., Any]]:
        """The plain functions behind ``value`` if it is a job of this queue (a decorated function, a task)."""
        ...

    def attach(self, gate: Gate, dispatch: Callable[[JobCall], Any], values: Mapping[str, object]) -> None:
        """Catch every job that this queue's workers run, and every child job that a job enqueues.

        Raises:
            Unusable: a worker among ``values`` cannot be watched.
        """
        ...

    def interruption(self, kind: FaultKind) -> Callable[[], BaseException] | None:
        """The queue's own exception for TIMEOUT or SHUTDOWN; None if it never raises one."""
        ...

    @property
    def redelivery_window_seconds(self) -> float:
        """How late the queue's own settings let a redelivery come."""
        ...

    def reason(self, kind: str) -> str:
        """The real event, in this queue, behind 'duplicate', 'overlap', 'kill', 'timeout' or 'shutdown'."""
        ...

    def detach(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may set for one search; every front end fills the same fields."""

    deliveries: int = 3
    overlapping: int = 2
    faults: frozenset[str] | None = None
    ignore: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    redelivery_window: float | None = None
    max_trials: int = 400
    max_examples: int = 20
    """How many examples are searched of what is drawn (``@given``, strategies of a registration)."""
    full_read_rows_max: int = 500
    """How many rows of an SQL database are read after each trial; the largest tables beyond that get a journal."""
    timeout: float = 10.0
    strict: bool = False
    attempts: int = 3
    isolation: tuple[str, ...] = ()
    seed: int = 0
    plan: Plan | None = None
    prove: bool = False
    """Search again without each guard of a job that holds, and with what may mend one that does not."""
    redact: tuple[str, ...] = ()
    """Columns, keys and ``re:`` patterns whose values reach no output."""
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reference:
    """What explorers learn from the clean delivery: its effects in order, per call of the scenario."""

    events: tuple[Event, ...]
    """The EFFECT events of one clean run, with their Points."""
    calls: int
    identified: bool
    interruptions: Mapping[FaultKind, bool]
    window_seconds: float
    """How late a redelivery may come."""

    def of_call(self, call: int) -> tuple[Event, ...]:
        return tuple(event for event in self.events if event.point and event.point.call == call)


class Scheduler(Protocol):
    """Decides, Step by Step, which of several overlapping Executions moves."""

    def choose(self, ready: Mapping[int, Footprint | None]) -> int | Lapse:
        """One of the deliveries that could move now, given with what each would do next; or time passes first."""
        ...

    def took(self, step: Step) -> None:
        """A Step was taken."""
        ...


@dataclass(frozen=True, slots=True)
class Proposal:
    """A Trial that a search asks for; without a scheduler the Plan's own Schedule is followed."""

    plan: Plan
    scheduler: Scheduler | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a search learns of a Trial that it asked for."""

    history: History
    steps: tuple[Step, ...]
    violated: bool
    hung: bool


@dataclass(frozen=True, slots=True)
class Extent:
    """How far a search went. ``why`` says what keeps it from being exhaustive, and what is certain all the same."""

    ran: int = 0
    classes: int | None = None
    """How many inequivalent Schedules were seen."""
    exhaustive: bool = False
    why: str | None = None
    diverged: bool = False
    """One Plan led to different ends: nothing can be claimed."""
    pruned: int = 0
    """How many Trials were left out because they are equivalent to others."""

    def and_then(self, other: Extent) -> Extent:
        """Both, one after the other."""
        classes = None if self.classes is None or other.classes is None else self.classes + other.classes
        reasons = [reason for reason in (self.why, other.why) if reason]
        return Extent(
            self.ran + other.ran,
            classes,
            self.exhaustive and other.exhaustive,
            "; ".join(dict.fromkeys(reasons)) or None,
            self.diverged or other.diverged,
            self.pruned + other.pruned,
        )


@runtime_checkable
class SearchingExplorer(Protocol):
    """Proposes one Trial at a time and learns from what came of it; knows nothing of drivers.

    One that has ``together = True`` is run only where all of its ``faults`` are wanted, not any of them.
    """

    name: str
    faults: frozenset[str]
    weight: int
    """Its share of the budget that the searching explorers divide among themselves."""

    def search(
        self, reference: Reference, options: Options, budget: int
    ) -> Generator[Proposal, Outcome, Extent]:
        """Ask for at most ``budget`` Trials, simplest first, and say in the end how far that went."""
        ...


@runtime_checkable
class Explorer(Protocol):
    """Proposes Plans, simplest first, all of them known from the Reference; knows nothing of drivers."""

    name: str
    faults: frozenset[str]
    """The fault names (as in the ``faults`` option) that this explorer injects."""

    def plans(self, reference: Reference, options: Options) -> Iterable[Plan]: ...

    def pruned(self, reference: Reference) -> int:
        """How many points were left out because nothing observable lies between them and another."""
        ...
