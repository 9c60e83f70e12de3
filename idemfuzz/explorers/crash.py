"""Crash: the worker is killed around an Effect, and the queue delivers the job again."""

from __future__ import annotations

from collections.abc import Iterator

from idemfuzz.abc import Options, Reference
from idemfuzz.explorers.points import breaks, pruned
from idemfuzz.model import Fault, FaultKind, Plan


class CrashExplorer:
    """One kill at every point between which something lasting or pending happens; loop iterations are apart."""

    name = "crash"
    faults = frozenset({"kill"})

    def plans(self, reference: Reference, options: Options) -> Iterator[Plan]:
        for point, side in breaks(reference):
            yield Plan(faults=(Fault(FaultKind.KILL, point, side),), call=point.call)

    def pruned(self, reference: Reference) -> int:
        return pruned(reference)
