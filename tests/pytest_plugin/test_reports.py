"""What pytest shows and writes of searches: one clean failure, a summary that can be read, reports of all workers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytestmark = pytest.mark.slow

BOTH = """
    @pytest.mark.idempotent(job=app.naive)
    def test_naive(engine):
        app.naive("ada@example.org")

    @pytest.mark.idempotent(job=app.right)
    def test_right(engine):
        app.right("ada@example.org")

    def test_plain():
        pass
    """
REPLAY = "*Replay*idemfuzz run test_it.py::test_naive --plan v1:x2*"


def count(result: pytest.RunResult, text: str) -> int:
    return sum(text in line for line in result.outlines)


class TestFailure:
    def test_it_is_one_text_and_names_the_users_line(self, suite) -> None:
        result = suite(BOTH)
        result.assert_outcomes(failed=1, passed=2)
        result.stdout.fnmatch_lines(
            [
                "idemfuzz: 2 of 3 searched*",
                "*IDM101  row duplicated*",
                REPLAY,
                "*= idemfuzz =*",
                "✓ test_it.py::test_right  holds: *",
                "✗ test_it.py::test_naive  violated: IDM101 row duplicated",
                "FAILED test_it.py::test_naive - IDM101 row duplicated: *",
            ]
        )
        assert count(result, "IDM101  row duplicated") == 1
        assert count(result, "pytest_plugin/") == 0
        assert count(result, " idemfuzz/") == 0
        result.stdout.no_fnmatch_line("*not exhaustive*")
        result.stdout.no_fnmatch_line("*search    complete*")

    @pytest.mark.parametrize("style", ["short", "long", "native", "auto"])
    def test_each_style_of_tracebacks_shows_the_same(self, suite, style: str) -> None:
        result = suite(BOTH, f"--tb={style}")
        result.stdout.fnmatch_lines(["*IDM101  row duplicated*", REPLAY])
        assert count(result, "Traceback") == 0

    def test_one_line_is_one_line(self, suite) -> None:
        result = suite(BOTH, "--tb=line")
        result.stdout.fnmatch_lines(["*app.py:*: IDM101 row duplicated: engine: users: 2 rows instead of 1*"])
        assert count(result, "What happened") == 0

    def test_quiet_shows_less(self, suite) -> None:
        result = suite(BOTH, "-q")
        result.stdout.fnmatch_lines([REPLAY, "✗ test_it.py::test_naive*", "✓ 1 search holds: * trials (*"])
        assert count(result, "searched, for") == 0

    def test_verbose_shows_the_certificates(self, suite) -> None:
        result = suite(BOTH, "-v")
        result.stdout.fnmatch_lines(
            [
                "*- idemfuzz: certificate -*",
                "*= idemfuzz =*",
                "*✓ test_it.py::test_right*",
                "*search    complete*",
            ]
        )

    def test_without_the_header_there_is_no_line_of_ours(self, suite) -> None:
        assert count(suite(BOTH, "--no-header"), "searched, for") == 0

    def test_a_suite_without_marked_tests_hears_nothing(self, suite) -> None:
        result = suite("def test_plain(): pass")
        assert count(result, "idemfuzz:") == count(result, "= idemfuzz =") == 0

    def test_colours_are_pytests(self, suite) -> None:
        assert "\x1b" not in suite(BOTH, "--color=no").stdout.str()
        assert re.search(r"\x1b\[32m✓ test_it.py::test_right", suite(BOTH, "--color=yes").stdout.str())

    def test_many_that_hold_are_one_line(self, suite) -> None:
        result = suite(
            """
            @pytest.mark.idempotent(job=app.right, max_trials=2)
            @pytest.mark.parametrize("number", range(11))
            def test_right(engine, number):
                app.right("ada@example.org")
            """
        )
        result.stdout.fnmatch_lines(["✓ 11 searches hold: * trials (* s)"])
        assert count(result, "test_right") == 0

    def test_a_refusal_names_the_test(self, suite) -> None:
        result = suite(
            """
            @pytest.mark.idempotent(stores=["nope"])
            def test_it(engine):
                app.naive("ada@example.org")
            """
        )
        result.stdout.fnmatch_lines(["FAILED test_it.py::test_it - idemfuzz cannot search this test: *"])


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["here", "xdist"])
class TestFiles:
    def test_reports_of_all_tests_come_together(
        self, suite, pytester: pytest.Pytester, workers: tuple[str, ...]
    ) -> None:
        asked = [
            f"--idemfuzz-report={kind}=out.{kind}"
            for kind in ("json", "ndjson", "sarif", "junit", "markdown")
        ]
        result = suite(BOTH, *workers, *asked, "--idemfuzz-html=out.html", "--idemfuzz-report=github")
        result.assert_outcomes(failed=1, passed=2)
        result.stdout.fnmatch_lines(
            ["::error file=app.py,line=*,title=IDM101 row duplicated (*", "wrote out.json", "wrote out.html"]
        )
        names = {"test_it.py::test_naive", "test_it.py::test_right"}
        document = json.loads(Path("out.json").read_text(encoding="utf-8"))
        assert {one["name"] for one in document["reports"]} == names
        assert document["verdict"] == "violated"
        lines = [json.loads(line) for line in Path("out.ndjson").read_text(encoding="utf-8").splitlines()]
        assert {line["report"]["name"] for line in lines if line["type"] == "search"} == names
        assert lines[-1]["type"] == "end"
        assert (
            json.loads(Path("out.sarif").read_text(encoding="utf-8"))["runs"][0]["results"][0]["ruleId"]
            == "IDM101"
        )
        for kind in ("junit", "markdown", "html"):
            assert "test_naive" in Path(f"out.{kind}").read_text(encoding="utf-8")

    def test_junitxml_of_pytest_has_verdict_plan_and_certificate(
        self, suite, pytester: pytest.Pytester, workers: tuple[str, ...]
    ) -> None:
        suite(BOTH, *workers, "--junitxml=junit.xml", "-o", "junit_logging=system-out")
        root = ElementTree.parse(pytester.path / "junit.xml").getroot()
        cases = {case.get("name"): case for case in root.iter("testcase")}
        told = {
            name: [
                (p.get("name"), p.get("value"))
                for p in case.iter("property")
                if p.get("name") != "idemfuzz.headline"
            ]
            for name, case in cases.items()
        }
        assert ("idemfuzz.verdict", "holds") in told["test_right"]
        assert told["test_naive"][:3] == [
            ("idemfuzz.verdict", "violated"),
            ("idemfuzz.codes", "IDM101"),
            ("idemfuzz.plan", "v1:x2"),
        ]
        assert told["test_plain"] == []
        assert "complete" in (cases["test_right"].findtext("system-out") or "")
        failure = cases["test_naive"].find("failure")
        assert failure is not None
        assert (failure.get("message") or "").startswith("IDM101 row duplicated: engine: users: 2 rows")
        assert "What happened" in (failure.text or "")


class TestOptions:
    @pytest.mark.parametrize(
        "asked", ["--idemfuzz-report=xml=a", "--idemfuzz-html=no/a.html", "--idemfuzz-redact=re:("]
    )
    def test_misuse_is_refused_before_anything_runs(self, suite, asked: str) -> None:
        result = suite(BOTH, asked)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert "collected" not in result.stdout.str()

    def test_a_file_that_cannot_be_written_in_the_end_is_said(self, suite, pytester: pytest.Pytester) -> None:
        result = suite(
            """
            @pytest.mark.idempotent(job=app.right, max_trials=2)
            def test_right(engine, request):
                (request.config.rootpath / "out.json").mkdir(exist_ok=True)
                app.right("ada@example.org")
            """,
            "--idemfuzz-report=json=out.json",
        )
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stdout.fnmatch_lines(["idemfuzz: cannot write the report*"])

    def test_what_is_redacted_shows_nowhere(self, suite, pytester: pytest.Pytester) -> None:
        marked = BOTH.replace("idempotent(", "idempotent(redact=['users.email', 'members.*'], ")
        kinds = ("json", "html", "sarif", "junit", "markdown", "ndjson")
        result = suite(
            marked, "--junitxml=junit.xml", *(f"--idemfuzz-report={kind}=out.{kind}" for kind in kinds)
        )
        shown = [result.stdout.str(), *(path.read_text(encoding="utf-8") for path in Path().glob("out.*"))]
        shown.append(Path("junit.xml").read_text(encoding="utf-8"))
        assert len(shown) == 8
        assert not [text for text in shown if "[&#x27;ada@" in text or "'ada@example.org'" in text]
        assert "***" in shown[0]

    def test_the_command_line_adds_to_what_is_redacted(self, suite) -> None:
        marked = BOTH.replace("job=app.naive", "job=app.naive, redact='nothing'")
        result = suite(marked, "--idemfuzz-redact=re:ada@[a-z.]+")
        assert "***" in result.stdout.str()
        assert "ada@example.org" not in result.stdout.str()
