"""Resend: the reply is lost, and the client library silently sends the command once more.

redis-py does so by default from version 6 for clients made with ``Redis(host, port)``.
"""

from __future__ import annotations

from collections.abc import Iterator

from idemfuzz.abc import Options, Reference
from idemfuzz.model import Fault, FaultKind, Plan, Side


class ResendExplorer:
    """Every Effect whose client is known to resend is applied twice, once per plan."""

    name = "resend"
    faults = frozenset({"resent"})

    def plans(self, reference: Reference, options: Options) -> Iterator[Plan]:
        for event in reference.events:
            assert event.point is not None
            assert event.effect is not None
            if FaultKind.RESENT in event.effect.faults:
                yield Plan(faults=(Fault(FaultKind.RESENT, event.point, Side.AFTER),), call=event.point.call)

    def pruned(self, reference: Reference) -> int:
        return 0
