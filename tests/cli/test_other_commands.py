"""`explain`, `doctor`, `demo`, `--version` and misuse."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from importlib.metadata import EntryPoint

import pytest
from click.testing import CliRunner, Result

from idemfuzz import __version__
from idemfuzz.cli import doctor, main
from idemfuzz.diagnose import CODES

Run = Callable[..., subprocess.CompletedProcess[str]]


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_version() -> None:
    assert call("--version").output == f"idemfuzz {__version__}\n"


def test_help_names_every_command_and_the_exit_codes() -> None:
    output = call("--help").output
    for word in ("run", "demo", "explain", "doctor", "Exit codes"):
        assert word in output


@pytest.mark.parametrize(
    "arguments", [["nope"], ["--nope"], ["explain", "a", "b"], ["demo", "--store", "oracle"]]
)
def test_misuse_ends_with_2(arguments: list[str]) -> None:
    assert call(*arguments).exit_code == 2


class TestExplain:
    @pytest.mark.parametrize("code", CODES)
    def test_every_code_is_explained(self, code: str) -> None:
        done = call("explain", code)
        assert done.exit_code == 0
        assert CODES[code].title in done.output
        assert " ".join(CODES[code].remedy.split())[:40] in " ".join(done.output.split())

    @pytest.mark.parametrize("written", ["idm101", "101", " IDM101 "])
    def test_a_code_may_be_written_carelessly(self, written: str) -> None:
        assert "row duplicated" in call("explain", written).output

    def test_without_a_code_all_are_listed(self) -> None:
        output = call("explain").output
        assert all(code in output for code in CODES)

    def test_an_unknown_code_ends_with_2_and_names_the_nearest(self) -> None:
        done = call("explain", "IDM110")
        assert done.exit_code == 2
        assert "Nearest: IDM109" in done.output


class TestDoctor:
    def test_it_lists_what_is_here_and_what_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("IDEMFUZZ_SERVERS", "none")
        monkeypatch.setattr(doctor, "entry_points", _installed)
        done = call("doctor")
        assert done.exit_code == 0, done.output
        for word in (
            "Python",
            "pytest",
            "sqlalchemy",
            "built in",
            "postgresql",
            "mend: unset IDEMFUZZ_SERVERS",
        ):
            assert word in done.output

    def test_a_missing_library_is_no_failure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("IDEMFUZZ_SERVERS", "none")
        monkeypatch.setattr(doctor, "entry_points", _installed)
        versions = doctor._version
        monkeypatch.setattr(doctor, "_version", lambda name: None if name == "rq" else versions(name))
        done = call("doctor")
        assert done.exit_code == 0
        assert "pip install 'idemfuzz[rq]'" in done.output

    @pytest.mark.parametrize("found", [None, "7.4.0"])
    def test_something_required_that_is_missing_or_too_old_ends_with_2(
        self, monkeypatch: pytest.MonkeyPatch, found: str | None
    ) -> None:
        monkeypatch.setenv("IDEMFUZZ_SERVERS", "none")
        monkeypatch.setattr(doctor, "entry_points", _installed)
        versions = doctor._version
        monkeypatch.setattr(doctor, "_version", lambda name: found if name == "pytest" else versions(name))
        done = call("doctor")
        assert done.exit_code == 2
        assert "pytest>=8.2" in done.output

    def test_a_broken_adapter_of_another_distribution_ends_with_2(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broken = EntryPoint("broken", "no.such.module:Adapter", "idemfuzz.adapters")
        monkeypatch.setenv("IDEMFUZZ_SERVERS", "none")
        monkeypatch.setattr(
            doctor, "entry_points", lambda group: [broken] if "adapters" in group else _installed(group)
        )
        done = call("doctor")
        assert done.exit_code == 2
        assert "broken" in done.output


class TestDemo:
    @pytest.mark.slow
    def test_every_verdict_on_sqlite_is_the_expected_one(self, idemfuzz: Run) -> None:
        done = idemfuzz("demo", "--store", "sqlite")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "All 6 verdicts are the expected ones" in done.stdout
        assert "What happened  2 deliveries at once" in done.stdout
        assert done.stderr == ""

    @pytest.mark.slow
    def test_by_default_a_missing_server_is_left_out_with_the_mend(self, idemfuzz: Run) -> None:
        done = idemfuzz("demo", IDEMFUZZ_SERVERS="none")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "left out: no postgresql server" in done.stdout
        assert "mend: unset IDEMFUZZ_SERVERS" in done.stdout

    @pytest.mark.slow
    def test_all_stores(self, idemfuzz: Run) -> None:
        done = idemfuzz("demo", "--store", "all")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "verdicts are the expected ones" in done.stdout
        assert "mariadb" in done.stdout

    @pytest.mark.slow
    def test_a_verdict_that_is_not_the_expected_one_ends_with_1(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One job is expected to be right that is not."""
        pytest.importorskip("fakeredis")
        from idemfuzz.demo import show

        monkeypatch.setattr(show, "_CASES", (show._Case("create_user", "a@b", "a bare INSERT"),))
        done = call("demo", "--store", "sqlite")
        assert done.exit_code == 1
        assert "1 of 1 verdicts are not the expected ones" in done.output


def _installed(group: str) -> list[EntryPoint]:
    """As if idemfuzz were installed, with no adapters of others."""
    return [EntryPoint("idemfuzz", "idemfuzz.pytest_plugin", group)] if group == "pytest11" else []
