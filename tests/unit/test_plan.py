"""Plans are data: they paste, they travel as JSON, and what is no plan says so."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idemfuzz.model import (
    DELIVERIES_MAX,
    Fault,
    FaultKind,
    Identity,
    Lapse,
    Plan,
    PlanError,
    Point,
    Segment,
    Side,
)

numbers = st.integers(1, 9999)
labels = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=30)
faults = st.builds(
    Fault,
    st.sampled_from(FaultKind),
    st.builds(Point, numbers, numbers, labels, numbers),
    st.sampled_from(Side),
)
deliveries = st.integers(1, DELIVERIES_MAX)
seconds = st.integers(1, 10**10).map(lambda thousandths: thousandths / 1000)
segments = st.builds(Segment, deliveries, steps=st.none() | numbers) | st.builds(
    Segment, deliveries, through=st.tuples(labels, numbers)
)
plans = st.builds(
    Plan,
    deliveries=deliveries,
    identity=st.sampled_from(Identity),
    faults=st.lists(faults, max_size=3).map(tuple),
    overlap=st.lists(segments | st.builds(Lapse, seconds), max_size=5).map(tuple),
    call=st.none() | numbers,
    late_seconds=st.just(0.0) | seconds,
)


@given(plans)
def test_text_and_json_round_trip(plan: Plan):
    assert Plan.parse(str(plan)) == plan
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


@given(plans)
def test_text_is_one_word_without_quotes(plan: Plan):
    assert not set(str(plan)) & set(" '\"\\\n\t;&|<>$`()")


def test_text_reads_well():
    plan = Plan(
        faults=(Fault(FaultKind.KILL, Point(1, 1, "db.insert.users", 2), Side.AFTER),),
        overlap=(Segment(1, 3), Segment(2), Segment(1)),
    )
    assert str(plan) == "v1:x1:kill+db.insert.users#2@1.1:order=1x3,2,1"


@pytest.mark.parametrize(
    "text", ["", "v1:", "v1:x0", "v1:kill", "v1:boom+a#1@1.1", "v0:x2", "v1:order=", "v1:x2:x", "x2"]
)
def test_what_is_no_plan_is_named(text: str):
    with pytest.raises(PlanError, match="plan"):
        Plan.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v1:x1000000000", "asks for 1000000000 deliveries; expected 1 to 1000"),
        ("v1:x2:order=1,5000", "asks for 5000 deliveries; expected 1 to 1000"),
        ("v1:x2:late=999999999999", "seconds pass; expected 0 to 100000000"),
        ("v1:x2:order=1+redis.SET#1,+60000000s,2,+60000000s", "lets 1.2e+08 seconds pass"),
        (f"v1:x{'9' * 5000}", "cannot read 'x999"),
    ],
)
def test_what_nobody_can_carry_out_is_refused(text: str, message: str):
    with pytest.raises(PlanError, match=re.escape(message)):
        Plan.parse(text)


@pytest.mark.parametrize(
    "change",
    [{"deliveries": 0}, {"deliveries": 10**9}, {"late_seconds": float("nan")}, {"overlap": ["2000", "1"]}],
)
def test_nor_is_it_read_from_a_file(change: dict[str, object]):
    with pytest.raises(PlanError, match=r"^plan .*; expected"):
        Plan.from_json({**Plan(2).to_json(), **change})


@pytest.mark.parametrize("data", [{}, {"version": 2}, {"version": 1}, {"version": 1, "deliveries": "many"}])
def test_what_is_no_plan_file_is_named(data: dict):
    with pytest.raises(PlanError):
        Plan.from_json(data)
