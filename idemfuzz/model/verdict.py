"""Verdicts, Findings and Certificates: what a search may claim."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from idemfuzz.model.effect import Source
from idemfuzz.model.history import History
from idemfuzz.model.plan import Plan
from idemfuzz.model.proof import Mend, Proof
from idemfuzz.model.state import Delta, Fact


class Verdict(StrEnum):
    """What a search may say of a job; it does not say why."""

    HOLDS = "holds"
    UNKNOWN = "unknown"
    VIOLATED = "violated"

    @property
    def _rank(self) -> int:
        return ("holds", "unknown", "violated").index(self.value)

    @classmethod
    def worst(cls, *verdicts: Verdict) -> Verdict:
        """The worst wins; an empty claim is unknown."""
        return max(verdicts, key=lambda v: v._rank, default=cls.UNKNOWN)


class DifferenceKind(StrEnum):
    """How a fact of a Trial's end state relates to the Reference's."""

    EXTRA = "extra"
    MISSING = "missing"
    CHANGED = "changed"
    MISLINKED = "mislinked"


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which a Trial's end state differs from the Reference's."""

    kind: DifferenceKind
    store: str
    group: str
    expected: Fact | None = None
    actual: Fact | None = None
    columns: tuple[str, ...] = ()
    twice: bool = False
    """The value moved on from the reference's value, as if the change had been applied again."""
    removal: bool = False
    """It is about a fact of the baseline that was taken away (or was not)."""
    expected_count: int = 0
    actual_count: int = 0

    @property
    def fact(self) -> Fact:
        fact = self.actual or self.expected
        assert fact is not None  # Invariant: a Difference speaks of at least one Fact.
        return fact


@dataclass(frozen=True, slots=True)
class Counterexample:
    """The smallest Plan found that still shows a Finding; it did so ``shown`` of ``tried`` times."""

    plan: Plan
    history: History
    shown: int
    tried: int
    saved: str | None = None
    command: str | None = None
    reference: Delta = field(default_factory=Delta)
    """What one clean delivery changed of the baseline."""
    changes: Delta = field(default_factory=Delta)
    """What this Trial changed of the same baseline."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, with the evidence, the cause and the remedy."""

    code: str
    title: str
    summary: str
    differences: tuple[Difference, ...]
    counterexample: Counterexample
    cause: str
    remedy: str
    source: Source | None = None
    trials: int = 1
    also: tuple[str, ...] = ()
    verdict: Verdict = Verdict.VIOLATED
    mechanism: str = ""
    """The cause by name, as in "check-then-act"; empty where the history does not tell."""
    because: str = ""
    """The cause in a sentence, with the lines."""
    snippet: str = ""
    """What a person would write, in the job's own terms."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something that a person should know and that fails nothing by itself."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Coverage:
    """What one explorer did: how many plans it made, ran, and left out as equivalent or over budget."""

    explorer: str
    planned: int = 0
    ran: int = 0
    fired: int = 0
    pruned: int = 0
    unreached: int = 0
    over_budget: int = 0
    skipped: str | None = None
    classes: int | None = None
    """How many inequivalent Schedules were seen; None where Schedules are not searched."""
    exhaustive: bool | None = None
    """Whether a search went to its end; None for a list of plans, where ``over_budget`` says so."""
    why: str | None = None
    """What keeps a search from being exhaustive, and what is certain all the same."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a search covered: the exact claim that a pass makes."""

    jobs: tuple[str, ...] = ()
    stores: tuple[str, ...] = ()
    references: int = 0
    effects: int = 0
    calls: int = 0
    trials: int = 0
    executions: int = 0
    redeliveries: int = 0
    coverage: tuple[Coverage, ...] = ()
    exhaustive: bool = False
    bounds: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    noise: tuple[str, ...] = ()
    seed: int | None = None
    seconds: float = 0.0
    writes: tuple[str, ...] = ()
    """Labels of the Effects of one clean delivery that change something, each once."""
    levels: tuple[tuple[str, Verdict], ...] = ()
    """Where several isolation levels were asked for: each with its own verdict."""


@dataclass(frozen=True, slots=True)
class Report:
    """The result of one search: a Verdict with its Findings, Notes and Certificate."""

    name: str
    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    notes: tuple[Note, ...] = ()
    certificate: Certificate = field(default_factory=Certificate)
    arguments: dict[str, Any] | None = None
    """The example that was searched, as texts by name, where it was drawn."""
    accepted: tuple[str, ...] = ()
    """Codes of findings that the baseline accepts; each has a note."""
    proof: Proof | None = None
    """Which guards carry a job that holds; None where that was not asked for."""
    mends: tuple[Mend, ...] = ()
    """What was tried for a job that does not hold, where that was asked for."""
    reference: History = field(default_factory=History)
    """The clean run that everything was compared with."""

    @property
    def holds(self) -> bool:
        return self.verdict is Verdict.HOLDS

    @property
    def codes(self) -> tuple[str, ...]:
        return tuple(finding.code for finding in self.findings)
