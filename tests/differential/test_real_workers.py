"""Generated jobs in the hands of real workers: what holds whatever happens holds there, and what never does does not."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from differential.generator import PROGRAMS, SEED, programs
from differential.programs import IN_PROCESS, Busy, Program, Watched
from differential.truth import breaks

JOBS = Path(__file__).with_name("worker_jobs.py")
TESTS = JOBS.parent.parent


def waits(program: Program) -> bool:
    """Whether it may want to be delivered again, which RQ does at once, and so often as it was told to."""
    asks = [*program.acts, *(part for part in program.flat() if isinstance(part, Watched))]
    return any(one.otherwise is Busy for one in asks)


RUNS = {
    "holds": ("--deliveries", "24", "--workers", "3", "--kill-rate", "0.3"),
    "violated": (
        *("--deliveries", "16", "--workers", "1", "--worker-class", "simple"),
        *("--kill-rate", "0", "--sending", "new-id"),
    ),
}
"""What is expected, and of which run: of copies one after another, only what they show by themselves."""


def expectation(program: Program) -> str | None:
    """None where it depends on what happens in the run, and when."""
    if not program.is_plain or program.hastens or waits(program):
        return None
    return {None: "holds", "delivered twice": "violated"}.get(breaks(program))


@pytest.mark.slow
@pytest.mark.parametrize("expected", RUNS)
def test_the_verdict_is_the_truth(expected: str, tmp_path: Path, smtp: tuple[str, int]) -> None:
    """Goal: kills, orphans, zombies and copies shake nothing that is right, and copies alone show what repeats itself."""
    fitting = (
        (number, program)
        for number, program in enumerate(programs(random.Random(SEED), 50 * PROGRAMS, IN_PROCESS))
        if expectation(program) == expected
    )
    wrong = []
    for number, program in islice(fitting, PROGRAMS // 8):
        verdict, text = stressed(number, tmp_path / str(number), smtp, *RUNS[expected])
        if verdict != expected:
            wrong.append(f"{number}: {program}\n  {verdict}:\n{text}")
    assert not wrong, "\n".join(wrong)


def stressed(number: int, folder: Path, smtp: tuple[str, int], *options: str) -> tuple[str, str]:
    """The verdict of a run, and what it printed."""
    (folder / "out").mkdir(parents=True)
    report = folder / "report.json"
    command = [
        *(sys.executable, "-m", "idemfuzz.cli", "stress", f"{JOBS}:job", "--distinct", "8", *options),
        *("--job-timeout", "5", "--report", f"json={report}"),
    ]
    surroundings = {
        "PYTHONPATH": str(TESTS),
        "DIFFERENTIAL_SEED": str(SEED),
        "DIFFERENTIAL_PROGRAM": str(number),
        "DIFFERENTIAL_SMTP": f"{smtp[0]}:{smtp[1]}",
        "DIFFERENTIAL_FOLDER": str(folder / "out"),
    }
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, cwd=folder, env={**os.environ, **surroundings}
    )
    text = done.stdout + done.stderr
    return (json.loads(report.read_text())["verdict"] if report.exists() else "no report"), text
