"""What a stress run has to say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from idemfuzz.model import Difference, Note, Verdict

__all__ = [
    "Behaviour",
    "Story",
    "StressFinding",
    "StressReport",
    "SweepFinding",
    "SweepReport",
    "SweptPoint",
    "TimelineEntry",
]


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One thing that happened to a message; ``at`` in seconds since it was first sent."""

    at: float
    what: str
    worker: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Story:
    """All that happened to one job: its messages, by whom they were run, and how that ended."""

    job: int
    arguments: str
    timeline: tuple[TimelineEntry, ...]
    executions: int
    succeeded: int
    cause: str
    """In a few words why it was not one Execution that ended well."""


@dataclass(frozen=True, slots=True)
class StressFinding:
    """One way in which the end state is wrong, with the jobs that show it."""

    code: str
    title: str
    summary: str
    count: int
    """How many rows, keys or calls."""
    jobs: int
    """Of how many jobs; 0 if it cannot be told whose they are."""
    differences: tuple[Difference, ...]
    stories: tuple[Story, ...]
    cause: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Something that RQ did, by name: known of it, and no fault of the job."""

    code: str
    title: str
    count: int
    text: str
    story: Story | None = None


@dataclass(frozen=True, slots=True)
class StressReport:
    """The result of one run: a Verdict, what is wrong, what the queue did, and what was done."""

    name: str
    verdict: Verdict
    findings: tuple[StressFinding, ...]
    behaviours: tuple[Behaviour, ...]
    notes: tuple[Note, ...]
    counts: Mapping[str, int]
    """jobs, messages, executions, ok, failed, killed, redelivered, overlapping, effects, workers_replaced, ..."""
    strikes: Mapping[str, int]
    """Faults that struck, by name."""
    stores: tuple[str, ...]
    bounds: tuple[str, ...]
    seed: int
    seconds: float
    storm_seconds: float
    """From the first sending to the end of the last Execution, over all rounds; what comes before and after is not in it."""
    percentiles: Mapping[str, float] = field(default_factory=dict)
    """Seconds from a message's first sending to the end of an Execution: p50, p95, p99, max."""
    why_unknown: str = ""

    @property
    def rate(self) -> float:
        """Executions that ended, per second in which there was something to do."""
        done: Any = self.counts.get("ok", 0) + self.counts.get("failed", 0)
        return done / self.storm_seconds if self.storm_seconds else 0.0


@dataclass(frozen=True, slots=True)
class SweptPoint:
    """One point of a job at which it was killed."""

    where: str
    """As in "after db.commit"."""
    line: str
    """The user's line that the Effect came from, as file:line; empty if none was on the stack."""
    detail: str
    """What the Effect did in the clean delivery."""
    executions: int
    """The one that was killed, and those that ran after it until one ended well or the attempts were over."""
    reached: bool
    codes: tuple[str, ...]
    """What was wrong in the end; empty if it was as after one clean delivery."""
    plan: str
    """The same kill for `idemfuzz run --plan`."""


@dataclass(frozen=True, slots=True)
class SweepFinding:
    """One way in which the end state is wrong, with the numbers of the points (from 1) that lead there."""

    code: str
    title: str
    summary: str
    points: tuple[int, ...]
    plan: str
    remedy: str


@dataclass(frozen=True, slots=True)
class SweepReport:
    """The result of a sweep: each point of the job, and what a kill there leaves behind."""

    name: str
    verdict: Verdict
    points: tuple[SweptPoint, ...]
    planned: int
    """How many points the clean delivery has."""
    findings: tuple[SweepFinding, ...]
    notes: tuple[Note, ...]
    stores: tuple[str, ...]
    attempts: int
    """How often a job is run at most, the killed execution included."""
    seconds: float
    why_unknown: str = ""
