"""One campaign in several processes, and as jobs of RQ: the same causes as in one, each told once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fuzz.test_fuzz_command import (
    JOBS,
    MEND,
    ROOT,
    Run,
    environment,
    findings,
    idemfuzz,
    project,
    start,
    until,
)

__all__ = ["environment", "idemfuzz", "project", "start"]

pytestmark = pytest.mark.slow


def causes(folder: Path) -> set[tuple[str, str]]:
    return {(found["target"], found["code"]) for found in findings(folder).values()}


WANTED = {("jobs:picky", "IDM101")}


def test_two_processes_find_what_one_finds(idemfuzz: Run, project: Path) -> None:
    """One of them has nothing to find: what the other one found is enough for both, long before the time is up."""
    done = idemfuzz("fuzz", "jobs", "--max-time", "20m", "-n", "2", "--max-findings", "1")
    assert done.returncode == 1, done.stdout
    assert causes(project) == WANTED, done.stdout
    assert "Findings: 1 new" in done.stdout, done.stdout


@pytest.mark.parametrize("part", ["1/2", "2/2"])
def test_a_shard_has_its_part_of_the_targets(idemfuzz: Run, project: Path, part: str) -> None:
    """Two targets, dealt out by name: picky to the first shard, right to the second."""
    done = idemfuzz("fuzz", "jobs", "--max-time", "15s", "--max-findings", "1", "--shard", part)
    assert causes(project) == (WANTED if part == "1/2" else set()), done.stdout


def test_a_known_finding_that_had_no_turn_is_no_pass(idemfuzz: Run, project: Path) -> None:
    """Goal: to go on when the time is over is not to hold. Method: as one process, and as two."""
    assert idemfuzz("fuzz", "jobs:picky", "--max-time", "4m", "--max-findings", "1").returncode == 1
    (known,) = findings(project)
    for parts in ((), ("-n", "2")):
        done = idemfuzz("fuzz", "jobs:picky", "--max-time", "1ms", "--continue", *parts)
        assert done.returncode == 2, done.stdout
        assert "0 known and still failing, 0 fixed, 1 not replayed" in done.stdout
        assert f"Nothing can be claimed of {known}" in done.stdout


@pytest.mark.parametrize("parts", [("-n", "2"), ("--shard", "1/2")], ids=" ".join)
def test_a_kill_loses_nothing_of_parts_either(
    start: Callable[..., subprocess.Popen[str]], idemfuzz: Run, project: Path, parts: tuple[str, ...]
) -> None:
    """Goal: after SIGKILL of all processes a campaign goes on with its findings and its time.

    Method: kill them when the finding's target has had turns after it, so that nothing of it is new; then go on for a moment.
    """
    process = start("fuzz", "jobs", "--max-time", "4m", *parts)
    state = project / ".idemfuzz" / "fuzz" / "state-1-of-2.json"

    def has_had_turns() -> bool:
        return bool(findings(project)) and state.exists() and slices_of(state) > 1

    until(has_had_turns, process)
    killed = [process.pid, *(children_of(process) if parts[0] == "-n" else [])]
    for number in killed:
        os.kill(number, signal.SIGKILL)
    process.wait()
    (before,) = findings(project)
    seconds = json.loads(state.read_text())["seconds"]
    arguments = ("--max-time", f"{seconds + 3:.1f}s", "--continue", "--report", "json=fuzz.json")
    done = idemfuzz("fuzz", "jobs", *arguments, *parts)
    assert done.returncode == 1, done.stdout
    assert set(findings(project)) == {before}
    report = json.loads((project / "fuzz.json").read_text())
    assert {one["id"]: one["fate"] for one in report["known"]} == {before: "STILL FAILING"}
    assert report["standing"]["seconds"] >= seconds
    assert json.loads(state.read_text())["seconds"] >= seconds


def slices_of(state: Path) -> int:
    return int(json.loads(state.read_text())["targets"]["jobs:picky"]["slices"])


@pytest.fixture
def queue(redis_client: Any) -> str:
    settings = redis_client.connection_pool.connection_kwargs
    if "path" in settings:
        return f"unix://{settings['path']}?db={settings.get('db', 0)}"
    return f"redis://{settings['host']}:{settings['port']}/{settings.get('db', 0)}"


Workers = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def workers(queue: str, project: Path, environment: dict[str, str]) -> Iterator[Workers]:
    started: list[subprocess.Popen[bytes]] = []

    def start_one(folder: Path = project) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "rq.cli", "worker", "idemfuzz", "--url", queue],
            cwd=folder,
            env={**environment, "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT)))},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        started.append(process)
        return process

    yield start_one
    for process in started:
        process.terminate()
    for process in started:
        process.wait(60)


@pytest.mark.parametrize("redis_client", ["redis"], indirect=True)
def test_workers_of_rq_find_what_one_process_finds(
    idemfuzz: Run, project: Path, queue: str, workers: Workers
) -> None:
    workers()
    workers()
    done = idemfuzz("fuzz", "jobs", "--max-time", "20s", "-n", "2", "--via", queue)
    assert done.returncode == 1, done.stdout
    assert causes(project) == WANTED, done.stdout
    assert "Findings: 1 new" in done.stdout, done.stdout


@pytest.mark.parametrize("redis_client", ["redis"], indirect=True)
def test_jobs_that_hold_are_silent_on_workers_too(
    idemfuzz: Run, project: Path, queue: str, workers: Workers
) -> None:
    (project / "jobs.py").write_text(JOBS.replace("if len(email) > 3:", "if False:"))
    workers()
    done = idemfuzz("fuzz", "jobs", "--max-time", "10s", "-n", "1", "--via", queue)
    assert done.returncode == 0, done.stdout
    assert causes(project) == set()


def test_a_queue_that_is_not_there_is_refused(idemfuzz: Run) -> None:
    done = idemfuzz("fuzz", "jobs", "--max-time", "5s", "--via", "redis://127.0.0.1:1/0")
    assert done.returncode == 2
    assert "127.0.0.1:1" in done.stdout
    assert "Traceback" not in done.stdout


def machine_of(project: Path, tmp_path_factory: pytest.TempPathFactory, jobs: str) -> Path:
    """Another machine's copy of the project, with a corpus and a database of its own."""
    folder = tmp_path_factory.mktemp("machine")
    shutil.copytree(project, folder, dirs_exist_ok=True)
    (folder / "jobs.py").write_text(jobs)
    return folder


