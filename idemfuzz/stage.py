"""What a search stands on: the stores and the scenario, and how one Trial runs on them."""

from __future__ import annotations

import functools
import inspect
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import FunctionType, TracebackType
from typing import Any

from idemfuzz.abc import Guarded, JobCall, Options, Queue, Scheduler, Store, Tap, Unusable, named_arguments
from idemfuzz.adapters import load_adapters
from idemfuzz.checkers import Span, State, strip
from idemfuzz.engine import Interception, Trial, TrialGate, TrialResult
from idemfuzz.engine.claims import Claims
from idemfuzz.engine.clock import Clock
from idemfuzz.engine.execution import Inheritance, here
from idemfuzz.engine.keepsakes import Keepsakes
from idemfuzz.engine.loop import Conductor
from idemfuzz.engine.memory import Memory
from idemfuzz.engine.tasks import TaskExecution
from idemfuzz.model import Delta, Identity, Note, Plan

__all__ = ["Run", "Sight", "Stage", "Tally"]

_EFFECT_SECONDS = 0.613


@dataclass(frozen=True, slots=True)
class Sight:
    """What an observer sees of a Trial: what happened, and what it left behind."""

    plan: Plan
    result: TrialResult
    delta: Delta


@dataclass(frozen=True, slots=True)
class Run:
    """One Trial with the state it left."""

    result: TrialResult
    state: State
    error: BaseException | None


@dataclass(slots=True)
class Tally:
    """What the certificate counts."""

    trials: int = 0
    executions: int = 0
    redeliveries: int = 0
    references: int = 0
    hung: int = 0
    notes: dict[tuple[str, str], Note] = field(default_factory=dict)


