"""Trials: one run of a Plan, from restored state until nothing can move."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from idemfuzz.abc import Errors, JobCall, Options, Scheduler, Store
from idemfuzz.engine.clock import Clock
from idemfuzz.engine.director import Director
from idemfuzz.engine.execution import Cover, Execution, Killed, ThreadExecution, here
from idemfuzz.engine.memory import Memory
from idemfuzz.engine.schedule import Scripted, schedule_of
from idemfuzz.engine.source import user_stack
from idemfuzz.model import (
    Effect,
    Ending,
    Event,
    EventKind,
    Fact,
    Fault,
    FaultKind,
    Footprint,
    History,
    Identity,
    Lapse,
    Plan,
    Point,
    Side,
    Source,
    Step,
)

_BETWEEN_DELIVERIES_SECONDS = 1.5
_SLEEPS_PATIENT = 20
_real_monotonic = time.monotonic
_SLOWED_MAX = 8


class TimeLimitExceeded(Exception):
    """The time limit of a worker that we know nothing of.

    Not a TimeoutError, which SQLAlchemy takes for asyncio's cancellation and drops the connection.
    """


class JobHung(RuntimeError):
    """What the scenario sees of a delivery that did not come back within the time limit."""


@dataclass(frozen=True, slots=True)
class Settled:
    """How the deliveries of one call ended: ``stuck`` holds the last error if none of them succeeded."""

    call: int
    stuck: BaseException | None
    duplicates_raised: tuple[tuple[int, BaseException], ...] = ()


@dataclass(frozen=True, slots=True)
class TrialResult:
    """What a Trial left behind, apart from the stores' Deltas."""

    plan: Plan
    history: History
    calls: tuple[Fact, ...]
    settled: tuple[Settled, ...]
    deliveries: int
    redeliveries: int
    hung: bool
    fired: int
    unreached: tuple[Fault, ...]
    job_errors: tuple[BaseException, ...] = field(default=())
    doubts: tuple[str, ...] = field(default=())
    """What went wrong in idemfuzz itself, so that the Trial proves nothing."""
    steps: tuple[Step, ...] = ()
    """The Steps of overlapping Executions, in their order."""
    absent: bool = False
    """Whether the scenario made fewer calls than the one that the Plan is for."""

    @property
    def missed(self) -> bool:
        """Whether something that the Plan says did not come to pass."""
        return self.absent or bool(self.unreached)

    @property
    def stuck(self) -> tuple[Settled, ...]:
        return tuple(settled for settled in self.settled if settled.stuck is not None)


