"""One campaign in several processes, and as jobs of RQ: the same causes as in one, each told once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fuzz.test_fuzz_command import JOBS, ROOT, Run, environment, findings, idemfuzz, project, start

__all__ = ["environment", "idemfuzz", "project", "start"]

pytestmark = pytest.mark.slow


def causes(folder: Path) -> set[tuple[str, str]]:
    return {(found["target"], found["code"]) for found in findings(folder).values()}


WANTED = {("jobs:picky", "IDM101")}


def test_two_processes_find_what_one_finds(idemfuzz: Run, project: Path) -> None:
    done = idemfuzz("fuzz", "jobs", "--max-time", "20s", "-n", "2", "--max-findings", "1")
    assert done.returncode == 1, done.stdout
    assert causes(project) == WANTED, done.stdout
    assert "Findings: 1 new" in done.stdout, done.stdout


@pytest.mark.parametrize("part", ["1/2", "2/2"])
def test_a_shard_has_its_part_of_the_targets(idemfuzz: Run, project: Path, part: str) -> None:
    """Two targets, dealt out by name: picky to the first shard, right to the second."""
    done = idemfuzz("fuzz", "jobs", "--max-time", "15s", "--max-findings", "1", "--shard", part)
    assert causes(project) == (WANTED if part == "1/2" else set()), done.stdout


@pytest.fixture
def queue(redis_client: Any) -> str:
    settings = redis_client.connection_pool.connection_kwargs
    if "path" in settings:
        return f"unix://{settings['path']}?db={settings.get('db', 0)}"
    return f"redis://{settings['host']}:{settings['port']}/{settings.get('db', 0)}"


@pytest.fixture
def workers(
    queue: str, project: Path, environment: dict[str, str]
) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def start_one() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "rq.cli", "worker", "idemfuzz", "--url", queue],
            cwd=project,
            env={**environment, "PYTHONPATH": os.pathsep.join((str(project), str(ROOT)))},
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
    idemfuzz: Run, project: Path, queue: str, workers: Callable[[], subprocess.Popen[bytes]]
) -> None:
    workers()
    workers()
    done = idemfuzz("fuzz", "jobs", "--max-time", "20s", "-n", "2", "--via", queue)
    assert done.returncode == 1, done.stdout
    assert causes(project) == WANTED, done.stdout
    assert "Findings: 1 new" in done.stdout, done.stdout


@pytest.mark.parametrize("redis_client", ["redis"], indirect=True)
def test_jobs_that_hold_are_silent_on_workers_too(
    idemfuzz: Run, project: Path, queue: str, workers: Callable[[], subprocess.Popen[bytes]]
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
