"""`pytest --idemfuzz`: registered jobs as items; plans replayed; saved counterexamples."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.slow

REGISTER = """
def engine_for(name):
    engine = sa.create_engine("sqlite://")
    app.metadata.create_all(engine)
    app.state["engine"] = engine
    return {"db": engine}

idemfuzz.register(app.naive, args=("a",), stores=lambda: engine_for("a"))
idemfuzz.register(app.right, args=("a",), stores=lambda: engine_for("b"), max_trials=20)
idemfuzz.register(app.racy)
"""


def test_registered_jobs_become_items_on_demand(suite):
    suite(REGISTER, "-q").assert_outcomes()
    result = suite(REGISTER, "--idemfuzz")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*app:naive*violated*"])


def test_registered_jobs_can_be_chosen_by_keyword(suite):
    suite(REGISTER, "--idemfuzz", "-k", "right").assert_outcomes(passed=1, deselected=1)


def test_jobs_of_a_module(suite, pytester):
    suite("def test_other(): ...\n")
    (pytester.path / "jobs.py").write_text(
        "import app\nimport idemfuzz\nimport sqlalchemy as sa\n" + REGISTER
    )
    result = pytester.runpytest_subprocess(
        "--idemfuzz-module", "jobs:right", "--idemfuzz-module", "jobs:naive"
    )
    result.assert_outcomes(passed=1, failed=1)


def test_module_that_cannot_be_imported_is_a_usage_error(suite):
    result = suite("", "--idemfuzz-module", "no_such_module")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*no_such_module*cannot be imported*"])


def test_every_finding_replays_in_a_fresh_process_by_text_and_by_file(suite, pytester):
    """A counterexample is pure data: its text, and the file that was saved, show the same code again."""
    tests = """
    @pytest.mark.idempotent(job=app.racy)
    def test_racy(engine):
        app.racy("a")
    """
    suite(tests).assert_outcomes(failed=1)
    (saved,) = pytester.path.glob(".idemfuzz/*/*.json")
    data = json.loads(saved.read_text())
    assert data["code"] == "IDM101"
    for plan in (data["text"], str(saved)):
        result = pytester.runpytest_subprocess("--idemfuzz-plan", plan)
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*IDM101*", f"*{data['text']}*"])


@pytest.mark.parametrize("plan", ["v2:x2", "nonsense", "missing.json"])
def test_unreadable_plan_is_a_usage_error(suite, plan):
    assert suite("def test_it(): ...", "--idemfuzz-plan", plan).ret == pytest.ExitCode.USAGE_ERROR


def test_unwritable_report_is_a_usage_error_before_anything_runs(suite):
    result = suite("def test_it(): ...", "--idemfuzz-report", "json=no/such/folder/r.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "test_it" not in result.stdout.str()
