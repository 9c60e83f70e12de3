"""Does a long stress run need more memory than a short one? (target: at most 1.2 times from a tenth of the run on)

One run of 100,000 deliveries of *welcome* (a row, its commit, a Redis command) by two SimpleWorkers, copies under new ids and under
the same one, no fault. The resident memory of the process that sends, listens and judges is read five times a second; shown is the
largest value of each stretch, judging included.
"""

from __future__ import annotations

import os

import psutil

from benchmarks.stores import Settings
from benchmarks.table import Table, Target
from idemfuzz import servers
from idemfuzz.stress import Progress, find_target, prepared, stress
from idemfuzz.stress import Settings as StressSettings

_DELIVERIES = 100_000
_STRETCHES = (0.02, 0.1, 0.25, 0.5, 0.75, 1.0)
_GOAL = 1.2
_MIB = 1024 * 1024


def measure(settings: Settings) -> Table:
    process = psutil.Process()
    largest = dict.fromkeys(_STRETCHES, 0.0)

    def listen(progress: Progress) -> None:
        if progress.phase not in ("storm", "judging"):
            return
        stretch = next(s for s in _STRETCHES if progress.done <= s * _DELIVERIES or s == 1.0)
        largest[stretch] = max(largest[stretch], process.memory_info().rss / _MIB)

    with prepared(None, None) as ground:
        os.environ.update(ground.environment({}))
        settings.servers["PostgreSQL"] = servers.postgresql().version.partition(" ")[0]
        asked = StressSettings(
            deliveries=_DELIVERIES,
            workers=2,
            worker_class="simple",
            kill_rate=0.0,
            faults=(),
            duration_seconds=3 * 3600.0,
        )
        report = stress(find_target("benchmarks.stress_welcome:welcome"), ground, asked, listener=listen)
    table = Table("Memory of a long stress run", ("deliveries", "largest resident memory, MiB"))
    table.rows = [(f"up to {int(stretch * _DELIVERIES):,}", f"{mib:.0f}") for stretch, mib in largest.items()]
    table.notes.append(
        f"{report.verdict}: {report.counts['executions']:,} executions, {report.counts['effects']:,} effects in "
        f"{report.counts['rounds']} rounds, {report.rate:.0f} executions/s."
    )
    growth = largest[1.0] / largest[0.1]
    table.targets.append(
        Target(
            "memory of a stress run of 100,000 deliveries, its last quarter to its first tenth",
            "-",
            f"<= {_GOAL}",
            f"{growth:.2f}",
            growth <= _GOAL,
        )
    )
    return table