def children_of(process: subprocess.Popen[bytes]) -> list[int]:
    done = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True)
    return [int(line) for line in done.stdout.split()]


@pytest.mark.parametrize("redis_client", ["redis"], indirect=True)
@pytest.mark.parametrize("dead", ["machine", "work-horse"])
def test_a_worker_that_dies_loses_nothing_but_time(
    start: Callable[..., subprocess.Popen[str]],
    project: Path,
    queue: str,
    redis_client: Any,
    workers: Workers,
    tmp_path_factory: pytest.TempPathFactory,
    dead: str,
) -> None:
    """Goal: its part is done by another one, and what it had found is told.

    Method: SIGKILL for the worker with all that it started, or for RQ's work-horse alone; then a worker takes over on a machine whose copy
    of the job is mended, and which therefore cannot find it.
    """
    first = workers(machine_of(project, tmp_path_factory, JOBS))
    process = start("fuzz", "jobs:picky", "--max-time", "25s", "--via", queue)
    until(lambda: bool(findings(project)), process)
    horses = children_of(first)
    assert horses
    if dead == "machine":
        first.kill()
        first.wait()
    for horse in horses:
        with suppress(ProcessLookupError):
            # It is the head of a group, with the part that it runs.
            os.killpg(horse, signal.SIGKILL)
    if dead == "machine":
        workers(machine_of(project, tmp_path_factory, MEND))
        # As after a while without a sign of life.
        (job,) = redis_client.zrange("rq:wip:idemfuzz", 0, -1)
        redis_client.zadd("rq:wip:idemfuzz", {job: 1}, xx=True)
    output, _ = process.communicate(timeout=280)
    assert process.returncode == 1, output
    assert causes(project) == WANTED, output
    assert "Findings: 1 new, 0 known and still failing" in output, output
    assert "Note:" not in output, output


@pytest.mark.parametrize("redis_client", ["redis"], indirect=True)
def test_ctrl_c_takes_parts_back_that_no_worker_has_taken(
    start: Callable[..., subprocess.Popen[str]], queue: str, redis_client: Any
) -> None:
    process = start("fuzz", "jobs", "--max-time", "10s", "-n", "2", "--via", queue)
    until(lambda: redis_client.llen("rq:queue:idemfuzz") == 2, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2, output
    assert output.count("no worker had taken it") == 2
    assert redis_client.llen("rq:queue:idemfuzz") == 0


SHOP = (
    JOBS
    + """

def raced(email: str):
    with engine.begin() as connection:
        there = connection.execute(users.select().where(users.c.email == email)).first()
    if there is None:
        with engine.begin() as connection:
            connection.execute(users.insert().values(email=email))


def torn(email: str):
    try:
        with engine.begin() as connection:
            connection.execute(members.insert().values(email=email))
    except sa.exc.IntegrityError:
        return
    with engine.begin() as connection:
        connection.execute(users.insert().values(email=email))


idemfuzz.register(raced, args=["a"], stores=[engine])
idemfuzz.register(torn, args=["a"], stores=[engine])
"""
)
IN_SHOP = WANTED | {("jobs:raced", "IDM101"), ("jobs:torn", "IDM202")}


@pytest.mark.parametrize("redis_client", ["redis"], indirect=True)
@pytest.mark.parametrize("how", ["one process", "two processes", "four shards", "two workers"])
def test_the_causes_are_the_same_whoever_searches(
    idemfuzz: Run, project: Path, queue: str, workers: Workers, how: str
) -> None:
    """A duplicate, a race and a kill, beside a job that is right; each way stops when it has as many findings as there are."""
    (project / "jobs.py").write_text(SHOP)
    if how == "four shards":
        for number in range(1, 5):
            done = idemfuzz(
                "fuzz", "jobs", "--max-time", "15s", "--max-findings", "1", "--shard", f"{number}/4"
            )
    else:
        more = {"one process": [], "two processes": ["-n", "2"]}.get(how)
        if more is None:
            more = ["-n", "2", "--via", queue]
            workers()
            workers()
        done = idemfuzz("fuzz", "jobs", "--max-time", "4m", "--max-findings", "3", *more)
        assert "Findings: 3 new" in done.stdout, done.stdout
    assert causes(project) == IN_SHOP, done.stdout