class Trial:
    """Runs one Plan: the scenario calls its jobs, `deliver` delivers each call as the Plan says."""

    def __init__(
        self,
        plan: Plan,
        options: Options,
        stores: Sequence[Store],
        clock: Clock,
        effects_max: int = 200_000,
        effect_seconds: float = 0.0,
        scheduler: Scheduler | None = None,
        opaque: Collection[str] = (),
        traced: bool = False,
        memory: Memory | None = None,
    ) -> None:
        self.plan = plan
        self.options = options
        self._memory = memory
        self.helpers: list[Callable[[float], object]] = []
        """Wait for what the job has left running, for so many seconds."""
        self.abandoned: list[Execution] = []
        self._scheduler = scheduler
        self._opaque = opaque
        # A stack per Effect costs more than the Effect: only what is run to be shown has them.
        self._traced = traced
        self._steps: list[Step] = []
        self._lapses: dict[int, Lapse] = {}
        self._marked: dict[str, Store] = {}
        self._stores = stores
        self._clock = clock
        self._effects_max = effects_max
        # A Reference in which time passes at each Effect shows which values are durations.
        self._effect_seconds = effect_seconds
        self._slowed = 0
        self._faults: Mapping[tuple[Point, Side], Fault] = {(f.point, f.side): f for f in plan.faults}
        self._fired: set[Fault] = set()
        self._events: list[Event] = []
        self._calls: list[Fact] = []
        self._settled: list[Settled] = []
        self._job_errors: list[BaseException] = []
        self._job: JobCall | None = None
        self._begin: Callable[..., Execution] = ThreadExecution
        self._call = self._delivery = self._deliveries = self._redeliveries = 0
        self._doubts: list[str] = []
        self._hung = False
        self._director: Director | None = None

    @property
    def disturbed(self) -> bool:
        """Whether this is anything but one clean delivery; only that one's tracebacks are for people."""
        return self.plan != Plan() or self._scheduler is not None

    def result(self) -> TrialResult:
        for ends in self.helpers:
            ends(self.options.timeout)
        plan = self.plan
        if self._scheduler is not None:
            plan = replace(plan, overlap=schedule_of(self._steps, self._lapses))
        return TrialResult(
            plan=plan,
            history=History(tuple(self._events)),
            calls=tuple(self._calls),
            settled=tuple(self._settled),
            deliveries=self._deliveries,
            redeliveries=self._redeliveries,
            hung=self._hung,
            fired=len(self._fired),
            unreached=tuple(f for f in self.plan.faults if f not in self._fired),
            job_errors=tuple(self._job_errors),
            doubts=tuple(self._doubts),
            steps=tuple(self._steps),
            absent=(self.plan.call or 0) > self._call,
        )

    # -- what the scenario does --------------------------------------------------------------------------

    def deliver(self, job: JobCall, begin: Callable[..., Execution] = ThreadExecution) -> object:
        """Deliver one call of a Job as the Plan says; returns or raises what the first success or last failure did.

        ``begin`` makes the Executions: what they run on is for the caller to say.
        """
        self._job = job
        self._begin = begin
        self._call += 1
        self._delivery = 0
        if self._memory is None:
            return self._outcome(job, self._delivered(job))
        self._memory.begin()
        survivor = None
        try:
            done = self._delivered(job)
            survivor = done[0].key if done[0].ending in (Ending.OK, Ending.FAILED) else None
        finally:
            self._memory.end(survivor)
        return self._outcome(job, done)

    def _delivered(self, job: JobCall) -> list[Execution]:
        applies = self.plan.call in (None, self._call)
        if applies and (self.plan.overlap or self._scheduler is not None):
            return self._overlap(job)
        return self._in_sequence(job, self.plan.deliveries if applies else 1)

    def _outcome(self, job: JobCall, done: Sequence[Execution]) -> object:
        first = next((e for e in done if e.ending is Ending.OK), None)
        late = [(e.delivery, e.error) for e in done if e is not first and e.error is not None]
        if first is not None:
            position = done.index(first)
            raised = tuple((d, err) for e, (d, err) in _paired(done, late) if done.index(e) > position)
            self._settled.append(Settled(self._call, None, raised))
            return first.result
        error = done[-1].error or JobHung(f"delivery {done[-1].delivery} of {job.name} did not end")
        self._settled.append(Settled(self._call, error))
        self._job_errors.append(error)
        raise error

    def _in_sequence(self, job: JobCall, deliveries: int) -> list[Execution]:
        done: list[Execution] = []
        for number in range(1, deliveries + 1):
            identity = self.plan.identity if number > 1 else Identity.SAME
            if number > 1:
                # No queue is back within the same second, which is as fine as many a timestamp is kept.
                self._between()
            done += self._until_success(job, identity, first=number == 1)
            if done[-1].ending is not Ending.OK and number == 1:
                break
        return done

    def _between(self) -> None:
        """What happens between two deliveries: time passes, a store goes on from an older state."""
        while self._marked:
            _, store = self._marked.popitem()
            store.rewind()  # type: ignore[attr-defined]
            self.record(
                Event(
                    EventKind.CLOCK,
                    self._call,
                    self._delivery,
                    f"{store.name} fails over and loses its last writes",
                )
            )
        if self.plan.late_seconds:
            self.lapse(self.plan.late_seconds)
        else:
            self.pass_time(_BETWEEN_DELIVERIES_SECONDS)

    def _until_success(self, job: JobCall, identity: Identity, *, first: bool) -> list[Execution]:
        """One delivery, and the redeliveries by which the queue answers a fault that cut it."""
        done = [self._execute(job, identity)]
        # Each further fault costs a further attempt.
        cut = self.plan.faults or self.plan.overlap or self._scheduler is not None
        attempts = self.options.attempts + max(0, len(self.plan.faults) - 1) if cut else 1
        while done[-1].ending is not Ending.OK and len(done) < attempts and not self._hung:
            if len(done) == attempts - 1 and not done[-1].struck:
                # It failed by itself: something is held against it. Who was struck need not wait.
                self._wait_out(job)
            self._redeliveries += 1
            done.append(self._execute(job, Identity.SAME))
        return done

    def _overlap(self, job: JobCall) -> list[Execution]:
        number = max(self.plan.overlapping, self.plan.deliveries)
        executions = [
            self._execution(job, self.plan.identity if i else Identity.SAME, overlapping=True)
            for i in range(number)
        ]
        self._director = Director(self, executions, self.options.timeout)
        self._deliveries += number
        try:
            self._director.run(self._scheduler or Scripted(self.plan.overlap))
        finally:
            self._lapses |= {len(self._steps) + at: lapse for at, lapse in self._director.lapses.items()}
            self._steps += self._director.steps
            self._director = None
            for execution in executions:
                self.settle(execution)
        done = list(executions)
        for execution in executions:
            if execution.ending is not Ending.OK and not self._hung:
                # The queue redelivers what failed, whatever became of the other delivery.
                self._redeliveries += 1
                done += self._until_success(job, Identity.SAME, first=False)
        return done

    def _execute(self, job: JobCall, identity: Identity) -> Execution:
        execution = self._execution(job, identity, overlapping=False)
        self._deliveries += 1
        self.switch(execution)
        execution.start()
        try:
            if not execution.wait(self.options.timeout):
                self.hang(execution)
        except BaseException:
            execution.abandon()
            raise
        self.settle(execution)
        return execution

    def _execution(self, job: JobCall, identity: Identity, *, overlapping: bool) -> Execution:
        self._delivery += 1
        number = self._delivery
        return self._begin(
            self, self._call, number, lambda: job.perform(identity, number), overlapping=overlapping
        )

    def switch(self, execution: Execution) -> None:
        """From here on an Execution is at work: the process has the memory of its worker."""
        if self._memory is not None:
            self._memory.switch(execution.key, first=execution.delivery == 1)

    def settle(self, execution: Execution) -> None:
        """An Execution has ended: what its process would have dropped is dropped. Once, however often it is said."""
        if execution.settled:
            return
        execution.settled = True
        for store in self._stores:
            store.settle(execution.key, failed=execution.ending is not Ending.OK)

    def _wait_out(self, job: JobCall) -> None:
        """Before the last redelivery: let leases run out, as far as the queue's settings may delay it."""
        window = self.options.redelivery_window
        if window is None:
            window = job.queue.redelivery_window_seconds if job.queue is not None else 3600.0
        self.lapse(window)

    def lapse(self, seconds: float) -> None:
        """So much time passes that it is worth telling."""
        self.record(Event(EventKind.CLOCK, self._call, self._delivery, f"{seconds:g} s pass"))
        self.pass_time(seconds)

    def pass_time(self, seconds: float) -> None:
        self._clock.advance(seconds)
        for store in self._stores:
            store.advance(seconds)

    # -- what the gate asks and tells --------------------------------------------------------------------

    def footprint(self, effect: Effect) -> Footprint | None:
        """What an Effect touches; an outside call touches its own store, unless others were seen inside it."""
        if effect.footprint is not None:
            return effect.footprint
        return None if effect.label in self._opaque else Footprint.whole(effect.store)

    def reach(self, execution: Execution, effect: Effect, errors: Errors) -> Point:
        """An Execution stands before an Effect."""
        if execution.dead:
            raise execution.still_dead()
        if len(self._events) > self._effects_max:
            execution.die()
            raise RuntimeError(
                f"delivery {execution.delivery} did more than {self._effects_max} effects; it probably loops for ever"
            )
        occurrence = execution.reached.get(effect.label, 0) + 1
        director = self._director
        if director is not None and execution.overlapping:
            if execution.can_stand():
                director.arrive(execution, effect, occurrence)
                if execution.dead:
                    raise execution.still_dead()
                execution.waiting = errors.waiting
            else:
                execution.stray = True
        execution.reached[effect.label] = occurrence
        execution.labels.append(effect.label)
        return Point(execution.call, execution.delivery, effect.label, occurrence)

    def acted(self, execution: Execution) -> None:
        """An action is over; who had to wait for a lock in it goes on in its turn."""
        if execution.waits and self._director is not None:
            self._director.returned(execution)
        else:
            execution.waiting = None

    def fault_at(self, execution: Execution, point: Point, side: Side) -> Fault | None:
        if not self._faults:
            return None
        fault = self._faults.get((point, side))
        if fault is not None:
            self._fired.add(fault)
            execution.struck = True
        return fault

    def interrupt(self, execution: Execution, kind: FaultKind) -> BaseException | None:
        queue = self._job.queue if self._job is not None else None
        if queue is None:
            if kind is not FaultKind.TIMEOUT:
                return None
            over = "the worker's time limit is over"
            return asyncio.CancelledError(over) if execution.can_be_cancelled else TimeLimitExceeded(over)
        make = queue.interruption(kind)
        return None if make is None else make()

    def mark(self, effect: Effect) -> None:
        """From here on a store's writes will be lost when the delivery is over."""
        for store in self._stores:
            if store.name == effect.store and hasattr(store, "mark"):
                store.mark()
                self._marked[store.name] = store

    def kill(self, execution: Execution) -> Killed:
        """The process is gone: its connections drop, and from here on it can touch no Store."""
        killed = execution.die()
        here.cover = Cover()
        try:
            self._sever(execution)
        finally:
            here.cover = None
        return killed

    def _sever(self, execution: Execution) -> None:
        for store in self._stores:
            try:
                store.sever(execution.key)
            except Exception as error:
                # The kill was not a clean one: whatever comes of this Trial proves nothing.
                self._doubts.append(f"{store.name}: {type(error).__name__}: {_first_line(error)}")

    def performed(
        self, execution: Execution, effect: Effect, point: Point, outcome: str, call: Fact | None
    ) -> None:
        self.record(
            Event(
                EventKind.EFFECT,
                execution.call,
                execution.delivery,
                effect.detail,
                outcome,
                effect,
                point,
                stack=self.stack(),
            )
        )
        if call is not None:
            self._calls.append(call)
        if self._effect_seconds and self._slowed < _SLOWED_MAX:
            self._slowed += 1
            self.pass_time(self._effect_seconds)

    def errored(self, execution: Execution, effect: Effect, point: Point, error: BaseException) -> None:
        text = f"{type(error).__name__}: {_first_line(error)}"
        self.record(
            Event(
                EventKind.EFFECT,
                execution.call,
                execution.delivery,
                effect.detail,
                text,
                effect,
                point,
                failed=True,
                stack=self.stack(),
            )
        )

    def busy(self, execution: Execution, effect: Effect, point: Point) -> bool:
        """Whether to try again an Effect that found its store locked by another Execution, or by another strand."""
        if execution.give_way():
            return True
        if self._director is None or not execution.overlapping:
            return False
        return self._director.busy(execution, effect)

    def pause(self, execution: Execution, seconds: float, *, polls: bool) -> None:
        """The job sleeps: time moves, nobody waits. One that ``polls`` sleeps until what it looked at has changed."""
        if execution.dead:
            raise execution.still_dead()
        execution.sleeps += 1
        if execution.sleeps > _SLEEPS_PATIENT:
            # It polls: each sleep takes twice as long as the last, which sleeping is free to do.
            seconds *= 2.0 ** min(execution.sleeps - _SLEEPS_PATIENT, 32)
        execution.slept_seconds += seconds
        limit = self.options.extra.get("sleep_seconds_max", 3600.0)
        if execution.slept_seconds > limit:
            error = self.interrupt(execution, FaultKind.TIMEOUT)
            execution.slept_seconds = 0.0
            raise (
                error if error is not None else JobHung(f"slept for more than {limit:.0f} s in one execution")
            )
        self.record(Event(EventKind.SLEEP, execution.call, execution.delivery, f"sleeps {seconds:g} s"))
        polls = polls or execution.labels == execution.labels_before
        execution.labels, execution.labels_before = [], execution.labels
        if self._director is not None and execution.overlapping and polls:
            self._director.sleep(execution, seconds)
        else:
            self.pass_time(seconds)

    def ended(self, execution: Execution) -> None:
        text = (
            ""
            if execution.error is None
            else f"{type(execution.error).__name__}: {_first_line(execution.error)}"
        )
        self.record(Event(EventKind.END, execution.call, execution.delivery, text, ending=execution.ending))
        if self._director is not None and execution.overlapping:
            self._director.left(execution)

    def hang(self, execution: Execution) -> None:
        self._hung = True
        self.abandoned.append(execution)
        execution.error = JobHung(
            f"delivery {execution.delivery} did not end within {self.options.timeout:g} s"
        )
        execution.give_up()
        # Before Python code is broken off: an exception that comes from nowhere is nothing for the inside of a driver.
        self._sever(execution)
        execution.abandon()

    def stack(self) -> tuple[Source, ...]:
        """Where the user's code stands, if this Trial is run to be shown."""
        return user_stack(2) if self._traced else ()

    def record(self, event: Event) -> None:
        self._events.append(event)
        if self._traced and self._memory is not None:
            self._memory.look()


def _paired(
    done: Sequence[Execution], late: Sequence[tuple[int, BaseException]]
) -> list[tuple[Execution, tuple[int, BaseException]]]:
    by_delivery: Callable[[int], Execution] = {e.delivery: e for e in done}.__getitem__
    return [(by_delivery(delivery), (delivery, error)) for delivery, error in late]


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else ""
