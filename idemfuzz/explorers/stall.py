"""Stall: a delivery pauses past its lease, another one runs meanwhile, and then the zombie goes on.

A process is suspended, its host swaps, a garbage collection takes long. Nothing tells it that its lock is gone. A
lease that outlives the longest stall (the time limit of stock RQ's jobs: its horse would not live on) is not outrun. What only
has an age, of which nobody says how old it may get, is outrun by the longest stall.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import dropwhile

from idemfuzz.abc import Options, Reference
from idemfuzz.explorers.points import leases
from idemfuzz.model import Access, Lapse, Plan, Segment

_STALL_SECONDS_MAX = 180.0
_SLACK_SECONDS = 1.0


class StallExplorer:
    """For each lease that was taken, a stall after each Effect from there on."""

    name = "stall"
    faults = frozenset({"stall"})

    def plans(self, reference: Reference, options: Options) -> Iterator[Plan]:
        longest = min(_STALL_SECONDS_MAX, reference.window_seconds)
        for call in range(1, reference.calls + 1):
            events = reference.of_call(call)
            taken = [(event, lease) for event, lease in leases(reference) if event in events]
            for event, lease in taken:
                if longest <= lease < math.inf:
                    continue
                lapse = longest if lease == math.inf else lease + _SLACK_SECONDS
                # Nobody sees it, nor how old it is, before it is committed.
                rest = events[events.index(event) : -1]
                for later in dropwhile(lambda e: e.effect and e.effect.access is not Access.DURABLE, rest):
                    assert later.point is not None
                    through = (later.point.label, later.point.occurrence)
                    order = (
                        Segment(1, through=through),
                        Lapse(lapse),
                        Segment(2),
                        Segment(1),
                    )
                    yield Plan(2, overlap=order, call=call)

    def pruned(self, reference: Reference) -> int:
        return 0
