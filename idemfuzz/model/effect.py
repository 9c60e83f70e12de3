"""Effects: what a job's code does to the outside."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from idemfuzz.model.footprint import Footprint
from idemfuzz.model.plan import FaultKind


class Access(StrEnum):
    """What an Effect leaves behind if its Execution dies right after it."""

    READ = "read"
    """Nothing: it only looked."""
    PENDING = "pending"
    """Nothing yet: a write inside an open transaction."""
    DURABLE = "durable"
    """Everything: a commit, a Redis write, a mail, an HTTP request, a file."""


@dataclass(frozen=True, slots=True)
class Source:
    """A line of the user's own code."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function}"


@dataclass(frozen=True, slots=True)
class Effect:
    """One observable action on the outside, described before it happens.

    ``label`` is the normalised operation, stable over runs ("db.insert.users", "redis.SET"): together with
    its occurrence it names a Point. ``detail`` is for people and holds the values. ``faults`` are the ways in
    which this very action can fail; an explorer enumerates them without knowing any driver. ``footprint`` is what it
    reads and writes; None is unknown.
    """

    label: str
    store: str
    access: Access
    detail: str = ""
    faults: tuple[FaultKind, ...] = ()
    source: Source | None = None
    footprint: Footprint | None = None
    lease_seconds: float | None = None
    """After how many seconds what it writes is gone by itself; None: it stays; infinity: it has an age, which jobs may judge."""