class Stage:
    """Stores at their baseline, and a scenario whose calls of jobs are delivered as Plans say; a context manager.

    Entering adopts and opens the stores; leaving brings them back to their baseline and everything else to what it was.

    Args:
        scenario: runs once per Trial.
        values: name -> value of everything handed in; stores, mocks and queues are found among them.
        jobs: functions, or job objects of a queue, whose direct calls in the scenario are deliveries.
        only: deliver only ``jobs``, even if a queue's worker runs others in the scenario.
        observer: is shown every Trial.

    Raises:
        Unusable: the set-up is refused (on entering), or what was changed cannot be put back (on leaving).
    """

    def __init__(
        self,
        scenario: Callable[[], Any],
        values: Mapping[str, object],
        jobs: Sequence[object],
        options: Options,
        *,
        only: bool = False,
        observer: Callable[[Sight], None] | None = None,
    ) -> None:
        self.stores: list[Store] = []
        self.tally = Tally()
        self.delivered: dict[str, Queue | None] = {}
        self.calls: list[JobCall] = []
        """Of the last trial, in its order: the first one is the History's call 1."""
        """The jobs that were delivered, and the queues that they came by."""
        self.identified = False
        """Whether a job gets to see an id of its delivery."""
        self.awaited = False
        """Whether a job is a coroutine."""
        self.mending = False
        """Whether deliveries run with something that their source does not have."""
        self._scenario = scenario
        self._values = dict(values)
        self._options = options
        self._observer = observer
        self._clock = Clock(lambda: here.execution, self._pause)
        self._conductor = Conductor(self._pause, lambda: self._clock.advanced_seconds)
        self._gate = TrialGate(self._conductor)
        self._inheritance = Inheritance()
        self._adapters = load_adapters()
        self._queues: list[Queue] = [a for a in self._adapters if hasattr(a, "interruption")]
        self._taps: list[Tap] = [a for a in self._adapters if hasattr(a, "reset")]
        self._opened: list[Store] = []
        self._attached: list[Tap | Queue] = []
        self._trial: Trial | None = None
        self._only = only
        self._functions = self._job_functions(jobs)
        self._interceptions: list[Interception] = []
        # Invariant: one beginning for the spans of all runs, so that a fixture's time stamp is read alike in each.
        self._began = time.time()
        self._clock_showed: list[float] = []
        """What the clock showed to the deliveries of the Trial at hand."""
        self._claims = Claims()
        self._keepsakes: Keepsakes
        self._memory: Memory
        self._random_state: object = None

    # -- life --------------------------------------------------------------------------------------------

    def __enter__(self) -> Stage:
        self._random_state = random.getstate()
        self.stores = self._adopt()
        self._keepsakes = Keepsakes(self._values.values())
        try:
            self._open()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._close()
        finally:
            self._claims.give_up()
            random.setstate(self._random_state)  # type: ignore[arg-type]

    def _adopt(self) -> list[Store]:
        stores: list[Store] = []
        for name, value in self._values.items():
            for adapter in self._adapters:
                adopt = getattr(adapter, "adopt", None)
                store = None if adopt is None else adopt(name, value, self._options)
                if store is None:
                    continue
                known = next((s for s in stores if s.identity == store.identity), None)
                if known is None:
                    stores.append(store)
                elif hasattr(known, "hand"):
                    known.hand(value)
                break
        return stores

    def _open(self) -> None:
        self._claims.take(self.stores)
        # Before any job's code is exchanged.
        self._memory = Memory(self._values.values(), self._scenario, self._outside)
        for store in self.stores:
            store.open(self._gate)
            self._opened.append(store)
        for tap in self._taps:
            look = getattr(tap, "look", None)
            if look is not None:
                look(self._scenario)
            tap.attach(self._gate, self._values)
            self._attached.append(tap)
        for queue in self._queues:
            queue.attach(self._gate, self._dispatch, self._values)
            self._attached.append(queue)
        for function in self._functions:
            self._intercept(function)
        self._clock.install()
        self._inheritance.install()
        self._conductor.install()

    def _outside(self) -> set[int]:
        return set().union(*(tap.records for tap in self._taps if hasattr(tap, "records")))

    def _close(self) -> None:
        self._trial = None
        self._inheritance.remove()
        self._clock.uninstall()
        for interception in self._interceptions:
            interception.remove()
        for tap in self._taps:
            if tap in self._attached:
                tap.reset()
        while self._attached:
            self._attached.pop().detach()
        problems = []
        for store in reversed(self._opened):
            try:
                store.changes()
                store.restore()
            except Exception as error:
                problems.append(f"{store.name}: {error}")
            try:
                store.close()
            except Exception as error:
                problems.append(f"{store.name}: {error}")
        self._opened.clear()
        # Stores may have had to wait for something until now.
        self._conductor.remove()
        if hasattr(self, "_keepsakes"):
            self._keepsakes.restore()
        if problems:
            raise Unusable("could not restore what the search changed: " + "; ".join(problems))

    def deliver(self, job: object, /, *args: Any, **kwargs: Any) -> Any:
        """Call a job as a delivery, whether it is registered or not."""
        ((function, queue),) = self._job_functions([job])[:1]
        target: Any = job if queue is not None and callable(job) else function
        if any(function is known for known, _ in self._functions):
            return target(*args, **kwargs)
        call = JobCall(
            _name_of(function),
            lambda identity, delivery: target(*args, **kwargs),
            queue,
            awaited=inspect.iscoroutinefunction(function),
            arguments=named_arguments(function, args, kwargs),
        )
        return self._dispatch(call, explicit=True)

    def guarded(self) -> list[Any]:
        """The stores whose guards can be taken away (`idemfuzz.abc.Guarded`)."""
        return [store for store in self.stores if isinstance(store, Guarded)]

    def strangers(self) -> list[str]:
        """What the job touched that is none of the stores."""
        return [s for adapter in self._adapters if hasattr(adapter, "strangers") for s in adapter.strangers()]

    # -- catching calls of jobs --------------------------------------------------------------------------

    def _job_functions(self, jobs: Iterable[object]) -> list[tuple[Callable[..., Any], Queue | None]]:
        found: list[tuple[Callable[..., Any], Queue | None]] = []
        for job in jobs:
            for queue in self._queues:
                functions = list(queue.functions(job))
                if functions:
                    found += [(function, queue) for function in functions]
                    break
            else:
                found.append((_plain_function(job), None))
        unique: dict[int, tuple[Callable[..., Any], Queue | None]] = {}
        for function, queue_ in found:
            unique.setdefault(id(function), (function, queue_))
        return list(unique.values())

    def _intercept(self, job: tuple[Callable[..., Any], Queue | None]) -> None:
        function, queue = job
        name = _name_of(function)
        awaited = inspect.iscoroutinefunction(function)

        def handle(*args: Any, **kwargs: Any) -> Any:
            if self._trial is None or here.execution is not None:
                return interception.body(*args, **kwargs)

            sent = _copied(args), _copied(kwargs)

            def perform(identity: Identity, delivery: int) -> Any:
                if delivery == 1:
                    return interception.body(*args, **kwargs)
                # A redelivery carries what was sent, whatever the first one did to it.
                again, named_again = _copied(sent[0]), _copied(sent[1])
                if here.execution is not None and here.execution.overlapping:
                    again = self._twins(again)
                    named_again = dict(zip(named_again, self._twins(list(named_again.values())), strict=True))
                return interception.body(*again, **named_again)

            named = named_arguments(interception.body, args, kwargs)
            return self._dispatch(JobCall(name, perform, queue, awaited=awaited, arguments=named))

        interception = Interception(function, handle)
        interception.install()
        self._interceptions.append(interception)

    def _twins(self, values: Sequence[Any]) -> list[Any]:
        """For an overlapping delivery: what a second worker would have in place of what is passed in."""
        own = []
        for value in values:
            twins = (twin(value) for a in self._adapters if (twin := getattr(a, "twin", None)) is not None)
            own.append(next((twin for twin in twins if twin is not None), value))
        return own

    def _dispatch(self, call: JobCall, *, explicit: bool = False) -> Any:
        trial = self._trial
        if trial is None or here.execution is not None:
            return call.perform(Identity.SAME, 1)
        if self._only and not explicit and call.name not in {_name_of(f) for f, _ in self._functions}:
            return call.perform(Identity.SAME, 1)
        self.delivered[call.name] = call.queue
        self.calls.append(call)
        self.identified = self.identified or call.identified
        if not call.awaited:
            if self.mending:
                call = replace(call, perform=functools.partial(self._perform, call))
            self._clock_showed.append(time.time())
            try:
                return trial.deliver(call)
            finally:
                self._clock_showed.append(time.time())
        self.awaited = True
        begin = functools.partial(TaskExecution, conductor=self._conductor)
        return self._conductor.ask(lambda: trial.deliver(call, begin))

    def _perform(self, call: JobCall, identity: Identity, delivery: int) -> Any:
        """The body, and then what stores do at its end, still within the delivery."""
        returned = call.perform(identity, delivery)
        for store in self.guarded():
            finish = getattr(store, "finish", None)
            if finish is not None:
                finish()
        return returned

    def _pause(self, seconds: float, polls: bool) -> None:
        execution = here.execution
        if execution is not None:
            execution.trial.pause(execution, seconds, polls=polls)

    # -- trials ------------------------------------------------------------------------------------------

    def run(
        self,
        plan: Plan,
        *,
        perturb: bool = False,
        shift_seconds: float = 0.0,
        scheduler: Scheduler | None = None,
        traced: bool = False,
    ) -> Run:
        """One Trial from the baseline; the stores are restored before this returns. A ``traced`` one keeps stacks."""
        for tap in self._taps:
            tap.reset()
        if shift_seconds:
            self._clock.advance(shift_seconds)
        if perturb:
            for store in self.stores:
                store.perturb()
        self._clock_showed.clear()
        random.seed(f"{self._options.seed}/{self.tally.trials}")
        self.calls.clear()
        trial = self._trial = Trial(
            plan,
            self._options,
            self.stores,
            self._clock,
            effect_seconds=_EFFECT_SECONDS if shift_seconds else 0.0,
            scheduler=scheduler,
            opaque=self._gate.opaque,
            traced=traced,
            memory=self._memory,
        )
        error: BaseException | None = None
        try:
            returned = self._scenario()
            if inspect.iscoroutine(returned):
                self._conductor.run(returned)
        except Exception as raised:
            error = raised
        except BaseException as raised:
            if not type(raised).__module__.startswith("_pytest.outcomes") and not isinstance(
                raised, SystemExit
            ):
                raise
            error = raised
        finally:
            self._trial = None
        result = trial.result()
        end = self._clock.now()
        self._clock.reset()
        delta = Delta(added=result.calls)
        learned = False
        try:
            for store in self.stores:
                delta += store.changes()
        finally:
            for store in self.stores:
                store.restore()
            self._keepsakes.restore()
            learned = self._memory.restore()
        if learned and scheduler is None and result.deliveries > 1:
            # Its deliveries have shared what no two workers share.
            return self.run(plan, perturb=perturb, shift_seconds=shift_seconds, traced=traced)
        self.tally.trials += 1
        self.tally.executions += result.deliveries
        self.tally.redeliveries += result.redeliveries
        self.tally.hung += result.hung
        for doubt in result.doubts:
            note = Note("IDM901", f"a worker could not be killed cleanly ({doubt}); please report this")
            self.tally.notes.setdefault((note.code, note.text), note)
        if self._observer is not None:
            self._observer(Sight(plan, result, delta))
        return Run(result, State(strip(delta, self._options.ignore), self._span(end)), error)

    def _span(self, end: float) -> Span:
        """When the Trial took place: as its deliveries saw it, if the test holds a clock of its own before them."""
        shown = self._clock_showed
        if not shown or (self._began - 1.0 <= min(shown) and max(shown) <= end + 1.0):
            return Span(self._began, end)
        return Span(min(shown), max(shown))


def _copied(value: Any) -> Any:
    """A copy of plain containers all the way down; other objects (a Session, a client) stay the same."""
    if type(value) in (list, tuple, set):
        return type(value)(_copied(item) for item in value)
    if type(value) is dict:
        return {key: _copied(item) for key, item in value.items()}
    return value


def _name_of(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def _plain_function(job: object) -> Callable[..., Any]:
    """The function to catch calls of."""
    target: Any = job
    if isinstance(target, staticmethod | classmethod):
        target = target.__func__
    if isinstance(target, functools.partial):
        target = target.func
    if not isinstance(target, FunctionType) and hasattr(target, "__func__"):
        target = target.__func__
    if not isinstance(target, FunctionType):
        raise Unusable(
            f"job={job!r} is not a function that idemfuzz can watch. Name a Python function, or an object that an "
            "installed queue adapter knows (an rq @job, a Celery task with idemfuzz-celery)"
        )
    return target
