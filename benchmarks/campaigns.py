"""Does a fuzz run of ten minutes find every planted bug, whatever the seed, and nothing on the right jobs?

One `idemfuzz fuzz` over `benchmarks/corpus`: the planted bugs and right jobs of tests/fuzz, tests/quality and tests/safe, and the
fifteen variants of the example shop, on SQLite and fakeredis. Once for each of five seeds, two campaigns at a time on two cores; and with
the first seed and half of the time in two processes (`-n 2`), as four shards (seconds and trials added up), and by two workers of RQ (`--via`). A target counts as found if the corpus has a finding of it with its planted
code. The causes of a run are the targets with what was planted in them.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.stores import Settings
from benchmarks.table import Table, Target
from idemfuzz import servers

ROOT = Path(__file__).parents[1]
SEEDS = (1, 2, 3, 4, 5)
_TARGETS = ("benchmarks.corpus.drawn", str(ROOT / "benchmarks" / "corpus"))
_SHARDS = 4
_AT_A_TIME = 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one campaign, in however many parts, left in its corpus: target -> codes."""

    found: Mapping[str, frozenset[str]]
    seconds: float
    trials: int


def measure(settings: Settings) -> Table:
    minutes = float(os.environ.get("CAMPAIGN_MINUTES", "10"))
    planted, right = expected()
    table = Table(
        "Fuzz campaigns",
        ("run", "planted bugs found", "missed", "alarms on right jobs", "trials", "seconds"),
    )
    misses: list[int] = []

    def ended(name: str, run: Outcome) -> None:
        missed = sorted(target for target, code in planted.items() if code not in run.found.get(target, ()))
        alarms = sorted(right & set(run.found))
        misses.append(len(missed))
        hit = f"{len(planted) - len(missed)} of {len(planted)}"
        table.rows.append((name, hit, _few(missed), _few(alarms), f"{run.trials:,}", f"{run.seconds:.0f}"))
        # At once, and all of them: the runs together take most of an hour.
        print(f"{name}: missed {missed or 'none'}, alarms {alarms or 'none'}", file=sys.stderr)

    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        seeds = SEEDS[: settings.repeats]
        for seed, outcome in zip(seeds, pool.map(lambda s: _alone(s, minutes), seeds), strict=True):
            ended(f"seed {seed}", outcome)
    first = SEEDS[0]
    ended(f"seed {first}, 2 processes", _alone(first, minutes / 2, "-n", "2"))
    ended(f"seed {first}, {_SHARDS} shards", _shards(first, minutes / 2))
    ended(f"seed {first}, 2 RQ workers", _by_workers(first, minutes / 2))
    worst = max(misses)
    silent = all(row[3] == "-" for row in table.rows)
    table.targets = [
        Target(
            "planted bugs that a fuzz run misses, of all seeds",
            "-",
            "0",
            f"{worst} of {len(planted)} in the worst run",
            worst == 0,
        ),
        Target(
            f"alarms of a fuzz run on {len(right)} right jobs",
            "-",
            "0",
            "0" if silent else "see the table",
            silent,
        ),
    ]
    return table


def expected() -> tuple[dict[str, str], set[str]]:
    """Target -> planted code; and the targets that are right."""
    sys.path[:0] = [str(ROOT / "tests")]
    drawn = importlib.import_module("fuzz.planted")
    cases = importlib.import_module("benchmarks.corpus.test_planted")
    safe = importlib.import_module("benchmarks.corpus.test_right")
    shop = importlib.import_module("benchmarks.corpus.test_shop")
    planted = {f"drawn:{one.name}": one.code for one in drawn.PLANTED}
    planted |= {f"test_planted[{mark.id}]": mark.values[0].code for mark in cases._lines()}
    right = {f"drawn:{one.name}" for one in drawn.RIGHT}
    right |= {f"test_right[{mark.id}]" for mark in safe._lines()}
    for _, variant in shop.variants():
        name = f"test_variant[{variant.name}]"
        if variant.findings:
            planted[name] = variant.findings[0]
        else:
            right.add(name)
    return planted, right


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "") or "-"


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="idemfuzz-campaign-") as name:
        yield Path(name)


def _command(folder: Path, seed: int, minutes: float, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "idemfuzz.cli", "fuzz", *_TARGETS),
        *("--seed", str(seed), "--max-time", f"{minutes * 60:.0f}s", "-q"),
        *("--report", f"json={folder / 'report.json'}", "--pytest-args", f"--rootdir={folder}", *more),
    ]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}


def _run(folder: Path, seed: int, minutes: float, *more: str) -> Outcome:
    command = _command(folder, seed, minutes, *more)
    done = subprocess.run(command, cwd=folder, env=_environment(), capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    found: dict[str, frozenset[str]] = {}
    for finding in report["findings"]:
        name = finding["target"].rpartition("::")[2].replace("benchmarks.corpus.", "")
        # A family stands for its codes: "IDM20" is IDM201 or IDM202.
        code = finding["code"]
        found[name] = found.get(name, frozenset()) | {code, code[:5]}
    standing = report["standing"]
    return Outcome(found, standing["seconds"], standing["trials"])


def _alone(seed: int, minutes: float, *more: str) -> Outcome:
    with _folder() as folder:
        return _run(folder, seed, minutes, *more)


def _shards(seed: int, minutes: float) -> Outcome:
    """Each with its own corpus, as on machines of their own."""
    numbers = range(1, _SHARDS + 1)
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        parts = list(pool.map(lambda n: _alone(seed, minutes, "--shard", f"{n}/{_SHARDS}"), numbers))
    found: dict[str, frozenset[str]] = {}
    for part in parts:
        for name, codes in part.found.items():
            found[name] = found.get(name, frozenset()) | codes
    return Outcome(found, sum(part.seconds for part in parts), sum(part.trials for part in parts))


def _by_workers(seed: int, minutes: float) -> Outcome:
    with _folder() as folder, servers.database("redis") as url:
        workers = [
            subprocess.Popen(
                [sys.executable, "-m", "rq.cli", "worker", "idemfuzz", "--url", url],
                cwd=folder,
                env=_environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for _ in range(2)
        ]
        try:
            return _run(folder, seed, minutes, "-n", "2", "--via", url)
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.wait(60)
