"""The nouns of the launcher, and what each kind of server must be able to do."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from idemfuzz.servers._launch import Program, Started

__all__ = ["Kind", "Origin", "Server", "Unavailable"]

Origin = Literal["given", "machine", "wheel"]

CONNECT_SECONDS_MAX = 2
_PREFIX = "idemfuzz_test_"


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers at ``url``; it says nothing about which of its databases may be touched.

    ``url`` is a SQLAlchemy URL (PostgreSQL, MySQL) or a redis-py URL; in :func:`status` it is empty for a
    server that would have to be started. ``detail`` is a line for people: which address, binary or wheel.
    """

    kind: str
    url: str
    origin: Origin
    version: str
    detail: str


class Unavailable(Exception):
    """There is no server of this kind here: ``reason`` says why, ``mend`` what to do about it."""

    def __init__(self, kind: str, reason: str, mend: str) -> None:
        self.kind = kind
        self.reason = reason
        self.mend = mend
        super().__init__(f"no {kind} server: {reason}. What to do: {mend}")

    def __reduce__(self) -> tuple[type[Unavailable], tuple[str, str, str]]:
        return type(self), (self.kind, self.reason, self.mend)


class Kind(ABC):
    """One kind of server: where it may be found, how it is started, how a database of it is lent."""

    name: ClassVar[str]
    variable: ClassVar[str]
    extra: ClassVar[str]
    no_wheel: ClassVar[str]
    mends: ClassVar[tuple[str, ...]]

    @abstractmethod
    def driver(self) -> str:
        """Return the name of the Python driver; raise ImportError if there is none."""

    @abstractmethod
    def normalise(self, url: str) -> str:
        """Return a given URL in the form that ``Server.url`` promises; raise ValueError with the reason."""

    @abstractmethod
    def addresses(self) -> tuple[str, ...]:
        """Return the URLs at which a server of this machine would stand."""

    @abstractmethod
    def check(self, url: str) -> str:
        """Return the version of a server that answers and lets us work; raise Unusable with the reason."""

    @abstractmethod
    def programs(self) -> tuple[Program, ...]:
        """Return the binaries that are here, best first."""

    @abstractmethod
    def start(self, program: Program) -> Started:
        """Start a server of our own; raise Unusable with the log's tail."""

    @abstractmethod
    def database(self, server: Server) -> AbstractContextManager[str]:
        """Lend a fresh database of the server."""


def shown(url: str) -> str:
    """Return the URL without its password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(not a URL)"
    query = [(name, "***" if "pass" in name.lower() else value) for name, value in parse_qsl(parts.query)]
    user, at, host = parts.netloc.rpartition("@")
    if ":" in user:
        user = user.partition(":")[0] + ":***"
    return joined(parts.scheme, user + at + host, parts.path, dict(query))


def joined(scheme: str, netloc: str, path: str, query: dict[str, str]) -> str:
    """Return the URL; unlike ``urlunsplit`` with ``//`` also where the host is empty."""
    words = urlencode(query, safe="*/", quote_via=quote)
    return f"{scheme}://{netloc}{path}" + (f"?{words}" if words else "")


def with_database(url: str, name: str) -> str:
    """Return the URL of another database of the same server."""
    parts = urlsplit(url)
    return joined(parts.scheme, parts.netloc, "/" + name, dict(parse_qsl(parts.query)))


def first_line(error: Exception) -> str:
    """Return an error as one line."""
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]


def execute(connection: Any, statement: str) -> None:
    """Run a statement on a DB-API connection."""
    with connection.cursor() as cursor:
        cursor.execute(statement)


def rows(connection: Any, statement: str) -> list[tuple[Any, ...]]:
    """Return the rows of a statement on a DB-API connection."""
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


@cache
def _place() -> str:
    """Return a short name for where a process id means something: this boot of this machine or container."""
    facts = [platform.node()]
    with suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
        facts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:8]


def new_name() -> str:
    """Return a database name that nobody has, and that says which process is answerable for it."""
    return f"{_PREFIX}{_place()}_{os.getpid()}_{secrets.token_hex(4)}"


def abandoned(names: list[tuple[Any, ...]]) -> list[str]:
    """Return those of the names that a process of this machine gave and that is no more."""
    pattern = re.compile(rf"{_PREFIX}{_place()}_(\d+)_[0-9a-f]{{8}}")
    found = []
    for (name,) in names:
        match = pattern.fullmatch(str(name))
        if match and not _lives(int(match[1])):
            found.append(str(name))
    return found


def _lives(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
