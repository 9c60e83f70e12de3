"""A plan is text: printed, parsed and run again by itself, it shows the same finding."""

from __future__ import annotations

from typing import Any

import pytest

from idemfuzz import Plan
from quality.case import Case, World, described
from quality.table import CASES

_SAMPLE = (
    "sign_up",
    "credit",
    "toggle",
    "count_download",
    "welcome_with_flag_after",
    "charge_and_record",
    "enqueue_before_commit",
    "append_to_report",
    "charge_by_gateway",
    "flag_before_insert",
    "pay_then_receipt",
    "lock_without_ttl",
    "processing_for_ever",
    "check_then_insert",
    "take_stock",
    "import_one_by_one",
    "push_unless_there",
    "record_failed_payment",
    "skip_bad_rows",
)
_ON_SERVERS = (
    "sign_up",
    "toggle",
    "welcome_with_flag_after",
    "processing_for_ever",
    "check_then_insert",
    "push_unless_there",
)


def _lines() -> list[Any]:
    by_name = {case.name: case for case in CASES}
    return [
        pytest.param(by_name[name], stack, id=f"{name}-{stack}", marks=pytest.mark.slow)
        for name in _SAMPLE
        for stack in by_name[name].stacks
        if stack == "sqlite" or (stack != "memory" and name in _ON_SERVERS)
    ]


@pytest.mark.parametrize(("case", "stack"), _lines(), indirect=True)
def test_plan_shows_the_same_again(case: Case, world: World) -> None:
    """Goal: what a report prints can be pasted. Method: parse the text, search with that plan alone."""
    finding = case.finding(case.check(world, max_trials=case.trials))
    text = str(finding.counterexample.plan)
    assert Plan.parse(text) == finding.counterexample.plan
    again = case.check(world, plan=text)
    assert finding.code in again.codes, f"{text}: {described(again)}"
    assert again.verdict == "violated"
    same = next(f for f in again.findings if f.code == finding.code)
    assert str(same.counterexample.plan) == text
