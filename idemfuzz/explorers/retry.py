"""Retry: the worker is killed, and so is the one that runs the job again; then a third one comes.

A retry begins from what the first kill left, and may take another way through the job. Where it goes the same way as
the retry of an earlier kill, a second kill in it shows nothing new.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from idemfuzz.abc import Extent, Options, Reference
from idemfuzz.explorers.interleave import Search, tried
from idemfuzz.explorers.points import breaks, breaks_of
from idemfuzz.model import Event, EventKind, Fault, FaultKind, History, Plan

_DRAWN = re.compile(r"[0-9a-fA-F-]{8,}|\d{5,}")


class RetryExplorer:
    """Two kills: one in the first delivery, one in the redelivery that answers it."""

    name = "retry"
    faults = frozenset({"kill"})
    weight = 2

    def search(self, reference: Reference, options: Options, budget: int) -> Search:
        ways: set[tuple[tuple[str, str], ...]] = set()
        ran = pruned = left = 0
        if options.attempts < 3:
            return Extent(exhaustive=True, why=f"attempts={options.attempts} leaves no third delivery")
        for point, side in breaks(reference):
            first = Fault(FaultKind.KILL, point, side)
            if ran >= budget:
                left += 1
                continue
            outcome = yield from tried(Plan(faults=(first,), call=point.call))
            ran += 1
            if outcome.violated:
                # What one kill breaks needs no second one.
                continue
            done = without_polls(outcome.history, point.call, delivery=2)
            gone = way(done)
            seconds = list(breaks_of(done, point.call, delivery=2))
            if gone in ways:
                pruned += len(seconds)
                continue
            ways.add(gone)
            for again, where in seconds:
                if ran >= budget:
                    left += 1
                    continue
                faults = (first, Fault(FaultKind.KILL, again, where))
                yield from tried(Plan(faults=faults, call=point.call))
                ran += 1
        why = f"{left} kills were over budget" if left else None
        return Extent(ran, None, not left, why, pruned=pruned)


def way(events: Sequence[Event]) -> tuple[tuple[str, str], ...]:
    """What a delivery did, without the values that it drew."""
    return tuple((e.point.label, _DRAWN.sub("#", e.outcome)) for e in events if e.point is not None)


def without_polls(history: History, call: int, delivery: int) -> list[Event]:
    """The Effects of one delivery, without those that it only repeats after a sleep, with the same answer."""
    found: list[Event] = []
    slept = False
    for event in history:
        if (event.call, event.delivery) != (call, delivery):
            continue
        if event.kind is EventKind.SLEEP:
            slept = True
        elif event.kind is EventKind.EFFECT and event.point is not None:
            last = found[-1] if found else None
            again = last is not None and last.point is not None and last.point.label == event.point.label
            if not (slept and again and last is not None and last.outcome == event.outcome):
                found.append(event)
            slept = False
    return found
