"""Rival: a worker is killed while another one runs the same job, anywhere in it.

The other one may wait for a lock that the dead one held, may have looked at what the dead one then did not commit, or
may commit in between. The kill is at every point, and the orders around it are searched by the fewest preemptions,
a few for each.
"""

from __future__ import annotations

from dataclasses import replace

from idemfuzz.abc import Extent, Options, Reference
from idemfuzz.explorers.interleave import Search, interleavings
from idemfuzz.explorers.points import breaks
from idemfuzz.model import Fault, FaultKind, Plan

_ORDERS_MAX = 6


class RivalExplorer:
    """One kill, two overlapping deliveries."""

    name = "rival"
    faults = frozenset({"kill", "overlap"})
    together = True
    weight = 2

    def search(self, reference: Reference, options: Options, budget: int) -> Search:
        points = list(breaks(reference))
        done = Extent(exhaustive=True, classes=0)
        for number, (point, side) in enumerate(points):
            share = min(_ORDERS_MAX, (budget - done.ran) // (len(points) - number))
            if share < 1:
                return replace(done, exhaustive=False, why=f"{len(points) - number} kills were over budget")
            plan = Plan(options.overlapping, call=point.call)
            fault = Fault(FaultKind.KILL, point, side)
            around = yield from interleavings(plan, share, faults=(fault,), sample=False)
            if around.diverged:
                return done.and_then(around)
            done = done.and_then(replace(around, why=None))
        if not done.exhaustive:
            done = replace(done, why=f"the {_ORDERS_MAX} simplest around each kill")
        return done
