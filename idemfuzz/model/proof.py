"""Guards, and what became of a job without them: proofs for a job that holds, mends for one that does not."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from idemfuzz.model.effect import Source
from idemfuzz.model.plan import Plan


class GuardKind(StrEnum):
    """What keeps a second delivery from doing the work again."""

    UNIQUE = "unique key"
    ROW_LOCK = "row lock"
    ADVISORY_LOCK = "advisory lock"
    CONDITION = "condition"
    ISOLATION = "isolation level"
    NX = "only if new"
    WATCH = "watched keys"
    MULTI = "one transaction"
    COMMIT = "one commit"
    LOCK = "Redis lock"


@dataclass(frozen=True, slots=True)
class Guard:
    """One guard that a job's deliveries were seen to use, or one that they could have.

    ``name`` says it in the job's own terms (``UNIQUE(users.email)``); with ``store`` and ``kind`` it is the guard's
    identity. ``mark`` is for the adapter that found it.
    """

    kind: GuardKind
    store: str
    name: str
    mark: str = ""
    source: Source | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return self.name


class Role(StrEnum):
    """What a guard does for a job, as far as it was run."""

    CARRIES = "carries"
    """Without it, a plan leaves another world behind."""
    TOGETHER = "together"
    """Without one of these the job still holds, without all of them it does not."""
    DECORATION = "decoration"
    """The same search finds nothing without it."""
    UNPROVABLE = "unprovable"
    """It could not be taken away, or a clean delivery differs without it."""


@dataclass(frozen=True, slots=True)
class Removal:
    """What the same search came to without some guards."""

    guards: tuple[Guard, ...]
    role: Role
    plans: int = 0
    """How many plans were run."""
    fallen: int = 0
    """How many of them left another world behind."""
    codes: tuple[tuple[str, int], ...] = ()
    """What they showed, with the number of plans that showed it."""
    shown: str = ""
    """What the simplest of them showed, in a line."""
    plan: Plan | None = None
    """The simplest of them."""
    why: str = ""
    """Why nothing could be proven, or what must be said beside the role."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What holds a job: each guard with its role. Without any guard, what holds it is in the statements themselves."""

    removals: tuple[Removal, ...] = ()
    trials: int = 0
    seconds: float = 0.0

    def of(self, role: Role) -> tuple[Removal, ...]:
        return tuple(removal for removal in self.removals if removal.role is role)


@dataclass(frozen=True, slots=True)
class Mend:
    """A change outside the job's source that was tried for a job that does not hold."""

    guards: tuple[Guard, ...]
    verified: bool
    """Whether the same search finds nothing with it."""
    plans: int = 0
    fallen: int = 0
    how: str = ""
    """The statement or setting that makes the change, where there is one."""
    why: str = ""
    """Why it could not be tried, what is left with it, or what must be said beside it."""
