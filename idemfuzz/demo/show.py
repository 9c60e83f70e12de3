"""Judges the demo's jobs on each stack that is here, and shows what it sees."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from idemfuzz.model import Report, Verdict
from idemfuzz.reporting.screen import Screen
from idemfuzz.reporting.text import headline, mark_of, render_finding, style_of

__all__ = ["STACKS", "demonstrate"]

STACKS: tuple[str, ...] = ("sqlite", "postgresql", "mariadb")
"""What `--store` understands."""

_TITLES = {
    "sqlite": "SQLite and fakeredis",
    "postgresql": "PostgreSQL and Valkey or Redis",
    "mariadb": "MariaDB or MySQL and Valkey or Redis",
}


@dataclass(frozen=True, slots=True)
class _Case:
    """A job with what is expected of it; ``codes`` are those that one finding at least must have."""

    name: str
    argument: Any
    remark: str
    codes: frozenset[str] = frozenset()

    @property
    def expected(self) -> Verdict:
        return Verdict.VIOLATED if self.codes else Verdict.HOLDS

    def met_by(self, report: Report) -> bool:
        right = report.verdict is self.expected
        return right and (not self.codes or bool(self.codes & set(report.codes)))


_CASES = (
    _Case("create_user", "ada@example.org", "a bare INSERT", frozenset({"IDM101"})),
    _Case("create_user_right", "ada@example.org", "a unique key, and its violation means done"),
    _Case("grant_bonus", 7, "look for a flag in Redis, insert, set the flag", frozenset({"IDM101"})),
    _Case("grant_bonus_right", 7, "the same, and the primary key decides"),
    _Case("take_payment", 1, "a guarded payment, then a receipt: two commits", frozenset({"IDM202"})),
    _Case("take_payment_right", 1, "payment and receipt in one transaction"),
)
_SHOWN_IN_FULL = "grant_bonus"


def demonstrate(stacks: Sequence[str], screen: Screen) -> bool | None:
    """Judge every job on every stack; whether each verdict was the expected one.

    A stack that is not here is left out, with the reason and the mend. Without any, nothing was shown: None.
    """
    screen.say("Queues deliver at least once. What is left behind when these six jobs run twice, at the same")
    screen.say("time, or half and then again? No test says what to look for: whole databases are compared.")
    results: dict[str, dict[str, Report]] = {}
    left_out: dict[str, str] = {}
    for stack in stacks:
        screen.say()
        screen.say(_TITLES[stack], style="bold")
        try:
            with _opened(stack) as (engine, redis, versions):
                for version in versions:
                    screen.say(f"  {version}", style="dim")
                results[stack] = dict(_judged(engine, redis, screen, full=not results))
        except _Missing as missing:
            left_out[stack] = str(missing)
            screen.say(f"  - left out: {missing.reason}", style="yellow")
            screen.say(f"    mend: {missing.mend}", style="yellow")
    _summarise(results, left_out, screen)
    met = [case.met_by(reports[case.name]) for reports in results.values() for case in _CASES]
    return all(met) if met else None


def _judged(engine: Any, redis: Any, screen: Screen, *, full: bool) -> Iterator[tuple[str, Report]]:
    from sqlalchemy.orm import sessionmaker

    import idemfuzz
    from idemfuzz.demo import jobs

    jobs.Base.metadata.create_all(engine)
    sessions = sessionmaker(engine)
    for case in _CASES:
        job: Callable[..., None] = getattr(jobs, case.name)
        screen.advance(case.name, "searching", 0, 0, 0)
        scenario = partial(_call, case.name, sessions, redis, case.argument)
        report = idemfuzz.check(scenario, job=job, stores={"db": engine, "redis": redis}, name=case.name)
        _line(case, report, screen)
        if full and case.name == _SHOWN_IN_FULL and report.findings:
            shown = render_finding(report.findings[0], colour=screen.colour, width=screen.width - 4)
            screen.write("\n" + "\n".join(f"    {line}".rstrip() for line in shown.splitlines()) + "\n")
        yield case.name, report


def _call(name: str, *arguments: Any) -> None:
    """The scenario: by its name, since the search puts itself in the place of the function."""
    from idemfuzz.demo import jobs

    getattr(jobs, name)(*arguments)


def _line(case: _Case, report: Report, screen: Screen) -> None:
    surprise = "" if case.met_by(report) else f"  (expected: {case.expected} {' '.join(sorted(case.codes))})"
    screen.say(f"  {mark_of(report.verdict)} {case.name:<20}{case.remark}", style=style_of(report.verdict))
    screen.say(f"      {headline(report)}{surprise}", style="dim")


# -- stacks --------------------------------------------------------------------------------------------------


class _Missing(Exception):
    """A stack that is not here."""

    def __init__(self, reason: str, mend: str) -> None:
        super().__init__(f"{reason} ({mend})")
        self.reason, self.mend = reason, mend


@contextmanager
def _opened(stack: str) -> Iterator[tuple[Any, Any, list[str]]]:
    """An engine and a Redis client on empty databases of our own, and what they are."""
    try:
        import sqlalchemy

        import_module("redis")
    except ImportError as error:
        raise _Missing(f"{error.name} is not installed", "pip install 'idemfuzz[demo]'") from None
    opened = _sqlite() if stack == "sqlite" else _servers("mysql" if stack == "mariadb" else stack)
    with opened as (url, client, versions):
        engine = sqlalchemy.create_engine(url)
        try:
            yield engine, client, versions
        finally:
            engine.dispose()
            client.close()


@contextmanager
def _sqlite() -> Iterator[tuple[str, Any, list[str]]]:
    import sqlite3

    try:
        import fakeredis
    except ImportError:
        raise _Missing("fakeredis is not installed", "pip install 'idemfuzz[demo]'") from None
    with tempfile.TemporaryDirectory(prefix="idemfuzz-demo-", ignore_cleanup_errors=True) as folder:
        client = fakeredis.FakeRedis(server=fakeredis.FakeServer())
        versions = [f"SQLite {sqlite3.sqlite_version}, in a file of our own; Redis in this process"]
        yield f"sqlite:///{Path(folder) / 'demo.db'}", client, versions


@contextmanager
def _servers(kind: str) -> Iterator[tuple[str, Any, list[str]]]:
    import redis

    from idemfuzz import servers

    try:
        sql = servers.mysql() if kind == "mysql" else servers.postgresql()
        keys = servers.redis()
    except servers.Unavailable as error:
        raise _Missing(f"no {error.kind} server: {error.reason}", error.mend) from None
    with servers.database(kind) as url, servers.database("redis") as redis_url:
        versions = [f"{server.kind} {server.version}, {server.detail}" for server in (sql, keys)]
        yield url, redis.Redis.from_url(redis_url), versions


# -- the closing table ---------------------------------------------------------------------------------------


def _summarise(results: dict[str, dict[str, Report]], left_out: dict[str, str], screen: Screen) -> None:
    screen.say()
    if not results:
        screen.say("Nothing was judged, since no database is here.", style="bold red")
        return
    shown = [*results, *left_out]
    screen.say("Summary".ljust(24) + "".join(stack.ljust(20) for stack in shown), style="bold")
    for case in _CASES:
        cells = []
        for stack in shown:
            report = results.get(stack, {}).get(case.name)
            cells.append("left out" if report is None else _cell(case, report))
        style = "green" if case.expected is Verdict.HOLDS else "red"
        screen.say(f"  {case.name:<22}" + "".join(cell.ljust(20) for cell in cells).rstrip(), style=style)
    reports = [report for stack in results.values() for report in stack.values()]
    trials = sum(report.certificate.trials for report in reports)
    seconds = sum(report.certificate.seconds for report in reports)
    wrong = sum(not case.met_by(stack[case.name]) for stack in results.values() for case in _CASES)
    screen.say()
    if wrong:
        screen.say(f"{wrong} of {len(reports)} verdicts are not the expected ones.", style="bold red")
    else:
        screen.say(
            f"All {len(reports)} verdicts are the expected ones: {trials:,} trials in {seconds:.1f} s.",
            style="bold green",
        )
    screen.say(
        "Next: put @pytest.mark.idempotent(job=your_job) on a test that calls your_job, and run: idemfuzz run tests/"
    )


def _cell(case: _Case, report: Report) -> str:
    text = " ".join([str(report.verdict), *dict.fromkeys(report.codes)])
    return text if case.met_by(report) else f"{text} (!)"
