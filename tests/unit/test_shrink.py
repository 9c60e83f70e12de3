"""Shrinking, against a rule that says which plans show the finding."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from idemfuzz.engine.shrink import shrink
from idemfuzz.model import Plan, Step

LOOK, ACT, TELL = ("db.select", 1), ("db.insert", 1), ("mail.send", 1)


def steps(*taken: tuple[int, tuple[str, int]]) -> Sequence[Step]:
    return [Step(delivery, label, occurrence, None, {}) for delivery, (label, occurrence) in taken]


ONE_BY_ONE = steps(
    (1, LOOK), (1, ACT), (1, TELL), (2, LOOK), (2, ACT), (2, TELL), (3, LOOK), (3, ACT), (3, TELL)
)


def shrunk(text: str, shows: Callable[[Plan], bool], trials_max: int = 30) -> tuple[str, list[Plan]]:
    """The smallest plan's text, and what was tried."""
    tried: list[Plan] = []

    def attempt(plan: Plan) -> str | None:
        tried.append(plan)
        return str(plan) if shows(plan) else None

    plan = Plan.parse(text)
    smallest, seen = shrink(plan, text, attempt, lambda _: ONE_BY_ONE, trials_max)
    assert seen == str(smallest)
    return str(smallest), tried


@pytest.mark.parametrize(
    ("text", "shows", "smallest"),
    [
        ("v1:x5", lambda plan: plan.deliveries >= 3, "v1:x3"),
        ("v1:x2:late=601", lambda plan: True, "v1:x2"),
        ("v1:x2:late=601", lambda plan: plan.late_seconds > 0, "v1:x2:late=601"),
        # A duplicate alone shows it: neither overlap nor third delivery is needed.
        ("v1:x3:call=1:order=1+db.insert#1,2+db.insert#1,3,1,2", lambda plan: True, "v1:x2"),
        # Two at once do.
        (
            "v1:x3:call=1:order=1+db.insert#1,3,2,1",
            lambda plan: bool(plan.overlap) and len(plan.overlap) > 1,
            "v1:x2:call=1:order=1+db.select#1,2",
        ),
        # The preemption has to come after the act.
        (
            "v1:x2:call=1:order=1+mail.send#1,2",
            lambda plan: plan.overlapping == 2 and ("db.insert" in str(plan) or "mail.send" in str(plan)),
            "v1:x2:call=1:order=1+db.insert#1,2",
        ),
    ],
)
def test_what_is_not_needed_goes(text: str, shows: Callable[[Plan], bool], smallest: str):
    assert shrunk(text, shows)[0] == smallest


def test_the_budget_is_kept_and_nothing_is_tried_twice():
    text = "v1:x3:call=1:order=1+mail.send#1,2+mail.send#1,3+mail.send#1"
    smallest, tried = shrunk(text, lambda plan: str(plan) == text)
    assert smallest == text
    assert 1 < len(tried) == len(set(tried)) < 30
    assert len(shrunk(text, lambda plan: True, trials_max=1)[1]) == 1
