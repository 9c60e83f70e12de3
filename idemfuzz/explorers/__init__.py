"""Explorers: each proposes Plans of one kind, simplest first. One small file and one line here each."""

from idemfuzz.abc import Explorer, SearchingExplorer
from idemfuzz.explorers.crash import CrashExplorer
from idemfuzz.explorers.failover import FailoverExplorer
from idemfuzz.explorers.heirs import HeirsExplorer
from idemfuzz.explorers.interleave import InterleaveExplorer
from idemfuzz.explorers.interrupt import InterruptExplorer
from idemfuzz.explorers.late import LateExplorer
from idemfuzz.explorers.replay import ReplayExplorer
from idemfuzz.explorers.resend import ResendExplorer
from idemfuzz.explorers.retry import RetryExplorer
from idemfuzz.explorers.rival import RivalExplorer
from idemfuzz.explorers.stall import StallExplorer

EXPLORERS: tuple[Explorer | SearchingExplorer, ...] = (
    ReplayExplorer(),
    InterleaveExplorer(),
    CrashExplorer(),
    InterruptExplorer(),
    ResendExplorer(),
    LateExplorer(),
    StallExplorer(),
    FailoverExplorer(),
    RetryExplorer(),
    RivalExplorer(),
    HeirsExplorer(),
)

FAULT_NAMES: tuple[str, ...] = tuple(sorted({name for explorer in EXPLORERS for name in explorer.faults}))
"""What the ``faults`` option understands."""

OPTIONAL = frozenset({"failover"})
"""Faults that are injected only where they are asked for: few jobs are meant to survive them."""

__all__ = [
    "EXPLORERS",
    "FAULT_NAMES",
    "OPTIONAL",
    "CrashExplorer",
    "FailoverExplorer",
    "HeirsExplorer",
    "InterleaveExplorer",
    "InterruptExplorer",
    "LateExplorer",
    "ReplayExplorer",
    "ResendExplorer",
    "RetryExplorer",
    "RivalExplorer",
    "StallExplorer",
]
