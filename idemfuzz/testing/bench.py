"""A bench: the engine with nothing else around it, for tests of adapters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from types import FunctionType
from typing import Any, Self

from idemfuzz.abc import JobCall, Options, Queue, Scheduler, Store, Tap
from idemfuzz.engine import Interception, Trial, TrialGate
from idemfuzz.engine.clock import Clock
from idemfuzz.engine.execution import Inheritance, here
from idemfuzz.engine.loop import Conductor
from idemfuzz.engine.tasks import TaskExecution
from idemfuzz.model import (
    Delta,
    Effect,
    Event,
    Fact,
    Fault,
    FaultKind,
    History,
    Identity,
    Plan,
    Point,
    Side,
    Step,
)

__all__ = ["Bench", "Delivered", "fault_at", "run_delivery"]


@dataclass(frozen=True, slots=True)
class Delivered:
    """What one plan made of a scenario."""

    history: History
    value: Any
    """What the scenario returned."""
    error: BaseException | None
    """What the scenario raised."""
    calls: tuple[Fact, ...]
    """The outside calls that count: mails, requests, child jobs."""
    jobs: tuple[JobCall, ...]
    """The calls of jobs that were delivered."""
    deliveries: int
    fired: int
    """How many faults of the plan happened."""
    delta: Delta = field(default_factory=Delta)
    """What changed in the stores; filled by `run_delivery` alone."""
    steps: tuple[Step, ...] = ()
    """The Steps of deliveries that overlapped."""

    @property
    def effects(self) -> tuple[Effect, ...]:
        return tuple(event.effect for event in self.history.effects if event.effect is not None)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(effect.label for effect in self.effects)

    @property
    def events(self) -> tuple[tuple[Effect, Point], ...]:
        """Each effect that was reached, with its point."""
        return tuple((e.effect, e.point) for e in self.history.effects if e.effect and e.point)

    def endings(self) -> tuple[Event, ...]:
        return self.history.endings()


class Bench:
    """Stores, taps and queues around one gate, from ``__enter__`` to ``__exit__``.

    It opens and closes the stores but leaves `Store.changes` and `Store.restore` to its user, in this order.
    """

    def __init__(
        self,
        *,
        stores: Sequence[Store] = (),
        taps: Sequence[Tap] = (),
        queues: Sequence[Queue] = (),
        values: Mapping[str, object] | None = None,
        timeout_seconds: float = 10.0,
    ) -> None:
        self._stores = stores
        self._taps = taps
        self._queues = queues
        self._values = values or {}
        self._timeout_seconds = timeout_seconds
        self._clock = Clock(lambda: here.execution, self._pause)
        self._conductor = Conductor(self._pause, lambda: self._clock.advanced_seconds)
        self.gate = TrialGate(self._conductor)
        self._trial: Trial | None = None
        self._jobs: list[JobCall] = []
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.callback(self._conductor.remove)
            self._conductor.install()
            for store in self._stores:
                undo.callback(store.close)
                store.open(self.gate)
            for tap in self._taps:
                undo.callback(tap.detach)
                tap.attach(self.gate, self._values)
            for queue in self._queues:
                undo.callback(queue.detach)
                queue.attach(self.gate, self.dispatch, self._values)
            undo.callback(self._clock.uninstall)
            self._clock.install()
            inheritance = Inheritance()
            undo.callback(inheritance.remove)
            inheritance.install()
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *failure: object) -> None:
        self._trial = None
        self._undo.close()

    def watch(self, function: Callable[..., Any], queue: Queue | None = None) -> None:
        """Make direct calls of a function deliveries, as a session does with a job that it is given."""

        def handle(*args: Any, **kwargs: Any) -> Any:
            if self._trial is None or here.execution is not None:
                return interception.body(*args, **kwargs)
            name = f"{function.__module__}.{function.__qualname__}"
            return self.dispatch(JobCall(name, lambda _, __: interception.body(*args, **kwargs), queue))

        assert isinstance(function, FunctionType)
        interception = Interception(function, handle)
        interception.install()
        self._undo.callback(interception.remove)

    def deliver(
        self,
        job: Callable[[], Any] | JobCall,
        plan: Plan | None = None,
        *,
        attempts: int = 1,
        scheduler: Scheduler | None = None,
    ) -> Delivered:
        """Deliver one call of ``job`` as ``plan`` says; see `run`."""
        call = (
            job
            if isinstance(job, JobCall)
            else JobCall("job", lambda identity, delivery: job(), awaited=inspect.iscoroutinefunction(job))
        )
        return self.run(lambda: self.dispatch(call), plan, attempts=attempts, scheduler=scheduler)

    def run(
        self,
        scenario: Callable[[], Any],
        plan: Plan | None = None,
        *,
        attempts: int = 1,
        scheduler: Scheduler | None = None,
    ) -> Delivered:
        """Run a scenario once; the calls of jobs in it are delivered as ``plan`` says, by default once each.

        ``attempts`` is how often a delivery that a fault has cut is tried in all: with 1, the state afterwards is
        the one that the fault left behind. With a scheduler, the plan's deliveries overlap as that one says.
        """
        for tap in self._taps:
            tap.reset()
        options = Options(timeout=self._timeout_seconds, attempts=attempts)
        trial = self._trial = Trial(
            plan or Plan(),
            options,
            self._stores,
            self._clock,
            scheduler=scheduler,
            opaque=self.gate.opaque,
        )
        self._jobs.clear()
        value: Any = None
        error: BaseException | None = None
        try:
            value = scenario()
            if inspect.iscoroutine(value):
                value = self._conductor.run(value)
        except (Exception, SystemExit) as raised:
            error = raised
        finally:
            self._trial = None
        result = trial.result()
        self._clock.reset()
        return Delivered(
            history=result.history,
            value=value,
            error=error,
            calls=result.calls,
            jobs=tuple(self._jobs),
            deliveries=result.deliveries,
            fired=result.fired,
            steps=result.steps,
        )

    def pass_time(self, seconds: float) -> None:
        """Move the wall clock and the stores' own clocks on, as the engine does while a job waits; see `reset_time`."""
        self._clock.advance(seconds)
        for store in self._stores:
            store.advance(seconds)

    def reset_time(self) -> None:
        """The wall clock back to real time, as it is before a trial's stores are looked at and restored."""
        self._clock.reset()

    def dispatch(self, call: JobCall) -> Any:
        """What a queue is given: delivers one call of a job; within a delivery, and between runs, a plain call."""
        trial = self._trial
        if trial is None or here.execution is not None:
            return call.perform(Identity.SAME, 1)
        self._jobs.append(call)
        if not call.awaited:
            return trial.deliver(call)
        begin = partial(TaskExecution, conductor=self._conductor)
        return self._conductor.ask(lambda: trial.deliver(call, begin))

    def _pause(self, seconds: float, polls: bool) -> None:
        execution = here.execution
        if execution is not None:
            execution.trial.pause(execution, seconds, polls=polls)


def run_delivery(
    job: Callable[[], Any] | JobCall,
    plan: Plan | None = None,
    *,
    stores: Sequence[Store] = (),
    taps: Sequence[Tap] = (),
    values: Mapping[str, object] | None = None,
    attempts: int = 1,
) -> Delivered:
    """Deliver one call of ``job`` as ``plan`` says, by default once, and tell what happened.

    ``stores`` are not yet open; they are opened, looked at, restored and closed here. ``values`` are what fixtures
    would have handed in. ``attempts`` is how often a delivery that a fault has cut is tried in all.
    """
    with Bench(stores=stores, taps=taps, values=values) as bench:
        delta = Delta()
        try:
            delivered = bench.deliver(job, plan, attempts=attempts)
        finally:
            for store in stores:
                delta += store.changes()
                store.restore()
    return replace(delivered, delta=delta)


def fault_at(kind: FaultKind, point: Point, side: Side) -> Plan:
    """A plan of one delivery with one fault."""
    return Plan(faults=(Fault(kind, point, side),))
