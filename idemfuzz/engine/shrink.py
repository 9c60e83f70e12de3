"""Shrinking: the smallest Plan that still shows a finding, re-run after each step.

Fewest faults first, then deliveries, then preemptions, then time that passes, then the earliest preemption. Greedy: a
smaller Plan that shows the finding takes the place of the one before, until none of its own smaller ones does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import TypeVar

from idemfuzz.model import Lapse, Plan, Segment, Step

T = TypeVar("T")


def shrink(
    plan: Plan,
    seen: T,
    attempt: Callable[[Plan], T | None],
    steps_of: Callable[[T], Sequence[Step]],
    trials_max: int,
) -> tuple[Plan, T]:
    """The smallest Plan found, with what ``attempt`` returned for it; ``attempt`` returns None where it shows nothing.

    ``seen`` is what it would return for ``plan``; ``steps_of`` tells the overlapping Steps of such a trial.
    """
    tried = {plan}
    left = trials_max
    improved = True
    while improved and left > 0:
        improved = False
        for smaller in chain(smaller_than(plan), _earlier(plan, steps_of(seen))):
            if smaller in tried:
                continue
            if left <= 0:
                break
            left -= 1
            tried.add(smaller)
            shown = attempt(smaller)
            if shown is not None:
                plan, seen, improved = smaller, shown, True
                break
    return plan, seen


def smaller_than(plan: Plan) -> Iterator[Plan]:
    """Plans with a little less in them, those that leave out most first."""
    if plan.overlap and plan.faults:
        yield replace(plan, overlap=())
        yield replace(plan, faults=(), deliveries=max(2, plan.deliveries))
    elif plan.overlap:
        yield Plan(2)
    if len(plan.faults) > 1:
        for index in range(len(plan.faults)):
            yield replace(plan, faults=plan.faults[:index] + plan.faults[index + 1 :])
    if plan.late_seconds:
        yield replace(plan, late_seconds=0.0)
    if plan.overlap:
        yield from _calmer(plan)
    elif not plan.faults or plan.deliveries > 1:
        for deliveries in range(1 if plan.faults else 2, plan.deliveries):
            yield replace(plan, deliveries=deliveries)


def _calmer(plan: Plan) -> Iterator[Plan]:
    """The same Plan with a Segment, or time that passes, left out; then with fewer deliveries."""
    for index in range(len(plan.overlap) - 1, -1, -1):
        left = plan.overlap[:index] + plan.overlap[index + 1 :]
        deliveries = {segment.delivery for segment in left if isinstance(segment, Segment)}
        if not deliveries or deliveries != set(range(1, len(deliveries) + 1)):
            continue
        yield replace(plan, overlap=_joined(left), deliveries=max(len(deliveries), 1))


def _earlier(plan: Plan, steps: Sequence[Step]) -> Iterator[Plan]:
    """The same Plan with a Segment that ends at an earlier Effect of its own, the earliest first."""
    begins: dict[int, int] = {}
    for index, segment in enumerate(plan.overlap):
        if not isinstance(segment, Segment) or segment.through is None:
            continue
        own = [(step.label, step.occurrence) for step in steps if step.delivery == segment.delivery]
        if segment.through not in own:
            continue
        end = own.index(segment.through)
        for through in own[begins.get(segment.delivery, 0) : end]:
            yield replace(
                plan,
                overlap=(
                    *plan.overlap[:index],
                    replace(segment, through=through),
                    *plan.overlap[index + 1 :],
                ),
            )
        begins[segment.delivery] = end + 1


def _joined(segments: tuple[Segment | Lapse, ...]) -> tuple[Segment | Lapse, ...]:
    """Neighbours of one delivery are one Segment: the later one says where it ends."""
    found: list[Segment | Lapse] = []
    for segment in segments:
        before = found[-1] if found else None
        if (
            isinstance(before, Segment)
            and isinstance(segment, Segment)
            and before.delivery == segment.delivery
        ):
            counted = before.steps is not None and segment.steps is not None
            steps = (before.steps or 0) + (segment.steps or 0) if counted else segment.steps
            found[-1] = replace(segment, steps=steps)
        else:
            found.append(segment)
    return tuple(found)
