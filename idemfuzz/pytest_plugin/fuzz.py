"""pytest as the ground of a fuzzer and of a replay: it brings the fixtures, and another loop says which item is next.

An item may run many times; each time its fixtures are set up and torn down as always.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from idemfuzz import api
from idemfuzz.corpus import Entry
from idemfuzz.fuzz.campaign import Campaign, Slice, TimeIsUp
from idemfuzz.fuzz.examples import needs_examples
from idemfuzz.fuzz.replaying import Fate, Replayed, replayed
from idemfuzz.fuzz.subject import Subject, Work
from idemfuzz.fuzz.target import Target
from idemfuzz.pytest_plugin.jobs import JobItem
from idemfuzz.pytest_plugin.options import WORK
from idemfuzz.pytest_plugin.outcome import skip_reason
from idemfuzz.pytest_plugin.search import is_searched
from idemfuzz.session import Progress, ScenarioFailed

__all__ = ["FuzzLoop", "ReplayLoop"]


class _Following(pytest.Item):
    """Stands beside an item as the one that is said to come next."""

    def runtest(self) -> None:
        raise AssertionError("it is never run")


class _Loop(ABC):
    """Runs items in an order of its own, each with work of its own."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        if session.testsfailed:
            # What cannot be collected is pytest's to tell.
            return None
        turns = self._turns([item for item in session.items if is_searched(item)])
        turn = next(turns, None)
        while turn is not None:
            item, work = turn
            item.config.stash[WORK] = work
            # Whoever is next may be of another module: the fixtures of the session live on, all others are torn down.
            following = _Following.from_parent(session, name="following")
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            self._after(item)
            turn = next(turns, None)
        return True

    @abstractmethod
    def _turns(self, items: list[pytest.Item]) -> Iterator[tuple[pytest.Item, Work]]: ...

    @abstractmethod
    def _after(self, item: pytest.Item) -> None: ...


class FuzzLoop(_Loop):
    """One slice of a campaign after the other. Known findings of a target are replayed in the first one that it has here."""

    def __init__(self, campaign: Campaign, on_replay: Callable[[Replayed], None]) -> None:
        self._campaign = campaign
        self._on_replay = on_replay
        self._turn: Slice | None = None
        self._failed: dict[str, str] = {}
        self._skipped: dict[str, str] = {}

    def _turns(self, items: list[pytest.Item]) -> Iterator[tuple[pytest.Item, Work]]:
        by_name: dict[str, pytest.Item] = {}
        for item in _chosen(items, self._campaign.settings.part):
            name = item.nodeid
            if name in by_name:
                self._campaign.problems.append(
                    f"{name} is registered more than once; only the last one is searched"
                )
            by_name[name] = item
            job, draws = _described(item)
            sources = [item.function] if isinstance(item, pytest.Function) else []
            self._campaign.add(
                name, job, is_test=isinstance(item, pytest.Function), draws=draws, sources=sources
            )
        while (target := self._campaign.next()) is not None:
            self._turn = turn = self._campaign.slice(target)
            yield by_name[target.name], functools.partial(self._work, turn)

    def _after(self, item: pytest.Item) -> None:
        turn = self._turn
        if turn is None:
            return
        why = self._failed.pop(item.nodeid, None)
        if why is not None and not self._campaign.stopped:
            turn.target.unusable = why
        turn.target.skipped = self._skipped.pop(item.nodeid, "")
        turn.end()

    def _work(self, turn: Slice, subject: Subject) -> None:
        turn.target.draws = subject.draws
        pursuit = turn.pursuit(subject.options)
        found = None
        try:
            self._replay(turn.target, subject)
            found = subject.pursue(pursuit, turn.seed)
        except TimeIsUp:
            # What it had found by then is kept already, or is in what it looked at.
            pass
        example, report = found if found is not None else (None, None)
        turn.conclude(pursuit, report, example)

    def _replay(self, target: Target, subject: Subject) -> None:
        campaign, due = self._campaign, self._campaign.due[target.name]
        while due and not campaign.is_over:
            entry = due.pop(0)
            fresh = _read_again(entry)
            if fresh.drawn and fresh.example is None:
                continue
            fate = replayed(fresh, subject.search(fresh.example), subject.options)
            if fate.fate is not Fate.STILL_FAILING:
                # Found once more, it is news.
                del campaign.known[entry.id]
            self._on_replay(fate)

    @pytest.hookimpl
    def pytest_idemfuzz_progress(self, nodeid: str, progress: Progress) -> None:
        if self._turn is not None:
            self._turn.progress(progress)

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.setdefault(report.nodeid, _why(report))
        elif report.skipped:
            self._skipped[report.nodeid] = f"skipped: {skip_reason(report)}"


