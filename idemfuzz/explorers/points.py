"""Where to break a run: points between which nothing observable lies are one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from idemfuzz.abc import Reference
from idemfuzz.model import Access, Event, Point, Side


def breaks(reference: Reference) -> Iterator[tuple[Point, Side]]:
    """Before the first Effect of each call, and after each that is more than a look.

    "Before an Effect" is "after the one before it"; "after a read" is "before that read".
    """
    for call in range(1, reference.calls + 1):
        yield from breaks_of(reference.events, call)


def breaks_of(events: Sequence[Event], call: int, delivery: int = 1) -> Iterator[tuple[Point, Side]]:
    """The same for one delivery of one call, in whatever run it was seen."""
    first = True
    for event in events:
        if event.point is None or event.call != call or event.delivery != delivery:
            continue
        assert event.effect is not None
        if first:
            yield event.point, Side.BEFORE
            first = False
        if event.effect.access is not Access.READ:
            yield event.point, Side.AFTER


def leases(reference: Reference) -> list[tuple[Event, float]]:
    """The Effects that leave something behind for a limited time, with the seconds that it lasts."""
    return [
        (event, event.effect.lease_seconds)
        for event in reference.events
        if event.effect is not None and event.effect.lease_seconds is not None
    ]


def breaks_in_handlers(reference: Reference) -> Iterator[tuple[Point, Side]]:
    """Where an exception can come up: as `breaks`, and also between two looks.

    For a kill, "after a read" is "before that read"; for an exception it is not: another handler may stand there.
    """
    for call in range(1, reference.calls + 1):
        looked = True
        for event in reference.of_call(call):
            assert event.point is not None
            assert event.effect is not None
            if looked:
                yield event.point, Side.BEFORE
            looked = event.effect.access is Access.READ
            if not looked:
                yield event.point, Side.AFTER


def pruned(reference: Reference) -> int:
    """Of the points before and after every Effect, how many `breaks` takes for another."""
    return 2 * len(reference.events) - sum(1 for _ in breaks(reference))
