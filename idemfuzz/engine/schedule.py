"""Schedules: the scheduler that follows one, and the Schedule of Steps that were taken."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from idemfuzz.model import Footprint, Lapse, Segment, Step


class Scripted:
    """Follows a Schedule; after its end, whoever moved last goes on, or else the first that can."""

    def __init__(self, schedule: Iterable[Segment | Lapse]) -> None:
        self._left = deque(schedule)
        self.latecomers = _latecomers(self._left)
        """Who begins when the first Lapse is over."""
        self._taken = 0
        self._last = 0

    def choose(self, ready: Mapping[int, Footprint | None]) -> int | Lapse:
        while self._left:
            segment = self._left[0]
            if isinstance(segment, Lapse):
                self._next()
                return segment
            if segment.delivery in ready and segment.steps != self._taken:
                return segment.delivery
            self._next()
        return self._last if self._last in ready else min(ready)

    def took(self, step: Step) -> None:
        self._last = step.delivery
        segment = self._left[0] if self._left else None
        if isinstance(segment, Segment) and segment.delivery == step.delivery:
            self._taken += 1
            if segment.through == (step.label, step.occurrence):
                self._next()

    def _next(self) -> None:
        self._left.popleft()
        self._taken = 0


def _latecomers(schedule: Iterable[Segment | Lapse]) -> frozenset[int]:
    before: set[int] = set()
    after: set[int] = set()
    lapsed = False
    for part in schedule:
        if isinstance(part, Lapse):
            lapsed = True
        else:
            (after if lapsed else before).add(part.delivery)
    return frozenset(after - before)


def schedule_of(
    steps: Sequence[Step], lapses: Mapping[int, Lapse] | None = None
) -> tuple[Segment | Lapse, ...]:
    """The Schedule by which these Steps are taken again, with no more preemptions than it needs.

    Segments end at the label of their last Effect; one that goes on until it ends or is blocked names none.
    ``lapses``: what passes before the Step of that index.
    """
    passed = lapses or {}
    first = [0]
    for index, step in enumerate(steps):
        if index and (step.delivery != steps[index - 1].delivery or index in passed):
            first.append(index)
    runs = [steps[start:end] for start, end in pairwise([*first, len(steps)])] if steps else []
    found: list[Segment | Lapse] = []
    for number, run in enumerate(runs):
        if first[number] in passed:
            found.append(passed[first[number]])
        last = run[-1]
        following = runs[number + 1][0] if number + 1 < len(runs) else None
        goes_on = following is not None and last.delivery in following.choices
        found.append(Segment(last.delivery, through=(last.label, last.occurrence) if goes_on else None))
    return tuple(found)
