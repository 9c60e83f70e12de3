"""Whether a program is idempotent, found out by running its model through everything that may happen to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from greenlet import getcurrent, greenlet

from differential.programs import Busy, Model, Program, State, perform

ATTEMPTS = 3
WINDOW_SECONDS = 3600.0
LAPSE_SECONDS = 31.0


class Killed(Exception):
    """The worker is gone; nothing of the job's own sees it."""


def breaks(program: Program) -> str | None:
    """What breaks the program, in words; None if all that may happen leaves what one clean run leaves."""
    state = State()
    steps = _alone(program, state)
    wanted = state.lasting
    for what, history in _histories(program, steps):
        state = State()
        history(state)
        if state.lasting != wanted:
            return what
    return None


History = Callable[[State], None]


def _histories(program: Program, steps: int) -> Iterator[tuple[str, History]]:
    yield "delivered twice", lambda state: _in_turn(program, state, None, None)
    yield "delivered three times", lambda state: _in_turn(program, state, None, None, None)
    yield "delivered again late", lambda state: _late(program, state)
    for end in range(steps + 1):
        yield f"killed before step {end}", lambda state, end=end: _until_done(program, state, end)
        for again in range(steps + 1):
            yield (
                f"killed before step {end}, then before step {again}",
                lambda state, end=end, again=again: _until_done(program, state, end, again),
            )
    if not program.is_plain:
        return
    yield from _together(program, steps)


def _alone(program: Program, state: State, kill_before: int | None = None) -> int:
    """Run it once; how many steps it took."""
    steps = 0

    def before() -> None:
        nonlocal steps
        if steps == kill_before:
            raise Killed
        steps += 1

    perform(program, Model(state, before))
    if steps == kill_before:
        raise Killed
    return steps


def _in_turn(program: Program, state: State, *kills: int | None) -> None:
    for kill in kills:
        _until_done(program, state, kill)


def _late(program: Program, state: State) -> None:
    _until_done(program, state)
    state.pass_by(WINDOW_SECONDS)
    _until_done(program, state)


def _until_done(program: Program, state: State, *kills: int | None, attempts: int = ATTEMPTS) -> None:
    """Delivered until it succeeds or the attempts have run out; before the last one, time passes."""
    for attempt in range(attempts):
        if attempt and attempt == attempts - 1:
            state.pass_by(WINDOW_SECONDS)
        try:
            _alone(program, state, kills[attempt] if attempt < len(kills) else None)
        except (Killed, Busy):
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
    taken = {"1": 0, "2": 0}

    def run(name: str) -> None:
        def before() -> None:
            home.switch()
            if name == "1" and taken[name] == kill:
                raise Killed
            taken[name] += 1

        try:
            perform(program, Model(state, before))
        except (Killed, Busy):
            failed.append(name)

    home = getcurrent()
    runs: dict[str, Any] = {name: greenlet(lambda name=name: run(name)) for name in "12"}
    for name in "12":
        runs[name].switch()
    for position, name in enumerate([*schedule, *"12" * (2 * len(schedule))]):
        if position == lapse:
            state.pass_by(LAPSE_SECONDS)
        if not runs[name].dead:
            runs[name].switch()
    if kill is not None and "1" not in failed:
        failed.append("1")
    for _ in failed:
        _until_done(program, state, attempts=ATTEMPTS - 1)
