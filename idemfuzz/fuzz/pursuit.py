"""A pursuit: one example after the other is searched, until one shows a finding; then that is followed to a smaller example.

Whoever makes the examples (Hypothesis) need not know about plans: it asks of each example whether it shows the finding.
An example is first tried with the finding's own plan. Where that does not fit (a kill at the third insert, in an example with
one row), a short search by the same mechanism may bring another plan, which takes its place.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from idemfuzz.abc import Explorer, Options, SearchingExplorer
from idemfuzz.fuzz.totals import is_idle
from idemfuzz.model import Example, Finding, Lapse, Plan, Report, Verdict
from idemfuzz.session import ScenarioFailed
from idemfuzz.stage import Sight

__all__ = ["Pursuit", "Search", "size_of"]

Search = Callable[..., Report]
"""Searches one example under the options that are its argument; further keywords are for its `Session`."""

_FOLLOWED_TRIALS_MAX = 60
_LATER_SHARE = 4
_LATER_TRIALS_MIN = 100


def size_of(plan: Plan) -> tuple[int, int, int, bool, int]:
    """What makes one plan simpler than another: fewer faults, deliveries, preemptions; no time that passes; a shorter text."""
    return (len(plan.faults), plan.deliveries, len(plan.overlap), bool(plan.late_seconds), len(str(plan)))


def faults_of(plan: Plan) -> frozenset[str]:
    """The names, as in the ``faults`` option, of what a plan does."""
    names = {str(fault.kind) for fault in plan.faults}
    if plan.overlap:
        names.add("stall" if any(isinstance(part, Lapse) for part in plan.overlap) else "overlap")
    if plan.late_seconds:
        names.add("late")
    return frozenset(names or {"duplicate"})


def _always(finding: Finding) -> bool:
    return True


def _as_it_is(report: Report) -> Report:
    return report


@dataclass(slots=True)
class Pursuit:
    """See the module. ``news`` says which findings are worth following; ``found`` is told of the first one at once."""

    options: Options
    news: Callable[[Finding], bool] = _always
    judged: Callable[[Report], Report] = _as_it_is
    """What is made of each report before anybody sees it: what is accepted is taken out."""
    found: Callable[[Finding, Report, Example | None], None] | None = None
    ends: Callable[[], bool] = lambda: False
    """Whether the time is up: then no further example is searched."""
    shrink_seconds: float = 30.0
    examples_max: int | None = None
    explorers: Sequence[Explorer | SearchingExplorer] | None = None
    """Who proposes plans for a new example; None: those of every search."""
    looked_trials_max: int | None = None
    """How many trials a new example gets at most; what is found is followed with the usual number."""
    observer: Callable[[Sight], None] | None = None
    looked: list[tuple[Report, Example | None]] = field(default_factory=list)
    """The examples that were searched whole, with what came of it."""
    refused: Counter[str] = field(default_factory=Counter)
    """How often a scenario failed without any duplicate, by its error."""
    target: Finding | None = None
    """The finding that is followed."""
    _seen: set[str] = field(default_factory=set)
    _shown: dict[str, tuple[Search, Report]] = field(default_factory=dict)
    _last: str = ""
    _deadline: float = 0.0

    @property
    def reports(self) -> list[Report]:
        return [report for report, _ in self.looked]

    @property
    def looks(self) -> int:
        """How many examples were looked at, those that the scenario refused among them."""
        return len(self.looked) + sum(self.refused.values())

    def shows(
        self, key: str, search: Search, example: Example | None = None, *, refuses: bool = False
    ) -> bool:
        """Whether this example shows the finding; ``key`` is equal for equal examples.

        ``refuses``: an example with which the scenario fails without any duplicate is left out.

        Raises:
            Unusable: the set-up is refused.
            ScenarioFailed: the scenario fails without any duplicate, and may not.
        """
        try:
            shown = self._look(key, search, example) if self.target is None else self._follow(key, search)
        except ScenarioFailed as failure:
            if not refuses:
                raise
            self.refused[f"{type(failure.error).__name__}: {failure.error}".splitlines()[0]] += 1
            return False
        if shown:
            self._last = key
        return shown

    def _look(self, key: str, search: Search, example: Example | None) -> bool:
        most = self.options.max_examples if self.examples_max is None else self.examples_max
        if key in self._seen or self.looks >= most or self.ends():
            return False
        self._seen.add(key)
        report = self.judged(search(self._budgeted(), **self._more()))
        self.looked.append((report, example))
        finding = next((finding for finding in report.findings if self.news(finding)), None)
        if finding is None:
            return False
        self.target = finding
        self._deadline = time.monotonic() + self.shrink_seconds
        self._adopt(key, search, report, finding)
        self._seen.clear()
        if self.found is not None:
            self.found(finding, report, example)
        return True

    def _more(self) -> dict[str, Any]:
        more: dict[str, Any] = {} if self.explorers is None else {"explorers": self.explorers}
        return more if self.observer is None else {**more, "observer": self.observer}

    def _budgeted(self) -> Options:
        """The whole budget for the first example that has an effect, a part of it for each of the others."""
        most = self.options.max_trials
        if not all(is_idle(report) for report in self.reports):
            most = min(most, max(_LATER_TRIALS_MIN, most // _LATER_SHARE))
        if self.looked_trials_max is not None:
            most = min(most, self.looked_trials_max)
        return replace(self.options, max_trials=most)

    def _follow(self, key: str, search: Search) -> bool:
        if key in self._shown:
            return True
        if key in self._seen or time.monotonic() > self._deadline:
            return False
        self._seen.add(key)
        for options in self._followed():
            report = self.judged(search(options))
            same = [finding for finding in report.findings if self._is_same(finding)]
            if same:
                self._adopt(key, search, report, min(same, key=lambda f: size_of(f.counterexample.plan)))
                return True
        return False

    def _followed(self) -> list[Options]:
        assert self.target is not None
        plan = self.target.counterexample.plan
        by_plan = replace(self.options, plan=plan)
        return [by_plan] if plan == Plan(2) else [by_plan, self._narrowed(plan)]

    def _narrowed(self, plan: Plan) -> Options:
        return replace(
            self.options,
            faults=faults_of(plan),
            max_trials=min(self.options.max_trials, _FOLLOWED_TRIALS_MAX),
        )

    def _is_same(self, finding: Finding) -> bool:
        assert self.target is not None
        if finding.code != self.target.code or finding.verdict is not Verdict.VIOLATED:
            return False
        return faults_of(finding.counterexample.plan) <= faults_of(self.target.counterexample.plan)

    def _adopt(self, key: str, search: Search, report: Report, finding: Finding) -> None:
        self.target = finding
        self._shown[key] = (search, replace(report, findings=(finding,)))

    def settled(self, key: str | None = None) -> Report:
        """The report of the smallest example (``key``, or the last one that showed it), its plan made small once more."""
        self._last = key if key is not None and key in self._shown else self._last
        search, report = self._shown[self._last]
        finding = report.findings[0]
        self.target = finding
        if finding.counterexample.plan == Plan(2):
            return report
        # What was found by chance may have a plain cause: then all explorers are asked, not only those of its kind.
        plain = self.explorers is not None
        again = self.judged(search(self.options if plain else self._narrowed(finding.counterexample.plan)))
        for other in again.findings:
            same = _does_the_same(other, finding) if plain else self._is_same(other)
            if same and size_of(other.counterexample.plan) < size_of(self.target.counterexample.plan):
                self.target, report = other, replace(again, findings=(other,))
        return report


def _does_the_same(one: Finding, other: Finding) -> bool:
    """Whether two findings are the same damage, by whatever means."""
    if one.code != other.code or one.verdict is not Verdict.VIOLATED:
        return False
    places = [{(d.store, d.group) for d in finding.differences} for finding in (one, other)]
    return places[0] >= places[1]
