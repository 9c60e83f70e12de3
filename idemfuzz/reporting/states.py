"""The world around a finding: each row, key or call before, after one clean delivery, and after the trial."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from idemfuzz.model import Counterexample, Difference, Fact

__all__ = ["Aligned", "aligned"]

_Key = tuple[str, str, Hashable]


@dataclass(frozen=True, slots=True)
class Aligned:
    """One thing at three times; None where it is not there. Nothing that neither run touched is among these."""

    before: Fact | None
    reference: Fact | None
    after: Fact | None
    differs: bool = False
    """Whether the finding is about it; other values are made up, and may differ without harm."""
    columns: tuple[str, ...] = ()
    """Of a thing that is there after both runs: the fields that the finding is about."""

    @property
    def fact(self) -> Fact:
        fact = self.after or self.reference or self.before
        assert fact is not None  # Invariant: it stands in one of the two Deltas.
        return fact


def aligned(example: Counterexample, differences: Sequence[Difference]) -> list[Aligned]:
    """What one clean delivery or the trial changed, the things that the finding is about first."""
    rows = _paired(list(_rows(example)), differences)
    return sorted(rows, key=lambda row: (not row.differs, row.fact.store, row.fact.group))


def _rows(example: Counterexample) -> Iterable[Aligned]:
    clean, trial = example.reference, example.changes
    gone, made = _by_key(clean.removed), _by_key(clean.added)
    gone_here, made_here = _by_key(trial.removed), _by_key(trial.added)
    for key in {**gone, **gone_here, **made, **made_here}:
        before = max(gone.get(key, []), gone_here.get(key, []), key=len)
        # What a run did not touch stands there as it did before.
        reference = made.get(key, []) if key in gone or key in made else before
        after = made_here.get(key, []) if key in gone_here or key in made_here else before
        for sides in zip_longest(before, reference, after):
            yield Aligned(*sides)


def _by_key(facts: Iterable[Fact]) -> dict[_Key, list[Fact]]:
    found: dict[_Key, list[Fact]] = {}
    for fact in facts:
        found.setdefault(_key(fact), []).append(fact)
    return found


def _key(fact: Fact) -> _Key:
    names = fact.identity or tuple(fact.fields)
    return fact.store, fact.group, tuple((name, repr(fact.fields.get(name))) for name in names)


def _paired(rows: list[Aligned], differences: Sequence[Difference]) -> list[Aligned]:
    """What is one thing under another generated id on one line, and marked what differs."""
    missing = [row for row in rows if row.before is None and row.after is None]
    extra = [row for row in rows if row.before is None and row.reference is None]
    kept = {id(row): row for row in rows}
    for lone in missing:
        other = next((row for row in extra if _is_one(lone.reference, row.after, differences)), None)
        if other is not None:
            extra.remove(other)
            del kept[id(other)]
            kept[id(lone)] = replace(lone, after=other.after)
    about = {_key(fact) for d in differences for fact in (d.expected, d.actual) if fact is not None}

    def differs(row: Aligned) -> bool:
        # An extra one of several alike is one more, not each of them.
        sides = (row.before, row.reference, row.after)
        return any(side is not None and _key(side) in about for side in sides) and not _same(row)

    def judged(row: Aligned) -> Aligned:
        return replace(row, differs=True, columns=_columns(row, differences)) if differs(row) else row

    return [judged(row) for row in kept.values()]


def _columns(row: Aligned, differences: Sequence[Difference]) -> tuple[str, ...]:
    expected, actual = row.reference, row.after
    if expected is None or actual is None:
        return ()
    keys = {_key(expected), _key(actual)}
    own = [d for d in differences if any(f is not None and _key(f) in keys for f in (d.expected, d.actual))]
    named = tuple(dict.fromkeys(column for difference in own for column in difference.columns))
    moved = [name for name in actual.fields if expected.fields.get(name) != actual.fields[name]]
    # What refers to something else differs in a value that is made up, but hardly in the one that says which it is.
    return named or tuple(name for name in moved if name not in actual.identity) or tuple(moved)


def _same(row: Aligned) -> bool:
    return row.reference is not None and row.after is not None and row.reference.fields == row.after.fields


def _is_one(expected: Fact | None, actual: Fact | None, differences: Sequence[Difference]) -> bool:
    if expected is None or actual is None or (expected.store, expected.group) != (actual.store, actual.group):
        return False
    if any(d.expected == expected and d.actual == actual for d in differences):
        return True
    told = [name for name in expected.fields if name not in {*expected.identity, *expected.generated}]
    alike = sum(expected.fields[name] == actual.fields.get(name) for name in told)
    return bool(told) and 2 * alike >= len(told)
