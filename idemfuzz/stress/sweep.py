"""The sweep: a real SIGKILL at each yield point of a job, in forked children on the real stores.

Each point is a Trial of its own from the restored baseline: a child runs the scenario and dies at the point, further children
run it again until one ends well, as a queue's redelivery would, and the oracle of the search judges what is left. It answers
whether the search's simulated kill (an unwinding of a thread) means the same as the real thing.
"""

from __future__ import annotations

import json
import os
import select
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from idemfuzz.abc import Options, Store, Unusable
from idemfuzz.adapters import load_adapters
from idemfuzz.checkers import Noise, Observed, Problem, Span, State, compare, judge, strip
from idemfuzz.diagnose import CODES, summary_of
from idemfuzz.model import Delta, Fact, Fault, FaultKind, History, Note, Plan, Point, Side, Verdict
from idemfuzz.stress.codec import fact_from_json
from idemfuzz.stress.endings import remembered, shielded
from idemfuzz.stress.report import SweepFinding, SweepReport, SweptPoint
from idemfuzz.stress.run import Progress
from idemfuzz.stress.stores import adopted, closed, opened
from idemfuzz.stress.target import Target
from idemfuzz.stress.witness import Strike, WitnessGate

__all__ = ["Sweep", "Swept", "sweep"]

_ANSWER_BYTES = 1 << 16
_WINDOW_SECONDS = 3_600.0
_CLOCK_STEP_SECONDS = 12_345.0
"""Another hour and another minute: a time of day shows that it is one."""
_EFFECT_SECONDS = 0.613
"""So long does each Effect seem to take when the clock was moved: a measured duration shows that it is one."""


@dataclass(frozen=True, slots=True)
class Swept:
    """One point: the Plan that says the same to the search, and what was wrong afterwards."""

    strike: Strike
    plan: Plan
    problems: tuple[Problem, ...]
    notes: tuple[Note, ...]
    attempts: int
    reached: bool
    """Whether the child really died there."""
    detail: str = ""
    """What the Effect did in the clean delivery."""
    line: str = ""
    """The user's line that it came from."""

    @property
    def codes(self) -> frozenset[str]:
        return frozenset(problem.code for problem in self.problems)


@dataclass(slots=True)
class _Child:
    """What one child process did."""

    events: list[Mapping[str, Any]] = field(default_factory=list)
    killed: bool = False
    hung: bool = False
    error: str | None = None

    @property
    def succeeded(self) -> bool:
        return not self.killed and not self.hung and self.error is None

    @property
    def effects(self) -> list[Mapping[str, Any]]:
        return [e for e in self.events if e["event"] == "effect" and e["outcome"] != "under way"]

    @property
    def calls(self) -> list[Fact]:
        return [fact_from_json(e["call"]) for e in self.effects if e["call"] is not None]


