"""Does the same search find the same, again and again? (target: 1,000 of 1,000 searches)

Every interleaving of two deliveries of a job, searched 1,000 times over (--repeats): a check-then-act, which must be
found by the same plan each time, and three jobs that are right by a unique key, by a row's lock and by SET NX, which
must hold, exhaustively, in the same number of classes. What differs from the most frequent answer counts as astray.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from sqlalchemy import select

from benchmarks import jobs
from benchmarks.stores import REDIS, SQL, Settings
from benchmarks.table import Table, Target
from idemfuzz import check

_TIMES = 1_000


def lock_row_first(engine: Any) -> None:
    """Right on a server: who has the row's lock is alone."""
    with engine.begin() as connection:
        connection.execute(select(jobs.ORDERED).where(jobs.ORDERED.c.ref == "order-0").with_for_update())
        if not connection.scalar(select(jobs.PAYMENT.c.id).where(jobs.PAYMENT.c.ref == "order-1")):
            connection.execute(jobs.PAYMENT.insert().values(ref="order-1", cents=1250))


_SQL: tuple[Callable[[Any], None], ...] = (jobs.check_then_insert, jobs.upsert, lock_row_first)
_REDIS: tuple[Callable[[Any], None], ...] = (jobs.check_then_push, jobs.claim)


def measure(settings: Settings) -> Table:
    table = Table("Repeated searches", ("store", "job", "searches", "the same", "answer"))
    times = settings.times(_TIMES)
    searches = same = 0
    for store, opened in settings.opened((*SQL, *REDIS)):
        if store in SQL:
            jobs.TABLES.create_all(opened)
        for job in _SQL if store in SQL else _REDIS:
            if job is lock_row_first and store.startswith("sqlite"):
                # It knows no lock of a row.
                continue
            answers = Counter(_answer(job, opened) for _ in range(times))
            answer, often = answers.most_common(1)[0]
            table.rows.append((store, job.__name__, f"{times:,}", f"{often:,}", answer))
            table.notes += [
                f"{store}, {job.__name__}: once {other}" for other in list(answers)[:5] if other != answer
            ]
            searches, same = searches + times, same + often
    table.targets.append(
        Target(
            "repeated searches of all interleavings give one answer",
            "-",
            "1,000 of 1,000 each",
            f"{same:,} of {searches:,}",
            same == searches and times >= _TIMES,
        )
    )
    return table


def _answer(job: Callable[[Any], None], opened: Any) -> str:
    jobs.clear(opened)
    if job is lock_row_first:
        with opened.begin() as connection:
            connection.execute(jobs.ORDERED.insert().values(ref="order-0", cents=0))
    report = check(lambda: job(opened), job=job, stores=[opened], faults=["overlap"])
    parts = [str(report.verdict), *(f"{f.code} by {f.counterexample.plan}" for f in report.findings)]
    parts += [
        f"{covered.classes} classes" + (", exhaustive" if covered.exhaustive else "")
        for covered in report.certificate.coverage
        if covered.explorer == "interleave"
    ]
    return "; ".join([*parts, *(note.code for note in report.notes)])
