"""Every planted bug is found: with its code, within its trials, shrunk to its size, on every stack.

Each change is held against every third line, and the night against all of them.

The search gets the table's budget and nothing else: no assertion, no hint at what to look for.
"""

from __future__ import annotations

from typing import Any

import pytest
from nightly import some_of

from idemfuzz.model import Plan
from quality.case import Case, Size, World, described
from quality.table import CASES

# On a server a search may take longer than a quarter of a second.
_SLOW_STACKS = ("postgresql", "mariadb")


def _lines() -> list[Any]:
    lines = []
    for case in CASES:
        for stack in case.stacks:
            marks: list[pytest.MarkDecorator] = []
            if case.slow or ("engine" in case.needs and stack in _SLOW_STACKS):
                marks.append(pytest.mark.slow)
            reason = case.missed.get(stack) or case.missed.get("*")
            if reason is not None:
                marks.append(pytest.mark.xfail(strict=True, reason=reason))
            lines.append(pytest.param(case, stack, marks=marks, id=f"{case.kind}-{case.name}-{stack}"))
    # One stack after another: each is made once.
    return sorted(lines, key=lambda line: _rank(line.values[1]))


def _rank(stack: object) -> int:
    return ("sqlite", "memory", "postgresql", "mariadb").index(str(stack))


@pytest.mark.parametrize(("case", "stack"), some_of(_lines(), 3), indirect=True)
def test_bug_is_found(case: Case, world: World) -> None:
    """Goal: no miss and no wrong name. Method: search under the table's budget and compare with its line."""
    report = case.check(world, max_trials=case.trials)
    finding = case.finding(report)
    plan = finding.counterexample.plan
    assert Size.of(plan) == case.size, f"{case.name}: {plan} in {described(report)}"
    assert finding.verdict == "violated"
    assert finding.counterexample.shown == finding.counterexample.tried
    wrong = {f.code for f in report.findings} - {case.code, *case.also}
    assert not wrong, f"{case.name}: {sorted(wrong)} in {described(report)}"
    if case.only:
        mechanisms = {Size.of(f.counterexample.plan).mechanism for f in report.findings}
        assert mechanisms == {case.size.mechanism}, described(report)


@pytest.mark.parametrize(
    ("case", "stack"),
    [
        pytest.param(case, stack, id=f"{case.kind}-{case.name}-{stack}")
        for case in CASES
        if case.by_hand
        for stack in case.stacks
    ],
    indirect=True,
)
def test_missed_bug_is_there(case: Case, world: World) -> None:
    """Goal: a miss has the reason that the table gives. Method: the plan that the search does not come to."""
    report = case.check(world, plan=Plan.parse(case.by_hand))
    assert {finding.code for finding in report.findings} == {case.code}, described(report)
    assert Size.of(Plan.parse(case.by_hand)) == case.size


def test_table_covers_what_it_promises() -> None:
    """Goal: the counts in the documentation stay true. Method: count the lines and the kinds of findings."""
    assert len(CASES) >= 45
    assert len({case.job for case in CASES}) == len(CASES)
    wanted = {"IDM101", "IDM102", "IDM103", "IDM104", "IDM105", "IDM106", "IDM107", "IDM108"}
    wanted |= {"IDM109", "IDM201", "IDM202", "IDM203", "IDM301", "IDM302", "IDM304", "IDM401"}
    assert {case.code for case in CASES} >= wanted
    mechanisms = {"duplicate", "overlap", "kill", "timeout", "lost", "resent"}
    assert {case.size.mechanism for case in CASES} >= mechanisms