class Sweep:
    """Opens the stores, runs every point, and leaves the stores at their baseline; a context manager.

    Args:
        scenario: calls the job once; it runs in children of this process, so it must change nothing but stores.
        values: name -> store; all of them must be outside of this process (no fake, no SQLite in memory).

    Raises:
        Unusable: a store lives in this process, or the job fails when nothing goes wrong.
    """

    def __init__(
        self, scenario: Callable[[], Any], values: Mapping[str, object], options: Options | None = None
    ) -> None:
        self._scenario = scenario
        self._values = dict(values)
        self._options = options or Options()
        self._stores: list[Store] = []
        self._began = time.time()
        self._noise = Noise()
        self._reference: State
        self._effects: Sequence[Mapping[str, Any]] = ()
        self._passed_seconds = 0.0

    @property
    def stores(self) -> tuple[str, ...]:
        """The stores that are judged, by name and kind."""
        return tuple(f"{s.name} ({getattr(s, 'description', s.kind)})" for s in self._stores)

    def __enter__(self) -> Sweep:
        self._stores = opened(adopted(self._values, self._options))
        try:
            self._learn()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        with shielded():
            closed(self._stores)
        self._stores = []

    def points(self) -> Iterator[Strike]:
        """Before the first Effect, and after each that is more than a look, in the order of the clean delivery."""
        first = True
        for effect in self._effects:
            if first:
                yield Strike("kill-horse", effect["label"], effect["occurrence"], "before")
                first = False
            if effect["access"] != "read":
                yield Strike("kill-horse", effect["label"], effect["occurrence"], "after")

    def run(self) -> Iterator[Swept]:
        """Each point, one after the other."""
        for strike in self.points():
            yield self._swept(strike)

    def _learn(self) -> None:
        self._reference, child = self._clean()
        self._effects = child.effects
        for seconds in (_CLOCK_STEP_SECONDS, 0.0):
            for store in self._stores:
                store.perturb()
            self._passed_seconds = seconds
            other, _ = self._clean(slow=bool(seconds))
            # What is learned from two that do not agree would hide real differences.
            noise = Noise()
            if noise.learn(self._reference.delta.added, other.delta.added, self._reference.span, other.span):
                self._noise = noise
                return
        raise Unusable(
            "two clean deliveries from the same state leave different things behind: nothing can be compared"
        )

    def _clean(self, *, slow: bool = False) -> tuple[State, _Child]:
        child = self._deliver(None, slow=slow)
        state = self._state([child])
        if not child.succeeded:
            raise Unusable(f"the job fails when it is delivered once: {child.error or 'it does not end'}")
        return state, child

    def _swept(self, strike: Strike) -> Swept:
        children = [self._deliver(strike)]
        reached = children[0].killed
        while not children[-1].succeeded and len(children) < self._options.attempts:
            if len(children) == self._options.attempts - 1 and not (reached and len(children) == 1):
                # Something is held against it: the last redelivery comes when every lease has run out.
                self._wait_out()
            children.append(self._deliver(None))
        state = self._state(children)
        last = children[-1]
        plan = _plan(strike)
        stuck = None if last.succeeded or last.hung else last.error
        observed = Observed(plan, History(), stuck, last.hung)
        judgement = judge(
            compare(self._reference, state, self._noise),
            observed,
            ignore=self._options.ignore,
            strict=self._options.strict,
        )
        effect = next(
            e for e in self._effects if (e["label"], e["occurrence"]) == (strike.label, strike.occurrence)
        )
        source = effect["source"]
        return Swept(
            strike,
            plan,
            judgement.problems,
            judgement.notes,
            len(children),
            reached,
            effect["detail"],
            "" if source is None else f"{source[0]}:{source[1]}",
        )

    def _wait_out(self) -> None:
        """What can be moved of time is moved: the leases in the stores, and the clock of the next child."""
        seconds = self._options.redelivery_window or _WINDOW_SECONDS
        self._passed_seconds += seconds
        for store in self._stores:
            store.advance(seconds)

    def _state(self, children: Sequence[_Child]) -> State:
        """What the children left; the stores are restored."""
        delta = Delta(added=tuple(call for child in children for call in child.calls))
        for store in self._stores:
            delta += store.changes()
        end = time.time() + self._passed_seconds
        self._passed_seconds = 0.0
        for store in self._stores:
            store.restore()
        return State(strip(delta, self._options.ignore), Span(self._began, end))

    # -- children ----------------------------------------------------------------------------------------

    def _deliver(self, strike: Strike | None, *, slow: bool = False) -> _Child:
        reading, writing = os.pipe()
        with warnings.catch_warnings():
            # Other threads of this process hold nothing that the child needs.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            os.close(reading)
            self._be_child(writing, strike, slow=slow)
        os.close(writing)
        child = _Child(hung=True)
        try:
            child.hung = not self._listen(reading, child)
        finally:
            # Also where Ctrl-C ends it: no child is left.
            os.close(reading)
            if child.hung:
                os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
        child.killed = not child.hung and os.WIFSIGNALED(status)
        ended = next((e for e in child.events if e["event"] == "ended"), None)
        child.error = (
            None if child.killed or child.hung else ended["error"] if ended else "it ended without a word"
        )
        return child

    def _listen(self, file: int, child: _Child) -> bool:
        """Take in what the child says until it is gone; False if it does not end in time."""
        deadline = time.monotonic() + self._options.timeout
        rest = b""
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([file], [], [], left)[0]:
                return False
            data = os.read(file, _ANSWER_BYTES)
            if not data:
                return True
            *lines, rest = (rest + data).split(b"\n")
            child.events += [json.loads(line) for line in lines]

    def _be_child(self, writing: int, strike: Strike | None, *, slow: bool) -> NoReturn:
        """Run the scenario as a worker's horse would; this never returns."""
        try:
            # Ctrl-C is the run's to take; a job that is interrupted would look like one that fails.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            pipe = _Pipe(writing)
            if self._passed_seconds:
                clock = _moved(self._passed_seconds)
                if slow:
                    pipe.heard = lambda: clock.shift(_EFFECT_SECONDS)
            gate = WitnessGate(pipe, _Order(strike))
            _watch(gate, self._stores, self._values)
            with gate.executing("swept", "sweep", os.getpid()):
                self._scenario()
        except BaseException:
            # It was reported.
            os._exit(1)
        os._exit(0)


