"""SARIF: every object has the keys and types that the standard gives it, and services can rely on what stays the same.

The standard's own schema is not ours to copy: ``IDEMFUZZ_SARIF_SCHEMA`` may name the file (docs.oasis-open.org), and then
the logs are held against it, too. `SUBSET` has the part of the standard that is written here, closed.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from report_samples import CERTIFICATE, EXTRA, OVERLAP, effect, end, finding, hostile, report

from idemfuzz.corpus import Entry
from idemfuzz.diagnose import CODES
from idemfuzz.model import Note, Plan, Report, Segment, Source, Verdict
from idemfuzz.reporting.json_report import to_json
from idemfuzz.reporting.sarif import of_corpus, rendered, sarif


def closed(required: str = "", **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": required.split(),
        "properties": properties,
    }


def many(items: Any, least: int = 0) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least}


TEXT: dict[str, Any] = {"type": "string"}
COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
BAG: dict[str, Any] = {"type": "object"}
URI: dict[str, Any] = {"type": "string", "format": "uri-reference", "pattern": r"^[!-~]*$"}
MESSAGE = closed("text", text={"type": "string", "minLength": 1})
HELP = closed("text", text=TEXT, markdown=TEXT)
ARTIFACT = closed("", uri=URI, uriBaseId=TEXT, description=MESSAGE)
REGION = closed("startLine", startLine={"type": "integer", "minimum": 1}, snippet=closed("text", text=TEXT))
PHYSICAL = closed("artifactLocation", artifactLocation=ARTIFACT, region=REGION)
LOGICAL = closed("", fullyQualifiedName=TEXT, kind=TEXT)
LOCATION = closed("", physicalLocation=PHYSICAL, logicalLocations=many(LOGICAL), message=MESSAGE)
LEVEL = {"enum": ["none", "note", "warning", "error"]}
STEP = closed(
    "location",
    location=LOCATION,
    executionOrder=COUNT,
    importance={"enum": ["important", "essential", "unimportant"]},
    kinds=many(TEXT),
    stack=closed("frames", frames=many(closed("", location=LOCATION))),
)
THREAD_FLOW = closed("locations", id=TEXT, message=MESSAGE, locations=many(STEP, least=1))
RESULT = closed(
    "message ruleId locations partialFingerprints",
    ruleId={"pattern": "^IDM[0-9]{3}$"},
    ruleIndex=COUNT,
    kind={"const": "fail"},
    level=LEVEL,
    message=MESSAGE,
    locations=many(LOCATION, least=1),
    partialFingerprints={"type": "object", "additionalProperties": TEXT},
    codeFlows=many(closed("threadFlows", message=MESSAGE, threadFlows=many(THREAD_FLOW, least=1))),
    properties=BAG,
)
RULE = closed(
    "id shortDescription fullDescription help helpUri",
    id=TEXT,
    name=TEXT,
    shortDescription=MESSAGE,
    fullDescription=MESSAGE,
    help=HELP,
    helpUri=URI,
    defaultConfiguration=closed("", level=LEVEL),
    properties=BAG,
)
DRIVER = closed("name", name=TEXT, semanticVersion=TEXT, informationUri=URI, rules=many(RULE))
RUN = closed(
    "tool results",
    tool=closed("driver", driver=DRIVER),
    invocations=many(
        closed("executionSuccessful", executionSuccessful={"type": "boolean"}, commandLine=TEXT)
    ),
    automationDetails=closed("", id=TEXT),
    originalUriBaseIds={"type": "object", "additionalProperties": ARTIFACT},
    columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
    results=many(RESULT),
    properties=BAG,
)
SUBSET = closed("version runs", **{"$schema": URI, "version": {"const": "2.1.0"}, "runs": many(RUN)})

DOUBT = Report("t.py::test", Verdict.UNKNOWN, notes=(Note("IDM903", "Nothing changed. Hand in a store"),))
MADE: dict[str, list[Report]] = {
    "none": [],
    "held": [Report("t.py::test", Verdict.HOLDS, certificate=CERTIFICATE)],
    "finding": [report(finding(), certificate=CERTIFICATE)],
    "no source": [report(finding(effect(1, "SET a"), end(1), source=None, differences=()))],
    "doubt": [DOUBT],
    "hostile": [hostile()],
    "several": [report(finding(), finding(plan=OVERLAP)), report(finding()), DOUBT, hostile()],
}
each = pytest.mark.parametrize("reports", [pytest.param(made, id=name) for name, made in MADE.items()])


def log(*reports: Report) -> dict[str, Any]:
    return sarif(to_json(reports, command="idemfuzz run tests"))


def results(*reports: Report) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = log(*reports)["runs"][0]["results"]
    return found


@each
def test_every_object_has_the_keys_of_the_standard(reports: list[Report]) -> None:
    jsonschema.Draft202012Validator(SUBSET).validate(json.loads(rendered(to_json(reports, command="x"))))


@each
def test_the_standards_own_schema_agrees(reports: list[Report]) -> None:
    path = os.environ.get("IDEMFUZZ_SARIF_SCHEMA", "")
    if not path:
        pytest.skip("IDEMFUZZ_SARIF_SCHEMA does not name sarif-schema-2.1.0.json")
    schema = json.loads(Path(path).read_text(encoding="utf-8"))
    jsonschema.validators.validator_for(schema)(schema).validate(
        json.loads(rendered(to_json(reports, command="x")))
    )


def test_every_code_can_be_a_rule() -> None:
    notes = tuple(Note(code, "x") for code in CODES)
    rules = log(Report("t", Verdict.UNKNOWN, notes=notes))["runs"][0]["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == sorted(CODES)
    for rule in rules:
        jsonschema.Draft202012Validator(RULE).validate(rule)
        assert len(rule["shortDescription"]["text"]) <= 1024
    made = results(Report("t", Verdict.UNKNOWN, notes=notes))
    assert all(rules[result["ruleIndex"]]["id"] == result["ruleId"] for result in made)


def test_a_result_says_what_where_why_and_how_to_see_it() -> None:
    (result,) = results(report(finding()))
    place = result["locations"][0]["physicalLocation"]
    assert (place["artifactLocation"]["uri"], place["region"]["startLine"]) == ("shop/jobs.py", 18)
    assert (result["ruleId"], result["level"]) == ("IDM101", "error")
    for part in (
        "2 rows instead of 1.",
        "the ack is lost",
        "Add a unique key",
        "idemfuzz run t.py::test --plan v1:x2",
    ):
        assert part in result["message"]["text"]


def test_a_result_names_the_cause_and_the_snippet() -> None:
    """Goal: who reads the finding in a code host knows why, and what to write, without the other reports."""
    why = {
        "mechanism": "check-then-act",
        "because": "both look before",
        "snippet": "CREATE INDEX a;\n  INSERT",
    }
    (result,) = results(report(finding(**why)))
    assert "Cause: check-then-act: both look before." in result["message"]["text"]
    assert result["properties"]["snippet"] == "CREATE INDEX a;\n  INSERT"


def test_a_finding_in_doubt_is_a_warning_and_a_note_a_note() -> None:
    assert results(report(finding(verdict=Verdict.UNKNOWN)))[0]["level"] == "warning"
    notes = (Note("IDM401", "it raises"), Note("IDM901", "it differs"))
    assert [one["level"] for one in results(report(notes=notes))] == ["note", "warning"]


def test_deliveries_are_threads_in_one_order() -> None:
    events = (effect(1, "A"), effect(2, "B"), effect(1, "C"), end(1), effect(2, "D"), end(2))
    (result,) = results(report(finding(*events, plan=OVERLAP)))
    threads = result["codeFlows"][0]["threadFlows"]
    assert [thread["id"] for thread in threads] == ["delivery 1", "delivery 2"]
    orders = [[step["executionOrder"] for step in thread["locations"]] for thread in threads]
    assert orders == [[1, 3, 4], [2, 5, 6]]


def test_a_long_history_is_cut_to_what_services_take() -> None:
    (result,) = results(report(finding(*(effect(1, f"SET {i}") for i in range(10_000)))))
    (thread,) = result["codeFlows"][0]["threadFlows"]
    assert len(thread["locations"]) == 1000
    assert thread["locations"][-1]["executionOrder"] == 10_000


class TestFingerprints:
    def print_of(self, **changes: Any) -> str:
        made = report(finding(**changes), certificate=CERTIFICATE)
        return str(results(made)[0]["partialFingerprints"]["idemfuzz/v1"])

    def test_lines_values_and_words_change_nothing(self) -> None:
        moved = Source("shop/jobs.py", 99, "create_user")
        extra = replace(EXTRA, actual=replace(EXTRA.fact, fields={"id": 7, "email": "b"}))
        assert self.print_of() == self.print_of(source=moved, cause="x", remedy="y", differences=(extra,))
        segments = (Segment(1, 2), Segment(2))
        assert self.print_of(plan=OVERLAP) == self.print_of(plan=Plan(2, overlap=segments))

    def test_another_mechanism_or_place_is_another(self) -> None:
        assert len({self.print_of(), self.print_of(plan=OVERLAP), self.print_of(differences=())}) == 3

    def test_results_of_one_run_are_told_apart(self) -> None:
        made = [one["partialFingerprints"]["idemfuzz/v1"] for one in results(report(finding(), finding()))]
        assert made[1] == f"{made[0]}:2"


def test_what_looks_like_a_link_or_a_placeholder_is_only_text() -> None:
    (result,) = results(report(finding(cause="[click](1) {0} {'a': 1}")))
    assert r"\[click\](1) {{0}} {'a': 1}" in result["message"]["text"]


def test_addresses_are_addresses() -> None:
    odd = Source("a b/ü#1.py", 3, "f")
    place = results(report(finding(source=odd)))[0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert place == {"uri": "a%20b/%C3%BC%231.py", "uriBaseId": "%SRCROOT%"}
    outside = Source("/opt/x.py", 3, "f")
    place = results(report(finding(source=outside)))[0]["locations"][0]["physicalLocation"][
        "artifactLocation"
    ]
    assert place == {"uri": "file:///opt/x.py"}
    (jobs,) = results(Report("shop.jobs:pay", Verdict.UNKNOWN, notes=(Note("IDM903", "x"),)))
    assert jobs["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "shop/jobs.py"


def test_the_corpus_as_a_log() -> None:
    """Goal: what several machines kept goes to code scanning. Method: the standard's keys; line, values and id of each."""
    kept = Entry(
        "9c57e74f",
        "shop.jobs:pay",
        "IDM101",
        Plan(),
        "payments: 2 rows instead of 1",
        cause="the acknowledgement is lost",
        remedy="Add a unique constraint",
        example_text={"cents": "17"},
        source="shop/jobs.py:12 in pay",
    )
    elsewhere = replace(kept, id="ffff0000", target="tests/test_jobs.py::test_pay", code="IDM201", source="")
    unknown = replace(kept, id="00000000", code="IDM999")
    made = json.loads(of_corpus([kept, elsewhere, unknown]))
    jsonschema.validate(made, SUBSET)
    first, second = made["runs"][0]["results"]
    place = first["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "shop/jobs.py"
    assert place["region"]["startLine"] == 12
    assert "cents = 17" in first["message"]["text"]
    assert second["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "tests/test_jobs.py"
    assert first["partialFingerprints"] != second["partialFingerprints"]
    assert [rule["id"] for rule in made["runs"][0]["tool"]["driver"]["rules"]] == ["IDM101", "IDM201"]
