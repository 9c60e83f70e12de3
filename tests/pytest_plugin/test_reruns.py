"""Plugins that run failed tests again: never on a search, however they are asked; on other tests as always."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow

NAIVE = """
@pytest.mark.idempotent(job=app.naive)
def test_naive(engine):
    app.naive("a")
"""
RETRY = """
def pytest_addoption(parser):
    parser.addoption("--retries", type=int, dest="retries")
    parser.addini("retries", "how often", default=0)
    parser.addoption("--force-flaky", action="store_true", dest="force_flaky")
"""


def refused(result, *told):
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{text}*" for text in told])


@pytest.fixture
def rerunfailures():
    pytest.importorskip("pytest_rerunfailures")


@pytest.mark.parametrize("option", ["--reruns=2", "--force-reruns=1"])
def test_on_the_command_line(suite, rerunfailures, option):
    refused(suite(NAIVE, option), f"{option} would run test_it.py::test_naive again")


@pytest.mark.parametrize(
    ("setting", "told"),
    [("addopts = --reruns 2", "--reruns=2 would run"), ("reruns = 2", "the setting reruns = 2 would run")],
)
def test_in_the_settings(suite, rerunfailures, setting, told):
    refused(suite(NAIVE, ini=setting), told)


@pytest.mark.parametrize(
    "marker", ["flaky", "flaky(reruns=2)", "flaky(3)", "flaky(retries=2)", "flaky(max_runs=2)"]
)
def test_by_a_marker(suite, marker):
    refused(suite(f"@pytest.mark.{marker}{NAIVE}"), "test_naive: flaky would run it again")


def test_by_a_marker_of_the_module(suite):
    refused(suite(f"pytestmark = pytest.mark.flaky(reruns=2)\n{NAIVE}"), "also from its class and module")


@pytest.mark.parametrize("option", ["--retries=2", "--force-flaky"])
def test_by_other_plugins(suite, pytester, option):
    """Goal: pytest-retry and flaky. Method: a plugin with their options, as they need not be installed."""
    pytester.makepyfile(other=RETRY)
    refused(suite(NAIVE, "-p", "other", option), f"{option} would run")


def test_registered_jobs_count_too(suite, rerunfailures):
    refused(
        suite(
            "idemfuzz.register(app.right, args=['a'], stores=[sa.create_engine('sqlite://')])",
            "--idemfuzz",
            "--reruns=1",
        ),
        "--reruns=1 would run",
    )


def test_a_marker_that_asks_for_no_rerun_is_no_reason(suite):
    suite(f"@pytest.mark.flaky(reruns=0){NAIVE}").assert_outcomes(failed=1)


def test_other_tests_beside_may_be_run_again(suite, rerunfailures):
    result = suite(
        """
        runs = []

        @pytest.mark.flaky(reruns=2)
        def test_plain():
            runs.append(1)
            assert len(runs) == 2
        """
        + NAIVE.replace("\n", "\n        ")
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*1 rerun*"])


def test_without_a_search_they_are_nobodys_business(suite, rerunfailures):
    result = suite("def test_plain():\n    assert False\n", "--reruns=1")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*1 rerun*"])
