"""What does it cost to search every interleaving of two deliveries? (target: 1.3 executions per inequivalent class)

A check-then-act must be *found*: the seconds until its first candidate. The others are right and must be *certified*:
the seconds of the whole search, its references and the set-up included, with the verdict and whether it was
exhaustive. Only this explorer is asked (``faults=["overlap"]``); "all explorers" is the default search. Executions per
class: how many runs of both deliveries the explorer made for each class of runs that differ in more than the order
of commuting steps. Medians (smallest to largest) of 5 searches unless --repeats says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

from benchmarks import jobs
from benchmarks.stores import REDIS, SQL, Settings
from benchmarks.table import Table, Target, spread
from benchmarks.three_jobs import search
from idemfuzz.abc import Options

_OVERLAP = Options(faults=frozenset({"overlap"}))
_PER_CLASS_MAX = 1.3
_CERTIFIED_SECONDS_MAX = 0.2


def measure(settings: Settings) -> Table:
    table = Table(
        "Interleavings",
        (
            "store",
            "job",
            "asked",
            "verdict",
            "exhaustive",
            "runs",
            "classes",
            "per class",
            "found, s",
            "whole search, s",
        ),
    )
    worst = 0.0
    for names, measured in (
        (SQL, (jobs.check_then_insert, jobs.append, jobs.upsert)),
        (REDIS, (jobs.check_then_push, jobs.claim, jobs.put)),
    ):
        for name, store in settings.opened(names):
            if name in SQL:
                jobs.TABLES.create_all(store)
            for job in measured:
                worst = max(worst, _row(table, name, job, store, settings.times(5), _OVERLAP, "overlap"))
            right = jobs.upsert if name in SQL else jobs.put
            _row(table, name, right, store, settings.times(5), Options(), "all explorers")
    table.targets.insert(
        0,
        Target(
            "executions per inequivalent class, 2 deliveries (the worst of all jobs and stores)",
            "2.3-50",
            f"<= {_PER_CLASS_MAX}",
            f"{worst:.2f}",
            worst <= _PER_CLASS_MAX,
        ),
    )
    return table


def _row(
    table: Table,
    name: str,
    job: Callable[[Any], None],
    store: Any,
    repeats: int,
    options: Options,
    asked: str,
) -> float:
    search(job, store, options)
    searches = [search(job, store, options) for _ in range(repeats)]
    report = searches[-1][0]
    covered = next(c for c in report.certificate.coverage if c.explorer == "interleave")
    per_class = covered.ran / covered.classes if covered.classes else 0.0
    whole = [seconds for _, _, seconds in searches]
    table.rows.append(
        (
            name,
            job.__name__,
            asked,
            str(report.verdict),
            "yes" if covered.exhaustive else f"no: {covered.why}",
            str(covered.ran),
            str(covered.classes),
            f"{per_class:.2f}",
            spread([seen for _, seen, _ in searches]) if report.findings else "",
            spread(whole),
        )
    )
    if name == "postgresql" and job is jobs.upsert:
        table.targets.append(
            Target(
                f"fixed PostgreSQL job (unique key, ON CONFLICT), 2 deliveries, certified exhaustive ({asked})",
                "never",
                f"< {_CERTIFIED_SECONDS_MAX * 1000:.0f} ms of search",
                f"{median(whole) * 1000:.0f} ms, {report.verdict}",
                median(whole) < _CERTIFIED_SECONDS_MAX and bool(covered.exhaustive),
                "the faults of the other explorers are most of it" if asked != "overlap" else "",
            )
        )
    return per_class
