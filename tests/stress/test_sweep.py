"""`idemfuzz stress --sweep`: a real SIGKILL at each point of a job, in a table and in JSON."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from idemfuzz import servers
from stress.conftest import JOBS, Stress

pytestmark = pytest.mark.slow


def test_planted_bug_is_found_at_its_points(stress: Stress) -> None:
    """Goal: the table says at which points the work is lost, and at which it is not."""
    done = stress("flag_then_insert", "--sweep")
    assert (done.code, done.report["verdict"]) == (1, "violated"), done.text
    assert done.left_behind == {
        "before redis.SET": [],
        "after redis.SET": ["IDM201"],
        "after db.insert.users": ["IDM201"],
        "after db.commit": [],
    }
    (finding,) = done.report["findings"]
    assert finding["points"] == [2, 3]
    assert "after redis.SET" in done.text
    assert "shop_jobs.py:" in done.text


def test_right_job_holds_at_each_point(stress: Stress) -> None:
    done = stress("insert_once", "--sweep")
    assert (done.code, done.report["verdict"]) == (0, "holds"), done.text
    points = done.report["points"]
    assert [point["where"] for point in points] == [
        "before db.insert.members",
        "after db.insert.members",
        "after db.commit",
        "after redis.SADD",
    ]
    assert {(point["reached"], point["executions"]) for point in points} == {(True, 2)}


def test_measured_duration_is_no_finding(stress: Stress) -> None:
    """Goal: a duration that was the same in two clean deliveries, and is another after a kill, is known for one."""
    done = stress("insert_timed", "--sweep")
    assert (done.code, done.report["verdict"]) == (0, "holds"), done.text
    assert all(point["reached"] for point in done.report["points"])


def test_redelivery_that_never_succeeds_is_found(stress: Stress) -> None:
    """Goal: a job that stumbles over its own lock is stuck, however often it is delivered."""
    done = stress("lock_for_ever", "--sweep")
    assert done.code == 1, done.text
    assert "IDM302" in {finding["code"] for finding in done.report["findings"]}
    assert max(point["executions"] for point in done.report["points"]) == 3


def test_rows_in_another_schema_count_and_are_put_back(stress: Stress) -> None:
    """Goal: what a child is about to touch elsewhere is looked at before. Method: a duplicate there at one point, and nowhere else."""
    done = stress("book_beside", "--sweep")
    assert done.left_behind == {
        "before db.insert.entries": [],
        "after db.insert.entries": [],
        "after db.commit": ["IDM101"],
    }, done.text
    assert "ledger.entries: 2 rows instead of 1" in done.text


def test_threads_of_a_job_take_turns(stress: Stress) -> None:
    """Goal: a job with threads of its own is killed at the same points each time: what the first has committed is there twice."""
    done = stress("import_on_threads", "--sweep")
    assert done.left_behind == {
        "before db.insert.users": [],
        "after db.insert.users": [],
        "after db.commit": ["IDM101"],
        "after db.insert.users#2": ["IDM101"],
        "after db.commit#2": ["IDM101"],
    }, done.text


def test_point_with_a_hang_counts_if_it_comes_twice(stress: Stress) -> None:
    """Goal: a busy machine is no finding, and a job that waits for ever is one."""
    done = stress("dawdles_twice", "--sweep", "--job-timeout", "2", "--env", "DAWDLED={folder}/dawdled")
    assert (done.code, done.report["verdict"]) == (0, "holds"), done.text
    done = stress("hangs_the_second_time", "--sweep", "--job-timeout", "2")
    assert {finding["code"] for finding in done.report["findings"]} == {"IDM304"}, done.text


def test_plan_of_a_finding_shows_the_same_simulated(stress: Stress, tmp_path: Path) -> None:
    """Goal: what is printed as the same kill, simulated, is that. Method: run the command."""
    done = stress("flag_then_insert", "--sweep")
    (command,) = (line for line in done.text.splitlines() if "Simulated" in line)
    words = shlex.split(command.partition("idemfuzz ")[2])
    with servers.database("postgresql") as database, servers.database("redis") as redis:
        urls = {"DATABASE_URL": database, "REDIS_URL": redis}
        path = os.pathsep.join([str(JOBS.parent), *sys.path])

        def python(*words: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, *words],
                capture_output=True,
                text=True,
                timeout=120,
                cwd=tmp_path,
                env={**os.environ, **urls, "PYTHONPATH": path},
            )

        python("-c", "import shop_jobs; shop_jobs.setup()").check_returncode()
        again = python("-m", "idemfuzz.cli", *words)
    assert again.returncode == 1, again.stdout + again.stderr
    assert "IDM201" in again.stdout


def test_job_without_effects_is_no_pass(stress: Stress) -> None:
    done = stress("does_nothing", "--sweep")
    assert (done.code, done.report["verdict"]) == (1, "unknown"), done.text
    assert "no effect" in done.report["why_unknown"]


def test_job_that_does_other_things_each_time_is_no_pass(stress: Stress) -> None:
    """Goal: a point that is not reached again is told, and is no pass."""
    done = stress("by_turns", "--sweep", "--env", "TURNS={folder}/turns")
    assert (done.code, done.report["verdict"]) == (1, "unknown"), done.text
    assert "not reached again" in done.text


@pytest.mark.parametrize(
    ("job", "options", "told"),
    [
        ("insert_once", ["--workers", "2"], "--workers would do nothing"),
        ("insert_once", ["--kill-rate", "0.1", "--seed", "1"], "--kill-rate, --seed would do nothing"),
        ("always_fails", [], "fails when it is delivered once: ValueError: no such user"),
        ("no_such_job", [], "has no function 'no_such_job'"),
    ],
)
def test_bad_input_is_refused(stress: Stress, job: str, options: list[str], told: str) -> None:
    done = stress(job, "--sweep", *options)
    assert (done.code, done.report) == (2, {}), done.text
    assert told in done.text


def test_table_reads_the_same_without_a_terminal(stress: Stress) -> None:
    done = stress("flag_then_insert", "--sweep")
    assert "\x1b" not in done.text
    assert json.dumps(done.report)
    rows = [line.split() for line in done.text.splitlines() if line.strip()[:1].isdigit()]
    assert [row[0] for row in rows] == ["1", "2", "3", "4"]