class ReplayLoop(_Loop):
    """Each saved finding on its target, once."""

    def __init__(self, entries: Iterable[Entry], on_replay: Callable[[Replayed], None]) -> None:
        self._entries = list(entries)
        self._on_replay = on_replay
        self._failed: dict[str, str] = {}
        self._open: Entry | None = None
        self.missing: list[Entry] = []
        """Those whose target is not there any more."""

    def _turns(self, items: list[pytest.Item]) -> Iterator[tuple[pytest.Item, Work]]:
        by_name = {item.nodeid: item for item in items}
        for entry in self._entries:
            item = by_name.get(entry.target)
            if item is None:
                self.missing.append(entry)
                continue
            self._open = entry
            yield item, functools.partial(self._work, entry)

    def _work(self, entry: Entry, subject: Subject) -> None:
        fresh = _read_again(entry)
        if fresh.drawn and fresh.example is None:
            why = f"its example cannot be made again: {fresh.unsaved or 'it was not kept'}"
            self._told(Replayed(entry, Fate.CHANGED, why))
            return
        if fresh.example is None and subject.draws:
            self._told(Replayed(entry, Fate.CHANGED, "it takes arguments now, and was found without"))
            return
        try:
            self._told(replayed(fresh, subject.search(fresh.example), subject.options))
        except ScenarioFailed as failure:
            self._told(Replayed(entry, Fate.CHANGED, f"it fails without any duplicate now: {failure}", 1))

    def _told(self, fate: Replayed) -> None:
        self._open = None
        self._on_replay(fate)

    def _after(self, item: pytest.Item) -> None:
        entry, self._open = self._open, None
        if entry is not None:
            why = self._failed.pop(item.nodeid, "it did not run")
            self._on_replay(Replayed(entry, Fate.CHANGED, why))

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.setdefault(report.nodeid, _why(report))
        elif report.skipped:
            self._failed.setdefault(report.nodeid, f"it is skipped: {skip_reason(report)}")


def _why(report: pytest.TestReport) -> str:
    """The error of a report in one line."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else report.longreprtext
    return next((line.strip() for line in text.splitlines() if line.strip()), "it failed")[:300]


def _read_again(entry: Entry) -> Entry:
    """With the job's module loaded, values of its classes can be read."""
    from idemfuzz.corpus import read
    from idemfuzz.model import PlanError

    if entry.example is not None or not entry.unsaved or entry.path is None:
        return entry
    try:
        return read(entry.path)
    except PlanError:
        return entry


def _chosen(items: list[pytest.Item], part: tuple[int, int]) -> list[pytest.Item]:
    """The share of one part: whole items where there are enough, else all, with seeds of its own."""
    number, parts = part
    if len(items) < parts:
        return items
    return [
        item
        for index, item in enumerate(sorted(items, key=lambda i: i.nodeid))
        if index % parts == number - 1
    ]


def _described(item: pytest.Item) -> tuple[Any, bool]:
    """The function to look for changes in, and whether examples are drawn."""
    if isinstance(item, JobItem):
        registration = item.registration
        return registration.job, needs_examples(registration)
    marker = item.get_closest_marker("idempotent")
    jobs = api.listed(marker.kwargs.get("job")) if marker is not None else []
    return (jobs[0] if jobs else getattr(item, "function", item)), hasattr(
        getattr(item, "obj", None), "hypothesis"
    )
