"""What a planted bug promises: what the job needs, which finding it must give, by how small a plan, how soon."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import Mock

from idemfuzz import Report, check
from idemfuzz.model import Finding, Plan

SQLITE, MEMORY, POSTGRESQL, MARIADB = "sqlite", "memory", "postgresql", "mariadb"
"""The stacks: SQLite in a file + fakeredis, SQLite in memory + fakeredis, PostgreSQL + Valkey, MariaDB + Redis."""

STACKS = (SQLITE, MEMORY, POSTGRESQL, MARIADB)
REDIS_STACKS = (SQLITE, POSTGRESQL, MARIADB)
"""fakeredis, Valkey, Redis: where a job without SQL differs."""


@dataclass(frozen=True, slots=True)
class Size:
    """The smallest plan that shows the bug: its mechanism, and how many deliveries, faults and segments it has."""

    mechanism: str
    """duplicate, overlap, or the kind of the fault."""
    deliveries: int
    faults: int = 0
    segments: int = 0

    @classmethod
    def of(cls, plan: Plan) -> Size:
        mechanism = "overlap" if plan.overlap else str(plan.faults[0].kind) if plan.faults else "duplicate"
        return cls(mechanism, plan.deliveries, len(plan.faults), len(plan.overlap))


DUPLICATE = Size("duplicate", 2)
LATE = Size("duplicate", 2)
"""The second delivery comes when what the first one left has run out."""
OVERLAP = Size("overlap", 2, segments=2)
"""One pause of the first delivery, in which the second runs to its end, or as far as a lock lets it."""
TWICE_PREEMPTED = Size("overlap", 2, segments=3)
"""The second one pauses, too, before it ends."""
STALLED = Size("overlap", 2, segments=3)
"""The first delivery pauses, time passes, the second runs to its end."""
HEIRS = Size("overlap", 3, faults=1, segments=5)
"""The first delivery is killed, time passes, the second one pauses, the third one pauses, the second one ends."""
KILL = Size("kill", 1, faults=1)
TIMEOUT = Size("timeout", 1, faults=1)
REFUSED = Size("refused", 1, faults=1)
LOST = Size("lost", 1, faults=1)
RESENT = Size("resent", 1, faults=1)


@dataclass(slots=True)
class World:
    """What the fixtures of a test would hand to its body."""

    engine: Any = None
    redis: Any = None
    folder: Path | None = None
    gateway: Mock = field(default_factory=Mock)
    sent: list[Any] = field(default_factory=list)
    """A list that a fake fills: handed to the search, not to the job."""
    smtp: tuple[str, int] = ("", 0)
    url: str = ""
    aws: Any = None
    """Clients by service, which moto answers."""


NOT_STORES = frozenset({"smtp", "url", "aws"})
NOT_ARGUMENTS = frozenset({"sent"})


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table."""

    job: Callable[..., Any]
    code: str
    size: Size
    trials: int
    """The search may run so many trials and must find the bug within them (``max_trials``)."""
    args: Mapping[str, Any] = field(default_factory=dict)
    needs: Sequence[str] = ("engine",)
    """Attributes of `World` that are handed to the search, and to the job by name."""
    tables: Sequence[Any] = ()
    seed: Callable[[World], Any] | None = None
    also: Sequence[str] = ()
    """Codes of further findings that the same job rightly gives."""
    only: bool = False
    """The bug hides from every other mechanism."""
    on: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    begins: Callable[[World], Any] | None = None
    """What the test's body does before it calls the job."""
    asserts: Callable[[World], Any] | None = None
    """The user's own assertions, at the end of the scenario."""
    slow: bool = False
    missed: Mapping[str, str] = field(default_factory=dict)
    """Stack (or ``*``) -> why the bug is not found there today."""
    by_hand: str = ""
    """A plan that shows the bug, where no explorer proposes one: the miss is the search's, not the checkers'."""

    @property
    def name(self) -> str:
        return self.job.__name__

    @property
    def kind(self) -> str:
        return self.job.__module__.rpartition(".")[2]

    @property
    def stacks(self) -> Sequence[str]:
        if self.on:
            return self.on
        if "engine" in self.needs:
            return REDIS_STACKS if "redis" in self.needs else STACKS
        return REDIS_STACKS if "redis" in self.needs else (SQLITE,)

    def check(self, world: World, **options: Any) -> Report:
        """Search as a user's test would: the stores are the fixtures' values, the body calls the job."""
        return check(
            lambda: self.scenario(world),
            job=self.job,
            stores=self.stores(world),
            name=self.name,
            **{**self.options, **options},
        )

    def stores(self, world: World) -> dict[str, Any]:
        return {name: getattr(world, name) for name in self.needs if name not in NOT_STORES}

    def scenario(self, world: World) -> None:
        """The body of the test."""
        passed = {name: getattr(world, name) for name in self.needs if name not in NOT_ARGUMENTS}
        if self.begins is not None:
            self.begins(world)
        self.job(**passed, **self.args)
        if self.asserts is not None:
            self.asserts(world)

    def finding(self, report: Report) -> Finding:
        """The planted bug among the findings: by its code, and by its mechanism where that code comes twice."""
        found = [f for f in report.findings if f.code == self.code]
        assert found, f"{self.name}: no {self.code} in {described(report)}"
        return next(
            (f for f in found if Size.of(f.counterexample.plan).mechanism == self.size.mechanism), found[0]
        )


def described(report: Report) -> str:
    """For messages: verdict, findings with their plans, notes."""
    findings = [f"{f.code} by {f.counterexample.plan} ({f.summary})" for f in report.findings]
    notes = [f"{note.code} {note.text}" for note in report.notes]
    return f"{report.verdict}: {findings or 'nothing found'}; notes: {notes}"
