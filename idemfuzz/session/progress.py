"""What a search tells while it runs, and how it ends where there is nothing to search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


class ScenarioFailed(Exception):
    """The scenario fails already when its jobs are delivered once; ``error`` is its own exception."""

    def __init__(self, error: BaseException, hint: str = "") -> None:
        super().__init__(hint or str(error))
        self.error = error
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Progress:
    """For live displays: which explorer is at work, how far it is, and what was found so far."""

    phase: str
    done: int = 0
    total: int = 0
    findings: int = 0


Listener = Callable[[Progress], None]
