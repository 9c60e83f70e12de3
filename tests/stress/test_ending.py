"""How a run ends: by Ctrl-C, by its budget, by SIGKILL; never with a process left, and never a foreign one signalled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from idemfuzz.scratch import base
from idemfuzz.stress.channel import Reporter
from idemfuzz.stress.fleet import Fleet
from stress.conftest import JOBS, Stress

pytestmark = pytest.mark.slow
LONG = ("--deliveries", "2000", "--distinct", "10", "--kill-rate", "0.2", "--duration", "10m")
START_SECONDS_MAX = 120.0


class Begun:
    """`idemfuzz stress` in a process group of its own; all that it starts is known by a variable."""

    def __init__(self, folder: Path, *options: str, **environment: str) -> None:
        self.mark = uuid.uuid4().hex
        self.file = folder / "report.json"
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "idemfuzz.cli", "stress", *options, "--report", f"json={self.file}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # What a shell runs in the background ignores the signal, and hands that down.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            cwd=folder,
            env={**os.environ, **environment, "STRESS_TEST_MARK": self.mark},
            start_new_session=True,
        )
        self.text = ""

    def until(self, word: str) -> None:
        """Read what it prints until a line has ``word``."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.text += line
            if word in line:
                return
        pytest.fail(f"{word!r} never came:\n{self.text}")

    def end(self) -> int:
        rest, _ = self.process.communicate(timeout=400)
        self.text += rest
        return self.process.returncode

    def left(self) -> list[str]:
        """What lives of it; a process that is about to be gone is waited for."""
        deadline = time.monotonic() + 20.0
        while (found := list(self._alive())) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found

    def _alive(self) -> Iterator[str]:
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                if process.environ().get("STRESS_TEST_MARK") == self.mark:
                    yield f"{process.pid} {process.cmdline()}"


@pytest.fixture
def begin(stress: Stress, tmp_path: Path) -> Iterator[Callable[..., Begun]]:
    begun: list[Begun] = []

    def run(*options: str, **environment: str) -> Begun:
        begun.append(Begun(tmp_path, *options, **environment))
        return begun[-1]

    yield run
    for one in begun:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_tells_what_it_knows(begin: Callable[..., Begun], number: signal.Signals) -> None:
    """Goal: Ctrl-C in the storm ends with a summary, a report, exit code 1, and no process. The same for SIGTERM."""
    run = begin(f"{JOBS}:insert_once", *LONG)
    run.until("done")
    os.killpg(run.process.pid, number)
    assert run.end() == 1, run.text
    assert "unknown: interrupted" in run.text
    assert "Traceback" not in run.text
    report = json.loads(run.file.read_text())
    assert (report["verdict"], report["why_unknown"]) == ("unknown", "interrupted")
    assert report["counts"]["messages"]
    assert not run.left()


def test_interrupted_run_keeps_its_findings(begin: Callable[..., Begun]) -> None:
    """Goal: what was found before Ctrl-C is told."""
    run = begin(f"{JOBS}:insert_always", *LONG, "--queue-faults", "kill-horse")
    run.until("0 done")
    run.until(" done")
    time.sleep(3.0)
    run.process.send_signal(signal.SIGINT)
    assert run.end() == 1, run.text
    assert "IDM101" in run.text
    assert not run.left()


def test_second_ctrl_c_ends_at_once_and_leaves_nothing(begin: Callable[..., Begun]) -> None:
    """Goal: who presses twice does not wait for a judgement; workers, servers and folders are gone all the same."""
    run = begin(f"{JOBS}:insert_once", *LONG)
    run.until("done")
    folders = set(base().glob(f"idemfuzz-stress-*/workers-*/stress-{run.process.pid}-*"))
    assert folders
    run.process.send_signal(signal.SIGINT)
    run.process.send_signal(signal.SIGINT)
    assert run.end() in (1, 2), run.text
    assert "Traceback" not in run.text
    assert not run.left()
    assert not any(folder.exists() for folder in folders)


def test_worker_that_comes_up_without_its_run_ends(tmp_path: Path) -> None:
    """Goal: a run that is killed while its workers start leaves none. Method: a pipe that nobody listens to."""
    os.mkfifo(tmp_path / "events")
    with pytest.raises(OSError):
        Reporter(tmp_path / "events")
    child = "import os; from idemfuzz.stress.endings import die_with_parent; die_with_parent(1 << 30); print('lives')"
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "")


@pytest.mark.parametrize(("servers", "told"), [("none", "IDEMFUZZ_SERVERS=none"), ("some", "not known")])
def test_servers_are_started_only_where_they_may(
    begin: Callable[..., Begun], servers: str, told: str
) -> None:
    run = begin(f"{JOBS}:insert_once", IDEMFUZZ_SERVERS=servers)
    assert run.end() == 2, run.text
    assert told in run.text.replace("\n", " ")


def test_ctrl_c_before_the_storm_is_no_verdict(begin: Callable[..., Begun]) -> None:
    run = begin(f"{JOBS}:insert_once", *LONG)
    run.until("clean delivery")
    run.process.send_signal(signal.SIGINT)
    assert run.end() == 2, run.text
    assert "Interrupted" in run.text
    assert not run.left()


def test_interrupted_sweep_tells_the_points_it_has_tried(begin: Callable[..., Begun]) -> None:
    run = begin(f"{JOBS}:insert_once", "--sweep")
    run.until("killed at 1 of")
    run.process.send_signal(signal.SIGINT)
    assert run.end() == 1, run.text
    assert "interrupted after" in run.text
    assert not run.left()


def test_stuck_run_ends_by_its_budget(begin: Callable[..., Begun]) -> None:
    """Goal: jobs that never end do not keep a run; it is no pass."""
    run = begin(
        *(f"{JOBS}:hangs_the_second_time", "--deliveries", "12", "--kill-rate", "0", "--job-timeout", "600"),
        *("--duration", "2s", "--drain", "2s"),
    )
    assert run.end() == 1, run.text
    assert "the time was over before everything was done" in run.text
    assert not run.left()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")
def test_run_that_is_killed_leaves_no_worker(begin: Callable[..., Begun]) -> None:
    """Goal: workers end with a run that could not end them, also those that stand still."""
    run = begin(f"{JOBS}:insert_once", *LONG, "--queue-faults", "pause", "--kill-rate", "0.5")
    run.until("struck")
    time.sleep(2.0)
    run.process.kill()
    run.process.wait()
    assert not run.left()


def test_no_process_is_left_after_orphans_and_zombies(begin: Callable[..., Begun]) -> None:
    run = begin(
        *(f"{JOBS}:insert_once", "--deliveries", "12", "--kill-rate", "0.5"),
        *("--queue-faults", "kill-worker,pause"),
    )
    assert run.end() == 0, run.text
    assert not run.left()


def test_only_descendants_are_signalled(tmp_path: Path) -> None:
    """Goal: a process number that belongs to somebody else by now is left alone, and so are the run's own servers."""
    environment = {**os.environ, "IDEMFUZZ_STRESS_FOLDER": str(tmp_path)}
    fleet = Fleet(
        1,
        lambda name: [sys.executable, "-c", "import time; time.sleep(600)"],
        environment,
        tmp_path,
        prefix="w",
    )
    server = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        fleet.start()
        (worker,) = fleet.pids
        assert not fleet.signal(os.getppid(), signal.SIGCONT)
        assert not fleet.signal(1, signal.SIGCONT)
        assert fleet.signal(worker, signal.SIGCONT)
        fleet.stop()
        assert not psutil.pid_exists(worker)
        assert server.poll() is None
    finally:
        fleet.stop()
        server.kill()
        server.wait()
