"""What a trial did, as features: whether a search still learns something is whether new ones come.

Features hold no values, so that a job that makes up identifiers is not new each time: which effects followed on which, what
each delivery came to, what was read and written, the class of an interleaving, the shape of the state that was left, and
where faults struck.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from idemfuzz.explorers.dpor import foata, happens_before
from idemfuzz.model import EventKind, FaultKind
from idemfuzz.stage import Sight

__all__ = ["Learned", "features_of", "points_of"]

_STEPS_MAX = 120
"""A longer run's class of interleavings is not told: that costs the square of its length."""
_COUNT_MAX = 4
"""More rows of one kind than this are "many"."""


def features_of(sight: Sight) -> set[str]:
    """All features of one trial, as short hashes."""
    return {_hashed(feature) for feature in _features(sight)}


def _features(sight: Sight) -> Iterator[str]:
    history = sight.result.history
    last: dict[tuple[int, int], str] = {}
    for event in history:
        who = (event.call, min(event.delivery, 2))
        if event.kind is EventKind.EFFECT and event.point is not None and event.effect is not None:
            label = event.point.label
            yield f"edge {last.get(who, '')} {label} {'failed' if event.failed else ''}"
            last[who] = label
            footprint = event.effect.footprint
            if footprint is not None:
                yield from (f"read {region.store}/{region.name}" for region in footprint.reads)
                yield from (f"write {region.store}/{region.name}" for region in footprint.writes)
        elif event.kind is EventKind.FAULT and event.fault is not None:
            fault = event.fault
            yield f"fault {fault.kind} {fault.side} {fault.point.label} {min(fault.point.delivery, 3)}"
        elif event.kind is EventKind.BLOCKED:
            yield f"blocked after {last.get(who, '')}"
        elif event.kind is EventKind.END:
            yield f"end {event.ending} after {last.get(who, '')}"
    shape = Counter(("+", fact.store, fact.group) for fact in sight.delta.added)
    shape.update(("-", fact.store, fact.group) for fact in sight.delta.removed)
    yield f"state {sorted((key, min(count, _COUNT_MAX)) for key, count in shape.items())}"
    steps = sight.result.steps
    if 0 < len(steps) <= _STEPS_MAX:
        labels = sorted({step.label for step in steps})
        yield f"class {sorted(foata(steps, happens_before(steps)))} {labels}"


def points_of(sight: Sight) -> tuple[set[str], set[str]]:
    """The fault points that a trial passed, and those where a fault struck; of first deliveries."""
    passed, fired = set(), set()
    for event in sight.result.history:
        if event.kind is EventKind.EFFECT and event.point is not None and event.effect is not None:
            if event.point.delivery == 1:
                label = event.point.label
                passed.add(f"{FaultKind.KILL} {label}")
                passed.update(
                    f"{kind} {label}" for kind in event.effect.faults if kind is not FaultKind.FAILOVER
                )
        elif event.kind is EventKind.FAULT and event.fault is not None:
            fired.add(f"{event.fault.kind} {event.fault.point.label}")
    return passed, fired


def _hashed(text: str) -> str:
    return hashlib.blake2s(text.encode(), digest_size=6).hexdigest()


@dataclass(slots=True)
class Learned:
    """What all trials of one target showed together."""

    features: set[str] = field(default_factory=set)
    passed: set[str] = field(default_factory=set)
    fired: set[str] = field(default_factory=set)

    def see(self, sight: Sight) -> int:
        """How many of a trial's features are new."""
        passed, fired = points_of(sight)
        self.passed |= passed
        self.fired |= fired
        new = features_of(sight) - self.features
        self.features |= new
        return len(new)

    @property
    def missed(self) -> list[str]:
        """Fault points that were passed, and where no fault of this kind has struck yet."""
        return sorted(self.passed - self.fired)
