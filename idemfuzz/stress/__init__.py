"""Stress: many deliveries of a job by real workers of a real queue, real kills, and the oracle of the search.

Nothing of the queue is simulated here: RQ takes, runs, acknowledges and recovers jobs by itself. What is ours are the
messages, the faults (`settings.FAULTS`), the witness in each worker process (`witness`), and the judgement.

    settings -> ground (servers) -> run: clean deliveries -> storm (producers, fleet of workers, ledger) -> judgement -> report
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from idemfuzz.stress.ground import Ground, check_servers, prepared
    from idemfuzz.stress.kill_sweep import sweep
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

_HOMES = {
    name: module
    for module, names in {
        "ground": ("Ground", "check_servers", "prepared"),
        "report": (
            "Behaviour",
            "Story",
            "StressFinding",
            "StressReport",
            "SweepFinding",
            "SweepReport",
            "SweptPoint",
            "TimelineEntry",
        ),
        "run": ("Progress", "stress"),
        "settings": ("DEFAULT_FAULTS", "FAULTS", "Aim", "Settings", "seconds_of"),
        "kill_sweep": ("sweep",),
        "target": ("Target", "check_target", "find_target"),
    }.items()
    for name in names
}


def __getattr__(name: str) -> Any:
    # A worker imports the witness alone: each one that is started, or spawned for a job, would pay for all the rest.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
