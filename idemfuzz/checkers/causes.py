"""Causes: of many trials that show something, one candidate for each thing that is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from idemfuzz.checkers.verdicts import Problem
from idemfuzz.model import DifferenceKind, FaultKind, Lapse, Plan

__all__ = ["Candidate", "Causes", "Fallen"]

R = TypeVar("R")

_COMPOUND = frozenset({"rival", "stall"})
"""Mechanisms of more than one part."""


@dataclass(slots=True)
class Candidate(Generic[R]):
    """Problems of one cause, with the first (simplest) plan that showed them, and its run."""

    plan: Plan
    problems: list[Problem]
    run: R
    mechanism: str
    trials: int = 1


class Causes(Generic[R]):
    """Collects what trials show; ``alike`` tells whether two runs left the same world."""

    def __init__(self, alike: Callable[[R, R], bool]) -> None:
        self._alike = alike
        self._candidates: list[Candidate[R]] = []

    def __len__(self) -> int:
        return len(self._candidates)

    def __iter__(self) -> Iterator[Candidate[R]]:
        return iter(self._candidates)

    def add(self, plan: Plan, run: R, shown: Sequence[Problem]) -> None:
        """What a trial shows.

        What a plain duplicate explains is not news. A trial that shows all that a candidate of the same kind
        shows, and more of the same family, is the better evidence for it.
        """
        for candidate in self._candidates:
            # The very world that mere duplicates leave behind, by another way.
            if candidate.mechanism == "duplicate" and self._alike(candidate.run, run):
                candidate.trials += 1
                return
        mechanism = _mechanism(plan)
        explained = {p.locus for c in self._candidates if c.mechanism == "duplicate" for p in c.problems}
        problems = [p for p in shown if p.locus not in explained]
        if len(problems) < len(shown) and all(_is_consequence(p) for p in problems):
            # A second charge has another number: the changed column is the duplicate's, not a cause of its own.
            problems = []
        if (mechanism in _COMPOUND or len(plan.faults) > 1) and self._is_told_already(problems):
            return
        loci = {p.locus for p in problems}
        for candidate in self._candidates:
            known = {p.locus for p in candidate.problems}
            if known & {p.locus for p in shown}:
                candidate.trials += 1
            if candidate.mechanism == mechanism and loci <= known:
                return
        if not problems:
            return
        kin = (c for c in self._candidates if c.mechanism == mechanism and _grown(c.problems, problems))
        lesser = next(kin, None)
        if lesser is None:
            self._candidates.append(Candidate(plan, problems, run, mechanism))
        else:
            lesser.plan, lesser.problems, lesser.run = plan, problems, run

    def _is_told_already(self, problems: Sequence[Problem]) -> bool:
        """Two things had to come together for these; what one of them shows by itself is not news."""
        simpler = (c for c in self._candidates if c.mechanism not in _COMPOUND)
        return {p.locus[1:] for p in problems} <= {p.locus[1:] for c in simpler for p in c.problems}


class Fallen(Generic[R]):
    """Counts the plans that show something, and what they show; takes the place of `Causes` where no cause is looked for."""

    def __init__(self) -> None:
        self.count = 0
        self.codes: Counter[str] = Counter()
        self.first: tuple[Plan, Sequence[Problem]] | None = None
        """The first of them, which is the simplest."""

    def __len__(self) -> int:
        return self.count

    def add(self, plan: Plan, run: R, shown: Sequence[Problem]) -> None:
        self.count += 1
        self.codes.update({problem.code for problem in shown})
        if self.first is None:
            self.first = plan, shown


def _mechanism(plan: Plan) -> str:
    if any(isinstance(part, Lapse) for part in plan.overlap):
        return "stall"
    if plan.overlap:
        return "rival" if plan.faults else "overlap"
    if plan.faults:
        kind = plan.faults[0].kind
        return str(kind) if kind in (FaultKind.RESENT, FaultKind.FAILOVER) else "interruption"
    return "late" if plan.late_seconds else "duplicate"


def _is_consequence(problem: Problem) -> bool:
    difference = problem.difference
    return difference is not None and difference.kind is DifferenceKind.CHANGED


def _grown(old: Sequence[Problem], new: Sequence[Problem]) -> bool:
    """Whether ``new`` shows all of ``old`` and more, of the same families of codes."""
    same_families = {p.code[:4] for p in new} == {p.code[:4] for p in old}
    return same_families and {p.locus for p in old} < {p.locus for p in new}
