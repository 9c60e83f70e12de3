"""What a right job needs to be checked: its stores, its tables, what a fixture would have put there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import Mock

SQLITE, MEMORY, POSTGRESQL, PSYCOPG2, MARIADB = "sqlite", "memory", "postgresql", "psycopg2", "mariadb"

SQL = (SQLITE, MEMORY, POSTGRESQL, MARIADB)
"""What every SQL job runs on."""
SQL_AND_PSYCOPG2 = (*SQL, PSYCOPG2)
SERVERS = (POSTGRESQL, MARIADB)
PAIRS = (SQLITE, POSTGRESQL, MARIADB)
"""SQLite + fakeredis, PostgreSQL + Valkey, MariaDB + Redis: for jobs that use Redis."""


@dataclass(slots=True)
class World:
    """What a test's fixtures would hand to its body."""

    store: str
    db: Any
    redis: Any
    folder: Path
    gateway: Mock
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table: ``job`` is right, and ``scenario`` calls it as a test would."""

    job: Callable[..., Any] | Sequence[Callable[..., Any]]
    scenario: Callable[[World], Any]
    uses: str = "db"
    """Names of the stores that are handed in: db, redis, folder, gateway."""
    on: tuple[str, ...] = SQL
    tables: Sequence[Any] = ()
    seed: Callable[[World], Any] | None = None
    """Runs once, before the search, as a fixture would."""
    around: Callable[[World], AbstractContextManager[Any]] | None = None
    """What stands by during the search: a server, a stub of one."""
    notes: tuple[str, ...] = ()
    """Codes of the notes that are in place."""
    options: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    alarms: Mapping[str, str] = field(default_factory=dict)
    """Store (or ``*``) -> why the job is accused there today though it is right."""

    @property
    def title(self) -> str:
        first = self.job[0] if isinstance(self.job, Sequence) else self.job
        return self.name or first.__name__

    def create(self, world: World) -> None:
        """Make the case's tables and put in what a fixture would."""
        if self.tables:
            tables = [getattr(table, "__table__", table) for table in self.tables]
            tables[0].metadata.create_all(world.db, tables=tables)
        if self.seed is not None:
            self.seed(world)
