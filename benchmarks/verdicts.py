"""How many planted bugs are found, and of how many right jobs is nothing said? (target: all, on every stack)

`tests/quality` and `tests/safe`, once each, by pytest: a planted bug counts as found if the search gives its code by a
plan of the stated size within the stated number of trials, a right job if it holds without a finding or a doubt. A
miss that is known stands in the tables of these suites as a strict expected failure; it counts as missed here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.stores import Settings
from benchmarks.table import Table, Target

_ROOT = Path(__file__).parents[1]
_SUITES = {
    "planted bugs found": ("quality", "test_bug_is_found"),
    "right jobs that hold": ("safe", "test_right_job_holds"),
}
_STACKS = {
    "sqlite": "SQLite file + fakeredis",
    "memory": "SQLite memory + fakeredis",
    "postgresql": "PostgreSQL + Redis",
    "psycopg2": "PostgreSQL by psycopg2",
    "mariadb": "MariaDB + Redis",
    "async": "async jobs",
}


def measure(settings: Settings) -> Table:
    table = Table("Planted bugs and right jobs", ("suite", *_STACKS.values(), "all"))
    for title, (folder, test) in _SUITES.items():
        found, tried = _counted(folder, test)
        cells = [f"{found[s]} of {tried[s]}" if tried[s] else "" for s in _STACKS]
        table.rows.append((f"`tests/{folder}`: {title}", *cells, f"{found.total()} of {tried.total()}"))
        table.targets.append(
            Target(
                title,
                "-",
                "all",
                f"{found.total()} of {tried.total()}",
                found == tried,
                "those missed stand, with the reason, as expected failures in the table of the suite",
            )
        )
    return table


def _counted(folder: str, test: str) -> tuple[Counter[str], Counter[str]]:
    """How many tests of each stack passed, and how many there were."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "results.xml")
        command = [sys.executable, "-m", "pytest", "-q", f"tests/{folder}", "-k", f"{test} and not real"]
        command += ["-n", "2", "-p", "no:cacheprovider", f"--junitxml={path}"]
        environment = {**os.environ, "IDEMFUZZ_REQUIRE_SERVERS": "1", "IDEMFUZZ_NIGHTLY": "1"}
        subprocess.run(command, cwd=_ROOT, env=environment, stdout=subprocess.DEVNULL, check=False)
        cases = list(ElementTree.parse(path).iter("testcase"))
    found: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    for case in cases:
        match = re.fullmatch(r"(\w+)\[(.+)\]", case.get("name", ""))
        if match is None or match[1] != test:
            continue
        name = match[2].rpartition("-")[2]
        stack = "async" if "+" in name else name
        tried[stack] += 1
        # An expected failure is written as a skipped test.
        found[stack] += (
            case.find("failure") is None and case.find("error") is None and case.find("skipped") is None
        )
    return found, tried
