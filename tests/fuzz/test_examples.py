"""Bugs that hang on arguments or state are found and made small; right jobs are left alone, whatever is drawn."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from quality.case import described

from fuzz.planted import PLANTED, RIGHT, Planted, size_of
from idemfuzz.api import Registration, make_options
from idemfuzz.fuzz.examples import search_job

pytestmark = pytest.mark.slow

SEED = int(os.environ.get("IDEMFUZZ_TEST_SEED", "0"))
"""Another one each night."""

Registered = Callable[[Planted], Registration]


@pytest.mark.parametrize("planted", [pytest.param(p, id=p.name) for p in PLANTED])
def test_bug_is_found_with_its_smallest_example_and_plan(planted: Planted, registered: Registered) -> None:
    """Goal: no miss, and nothing left to take away. Method: search, and compare with the table's sizes."""
    report, example = search_job(registered(planted), make_options({"max_examples": 60, "seed": SEED}))
    assert example is not None, described(report)
    assert {finding.code for finding in report.findings} == {planted.code}, described(report)
    assert example.args == planted.smallest
    assert example.state == planted.smallest_state
    assert size_of(report.findings[0].counterexample.plan) == planted.size, described(report)


@pytest.mark.parametrize("planted", [pytest.param(p, id=p.name) for p in RIGHT])
def test_right_job_is_left_alone(planted: Planted, registered: Registered) -> None:
    """Goal: no alarm. Method: the same search; examples that the job refuses or ignores spoil nothing."""
    report, example = search_job(registered(planted), make_options({"max_examples": 8, "seed": SEED}))
    assert report.verdict == "holds", described(report)
    assert example is None


def test_table_covers_what_it_promises() -> None:
    assert len({planted.name for planted in PLANTED}) >= 20
    assert sum(planted.state is not None for planted in PLANTED) >= 5
    assert {planted.size for planted in PLANTED} >= {(2, 0, 0), (2, 0, 2), (1, 1, 0)}
