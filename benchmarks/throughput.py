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
from benchmarks.table import Table
from idemfuzz import check

TARGETS = {
    ("fakeredis", "put"): 1000,
    ("redis", "put"): 1000,
    ("sqlite-file", "append"): 500,
    ("sqlite-memory", "append"): 500,
    ("postgresql", "append"): 300,
    ("postgresql", "upsert"): 150,
}


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
                table.rows.append(_row(name, job, store, settings.times(5)))
    return table


def _row(name: str, job: Callable[[Any], None], store: Any, repeats: int) -> tuple[str, ...]:
    trials = recorded(job, store)
    searched, bare = [], []
    for _ in range(repeats):
        begun = time.perf_counter()
        report = check(lambda: job(store), job=job, stores={"db": store})
        searched.append((time.perf_counter() - begun) / report.certificate.trials)
        bare.append(drive(job, store, trials) / len(trials))
    target = TARGETS.get((name, job.__name__))
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
