"""The three that everybody writes: found on every store, without an assertion of the user's.

That each takes less than a second is measured by the benchmark, not asserted here.
"""

from __future__ import annotations

from typing import Any

import pytest

from quality.case import STACKS, Case, World, described
from quality.table import CASES

_THREE = {"sign_up": "IDM101", "pay_then_receipt": "IDM202", "check_then_insert": "IDM101"}
"""A bare insert; a guard with two commits (payment, then receipt); a check-then-insert without a unique key."""


def _lines() -> list[Any]:
    return [
        pytest.param(case, stack, id=f"{case.name}-{stack}", marks=pytest.mark.slow)
        for case in CASES
        if case.name in _THREE
        for stack in STACKS
    ]


@pytest.mark.parametrize(("case", "stack"), _lines(), indirect=True)
def test_found_without_assertion(case: Case, world: World) -> None:
    """Goal: the least that a search is good for. Method: default options, nothing but the job's store."""
    assert case.asserts is None
    report = case.check(world)
    assert report.verdict == "violated"
    assert _THREE[case.name] in report.codes, described(report)
    assert not [note for note in report.notes if note.code.startswith("IDM9")], described(report)
