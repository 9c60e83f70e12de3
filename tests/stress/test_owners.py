"""Whose a difference is, and who the strangers are: pure, with facts made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from idemfuzz.checkers import Noise
from idemfuzz.model import Difference, DifferenceKind, Fact, FactKind
from idemfuzz.stress.differences import code_of
from idemfuzz.stress.doings import is_taken, strange_executions
from idemfuzz.stress.ledger import Ledger
from idemfuzz.stress.owners import Owners

OWNERS = Owners(lambda n: ((n + 1,), {}), range(20), Noise())


def _row(**fields: Any) -> Fact:
    return Fact("db", FactKind.ROW, "invoices", fields, ("id",), {"id": "invoices"})


def test_an_id_that_is_handed_out_says_nothing() -> None:
    """Goal: a row with id 6 that names order 4 is job 3's, though 6 is another one's argument."""
    extra = Difference(DifferenceKind.EXTRA, "db", "invoices", actual=_row(id=6, order_id=4))
    assert OWNERS.of(extra) == 3


def test_a_value_that_has_changed_says_nothing() -> None:
    """Goal: a counter of all jobs is nobody's, whatever it counts to."""
    one, other = (
        Fact("redis", FactKind.KEY, "paid", {"key": "paid", "value": v}, ("key",)) for v in ("15", "31")
    )
    changed = Difference(DifferenceKind.CHANGED, "redis", "paid", expected=one, actual=other)
    assert OWNERS.of(changed) is None
    mine = Difference(DifferenceKind.CHANGED, "db", "o", expected=_row(n=4, paid=1), actual=_row(n=4, paid=2))
    assert OWNERS.of(mine) == 3


@pytest.mark.parametrize(
    ("key", "value", "owner"),
    [
        ("billed:o-28", "1", 28),
        ("billed:o-2", "1", 2),
        ("o-28-billed", "o-2", 28),
        ("seen", "o-2, o-28", None),
        ("seen", "by o-3", 3),
        ("by_o-3x", "", 3),
        ("all", "", None),
    ],
)
def test_a_key_with_an_argument_in_its_name_is_its_jobs(key: str, value: str, owner: int | None) -> None:
    """Goal: "o-28" is not "o-2", though the one begins with the other: else both have a claim, and the story told is anybody's."""
    owners = Owners(lambda n: ((f"o-{n}", ["tea"]), {}), range(40), Noise())
    fact = Fact("redis", FactKind.KEY, "billed:o-*", {"key": key, "value": value}, ("key",))
    assert owners.of(Difference(DifferenceKind.MISSING, "redis", fact.group, expected=fact)) == owner


def test_a_number_in_the_name_of_a_key_is_an_argument_and_what_it_counts_to_is_none() -> None:
    fact = Fact("redis", FactKind.KEY, "order:*:tries", {"key": "order:7:tries", "value": "3"}, ("key",))
    assert OWNERS.of(Difference(DifferenceKind.EXTRA, "redis", fact.group, actual=fact)) == 6


@pytest.mark.parametrize(
    ("expires", "expected", "code"), [(True, 0, "IDM402"), (True, 1, "IDM103"), (False, 0, "IDM103")]
)
def test_a_lease_that_a_copy_did_not_give_back_is_a_note(expires: bool, expected: int, code: str) -> None:
    """Goal: one that clean deliveries give back, and no token that there should be one of."""
    fact = Fact("redis", FactKind.KEY, "lock:*", {"key": "lock:7", "value": "1"}, ("key",), expires=expires)
    extra = Difference(DifferenceKind.EXTRA, "redis", fact.group, actual=fact, expected_count=expected)
    assert code_of(extra, []) == code


def test_a_message_that_somebody_else_has_run_is_told() -> None:
    ledger = Ledger()
    ledger.sending("stress-0-0-0r0", 0, 1.0)
    (message,) = ledger.of_job(0)
    assert is_taken(message, {"status": "finished"})
    assert not is_taken(message, {"status": "failed"})
    assert not is_taken(message, {})
    assert not strange_executions(ledger)
    started = {"event": "started", "worker": "w", "worker_pid": 1, "pid": 1, "at": 2.0}
    ledger.heard({**started, "job": "stress-0-0-0r0", "execution": "1.1"})
    assert not strange_executions(ledger)
    ledger.heard({**started, "job": "7cbb5ee5-0000-4b3c-8000-000000000000", "execution": "1.2"})
    assert strange_executions(ledger) == 1
