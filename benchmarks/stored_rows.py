"""Does a trial cost more where more rows are stored? (target: with 1,000,000 at most 1.2 times as with 1,000)

One table grows from 1,000 to 1,000,000 rows; the job claims one of its rows by key and writes a receipt. *ms/trial* is the
time from the beginning of one trial to that of the next, comparing and restoring included: the mean over a search,
the median of 5 searches unless --repeats says otherwise. *Once* is what a search takes besides: putting the triggers
on, two looks at all rows, taking the triggers off. A server writes what was loaded to the disk before it is measured.
"""

from __future__ import annotations

from itertools import pairwise
from statistics import fmean, median
from time import perf_counter
from typing import Any

from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, insert

from benchmarks import table as tables
from benchmarks.stores import SQL, Settings
from idemfuzz import check

SIZES = (1_000, 10_000, 100_000, 1_000_000)
_ROWS_AT_ONCE = 10_000
_RATIO_MAX = 1.2
_METADATA = MetaData()
_BILL = Table("bill", _METADATA, Column("ref", String(40), primary_key=True), Column("cents", Integer))
_PAID = Table("paid", _METADATA, Column("id", Integer, primary_key=True), Column("ref", String(40)))


def claim(engine: Engine) -> None:
    """Right: of two deliveries, one finds nothing left to claim."""
    with engine.begin() as connection:
        bill = _BILL.update().where(_BILL.c.ref == "bill-7", _BILL.c.cents > 0).values(cents=0)
        if connection.execute(bill).rowcount:
            connection.execute(insert(_PAID).values(ref="bill-7"))


def measure(settings: Settings) -> tables.Table:
    table = tables.Table(
        "Stored rows", ("store", "rows", "trials", "ms/trial", "to 1,000 rows", "once, seconds")
    )
    for name, engine in settings.opened(SQL):
        _METADATA.create_all(engine)
        first = cost = 0.0
        filled = 0
        for size in SIZES:
            _fill(engine, filled, size)
            filled = size
            _come_to_rest(engine)
            found = [_searched(engine) for _ in range(settings.times(5))]
            cost = median(cost for _, cost, _ in found)
            first = first or cost
            once = median(once for _, _, once in found)
            table.rows.append(
                (
                    name,
                    f"{size:,}",
                    str(found[0][0]),
                    f"{cost * 1000:.2f}",
                    f"{cost / first:.2f}",
                    f"{once:.2f}",
                )
            )
        ratio = cost / first
        table.targets.append(
            tables.Target(
                f"trial cost, {SIZES[-1]:,} rows stored against {SIZES[0]:,} ({name})",
                "-",
                f"<= {_RATIO_MAX}x",
                f"{ratio:.2f}x",
                ratio <= _RATIO_MAX,
            )
        )
    return table


def _searched(engine: Engine) -> tuple[int, float, float]:
    """How many trials a search ran, the seconds that each took, and the seconds that went by besides."""
    # The search moves the clock: the function itself is not what it puts in its place.
    starts: list[float] = []

    def scenario() -> None:
        starts.append(perf_counter())
        claim(engine)

    begun = perf_counter()
    report = check(scenario, job=claim, stores={"db": engine})
    whole = perf_counter() - begun
    assert not report.findings, report.findings[0].summary
    cost = fmean(later - earlier for earlier, later in pairwise(starts))
    return len(starts), cost, whole - cost * len(starts)


def _fill(engine: Engine, begin: int, end: int) -> None:
    with engine.begin() as connection:
        for start in range(begin, end, _ROWS_AT_ONCE):
            rows: list[dict[str, Any]] = [
                {"ref": f"bill-{number}", "cents": 1 + number % 1000}
                for number in range(start, min(start + _ROWS_AT_ONCE, end))
            ]
            connection.execute(insert(_BILL), rows)


def _come_to_rest(engine: Engine) -> None:
    """What was loaded is on the disk: otherwise each commit waits for the server's writing."""
    statements = {
        "postgresql": ["VACUUM ANALYZE bill", "CHECKPOINT"],
        "mysql": ["FLUSH TABLES bill FOR EXPORT", "UNLOCK TABLES"],
    }.get(engine.url.get_backend_name(), [])
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
