"""Stress: many deliveries of a job by real workers of a real queue, real kills, and the oracle of the search.

Nothing of the queue is simulated here: RQ takes, runs, acknowledges and recovers jobs by itself. What is ours are the
messages, the faults (`settings.FAULTS`), the witness in each worker process (`witness`), and the judgement.

    settings -> ground (servers) -> run: clean deliveries -> storm (producers, fleet of workers, ledger) -> judgement -> report
"""

from idemfuzz.stress.ground import Ground, check_servers, prepared
from idemfuzz.stress.report import (
    Behaviour,
    Story,
    StressFinding,
    StressReport,
    SweepFinding,
    SweepReport,
    SweptPoint,
    TimelineEntry,
)
from idemfuzz.stress.run import Progress, stress
from idemfuzz.stress.settings import DEFAULT_FAULTS, FAULTS, Aim, Settings, seconds_of
from idemfuzz.stress.sweep import sweep
from idemfuzz.stress.target import Target, check_target, find_target

__all__ = [
    "DEFAULT_FAULTS",
    "FAULTS",
    "Aim",
    "Behaviour",
    "Ground",
    "Progress",
    "Settings",
    "Story",
    "StressFinding",
    "StressReport",
    "SweepFinding",
    "SweepReport",
    "SweptPoint",
    "Target",
    "TimelineEntry",
    "check_servers",
    "check_target",
    "find_target",
    "prepared",
    "seconds_of",
    "stress",
    "sweep",
]
