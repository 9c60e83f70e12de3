"""Replay: the queue delivers again after success (the ack was lost, the producer retried, somebody pressed requeue)."""

from __future__ import annotations

from collections.abc import Iterator

from idemfuzz.abc import Options, Reference
from idemfuzz.model import Identity, Plan


class ReplayExplorer:
    """N deliveries one after another: under the same job id, and under a new one where the job can tell."""

    name = "replay"
    faults = frozenset({"duplicate"})

    def plans(self, reference: Reference, options: Options) -> Iterator[Plan]:
        # Two first: what is done twice may be undone, and done again the third time.
        for deliveries in sorted({2, options.deliveries}):
            yield Plan(deliveries=deliveries)
        if reference.identified:
            yield Plan(deliveries=options.deliveries, identity=Identity.NEW)

    def pruned(self, reference: Reference) -> int:
        return 0