def sweep(
    target: Target,
    options: Options,
    *,
    listener: Callable[[Progress], None] = lambda progress: None,
) -> SweepReport:
    """Kill a registered job at each of its points and judge each; Ctrl-C ends it with what is known.

    Raises:
        Unusable: the set-up is refused, or the job fails when nothing goes wrong.
    """
    started = time.monotonic()
    args, kwargs = target.arguments(0)
    adopted(target.registration.values(), options)
    target.prepare()
    points: list[SweptPoint] = []
    found: dict[tuple[str, str, str], SweepFinding] = {}
    notes: dict[Note, None] = {}
    interrupted = False
    listener(Progress("clean deliveries"))
    with (
        remembered() as pressed,
        Sweep(lambda: target.function(*args, **kwargs), target.registration.values(), options) as run,
    ):
        planned = len(list(run.points()))
        try:
            for swept in run.run():
                if pressed.is_set():
                    raise KeyboardInterrupt
                points.append(_point(swept))
                notes |= dict.fromkeys(swept.notes)
                for problem in swept.problems:
                    _enter(found, problem, len(points), str(swept.plan))
                listener(Progress("sweep", done=len(points), total=planned, findings=len(found)))
        except KeyboardInterrupt:
            interrupted = True
        stores = run.stores
    missed = sum(not point.reached for point in points)
    why = (
        f"interrupted after {len(points)} of {planned} points"
        if interrupted
        else "the job had no effect that was seen: there is nothing to be killed at"
        if not planned
        else f"{missed} of {planned} points were not reached again: the job does not do the same twice"
        if missed
        else ""
    )
    return SweepReport(
        target.name,
        Verdict.VIOLATED if found else Verdict.UNKNOWN if why else Verdict.HOLDS,
        tuple(points),
        planned,
        tuple(found.values()),
        tuple(notes),
        stores,
        options.attempts,
        time.monotonic() - started,
        why,
    )


def _point(swept: Swept) -> SweptPoint:
    strike = swept.strike
    number = f"#{strike.occurrence}" if strike.occurrence > 1 else ""
    return SweptPoint(
        f"{strike.side} {strike.label}{number}",
        swept.line,
        swept.detail,
        swept.attempts,
        swept.reached,
        tuple(sorted(swept.codes)),
        str(swept.plan),
    )


def _enter(found: dict[tuple[str, str, str], SweepFinding], problem: Problem, number: int, plan: str) -> None:
    key = (problem.code, problem.store, problem.group)
    known = found.get(key)
    if known is None:
        entry = CODES[problem.code]
        found[key] = SweepFinding(
            problem.code, entry.title, summary_of(problem), (number,), plan, entry.remedy
        )
    elif known.points[-1] != number:
        found[key] = replace(known, points=(*known.points, number))


class _Clock:
    """Moves what a child reads of the time: the wall clock by the library, the others by as much."""

    def __init__(self, coordinates: Any) -> None:
        self._coordinates = coordinates
        self._shifted_seconds = 0.0
        for name in ("monotonic", "perf_counter"):
            setattr(time, name, self._later(getattr(time, name)))

    def shift(self, seconds: float) -> None:
        self._coordinates.shift(seconds)
        self._shifted_seconds += seconds

    def _later(self, read: Callable[[], float]) -> Callable[[], float]:
        return lambda: read() + self._shifted_seconds


def _moved(seconds: float) -> _Clock:
    """In the child: its clocks, ``seconds`` ahead."""
    import time_machine

    return _Clock(time_machine.travel(time.time() + seconds, tick=True).start())


class _Pipe:
    def __init__(self, file: int) -> None:
        self._file = file
        self._lock = threading.Lock()
        self.heard: Callable[[], None] = lambda: None
        """Called after each Effect."""

    def send(self, message: dict[str, Any]) -> None:
        if message["event"] == "effect":
            self.heard()
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self._file, line) :]


@dataclass(slots=True)
class _Order:
    """One strike, or none."""

    strike: Strike | None
    folder: Path = Path()
    hold_seconds: float = 0.0

    @property
    def worker_pid(self) -> int:
        return os.getpid()

    @property
    def run_pid(self) -> int:
        return os.getppid()

    def draw(self, job_id: str, execution: str) -> Strike | None:
        return self.strike

    def claim(self, job_id: str) -> bool:
        return True


def _watch(gate: WitnessGate, stores: Sequence[Store], values: Mapping[str, object]) -> None:
    """In the child: every Effect is reported; what the parent's own taps see leads to no gate."""
    names = {place: store.name for store in stores if (place := getattr(store, "place", None))}
    kinds = {store.kind for store in stores}
    if "sql" in kinds:
        from idemfuzz.adapters.sqlalchemy.witness import EngineWitness, forget_connections

        forget_connections()
        EngineWitness(gate, names).attach()
    if "redis" in kinds:
        from idemfuzz.adapters.redis.witness import RedisWitness

        RedisWitness(gate, names, piecewise=True).attach()
        with suppress(ImportError):
            from idemfuzz.adapters.rq_worker import watch_enqueues

            watch_enqueues(gate)
    for adapter in load_adapters():
        if hasattr(adapter, "reset"):
            adapter.attach(gate, values)


def _plan(strike: Strike) -> Plan:
    point = Point(1, 1, strike.label, strike.occurrence)
    return Plan(faults=(Fault(FaultKind.KILL, point, Side(strike.side)),), call=1)
