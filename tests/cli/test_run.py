"""`idemfuzz run`: each kind of target, each option, each exit code, in a fresh process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.slow


class TestTargets:
    def test_a_file_with_a_finding_ends_with_1(self, idemfuzz: Run) -> None:
        done = idemfuzz("run", "test_jobs.py")
        assert done.returncode == 1, done.stdout + done.stderr
        assert "IDM101  row duplicated" in done.stdout
        assert "2 searches: 1 holds, 1 violated, 1 test without the marker left out" in done.stdout
        assert "an unmarked test" not in done.stdout

    def test_a_node_id_that_holds_ends_with_0(self, idemfuzz: Run) -> None:
        done = idemfuzz("run", "test_jobs.py::test_right")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "holds:" in done.stdout
        assert "Certificate" in done.stdout

    def test_a_module_gives_its_registered_jobs(self, idemfuzz: Run) -> None:
        done = idemfuzz("run", "jobs")
        assert done.returncode == 1, done.stdout + done.stderr
        assert "2 searches: 1 holds, 1 violated" in done.stdout

    def test_one_job_of_a_module(self, idemfuzz: Run) -> None:
        done = idemfuzz("run", "jobs:right")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "1 search: 1 holds" in done.stdout

    def test_a_test_module_by_its_dotted_name(self, idemfuzz: Run) -> None:
        assert "2 searches" in idemfuzz("run", "test_jobs").stdout

    @pytest.mark.parametrize(
        ("target", "message"),
        [
            ("nope", "neither a path here"),
            ("nope.py", "there is no file or folder"),
            ("nope/", "there is no file or folder"),
            ("nope.deep", "cannot be imported"),
            ("jobs:nope", "nope"),
            ("test_jobs.py::nope", "not found"),
        ],
    )
    def test_an_unknown_target_ends_with_2_and_says_why(
        self, idemfuzz: Run, target: str, message: str
    ) -> None:
        done = idemfuzz("run", target)
        assert done.returncode == 2, done.stdout + done.stderr
        assert message in done.stderr

    def test_without_a_target_it_is_misuse(self, idemfuzz: Run) -> None:
        assert idemfuzz("run").returncode == 2

    def test_a_target_without_marked_tests_ends_with_2(self, idemfuzz: Run) -> None:
        done = idemfuzz("run", "test_jobs.py::test_plain")
        assert done.returncode == 2
        assert "No marked test and no registered job was found (1 test without the marker" in done.stdout


class TestOptions:
    def test_k_narrows(self, idemfuzz: Run) -> None:
        done = idemfuzz("run", "test_jobs.py", "-k", "right")
        assert done.returncode == 0
        assert "test_naive" not in done.stdout

    def test_max_trials_bounds_the_plans_and_the_claim(self, idemfuzz: Run) -> None:
        done = idemfuzz("run", "jobs:right", "--max-trials", "5")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "planned trials were over budget" in done.stdout
        assert "every planned trial ran" not in done.stdout
        assert idemfuzz("run", "jobs:right", "--max-trials", "0").returncode == 2

    def test_seed_is_printed(self, idemfuzz: Run) -> None:
        assert "seed 41" in idemfuzz("run", "jobs:right", "--seed", "41").stdout

    def test_report_is_written_for_programs(self, idemfuzz: Run, project: Path) -> None:
        done = idemfuzz("run", "test_jobs.py", "--report", "json=out.json")
        data = json.loads((project / "out.json").read_text(encoding="utf-8"))
        assert done.returncode == 1
        assert (data["idemfuzz_report"], data["verdict"]) == (1, "violated")
        assert {report["name"] for report in data["reports"]} == {
            "test_jobs.py::test_naive",
            "test_jobs.py::test_right",
        }

    @pytest.mark.parametrize(
        ("report", "message"),
        [
            ("json=no/out.json", "Make the folder"),
            ("xml=out.xml", "expected json=FILE"),
            ("json=", "expected"),
        ],
    )
    def test_an_unusable_report_is_refused_before_the_search(
        self, idemfuzz: Run, report: str, message: str
    ) -> None:
        done = idemfuzz("run", "test_jobs.py", "--report", report)
        assert done.returncode == 2
        assert message in done.stderr
        assert "searching" not in done.stdout

    def test_plan_runs_one_plan_and_the_printed_command_replays_it(self, idemfuzz: Run) -> None:
        found = idemfuzz("run", "test_jobs.py::test_naive").stdout
        line = next(line for line in found.splitlines() if line.startswith("  Replay"))
        arguments = line.split("idemfuzz ", 1)[1].split()
        done = idemfuzz(*arguments)
        assert done.returncode == 1, done.stdout + done.stderr
        assert "IDM101" in done.stdout
        assert "one given plan, no search" in done.stdout

    @pytest.mark.parametrize("plan", ["v9", "nonsense", "no.json"])
    def test_a_plan_that_cannot_be_read_is_refused(self, idemfuzz: Run, plan: str) -> None:
        done = idemfuzz("run", "test_jobs.py", "--plan", plan)
        assert done.returncode == 2
        assert "--plan" in done.stderr

    def test_verbose_shows_the_phases(self, idemfuzz: Run) -> None:
        assert "  crash: 3 plans" in idemfuzz("run", "jobs:right", "-v").stdout

    def test_quiet_is_one_line_for_a_pass(self, idemfuzz: Run) -> None:
        lines = idemfuzz("run", "jobs:right", "-q").stdout.splitlines()
        assert len(lines) == 2
        assert lines[0].startswith("✓ jobs:right  holds:")

    def test_pytest_args_reach_pytest(self, idemfuzz: Run) -> None:
        done = idemfuzz("run", "test_jobs.py", "--pytest-args", "--deselect test_jobs.py::test_naive")
        assert done.returncode == 0, done.stdout + done.stderr

    def test_pytest_args_that_pytest_does_not_know(self, idemfuzz: Run) -> None:
        done = idemfuzz("run", "test_jobs.py", "--pytest-args", "--no-such-option")
        assert done.returncode == 2
        assert "--no-such-option" in done.stderr


class TestTrouble:
    def test_a_collection_error_ends_with_2(self, idemfuzz: Run, project: Path) -> None:
        (project / "test_broken.py").write_text("import no_such_module\n")
        done = idemfuzz("run", "test_broken.py")
        assert done.returncode == 2
        assert "No module named 'no_such_module'" in done.stdout

    def test_a_test_that_fails_by_itself_is_shown_and_ends_with_1(self, idemfuzz: Run, project: Path) -> None:
        with (project / "test_jobs.py").open("a") as file:
            file.write(
                "\n\n@pytest.mark.idempotent(job=jobs.right)\ndef test_own(engine):\n    assert 1 == 2, 'own'\n"
            )
        done = idemfuzz("run", "test_jobs.py", "-k", "own")
        assert done.returncode == 1
        assert "fails without any duplicate" in done.stdout
        assert "own" in done.stdout

    def test_an_error_in_a_fixture_ends_with_2(self, idemfuzz: Run, project: Path) -> None:
        text = (
            (project / "test_jobs.py").read_text().replace("return jobs.engine", "raise OSError('no disk')")
        )
        (project / "test_jobs.py").write_text(text)
        done = idemfuzz("run", "test_jobs.py")
        assert done.returncode == 2
        assert "error in setup" in done.stdout
        assert "no disk" in done.stdout

    def test_a_refused_set_up_ends_with_2(self, idemfuzz: Run, project: Path) -> None:
        with (project / "test_jobs.py").open("a") as file:
            file.write(
                "\n\n@pytest.mark.idempotent(job=jobs.right)\nasync def test_async(engine):\n    jobs.right()\n"
            )
        done = idemfuzz("run", "test_jobs.py", "-k", "async")
        assert done.returncode == 2, done.stdout + done.stderr
        assert "cannot be searched" in done.stdout

    def test_nothing_but_skipped_tests_ends_with_2(self, idemfuzz: Run, project: Path) -> None:
        text = (project / "test_jobs.py").read_text().replace("return jobs.engine", "pytest.skip('not here')")
        (project / "test_jobs.py").write_text(text)
        done = idemfuzz("run", "test_jobs.py")
        assert done.returncode == 2
        assert "skipped: not here" in done.stdout

    def test_a_job_without_effect_is_unknown_and_ends_with_1(self, idemfuzz: Run, project: Path) -> None:
        with (project / "jobs.py").open("a") as file:
            file.write("\n\ndef idle():\n    pass\n")
        done = idemfuzz("run", "jobs:idle")
        assert done.returncode == 1
        assert "unknown: IDM903" in done.stdout

    def test_a_configuration_with_n_auto_is_no_hindrance(self, idemfuzz: Run, project: Path) -> None:
        pytest.importorskip("xdist")
        (project / "pytest.ini").write_text("[pytest]\naddopts = -n 2 -ra\n")
        assert idemfuzz("run", "jobs:right").returncode == 0

    @pytest.mark.parametrize(
        ("command", "signals"),
        [
            (("idemfuzz.cli", "run"), [signal.SIGINT]),
            (("idemfuzz.cli", "run"), [signal.SIGTERM]),
            (("pytest",), [signal.SIGTERM]),
            # The first one would wait for the end of the trial.
            (("idemfuzz.cli", "fuzz"), [signal.SIGINT, signal.SIGTERM]),
        ],
        ids=lambda value: " ".join(map(str, value)),
    )
    def test_interruption_puts_everything_back_and_ends_with_2(
        self,
        project: Path,
        environment: dict[str, str],
        command: tuple[str, ...],
        signals: list[signal.Signals],
    ) -> None:
        """The scenario says on a file that a delivery has been made; then it is interrupted there."""
        (project / "test_long.py").write_text(
            "import pathlib, threading\nimport pytest, jobs\n\n\n@pytest.fixture\ndef engine():\n    return jobs.engine\n\n\n"
            "@pytest.mark.idempotent(job=jobs.right)\ndef test_long(engine):\n    jobs.right()\n"
            "    pathlib.Path('begun').touch()\n    threading.Event().wait(60)\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-m", *command, "test_long.py"],
            cwd=project,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # What a shell runs in the background ignores the signal, and hands that down.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            _until((project / "begun").exists, process)
            for number in signals:
                process.send_signal(number)
                # Python does not hear a signal that comes just as the handler of another one ends, while a lock is waited for.
                time.sleep(0.5)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.returncode == 2, out + err
        assert ("Interrupted. What the search had changed was put back." in out) == (command != ("pytest",))
        assert "Traceback" not in out + err
        import sqlite3

        with sqlite3.connect(project / "test_shop.db") as connection:
            assert connection.execute("select count(*) from members").fetchone() == (0,)


def _until(happened: object, process: subprocess.Popen[str]) -> None:
    assert callable(happened)
    end = time.monotonic() + 60
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "the search did not begin"
        time.sleep(0.01)
