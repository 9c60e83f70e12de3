"""Interrupt: an exception comes up at an Effect; the job's handlers run, then the queue delivers again.

The queue's own time limit or shutdown, a connection refused before the Effect, a reply lost after it (an ambiguous
COMMIT among them).
"""

from __future__ import annotations

from collections.abc import Iterator

from idemfuzz.abc import Options, Reference
from idemfuzz.explorers.points import breaks_in_handlers
from idemfuzz.model import Fault, FaultKind, Plan, Side


class InterruptExplorer:
    """One exception per plan, at every point where it can really come up."""

    name = "interrupt"
    faults = frozenset({"timeout", "shutdown", "refused", "lost"})

    def plans(self, reference: Reference, options: Options) -> Iterator[Plan]:
        wanted = options.faults if options.faults is not None else self.faults
        for kind in (FaultKind.TIMEOUT, FaultKind.SHUTDOWN):
            if kind in wanted and reference.interruptions.get(kind):
                for point, side in breaks_in_handlers(reference):
                    yield Plan(faults=(Fault(kind, point, side),), call=point.call)
        for kind, side in ((FaultKind.REFUSED, Side.BEFORE), (FaultKind.LOST, Side.AFTER)):
            if kind not in wanted:
                continue
            for event in reference.events:
                assert event.point is not None
                assert event.effect is not None
                if kind in event.effect.faults:
                    yield Plan(faults=(Fault(kind, event.point, side),), call=event.point.call)

    def pruned(self, reference: Reference) -> int:
        left_out = 2 * len(reference.events) - sum(1 for _ in breaks_in_handlers(reference))
        return left_out * sum(bool(there) for there in reference.interruptions.values())
