"""The sweep: a real SIGKILL at each yield point of a job, in forked children on the real stores.

Each point is a Trial of its own from the restored baseline: a child runs the scenario and dies at the point, further children
run it again until one ends well, as a queue's redelivery would, and the oracle of the search judges what is left. It answers
whether the search's simulated kill (an unwinding of a thread) means the same as the real thing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from idemfuzz.abc import Options, Store, Unusable
from idemfuzz.checkers import Noise, Observed, Problem, Span, State, compare, judge, strip
from idemfuzz.diagnose import CODES, notes_of_strangers, summary_of
from idemfuzz.engine.claims import Claims
from idemfuzz.model import Delta, Fault, FaultKind, History, Note, Plan, Point, Side, Verdict
from idemfuzz.stress.child import Child, Children
from idemfuzz.stress.endings import remembered, shielded
from idemfuzz.stress.report import SweepFinding, SweepReport, SweptPoint
from idemfuzz.stress.run import Progress
from idemfuzz.stress.stores import adopted, closed, opened
from idemfuzz.stress.target import Target
from idemfuzz.stress.witness import Strike

__all__ = ["Sweep", "Swept", "sweep"]

_HANGS = "IDM304"
_WINDOW_SECONDS = 3_600.0
_CLOCK_STEP_SECONDS = 12_345.0
"""Another hour and another minute: a time of day shows that it is one."""


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


class Sweep:
    """Opens the stores, runs every point, and leaves the stores at their baseline; a context manager.

    Args:
        scenario: calls the job once; it runs in children of this process, so it must change nothing but stores.
        values: name -> store; all of them must be outside of this process (no fake, no SQLite in memory).
        setup: called once, when nobody else has the stores.

    Raises:
        Unusable: a store lives in this process or is in use by another one, or the job fails when nothing goes wrong.
    """

    def __init__(
        self,
        scenario: Callable[[], Any],
        values: Mapping[str, object],
        options: Options | None = None,
        *,
        setup: Callable[[], None] = lambda: None,
    ) -> None:
        self._scenario = scenario
        self._setup = setup
        self._values = dict(values)
        self._options = options or Options()
        self._stores: list[Store] = []
        self._claims = Claims()
        self._began = time.time()
        self._noise = Noise()
        self._reference: State
        self._effects: Sequence[Mapping[str, Any]] = ()
        self._passed_seconds = 0.0
        self._children: Children

    @property
    def strangers(self) -> Sequence[str]:
        """What the job touched and nobody can look at."""
        return tuple(self._children.strangers)

    @property
    def stores(self) -> tuple[str, ...]:
        """The stores that are judged, by name and kind."""
        return tuple(f"{s.name} ({getattr(s, 'description', s.kind)})" for s in self._stores)

    def __enter__(self) -> Sweep:
        stores = adopted(self._values, self._options)
        try:
            self._claims.take(stores, wait_seconds_max=0.0)
            self._setup()
            self._stores = opened(stores)
            self._children = Children(self._scenario, self._stores, self._values, self._options.timeout)
            self._learn()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        with shielded():
            closed(self._stores)
            self._claims.give_up()
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
            swept = self._swept(strike)
            # A delivery that does not end may be a busy machine's doing: the point is tried once more.
            yield self._swept(strike) if _HANGS in swept.codes else swept

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

    def _clean(self, *, slow: bool = False) -> tuple[State, Child]:
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

    def _deliver(self, strike: Strike | None, *, slow: bool = False) -> Child:
        return self._children.deliver(strike, passed_seconds=self._passed_seconds, slow=slow)

    def _state(self, children: Sequence[Child]) -> State:
        """What the children left; the stores are restored."""
        delta = Delta(added=tuple(call for child in children for call in child.calls))
        for store in self._stores:
            delta += store.changes()
        end = time.time() + self._passed_seconds
        self._passed_seconds = 0.0
        for store in self._stores:
            store.restore()
        return State(strip(delta, self._options.ignore), Span(self._began, end))


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
    points: list[SweptPoint] = []
    found: dict[tuple[str, str, str], SweepFinding] = {}
    notes: dict[Note, None] = {}
    interrupted = False
    listener(Progress("clean deliveries"))
    with (
        remembered() as pressed,
        Sweep(
            lambda: target.function(*args, **kwargs),
            target.registration.values(),
            options,
            setup=target.prepare,
        ) as run,
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
        notes |= dict.fromkeys(notes_of_strangers(run.strangers))
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


def _plan(strike: Strike) -> Plan:
    point = Point(1, 1, strike.label, strike.occurrence)
    return Plan(faults=(Fault(FaultKind.KILL, point, Side(strike.side)),), call=1)
