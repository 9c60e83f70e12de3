"""Before, after one clean delivery, after the trial: things are laid side by side, whatever id they got."""

from __future__ import annotations

from typing import Any

from idemfuzz.model import Counterexample, Delta, Difference, DifferenceKind, Fact, FactKind, History, Plan
from idemfuzz.reporting.states import aligned


def row(table: str = "users", **fields: Any) -> Fact:
    return Fact("db", FactKind.ROW, table, fields, identity=("id",), generated={"id": table})


def example(reference: Delta, changes: Delta) -> Counterexample:
    return Counterexample(Plan(2), History(), 3, 3, reference=reference, changes=changes)


def sides(*args: Any) -> list[tuple[Fact | None, Fact | None, Fact | None, bool, tuple[str, ...]]]:
    return [(r.before, r.reference, r.after, r.differs, r.columns) for r in aligned(*args)]


def test_an_update_has_three_values() -> None:
    old, one, two = (row(id=1, n=n) for n in (10, 9, 8))
    changed = Difference(DifferenceKind.CHANGED, "db", "users", one, two, ("n",))
    known = example(Delta((one,), (old,)), Delta((two,), (old,)))
    assert sides(known, [changed]) == [(old, one, two, True, ("n",))]


def test_what_one_run_left_alone_stands_there_as_before() -> None:
    old, new = row(id=1, n=10), row(id=1, n=9)
    lost = Difference(DifferenceKind.MISSING, "db", "users", new, old)
    assert sides(example(Delta((new,), (old,)), Delta()), [lost]) == [(old, new, old, True, ("n",))]
    gone = Difference(DifferenceKind.EXTRA, "db", "users", actual=old, removal=True)
    assert sides(example(Delta(), Delta((), (old,))), [gone]) == [(old, old, None, True, ())]


def test_a_further_row_is_alone_and_its_like_agrees() -> None:
    first, second = row(id=1, email="a"), row(id=2, email="a")
    extra = Difference(DifferenceKind.EXTRA, "db", "users", actual=second, expected_count=1, actual_count=2)
    known = example(Delta((first,)), Delta((first, second)))
    assert sides(known, [extra]) == [(None, None, second, True, ()), (None, first, first, False, ())]


def test_the_same_row_under_another_id_is_one_thing() -> None:
    one, other = row(id=1, email="a", n=1), row(id=5, email="a", n=1)
    assert sides(example(Delta((one,)), Delta((other,))), []) == [(None, one, other, False, ())]


def test_different_rows_are_not_laid_side_by_side() -> None:
    one, other = row(id=1, email="a", n=1), row(id=5, email="b", n=2)
    assert sides(example(Delta((one,)), Delta((other,))), []) == [
        (None, one, None, False, ()),
        (None, None, other, False, ()),
    ]


def test_a_wrong_reference_is_told_by_its_field() -> None:
    one, other = row("homes", id=1, address_id=1), row("homes", id=1, address_id=2)
    mislinked = Difference(DifferenceKind.MISLINKED, "db", "homes", one, other)
    assert sides(example(Delta((one,)), Delta((other,))), [mislinked]) == [
        (None, one, other, True, ("address_id",))
    ]


def test_calls_that_are_alike_are_counted() -> None:
    call = Fact("mock", FactKind.CALL, "charge", {"amount": 1})
    extra = Difference(DifferenceKind.EXTRA, "mock", "charge", actual=call, expected_count=1, actual_count=2)
    known = example(Delta((call,)), Delta((call, call)))
    assert sides(known, [extra]) == [(None, None, call, True, ()), (None, call, call, False, ())]
