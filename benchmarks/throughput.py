"""How many trials run per second, and what does idemfuzz cost on top of the executions? (target: 1.5 times bare)

*append* reads and inserts twice in one transaction; two deliveries do not wait for each other (on SQLite any two
writers do). *upsert* reads, inserts what is new under a unique key, and inserts once more; the second delivery
waits for the first. *put* is four Redis commands. Trials per second: all trials of a search over its whole time,
setting up and confirming included. *Bare*: the same executions, each on a thread of its own and broken off after as
many statements as in the search, with a hand-written reset after each trial; they neither overlap nor wait for
locks, nothing is compared, and no connection is dropped. Medians of 5 searches unless
--repeats says otherwise.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

from benchmarks import jobs
from benchmarks.bare import drive, recorded
from benchmarks.stores import REDIS, SQL, Settings
from benchmarks.table import Table, Target
from idemfuzz import check

_RATIO_MAX = 1.5
TARGETS = {
    ("fakeredis", "put"): (1000, "38", "Redis only, job on redis-py"),
    ("redis", "put"): (1000, "38", "Redis only, job on redis-py"),
    ("sqlite-file", "append"): (500, "about 2", "SQLAlchemy on SQLite"),
    ("sqlite-memory", "append"): (500, "about 2", "SQLAlchemy on SQLite"),
    ("postgresql", "append"): (300, "4.7", "SQLAlchemy on PostgreSQL, no lock waits"),
    ("postgresql", "upsert"): (150, "1-2", "SQLAlchemy on PostgreSQL, with lock waits"),
}
"""Store and job -> trials per second, the best known of others, and what it is."""


def measure(settings: Settings) -> Table:
    table = Table(
        "Throughput",
        ("store", "job", "trials", "executions", "trials/s", "target", "bare trials/s", "ratio"),
    )
    for names, measured in ((SQL, (jobs.append, jobs.upsert)), (REDIS, (jobs.put,))):
        for name, store in settings.opened(names):
            if name in SQL:
                jobs.TABLES.create_all(store)
            for job in measured:
                table.rows.append(_row(table, name, job, store, settings.times(5)))
    ratios = {f"{row[1]} on {row[0]}": float(row[-1]) for row in table.rows}
    if ratios:
        worst, best = max(ratios, key=ratios.__getitem__), min(ratios, key=ratios.__getitem__)
        table.targets.append(
            Target(
                "harness time per trial over the same executions driven bare",
                "-",
                f"<= {_RATIO_MAX}x",
                f"{ratios[best]:.2f}x ({best}) to {ratios[worst]:.2f}x ({worst})",
                ratios[worst] <= _RATIO_MAX,
                "describing effects, handing over between threads, reading the state and putting it back; "
                "the cheaper the job's own statements, the more these weigh",
            )
        )
    return table


def _row(table: Table, name: str, job: Callable[[Any], None], store: Any, repeats: int) -> tuple[str, ...]:
    trials = recorded(job, store)
    searched, bare = [], []
    for _ in range(repeats):
        begun = time.perf_counter()
        report = check(lambda: job(store), job=job, stores={"db": store})
        searched.append((time.perf_counter() - begun) / report.certificate.trials)
        bare.append(drive(job, store, trials) / len(trials))
    target, known, what = TARGETS.get((name, job.__name__), (0, "", ""))
    if target:
        table.targets.append(
            Target(
                f"trials/s, {what} ({name}, {job.__name__})",
                known,
                f">= {target:,}",
                f"{1 / median(searched):.0f} (driven bare: {1 / median(bare):.0f})",
                1 / median(searched) >= target,
                f"{median(searched) / median(bare):.2f} times what the same executions take without idemfuzz",
            )
        )
    return (
        name,
        job.__name__,
        str(report.certificate.trials),
        str(report.certificate.executions),
        f"{1 / median(searched):.0f}",
        f"{target:,}" if target else "",
        f"{1 / median(bare):.0f}",
        f"{median(searched) / median(bare):.2f}",
    )
