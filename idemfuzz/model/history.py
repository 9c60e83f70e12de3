"""Histories: what happened in a Trial, in the order in which it happened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from idemfuzz.model.effect import Effect, Source
from idemfuzz.model.footprint import Footprint
from idemfuzz.model.plan import Fault, Point


class EventKind(StrEnum):
    """What one line of a History tells of."""

    START = "start"
    EFFECT = "effect"
    FAULT = "fault"
    BLOCKED = "blocked"
    SLEEP = "sleep"
    CLOCK = "clock"
    END = "end"


class Ending(StrEnum):
    """How an Execution ended."""

    OK = "ok"
    FAILED = "failed"
    KILLED = "killed"
    HUNG = "hung"


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a History. ``outcome`` holds the row count, reply or error; ``fault`` what the gate did here."""

    kind: EventKind
    call: int
    delivery: int
    text: str = ""
    outcome: str = ""
    effect: Effect | None = None
    point: Point | None = None
    fault: Fault | None = None
    ending: Ending | None = None
    failed: bool = False
    stack: tuple[Source, ...] = ()
    """The user's own frames, innermost first; only of Trials that are run to be shown."""

    @property
    def source(self) -> Source | None:
        return self.effect.source if self.effect else None


@dataclass(frozen=True, slots=True)
class Step:
    """One Step of overlapping Executions, as the search over Schedules sees it.

    A lock wait is a Step, too: of the one who then waits. What it did when the wait was over is in the footprint of
    the Step that ended the wait.
    """

    delivery: int
    label: str
    occurrence: int
    footprint: Footprint | None
    """What the Step read and wrote; None is unknown."""
    choices: Mapping[int, Footprint | None]
    """Whoever could have taken this Step, with the footprint of its next Effect."""
    waited: bool = False


@dataclass(frozen=True, slots=True)
class History:
    """The totally ordered record of a Trial's events."""

    events: tuple[Event, ...] = ()

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)

    @property
    def effects(self) -> tuple[Event, ...]:
        return tuple(event for event in self.events if event.kind is EventKind.EFFECT)

    def endings(self) -> tuple[Event, ...]:
        return tuple(event for event in self.events if event.kind is EventKind.END)
