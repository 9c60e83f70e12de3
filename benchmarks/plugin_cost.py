"""What does installing idemfuzz cost a pytest suite without a marked test? (target: at most 30 ms)

A suite of 20 plain tests in an empty folder, run in processes of its own in pairs, once with the plugin and once with
``-p no:idemfuzz``; which of the two goes first alternates. Both have the same environment, so every other installed
plugin is loaded in both. The median of the pairs' differences counts; processor time,
which a busy machine disturbs less, stands beside it.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import entry_points
from pathlib import Path
from statistics import median

import click

from benchmarks.stores import Settings
from benchmarks.table import Table, quartiles

_PAIRS = 25
_SUITE = "import pytest\n\n\n@pytest.mark.parametrize('number', range(20))\ndef test_plain(number):\n    assert number < 20\n"


def measure(settings: Settings) -> Table:
    if not any(point.name == "idemfuzz" for point in entry_points(group="pytest11")):
        raise click.ClickException(
            "idemfuzz is not installed here, so pytest does not load it: pip install -e ."
        )
    pairs = settings.times(_PAIRS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        (folder / "test_plain.py").write_text(_SUITE, encoding="utf-8")
        _pair(folder, installed_first=True)
        timed = [_pair(folder, installed_first=number % 2 == 0) for number in range(pairs)]
    columns = ("time", "pairs", "with idemfuzz", "without", "median difference", "middle half", "target")
    table = Table("Cost of the plugin", columns)
    for number, name in enumerate(("elapsed", "processor")):
        installed = [one[number] for one, _ in timed]
        without = [other[number] for _, other in timed]
        differences = [one - other for one, other in zip(installed, without, strict=True)]
        low, high = quartiles(differences)
        table.rows.append(
            (
                name,
                str(pairs),
                f"{median(installed):.0f} ms",
                f"{median(without):.0f} ms",
                f"{median(differences):.1f} ms",
                f"{low:.1f} to {high:.1f} ms",
                "<= 30 ms",
            )
        )
    return table


def _pair(folder: Path, *, installed_first: bool) -> tuple[tuple[float, float], tuple[float, float]]:
    order = (installed_first, not installed_first)
    taken = {installed: _run(folder, installed=installed) for installed in order}
    return taken[True], taken[False]


def _run(folder: Path, *, installed: bool) -> tuple[float, float]:
    """Milliseconds of one run of the suite: elapsed, and of the processor."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += [] if installed else ["-p", "no:idemfuzz"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    begun, used = time.perf_counter(), _used_seconds()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    taken = (time.perf_counter() - begun) * 1000, (_used_seconds() - used) * 1000
    if done.returncode != 0 or "20 passed" not in done.stdout:
        raise click.ClickException(f"{' '.join(command)} failed: {done.stdout}{done.stderr}")
    return taken


def _used_seconds() -> float:
    """Processor time of all processes that this one has waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
