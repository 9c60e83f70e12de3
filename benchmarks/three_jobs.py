"""How long is the search until a planted bug is a confirmed finding? (target: below 1 s)

A bare insert; a guard with two commits (payment, then receipt); a check-then-insert without a unique key; on Redis
the same with a push. Nothing is asserted by the job's test. *Confirmed* is the time of the whole search: all
explorers, the shrinking, and three more runs of each finding. *First seen* is when its first candidate appeared.
Medians (smallest to largest) of 5 searches unless --repeats says otherwise, in a process that has searched before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from benchmarks import jobs
from benchmarks.stores import REDIS, SQL, Settings
from benchmarks.table import Table, Target, spread
from idemfuzz import Report
from idemfuzz.abc import Options
from idemfuzz.session import Progress, Session

SQL_JOBS = (jobs.insert_bare, jobs.guard_two_commits, jobs.check_then_insert)
REDIS_JOBS = (jobs.push_bare, jobs.guard_two_commands, jobs.check_then_push)


def measure(settings: Settings) -> Table:
    table = Table(
        "Three planted jobs",
        ("store", "job", "finding", "plan", "first seen, s", "confirmed, s", "trials"),
    )
    slowest: list[tuple[str, float]] = []
    for names, planted in ((SQL, SQL_JOBS), (REDIS, REDIS_JOBS)):
        for name, store in settings.opened(names):
            if name in SQL:
                jobs.TABLES.create_all(store)
            search(planted[0], store)
            for job in planted:
                table.rows.append(_row(name, job, store, settings.times(5), slowest))
    name, seconds = max(slowest, key=lambda one: one[1], default=("", 0.0))
    missed = [row for row in table.rows if "missed" in row[2]]
    table.targets.append(
        Target(
            "three planted jobs (bare insert; two commits; check-then-insert), found without any assertion",
            "72-119 s or missed",
            "< 1 s each",
            f"the slowest {seconds:.2f} s ({name})" + (f", {len(missed)} missed" if missed else ""),
            seconds < 1 and not missed,
        )
    )
    return table


def _row(
    name: str, job: Callable[[Any], None], store: Any, repeats: int, slowest: list[tuple[str, float]]
) -> Sequence[str]:
    searches = [search(job, store) for _ in range(repeats)]
    report = searches[-1][0]
    slowest.append((f"{job.__name__} on {name}", median(whole for _, _, whole in searches)))
    finding = report.findings[0] if report.findings else None
    return (
        name,
        job.__name__,
        finding.code if finding is not None else f"**missed**: {report.verdict}",
        f"`{finding.counterexample.plan}`" if finding is not None else "",
        spread([seen for _, seen, _ in searches]),
        spread([whole for _, _, whole in searches]),
        str(report.certificate.trials),
    )


def search(
    job: Callable[[Any], None], store: Any, options: Options | None = None
) -> tuple[Report, float, float]:
    """One search: its report, the seconds until the first candidate, the seconds in all."""
    seen: list[float] = []

    def listen(progress: Progress) -> None:
        if progress.findings and not seen:
            seen.append(time.perf_counter() - begun)

    session = Session(
        job.__name__, lambda: job(store), {"db": store}, [job], options or Options(), listener=listen
    )
    begun = time.perf_counter()
    report = session.run()
    whole = time.perf_counter() - begun
    return report, seen[0] if seen else whole, whole
