"""Heirs: a worker is killed, and then two others run the job at the same time.

Only a kill half-way leaves a heritage: after something that lasts, and before the last of it. One of them redelivers it, the other is a duplicate; both find what the dead one left behind, such as a lock that looks
old, and both may clear it away. A retry that goes the way of an undisturbed delivery has no heritage: two of those at
once are what `interleave` searches. Nor do two that only look.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from idemfuzz.abc import Extent, Options, Reference
from idemfuzz.explorers.dpor import Guide
from idemfuzz.explorers.interleave import Search, interleavings, tried
from idemfuzz.explorers.retry import way, without_polls
from idemfuzz.model import (
    Access,
    Ending,
    Event,
    EventKind,
    Fault,
    FaultKind,
    Footprint,
    History,
    Lapse,
    Plan,
    Point,
    Side,
    Step,
)

_ORDERS_MAX = 18


class HeirsExplorer:
    """One kill, then two overlapping deliveries."""

    name = "heirs"
    faults = frozenset({"kill", "overlap"})
    together = True
    weight = 2

    def search(self, reference: Reference, options: Options, budget: int) -> Search:
        done = Extent(exhaustive=True, classes=0)
        ways = {way(reference.of_call(call)) for call in range(1, reference.calls + 1)}
        left = pruned = 0
        for point in _halfway(reference):
            if done.ran >= budget:
                left += 1
                continue
            fault = Fault(FaultKind.KILL, point, Side.AFTER)
            outcome = yield from tried(Plan(faults=(fault,), call=point.call))
            done = replace(done, ran=done.ran + 1)
            heir = _heir(outcome.history, point.call)
            gone = way(heir)
            if outcome.violated or gone in ways or not _acts(heir):
                pruned += 1
                continue
            ways.add(gone)
            share = min(_ORDERS_MAX, budget - done.ran)
            if share < 1:
                left += 1
                continue
            waited = any(e.kind is EventKind.CLOCK for e in outcome.history)
            lapse = reference.window_seconds if waited else 0.0
            around = yield from interleavings(
                Plan(3, call=point.call),
                share,
                faults=(fault,),
                sample=False,
                ahead=lambda guide, seconds=lapse: _Bequest(guide, seconds),  # type: ignore[misc]
            )
            if around.diverged:
                return done.and_then(around)
            done = done.and_then(replace(around, why=None))
        if left:
            done = replace(done, exhaustive=False, why=f"{left} kills were over budget")
        elif not done.exhaustive:
            done = replace(done, why=f"the {_ORDERS_MAX} simplest after each kill")
        return replace(done, pruned=pruned)


class _Bequest:
    """Runs the first delivery to its end, lets time pass, and leaves the others to a guide."""

    def __init__(self, guide: Guide, seconds: float) -> None:
        self._guide = guide
        self._seconds = seconds
        self.latecomers = frozenset({2, 3}) if seconds else frozenset()

    def choose(self, ready: Mapping[int, Footprint | None]) -> int | Lapse:
        if 1 in ready:
            return 1
        if self._seconds:
            seconds, self._seconds = self._seconds, 0.0
            return Lapse(seconds)
        return self._guide.choose(ready)

    def took(self, step: Step) -> None:
        if step.delivery != 1:
            self._guide.took(step)


def _halfway(reference: Reference) -> list[Point]:
    found: list[Point] = []
    for call in range(1, reference.calls + 1):
        lasting = [e for e in reference.of_call(call) if e.effect and e.effect.access is Access.DURABLE]
        found += [event.point for event in lasting[:-1] if event.point is not None]
    return found


def _heir(history: History, call: int) -> list[Event]:
    """What the redelivery did that was the first to come to an end by itself."""
    ended = (e for e in history.endings() if e.call == call and e.delivery > 1 and e.ending is Ending.OK)
    last = next(ended, None)
    return without_polls(history, call, last.delivery) if last is not None else []


def _acts(events: Sequence[Event]) -> bool:
    return any(e.effect is not None and e.effect.access is not Access.READ for e in events)
