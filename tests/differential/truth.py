"""Whether a program is idempotent, found out by running its model through everything that may happen to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from greenlet import getcurrent, greenlet

from differential.model import Model, State
from differential.programs import Busy, Program, perform_at_once

ATTEMPTS = 3
WINDOW_SECONDS = 3600.0
LAPSE_SECONDS = 31.0


class Killed(BaseException):
    """The worker is gone; nothing of the job's own sees it."""


class Broken(Exception):
    """The connection broke; the job sees that, and not whether what it did took place."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What befalls one run, and at which of its steps (from 0)."""

    kind: str
    """killed, refused (before the step), lost (after it), or resent (to Redis)."""
    step: int

    def __str__(self) -> str:
        return f"{self.kind} at step {self.step}"


class Run:
    """Counts the steps of one run, and lets its fault strike."""

    def __init__(self, fault: Fault | None = None, before: Callable[[], None] = lambda: None) -> None:
        self.steps = 0
        self._fault, self._before = fault, before

    @contextmanager
    def __call__(self) -> Iterator[None]:
        self._before()
        if self._fault == Fault("killed", self.steps):
            raise Killed  # And again, at whatever its `finally` would do.
        self.steps += 1
        if self._fault == Fault("refused", self.steps - 1):
            raise Broken
        yield
        if self._fault == Fault("lost", self.steps - 1):
            raise Broken

    @contextmanager
    def certain(self) -> Iterator[None]:
        self._before()
        if self._fault == Fault("killed", self.steps):
            raise Killed
        self.steps += 1
        yield

    @property
    def is_resent(self) -> bool:
        return self._fault == Fault("resent", self.steps - 1)

    def end(self) -> None:
        """After its last step it is not acknowledged yet."""
        if self._fault == Fault("killed", self.steps):
            raise Killed


def does_something(program: Program) -> bool:
    """Whether one clean run of it ends well, and leaves something."""
    state = State()
    try:
        perform_at_once(program, Model(state, Run()))
    except Busy:
        return False
    return bool(state.lasting != State().lasting)


def breaks(program: Program) -> str | None:
    """What breaks the program, in words; None if all that may happen leaves what one clean run leaves."""
    state, run = State(), Run()
    perform_at_once(program, Model(state, run))
    wanted = state.lasting
    for what, history in _histories(program, run.steps):
        state = State()
        history(state)
        if state.lasting != wanted:
            return what
    return None


History = Callable[[State], None]


def _histories(program: Program, steps: int) -> Iterator[tuple[str, History]]:
    yield "delivered twice", lambda state: _in_turn(program, state, 2)
    yield "delivered three times", lambda state: _in_turn(program, state, 3)
    yield "delivered again late", lambda state: _late(program, state)
    for step in range(steps + 1):
        for kind in ("killed", "refused", "lost", "resent"):
            fault = Fault(kind, step)
            yield str(fault), lambda state, fault=fault: _until_done(program, state, fault)
        for again in range(steps + 1):
            both = (Fault("killed", step), Fault("killed", again))
            yield f"{both[0]}, then {both[1]}", lambda state, both=both: _until_done(program, state, *both)
    if program.is_plain:
        yield from _together(program, steps)


def _in_turn(program: Program, state: State, times: int) -> None:
    for _ in range(times):
        _until_done(program, state)


def _late(program: Program, state: State) -> None:
    _until_done(program, state)
    state.pass_by(WINDOW_SECONDS)
    _until_done(program, state)


def _until_done(program: Program, state: State, *faults: Fault, attempts: int = ATTEMPTS) -> None:
    """Delivered until it succeeds or the attempts have run out; before the last one, time passes."""
    for attempt in range(attempts):
        if attempt and attempt == attempts - 1:
            state.pass_by(WINDOW_SECONDS)
        run = Run(faults[attempt] if attempt < len(faults) else None)
        try:
            perform_at_once(program, Model(state, run))
            run.end()
        except (Killed, Broken, Busy):
            continue
        return


def _together(program: Program, steps: int) -> Iterator[tuple[str, History]]:
    lapses: Sequence[int | None] = (None, *range(1, 2 * steps)) if program.hastens else (None,)
    for kill in (None, *range(1, steps + 1)):
        for schedule in _schedules(steps if kill is None else kill, steps):
            for lapse in lapses:
                yield (
                    f"together {schedule}, {kill=}, {lapse=}",
                    lambda state, schedule=schedule, kill=kill, lapse=lapse: _overlap(
                        program, state, schedule, kill, lapse
                    ),
                )


def _schedules(first: int, second: int) -> Iterator[str]:
    """Each order of the steps of two runs."""
    if not first or not second:
        yield "1" * first + "2" * second
        return
    for rest in _schedules(first - 1, second):
        yield "1" + rest
    for rest in _schedules(first, second - 1):
        yield "2" + rest


def _overlap(program: Program, state: State, schedule: str, kill: int | None, lapse: int | None) -> None:
    """Two runs take turns; the first may be killed. Who failed is delivered again when both have ended."""
    failed: list[str] = []
    home = getcurrent()

    def execute(name: str) -> None:
        fault = Fault("killed", kill) if name == "1" and kill is not None else None
        run = Run(fault, before=home.switch)
        try:
            perform_at_once(program, Model(state, run))
            run.end()
        except (Killed, Busy):
            failed.append(name)

    runs: dict[str, Any] = {name: greenlet(lambda name=name: execute(name)) for name in "12"}
    for name in "12":
        runs[name].switch()
    for position, name in enumerate([*schedule, *"12" * (2 * len(schedule))]):
        if position == lapse:
            state.pass_by(LAPSE_SECONDS)
        if not runs[name].dead:
            runs[name].switch()
    assert all(run.dead for run in runs.values())
    for _ in failed:
        _until_done(program, state, attempts=ATTEMPTS - 1)
