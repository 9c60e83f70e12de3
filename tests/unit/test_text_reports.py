"""JUnit, Markdown and GitHub's commands: whole, within limits, and nothing in them is taken for their own syntax."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt
from report_samples import CERTIFICATE, HOSTILE, finding, hostile, report

from idemfuzz.abc import Unusable
from idemfuzz.model import Note, Report, Source, Verdict
from idemfuzz.reporting import github, junit, markdown
from idemfuzz.reporting.files import conclude, targets
from idemfuzz.reporting.json_report import report_to_json, to_json
from idemfuzz.reporting.screen import Screen

HELD = Report("tests/test_a.py::test_held", Verdict.HOLDS, certificate=CERTIFICATE)
DOUBT = Report("shop.jobs:pay", Verdict.UNKNOWN, notes=(Note("IDM903", "Nothing changed. Hand in a store"),))


def document(*reports: Report) -> dict[str, Any]:
    return to_json(reports, command="idemfuzz run tests")


def alike(number: int) -> dict[str, Any]:
    """So many searches with the same finding, rendered once."""
    some = report_to_json(report(finding()))
    return to_json([{**some, "name": f"t.py::test_{i}"} for i in range(number)], command="x")


class TestJunit:
    def cases(self, *reports: Report) -> list[ElementTree.Element]:
        return list(ElementTree.fromstring(junit.rendered(document(*reports))).iter("testcase"))

    def test_a_suite_per_file_and_a_case_per_search(self) -> None:
        root = ElementTree.fromstring(junit.rendered(document(report(finding()), HELD, DOUBT)))
        assert [(suite.get("name"), suite.get("tests"), suite.get("failures")) for suite in root] == [
            ("t.py", "1", "1"),
            ("tests/test_a.py", "1", "0"),
            ("shop.jobs", "1", "1"),
        ]
        assert [(c.get("classname"), c.get("name")) for c in root.iter("testcase")] == [
            ("t", "test"),
            ("tests.test_a", "test_held"),
            ("shop.jobs", "pay"),
        ]

    def test_a_failure_has_code_summary_and_the_whole_text(self) -> None:
        (case,) = self.cases(report(finding()))
        failure = case.find("failure")
        assert failure is not None
        assert failure.get("type") == "IDM101"
        assert failure.get("message") == "IDM101 row duplicated: db: users: 2 rows instead of 1"
        assert "What happened" in (failure.text or "")

    def test_unknown_is_a_failure_and_a_pass_is_none(self) -> None:
        doubt, held = self.cases(DOUBT, HELD)
        assert doubt.find("failure") is not None
        assert held.find("failure") is None
        assert "1,037 trials" in (held.findtext("system-out") or "")

    def test_verdict_plan_and_command_are_properties(self) -> None:
        (case,) = self.cases(report(finding()))
        found = {one.get("name"): one.get("value") for one in case.iter("property")}
        assert found["idemfuzz.verdict"] == "violated"
        assert found["idemfuzz.codes"] == "IDM101"
        assert found["idemfuzz.plan"] == "v1:x2"
        assert found["idemfuzz.replay"] == "idemfuzz run t.py::test --plan v1:x2"

    def test_examples_of_one_test_are_one_case_with_the_worst(self) -> None:
        held = replace(report(), name="t.py::test")
        (case,) = self.cases(held, report(finding()), held)
        assert case.find("failure") is not None

    def test_hostile_names_and_values_are_only_text(self) -> None:
        (case,) = self.cases(hostile())
        assert {child.tag for child in case.iter()} == {
            "testcase",
            "properties",
            "property",
            "failure",
            "system-out",
        }
        text = "".join(case.itertext()) + "".join(v for e in case.iter() for v in e.attrib.values())
        assert HOSTILE[1] in text
        assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", text)


class TestMarkdown:
    parser = MarkdownIt("commonmark", {"html": True}).enable("table")

    def tokens(self, text: str) -> list[Any]:
        found = self.parser.parse(text)
        return [inner for token in found for inner in (token, *(token.children or ()))]

    def test_it_has_searches_findings_and_what_to_do(self) -> None:
        text = markdown.rendered(document(report(finding(also=("IDM104 mail sent twice",))), HELD, DOUBT))
        for part in (
            "# idemfuzz: 3 searches: 1 violated, 1 unknown, 1 holds",
            "| ✗ violated | `t.py::test` | `IDM101 row duplicated` |",
            "at `shop/jobs.py:18` in `create_user`",
            '| `db users.email` | – | – | `"ada@example.org"` |',
            "**Happens when** the ack is lost",
            "**Replay** `idemfuzz run t.py::test --plan v1:x2`",
            "- **Also** IDM104 mail sent twice",
            "- IDM903 Nothing changed. Hand in a store",
        ):
            assert part in text

    def test_hostile_names_and_values_are_only_text(self) -> None:
        """Method: a CommonMark parser; HTML and links are our own, and tables keep their columns."""
        tokens = self.tokens(markdown.rendered(document(hostile())))
        for token in tokens:
            if token.type in ("html_block", "html_inline"):
                assert re.fullmatch(r"<details><summary>[\w ]+</summary>|</details>", token.content.strip())
            if token.type == "link_open":
                assert token.attrs["href"].startswith("https://idemfuzz.readthedocs.io/codes/IDM")
        rows = [i for i, token in enumerate(tokens) if token.type == "tr_open"]
        cells = [sum(t.type in ("td_open", "th_open") for t in tokens[a:b]) for a, b in pairwise(rows)]
        assert set(cells) <= {3, 4}
        headings = [t for t in tokens if t.type == "heading_open"]
        assert len(headings) == 3
        assert "\x1b" not in markdown.rendered(document(hostile()))

    def test_a_limit_keeps_whole_sections_and_counts_the_rest(self) -> None:
        made = alike(200)
        whole = markdown.rendered(made)
        assert "did not fit" not in whole
        for limit in (20_000, 60_000, 123_456):
            text = markdown.rendered(made, bytes_max=limit)
            assert len(text.encode()) <= limit
            left = re.search(r"_(\d+) more sections did not fit in here._\n\Z", text)
            assert left is not None
            assert text.count("<details>") == text.count("</details>") == 400 - int(left[1])


class TestGithub:
    def test_an_annotation_per_finding_at_its_line(self) -> None:
        (line,) = github.commands(document(report(finding())))
        assert line.startswith(
            "::error file=shop/jobs.py,line=18,title=IDM101 row duplicated (t.py%3A%3Atest)::"
        )
        assert line.endswith(
            "2 rows instead of 1%0AAdd a unique key%0AReplay: idemfuzz run t.py::test --plan v1:x2"
        )

    def test_levels(self) -> None:
        unsure = report(finding(verdict=Verdict.UNKNOWN), notes=(Note("IDM401", "x"), Note("IDM901", "y")))
        levels = [line.split(" ")[0] for line in github.commands(document(unsure))]
        assert levels == ["::warning", "::warning", "::notice"]

    def test_no_more_than_github_shows(self) -> None:
        made = alike(25)
        lines = github.commands(made)
        assert len(lines) == 10
        assert lines[-1].endswith("::16 more of this level: see the job summary, or the other reports")

    def test_hostile_names_and_values_are_one_command_each(self) -> None:
        odd = replace(
            hostile(),
            findings=(finding(source=Source("a,b:c\n%0A::error::x", 1, "f"), remedy="x\r\n::error::y"),),
        )
        for lines in (github.commands(document(hostile())), github.commands(document(odd))):
            for line in lines:
                assert re.fullmatch(r"::(error|warning|notice) [^\x00-\x1f\x7f]*", line)
                head, _, _ = line.removeprefix("::").partition("::")
                assert "::" not in head
                assert re.fullmatch(r"\w+ (?:file=[^,:]*,)?(?:line=\d+,)?title=[^,:]*", head)

    def test_the_summary_is_appended_and_stays_below_the_limit(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "summary.md"
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
        path.write_text("of another tool\n", encoding="utf-8")
        made = alike(1500)
        github.summarise(made)
        text = path.read_text(encoding="utf-8")
        assert text.startswith("of another tool\n\n# idemfuzz")
        assert 900_000 < len(text.encode()) <= 1024 * 1024
        github.summarise(made)
        assert path.read_text(encoding="utf-8") == text

    def test_outside_of_github_nothing_is_written(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
        github.summarise(document(report(finding())))

    def test_a_summary_that_cannot_be_written_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
        with pytest.raises(Unusable, match="GITHUB_STEP_SUMMARY"):
            conclude(targets(["github"]), [report_to_json(report(finding()))])


@pytest.mark.parametrize(
    ("encoding", "expected"), [("ascii", "x lost > no ~ |# ?"), ("utf-8", "✗ lost → no … │■ é")]
)
def test_a_screen_without_our_signs_has_plain_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, expected: str
) -> None:
    """Goal: a cross that cannot be shown never looks like the question mark of an unknown verdict."""
    path = tmp_path / "log"
    with path.open("w", encoding=encoding) as file:
        monkeypatch.setattr("sys.stdout", file)
        with Screen.on_standard_output() as screen:
            screen.write("✗ lost → no … │■ é")
    assert path.read_text(encoding=encoding) == expected + "\n"


def test_every_kind_is_written_for_hostile_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: no input breaks a writer. Method: all kinds at once, of none, of a pass, of hostile names."""
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    kinds = ("json", "html", "sarif", "junit", "markdown")
    for number, reports in enumerate(([], [HELD], [hostile(), DOUBT])):
        wanted = targets([f"{kind}={tmp_path / f'{number}.{kind}'}" for kind in kinds] + ["github"])
        conclude(wanted, [report_to_json(one) for one in reports], command="x")
    assert all(path.stat().st_size > 20 for path in tmp_path.iterdir())
    assert len(list(tmp_path.iterdir())) == 15


def test_no_kind_shows_a_password(tmp_path: Path) -> None:
    secret = finding(cause="postgresql://u:hunter2@h/db", remedy="password='hunter2'")
    secret = replace(secret, summary="Bearer hunter2hunter2")
    wanted = targets([f"{kind}={tmp_path / kind}" for kind in ("json", "html", "sarif", "junit", "markdown")])
    lines = conclude(
        [*wanted, *targets(["github"])],
        [report_to_json(report(secret))],
        command="x --url redis://:hunter2@h",
    )
    texts = [path.read_text(encoding="utf-8") for path in tmp_path.iterdir()] + lines
    assert len(texts) == 6
    assert not [text for text in texts if "hunter2" in text]
