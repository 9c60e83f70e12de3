"""The reports of planted bugs: each keeps to the published schema, and what it shows of the world is true."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from idemfuzz.model import Report
from idemfuzz.reporting.json_report import schema, to_json
from quality.case import Case, World
from quality.table import CASES


def _strict(part: Any) -> Any:
    """The schema, with every object closed that names its keys: a key that nobody has written down is a mistake."""
    if isinstance(part, list):
        return [_strict(inner) for inner in part]
    if not isinstance(part, dict):
        return part
    made = {key: _strict(inner) for key, inner in part.items()}
    return {"additionalProperties": False, **made} if "properties" in part else made


VALIDATOR = jsonschema.Draft202012Validator(_strict(schema()))


def _sample() -> list[Any]:
    """One bug per code and mechanism, on the first stack that it has."""
    seen: dict[tuple[str, str], Any] = {}
    for case in CASES:
        stack = case.stacks[0]
        if not case.slow and not case.missed and stack in ("sqlite", "memory"):
            name = f"{case.kind}-{case.name}-{stack}"
            seen.setdefault((case.code, case.size.mechanism), pytest.param(case, stack, id=name))
    return list(seen.values())


@pytest.mark.slow
@pytest.mark.parametrize(("case", "stack"), _sample(), indirect=True)
def test_report_keeps_to_the_schema(case: Case, world: World) -> None:
    """Goal: programs can rely on the schema. Method: a real search per code and mechanism, every object closed."""
    report = case.check(world, max_trials=case.trials)
    document = json.loads(json.dumps(to_json([report], command="pytest")))
    VALIDATOR.validate(document)
    _world_is_true(report, document["reports"][0])


def _world_is_true(report: Report, made: dict[str, Any]) -> None:
    """Before, reference and after: what the Deltas say, no thing twice and none lost."""
    for finding, shown in zip(report.findings, made["findings"], strict=True):
        rows, example = shown["state"]["rows"], finding.counterexample
        assert not shown["state"]["omitted"]
        assert len([r for r in rows if r["reference"] and r["reference"] != r["before"]]) == len(
            [f for f in example.reference.added if f not in example.reference.removed]
        )
        assert len([r for r in rows if r["after"] and r["after"] != r["before"]]) == len(
            [f for f in example.changes.added if f not in example.changes.removed]
        )
        if finding.differences:
            assert any(row["differs"] for row in rows), finding.summary
        for row in rows:
            both = row["reference"] is not None and row["after"] is not None
            assert bool(row["columns"]) == (row["differs"] and both)
        if report.reference.events:
            effects = [e for e in made["reference_history"] if e["kind"] == "effect"]
            assert all(e["stack"][0] == e["source"] for e in effects if e["source"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "stack"),
    [pytest.param(case, "sqlite", id=case.name) for case in CASES if case.name == "sign_up"],
    indirect=True,
)
def test_what_was_tried_to_mend_keeps_to_the_schema(case: Case, world: World) -> None:
    report = case.check(world, max_trials=case.trials, prove=True)
    document = json.loads(json.dumps(to_json([report], command="pytest")))
    VALIDATOR.validate(document)
    assert document["reports"][0]["mends"]


def test_the_schema_is_a_schema_and_refuses() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    document = to_json([], command="x")
    VALIDATOR.validate(document)
    for wrong in ({"verdict": "fine"}, {"idemfuzz_report": 2}, {"surprise": 1}):
        assert not VALIDATOR.is_valid({**document, **wrong})
