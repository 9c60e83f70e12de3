"""News: which findings tell something that those already known do not."""

from __future__ import annotations

from idemfuzz import corpus
from idemfuzz.corpus import Entry
from idemfuzz.model import Plan

__all__ = ["explains", "parts_of"]

_CUTS = frozenset({"kill", "timeout", "shutdown", "refused", "lost"})


def explains(known: Entry, entry: Entry) -> bool:
    """Whether a finding is no news beside a known one: the same damage, by a way that is no simpler.

    As within one search: what plain duplicates do explains all that does the same; all that cuts a delivery short is one kind;
    and where several things come together, whatever does the same damage with fewer of them explains it.
    """
    if known.target != entry.target or not set(entry.places) <= set(known.places):
        return False
    if known.mechanism == "duplicate":
        return known.code == entry.code
    fewer = parts_of(entry.plan) - parts_of(known.plan)
    if fewer > 0:
        return known.code[:4] == entry.code[:4]
    return fewer == 0 and known.code == entry.code and _family_of(known) == _family_of(entry)


def _family_of(entry: Entry) -> str:
    return "cut" if entry.mechanism in _CUTS else entry.mechanism


def parts_of(plan: Plan) -> int:
    """How many things come together in a plan."""
    together = corpus.mechanism_of(plan) in ("overlap", "stall")
    return len(plan.faults) + together + bool(plan.late_seconds) + (plan.deliveries > 2)
