"""Subjects: what a fuzzer or a replay works on, whether it is a registered job or a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from idemfuzz.abc import Options
from idemfuzz.api import Registration
from idemfuzz.fuzz.examples import drawn_for, needs_examples, pursued, strategy_of
from idemfuzz.fuzz.pursuit import Pursuit, Search
from idemfuzz.model import Example, Plan, Report
from idemfuzz.session import Progress

__all__ = ["JobSubject", "Subject", "Work", "once"]


class Subject(Protocol):
    """One job or test, with its fixtures set up."""

    @property
    def draws(self) -> bool:
        """Whether there is more than one example."""
        ...

    @property
    def options(self) -> Options: ...

    def search(self, example: Example | None) -> Search:
        """A search of one example; of what is there without one, where nothing is drawn."""
        ...

    def pursue(self, pursuit: Pursuit, seed: int) -> tuple[Example | None, Report] | None:
        """Draw examples until one shows a finding, and make it small; None if none does."""
        ...


Work = Callable[[Subject], None]
"""What is done with a subject in place of a plain search."""


class JobSubject:
    """A registered job."""

    def __init__(
        self,
        registration: Registration,
        options: Options,
        listener: Callable[[Progress], None],
        command: Callable[[Plan], str],
    ) -> None:
        self.registration = registration
        self.options = options
        self._listener = listener
        self._command = command

    @property
    def draws(self) -> bool:
        return needs_examples(self.registration)

    def search(self, example: Example | None) -> Search:
        def run(options: Options, **more: Any) -> Report:
            return self.registration.search(
                options, listener=self._listener, command=self._command, example=example, **more
            )

        return run

    def pursue(self, pursuit: Pursuit, seed: int) -> tuple[Example | None, Report] | None:
        if not self.draws:
            return once(self, pursuit)
        # Hypothesis asks for a few more than are searched, as it makes some of them twice.
        most = 3 * (pursuit.examples_max or pursuit.options.max_examples)
        drawn = drawn_for(self.registration, self.options, most, seed)
        return pursued(strategy_of(self.registration), pursuit, self.search, drawn)


def once(subject: Subject, pursuit: Pursuit) -> tuple[Example | None, Report] | None:
    """The pursuit of a subject that has one example."""
    if not pursuit.shows("", subject.search(None)):
        return None
    return None, pursuit.settled()
