"""Late: the queue delivers again after leases and dedupe keys have run out.

How late that can be is the queue's own settings' to say (`redelivery_window`). One delivery comes just after each
lease that was seen and is shorter than that, and one at the very end.
"""

from __future__ import annotations

from collections.abc import Iterator

from idemfuzz.abc import Options, Reference
from idemfuzz.explorers.points import leases
from idemfuzz.model import Identity, Plan

_SLACK_SECONDS = 1.0


class LateExplorer:
    """A second delivery after success, late."""

    name = "late"
    faults = frozenset({"late"})

    def plans(self, reference: Reference, options: Options) -> Iterator[Plan]:
        window = reference.window_seconds
        moments = {lease + _SLACK_SECONDS for _, lease in leases(reference)}
        for moment in sorted({m for m in moments if m < window} | {window}):
            yield Plan(2, late_seconds=moment)
        if reference.identified:
            yield Plan(2, identity=Identity.NEW, late_seconds=window)

    def pruned(self, reference: Reference) -> int:
        return 0
