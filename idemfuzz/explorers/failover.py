"""Failover: Redis goes on from an older state, and the queue, which lives there, delivers again.

A replica takes over that had not got the last writes, or a server is restarted from its last snapshot. What was
committed to another database stays.
"""

from __future__ import annotations

from collections.abc import Iterator

from idemfuzz.abc import Options, Reference
from idemfuzz.model import Fault, FaultKind, Plan, Side


class FailoverExplorer:
    """The last write is lost, the last two, and so on; then a second delivery."""

    name = "failover"
    faults = frozenset({"failover"})

    def plans(self, reference: Reference, options: Options) -> Iterator[Plan]:
        for event in reversed(reference.events):
            assert event.point is not None
            assert event.effect is not None
            if FaultKind.FAILOVER in event.effect.faults:
                fault = Fault(FaultKind.FAILOVER, event.point, Side.BEFORE)
                yield Plan(2, faults=(fault,), call=event.point.call)

    def pruned(self, reference: Reference) -> int:
        return 0
