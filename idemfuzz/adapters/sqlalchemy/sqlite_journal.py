"""SQLite's journal: one table of ours without types, which triggers on all tables fill.

A trigger there changes neither ``last_insert_rowid()`` nor ``changes()``. Two things pass triggers by: ``REPLACE``, unless
``recursive_triggers`` is on in the connection, and virtual tables. So the flavour switches the former on, and a database with
virtual tables, or with triggers of its own that might then recurse, is read in full.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from idemfuzz.adapters.sqlalchemy.flavour import Table
from idemfuzz.adapters.sqlalchemy.journal import OURS, fold, is_ours

_JOURNAL = f"{OURS}journal"
_SEQUENCES = "sqlite_sequence"
_EVENTS = {"insert": ((1, "NEW"),), "delete": ((-1, "OLD"),), "update": ((-1, "OLD"), (1, "NEW"))}

Standing = tuple[Any, tuple[Any, ...], tuple[type, ...]]
"""A row with its rowid (None in a table without) and the types of its values: 1, 1.0 and True are not one to SQLite."""


class SqliteJournal:
    """On all tables of a database, from `start` to `stop`."""

    def __init__(self, own: sqlite3.Connection, tables: Mapping[str, Table]) -> None:
        self._own = own
        self._tables = tables
        self._numbers = {name: number for number, name in enumerate(tables, 1)}
        self._rowids = {name: _rowid_of(own, table) for name, table in tables.items()}
        self._seen = 0
        self._added: dict[str, list[Standing]] = {}
        self._removed: dict[str, list[Standing]] = {}
        self._sequences = self._read_sequences()
        self._user_version = self._read_user_version()

    def start(self) -> None:
        """Put a trigger for each event on each table."""
        width = max((len(table.columns) for table in self._tables.values()), default=0)
        columns = ", ".join(("place", *(f"c{number}" for number in range(width))))
        self._own.execute("BEGIN IMMEDIATE")
        try:
            self._own.execute(f"CREATE TABLE {_JOURNAL} (number, sign, {columns})")
            for name in self._tables:
                for event in _EVENTS:
                    self._own.execute(self._trigger(name, event, width))
            self._own.execute("COMMIT")
        except BaseException:
            self._own.execute("ROLLBACK")
            raise

    def _trigger(self, name: str, event: str, width: int) -> str:
        columns = self._tables[name].columns
        rowid = self._rowids[name]
        rows = []
        for sign, row in _EVENTS[event]:
            values = [str(self._numbers[name]), str(sign), f"{row}.{_quoted(rowid)}" if rowid else "NULL"]
            values += [f"{row}.{_quoted(column.name)}" for column in columns]
            values += ["NULL"] * (width - len(columns))
            rows.append(f"({', '.join(values)})")
        return (
            f"CREATE TRIGGER {self._name(name, event)} AFTER {event} ON {_quoted(name)} BEGIN "
            f"INSERT INTO {_JOURNAL} VALUES {', '.join(rows)}; END"
        )

    def _name(self, table: str, event: str) -> str:
        return f"{OURS}{self._numbers[table]}_{event}"

    def make_way(self, connection: Any, table: str) -> None:
        """A column that is about to go away must not be named by a trigger."""
        for event in _EVENTS:
            connection.execute(f"DROP TRIGGER IF EXISTS {self._name(table, event)}")

    def net(self) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
        """What was added to and removed from each table; `undo` takes back what this has found."""
        rows = self._own.execute(f"SELECT rowid, * FROM {_JOURNAL}").fetchall()
        names = {number: name for name, number in self._numbers.items()}
        self._seen = max((row[0] for row in rows), default=0)
        entries = []
        for _, number, sign, place, *padded in rows:
            name = names[number]
            values = tuple(padded[: len(self._tables[name].columns)])
            entries.append((name, sign, (place, values, tuple(map(type, values))), None))
        net = fold(entries)
        self._added, self._removed = net.added, net.removed
        added, removed = {}, {}
        for name in {**net.added, **net.removed}:
            # The same row elsewhere is put back, but is no change.
            left = Counter(values for _, values, _ in net.added.get(name, ()))
            left.subtract(values for _, values, _ in net.removed.get(name, ()))
            added[name] = [values for values, count in left.items() for _ in range(count)]
            removed[name] = [values for values, count in left.items() for _ in range(-count)]
        return added, removed

    def undo(self) -> None:
        """Put back rows where they stood, and the next ids."""
        self._own.execute("BEGIN IMMEDIATE")
        try:
            (last,) = self._own.execute(f"SELECT coalesce(max(rowid), 0) FROM {_JOURNAL}").fetchone()
            for name, rows in self._added.items():
                self._delete(self._tables[name], rows)
            for name, rows in self._removed.items():
                self._insert(self._tables[name], rows)
            if self._read_sequences() != self._sequences:
                self._own.execute(f"DELETE FROM {_SEQUENCES}")
                self._own.executemany(
                    f"INSERT INTO {_SEQUENCES} (rowid, name, seq) VALUES (?, ?, ?)", self._sequences
                )
            if self._read_user_version() != self._user_version:
                self._own.execute(f"PRAGMA user_version = {self._user_version}")
            # What was put back has been journaled, too; what somebody wrote after the look is for the next one.
            self._own.execute(f"DELETE FROM {_JOURNAL} WHERE rowid <= ? OR rowid > ?", (self._seen, last))
            self._own.execute("COMMIT")
        except BaseException:
            self._own.execute("ROLLBACK")
            raise
        self._added, self._removed, self._seen = {}, {}, 0

    def _delete(self, table: Table, rows: Sequence[Standing]) -> None:
        rowid = self._rowids[table.name]
        names = [column.name for column in table.columns]
        where = [rowid] if rowid else list(table.key)
        self._own.executemany(
            f"DELETE FROM {_quoted(table.name)} WHERE {' AND '.join(f'{_quoted(name)} = ?' for name in where)}",
            [
                (place,) if rowid else tuple(values[names.index(name)] for name in table.key)
                for place, values, _ in rows
            ],
        )

    def _insert(self, table: Table, rows: Sequence[Standing]) -> None:
        rowid = self._rowids[table.name]
        places = [number for number, column in enumerate(table.columns) if not column.computed]
        names = [*([rowid] if rowid else []), *table.writable]
        self._own.executemany(
            f"INSERT INTO {_quoted(table.name)} ({', '.join(map(_quoted, names))}) VALUES ({', '.join('?' * len(names))})",
            [
                (*([place] if rowid else []), *(values[number] for number in places))
                for place, values, _ in rows
            ],
        )

    def _read_sequences(self) -> list[tuple[int, str, int]]:
        if not self._own.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (_SEQUENCES,)).fetchone():
            return []
        return self._own.execute(f"SELECT rowid, name, seq FROM {_SEQUENCES}").fetchall()

    def _read_user_version(self) -> int:
        (version,) = self._own.execute("PRAGMA user_version").fetchone()
        return int(version)


def clear_away(own: sqlite3.Connection) -> None:
    """Remove what is ours, whoever put it there."""
    found = own.execute("SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'table')").fetchall()
    ours = [(kind, name) for kind, name in found if is_ours(name)]
    # Before the table that they write to.
    for kind, name in sorted(ours, reverse=True):
        own.execute(f"DROP {kind} {_quoted(name)}")


def obstacle(own: sqlite3.Connection) -> str:
    """Why the database cannot have a journal; empty if it can."""
    for kind, name, sql in own.execute("SELECT type, name, coalesce(sql, '') FROM sqlite_master"):
        if kind == "trigger" and not is_ours(name):
            return f"the trigger {name} would recurse if REPLACE were seen"
        if kind == "table" and sql.lstrip()[:14].lower() == "create virtual":
            return f"the virtual table {name} can have no trigger"
    return ""


def _rowid_of(own: sqlite3.Connection, table: Table) -> str:
    """The name by which a table's rowid goes; empty if it has none."""
    columns = {column.name.lower() for column in table.columns}
    for name in ("rowid", "_rowid_", "oid"):
        if name in columns:
            continue
        try:
            own.execute(f"SELECT {name} FROM {_quoted(table.name)} LIMIT 0")
        except sqlite3.OperationalError:
            return ""
        return name
    return ""


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
