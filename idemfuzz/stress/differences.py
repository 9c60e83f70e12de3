"""What differs from the clean deliveries, and what it is called; what depends on the order of different jobs is nobody's fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from idemfuzz.checkers import Noise, State, compare
from idemfuzz.checkers.verdicts import duplicated, holds_work
from idemfuzz.model import Difference, DifferenceKind, FactKind, Note
from idemfuzz.stress.ledger import Message

__all__ = ["Clean", "code_of", "is_certain", "undone", "without_order"]


@dataclass(frozen=True, slots=True)
class Clean:
    """What each of some jobs delivered once leaves behind."""

    numbers: range
    state: State
    other_order: State | None
    """The same jobs in another order: what differs is the order's doing, and nobody's fault."""
    noise: Noise
    effects: tuple[Mapping[str, Any], ...]
    """Of the first job."""


def without_order(differences: Sequence[Difference], clean: Clean) -> tuple[list[Difference], list[Note]]:
    """Leave out what depends on the order of different jobs even when nothing goes wrong."""
    if clean.other_order is None:
        return list(differences), []
    ordered = {
        (d.store, d.group, d.columns)
        for d in compare(clean.state, clean.other_order, clean.noise).differences
    }
    kept = [d for d in differences if (d.store, d.group, d.columns) not in ordered]
    notes = [
        Note("IDM901", f"{store}: {group} depends on the order of different jobs, and was not judged")
        for store, group, _ in sorted(ordered)
    ]
    return kept, notes


def undone(owned: Sequence[tuple[Difference, int | None]], clean: Clean) -> set[int]:
    """The jobs of whose work (rows, mails, calls: no keys) nothing is there."""
    work = sum(fact.kind is not FactKind.KEY for fact in clean.state.delta.added) // len(clean.numbers)
    missing = Counter(
        owner
        for difference, owner in owned
        if owner is not None
        and difference.kind is DifferenceKind.MISSING
        and difference.fact.kind is not FactKind.KEY
    )
    return {owner for owner, count in missing.items() if work and count >= work}


def is_certain(difference: Difference) -> bool:
    """Whether it is wrong whatever would still have been done: what is there too often."""
    return difference.fact.kind is not FactKind.KEY and (
        difference.kind is DifferenceKind.EXTRA or difference.twice
    )


def code_of(difference: Difference, messages: Sequence[Message] | None) -> str | None:
    """None for what is no fault of anybody's."""
    fact = difference.fact
    struck = messages is None or any(run.struck for m in messages for run in m.runs)
    if difference.kind is DifferenceKind.EXTRA:
        # A key that one clean delivery takes away again, or never makes: a lease that was not given back, if it expires.
        passing = fact.kind is FactKind.KEY and not difference.expected_count and not difference.removal
        if passing and fact.expires:
            return "IDM402"
        if passing and struck:
            return "IDM202" if holds_work(fact) else "IDM302"
        return duplicated(difference)
    if difference.kind is DifferenceKind.CHANGED and difference.twice:
        return duplicated(difference)
    if difference.kind is DifferenceKind.MISSING and fact.kind is FactKind.KEY and fact.expires:
        return None
    if difference.kind is DifferenceKind.MISLINKED:
        return "IDM203"
    if messages is not None and not any(m.succeeded for m in messages):
        return None  # Never done at all: told by `_lost`.
    if difference.kind is DifferenceKind.CHANGED:
        return "IDM202" if struck else duplicated(difference)
    return "IDM202"
