"""Report files: what may be asked for, and that each kind is whole."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from report_samples import finding, hostile, report

from idemfuzz.abc import Unusable
from idemfuzz.model import Guard, GuardKind, Mend, Plan, Proof, Removal, Report, Role, Source, Verdict
from idemfuzz.reporting import html, markdown
from idemfuzz.reporting.files import KINDS, Stream, conclude, targets
from idemfuzz.reporting.json_report import report_to_json, schema, to_json

VALIDATOR = jsonschema.Draft202012Validator(schema())


class TestTargets:
    def test_every_kind_can_be_asked_for(self, tmp_path: Path) -> None:
        asked = ["github" if kind == "github" else f"{kind}={tmp_path / kind}" for kind in KINDS]
        assert [target.kind for target in targets(asked)] == list(KINDS)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("text", ["xml=a", "json", "json=", "=a", "", "JSON=a"])
    def test_what_is_no_target_is_refused_with_what_is(self, text: str) -> None:
        with pytest.raises(Unusable, match="json=FILE"):
            targets([text])

    def test_a_file_that_cannot_be_written_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(Unusable, match="Make the folder"):
            targets([f"json={tmp_path / 'no' / 'a.json'}"])

    def test_one_file_for_two_reports_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(Unusable, match="two reports"):
            targets([f"json={tmp_path / 'a'}", f"ndjson={tmp_path / 'a'}"])


class TestNdjson:
    def test_each_line_keeps_to_the_schema_and_is_there_when_it_was_added(self, tmp_path: Path) -> None:
        path = tmp_path / "a.ndjson"
        stream = Stream(path, command="x")
        held = Report("t.py::held", Verdict.HOLDS)
        for one in (held, report(finding()), hostile()):
            stream.add(report_to_json(one))
            assert (
                json.loads(path.read_text(encoding="utf-8").split("\n")[-2])["report"]["verdict"]
                == one.verdict
            )
        stream.close()
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
        assert [line["type"] for line in lines] == ["run", "search", "search", "search", "end"]
        assert lines[-1]["verdict"] == "violated"
        assert lines[-1]["counts"] == {"holds": 1, "unknown": 0, "violated": 2}
        for line in lines:
            VALIDATOR.evolve(schema={**schema(), "$ref": f"#/$defs/{line['type']}", "required": []}).validate(
                {**line}
            )

    def test_it_does_not_append_to_an_older_run(self, tmp_path: Path) -> None:
        path = tmp_path / "a.ndjson"
        path.write_text("an older run\n", encoding="utf-8")
        Stream(path, command="x").close()
        assert "older" not in path.read_text(encoding="utf-8")


class TestJson:
    def test_proofs_are_there_and_keep_to_the_schema(self) -> None:
        unique = Guard(GuardKind.UNIQUE, "db", "UNIQUE(users.email)", source=Source("shop/jobs.py", 4, "f"))
        removal = Removal((unique,), Role.CARRIES, 61, 2, (("IDM101", 2),), "2 rows", Plan(2))
        held = Report("t.py::held", Verdict.HOLDS, proof=Proof((removal,), 61, 1.0))
        tried = replace(report(finding()), mends=(Mend((unique,), True, 61, 0, "ALTER TABLE", ""),))
        document = json.loads(json.dumps(to_json([held, tried], command="x")))
        VALIDATOR.validate(document)
        assert document["reports"][0]["proof"]["removals"][0]["guards"][0]["name"] == "UNIQUE(users.email)"
        for kind in (markdown, html):
            assert "held by: UNIQUE" in kind.rendered(document).replace("\\", "")

    def test_hostile_names_and_values_are_only_text(self, tmp_path: Path) -> None:
        target = targets([f"json={tmp_path / 'a.json'}"])
        assert conclude(target, [report_to_json(hostile())], command="x") == []
        document = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
        VALIDATOR.validate(document)
        assert document["reports"][0]["name"] == hostile().name
