"""SQLite: a file is copied back whole, or row by row where there is a journal; a database in memory moves to a private file.

One connection shared by all (how a database in memory is used) cannot hold two transactions, so crashes and
overlaps could not be told from each other there. The file lies in memory, too, where the system has such a place.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from itertools import zip_longest
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.engine import Engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool, QueuePool

from idemfuzz.abc import Gate, Unusable
from idemfuzz.adapters.sqlalchemy.awaited import plain, within
from idemfuzz.adapters.sqlalchemy.flavour import Facts, Key, Look, Rows, Schemas, Table, is_memory, reflect
from idemfuzz.adapters.sqlalchemy.journal import is_ours
from idemfuzz.adapters.sqlalchemy.schema import SqliteSchema, recover
from idemfuzz.adapters.sqlalchemy.sqlite_journal import SqliteJournal, clear_away, obstacle
from idemfuzz.adapters.sqlalchemy.statement import Statement, mentions
from idemfuzz.scratch import scratch

_BUSY = 5
_BUSY_SNAPSHOT = 517
_SEQUENCES = "sqlite_sequence"
_OWN_COLLATION = re.compile(r"\bcollate\b(?!\W*(?:binary|nocase|rtrim)\b)", re.I)
_OWN_RULES = re.compile(r"\bon\s+conflict\b|^\s*create\s+virtual\b", re.I)


class SqliteFlavour:
    renews = False
    stale = False

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._gate: Gate
        self._side: Engine
        """Leads to the same database, on any thread and without an event loop."""
        self._own: sqlite3.Connection
        self.schema: SqliteSchema
        self._baseline: sqlite3.Connection
        self._move: _Move | None = None
        self._version: tuple[int, ...] = ()
        self._schema = -1
        self._journal: SqliteJournal | None = None
        self._reshaped = False
        """Whether the last look found another schema than the journal was made for."""
        self.journaled: frozenset[str] = frozenset()
        self.refused: Mapping[str, str] = {}
        self.unsure: frozenset[str] = frozenset()
        self.tables: dict[str, Table] = {}
        self.schemas = Schemas(_quoted, "main")
        self._attached: dict[str, str] = {}
        """What connections of the engine have attached -> its file."""
        self._baselines: dict[str, sqlite3.Connection] = {}
        """A copy of each attached database that is looked at."""
        self.views: frozenset[str] = frozenset()
        self.loose = False

    def open(self, gate: Gate) -> None:
        self._gate = gate
        if is_memory(self._engine):
            self._move = _Move(self._engine, gate)
            path = self._move.path
        else:
            path = str(self._engine.url.database)
        self._side = self._engine
        if self._engine.dialect.is_async:
            url = self._engine.url.set(drivername="sqlite")
            self._side = create_engine(url.set(database=path) if self._move else url, poolclass=NullPool)
        self._own = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=2.0, uri=path.startswith("file:")
        )
        self._own.execute("PRAGMA synchronous=OFF")
        self._baseline = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self.schema = SqliteSchema(self._own)
        recover(self.schema)
        clear_away(self._own)
        self.reflect()

    def reflect(self) -> None:
        with self._side.connect() as connection:
            self.tables = reflect(self._side, connection, schemas=self.schemas, facts=self._facts())

    def elsewhere(self, statement: Statement, parameters: Any) -> Sequence[str]:
        """What is attached when the connection leaves its pool: nothing of a search is there yet."""
        return [
            name for name in self._attached if name not in self._baselines and mentions(statement.text, name)
        ]

    def adopt(self, schema: str) -> Rows:
        if schema not in self._attached:
            # By a connection of another process: one of ours shows in which file it is.
            self._side.connect().close()
        path = self._attached.get(schema)
        if path is None:
            raise Unusable(f"a new connection has no database {schema!r} attached")
        if not path:
            raise Unusable(
                f"the attached database {schema!r} is in memory, each connection has one of its own"
            )
        if self._side is not self._engine:
            raise Unusable(f"the attached database {schema!r} belongs to an asynchronous engine")
        self._own.execute(f"ATTACH DATABASE ? AS {_quoted(schema)}", (path,))
        copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._own.backup(copy, name=schema)
        self._baselines[schema] = copy
        self.schemas.names.append(schema)
        self._version = self._data_version()
        tables = copy.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        )
        return {
            self.schemas.called(schema, name): copy.execute(f"SELECT * FROM {_quoted(name)}").fetchall()
            for (name,) in tables.fetchall()
        }

    def sizes(self, rows_max: int) -> Mapping[str, int]:
        counts = (
            f"(SELECT count(*) FROM (SELECT 1 FROM {self.schemas.quoted(n)} LIMIT {rows_max + 1}))"
            for n in self.tables
        )
        return (
            dict(zip(self.tables, self._own.execute(f"SELECT {', '.join(counts)}").fetchone(), strict=True))
            if self.tables
            else {}
        )

    def follow(self, names: Collection[str]) -> None:
        """All tables have a journal, or none has: what is copied back is the whole file."""
        why = obstacle(self._own) if names else ""
        if why:
            self.refused = dict.fromkeys(names, why)
        elif names:
            journal = SqliteJournal(self._own, self.tables)
            try:
                journal.start()
            except sqlite3.Error as error:
                self.refused = dict.fromkeys(names, str(error))
            else:
                self._journal = journal
                self.journaled = frozenset(self.tables)
        # With the triggers, so that copying back does not lose them.
        self.rebase()

    def unfollow(self) -> None:
        if self._journal is not None:
            clear_away(self._own)
            self._journal = None
            self.journaled = frozenset()

    def rebase(self) -> None:
        """We have changed the schema ourselves, with the baseline in place: this is what is copied back from now on."""
        self._own.backup(self._baseline)
        self._version = self._data_version()
        self._schema = self._schema_version()

    def foresee(self, connection: Any, statement: Statement) -> bool:
        """Another schema is noticed by `look`; only a trigger that names a lost column would be in the way."""
        if self._journal is not None and "alter" in statement.text.lower():
            for name in filter(statement.names, self.journaled):
                self._journal.make_way(connection, name)
        return False

    def reconstruct(self) -> Rows:
        return {name: self.recall(name) for name in self.journaled}

    def strayed(self) -> Sequence[str]:
        """Compared row by row with the copy, and copied back if anything differs."""
        found = []
        for name in sorted(self.journaled):
            query = f"SELECT * FROM {_quoted(name)}"
            pairs = zip_longest(self._own.execute(query), self._baseline.execute(query))
            if any(now != before for now, before in pairs):
                found.append(name)
        if found:
            self._copy_back()
        return found

    def recall(self, table: str) -> Sequence[Any]:
        schema, table = self.schemas.apart(table)
        baseline = self._baseline if schema is None else self._baselines[schema]
        known = baseline.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,))
        if not known.fetchone():
            return ()
        return baseline.execute(f"SELECT * FROM {_quoted(table)}").fetchall()

    def close(self) -> None:
        self.unfollow()
        self._own.close()
        for copy in (self._baseline, *self._baselines.values()):
            copy.close()
        if self._move is not None:
            self._move.back()
        else:
            # Connections with our settings must not stay in the pool.
            within(self._engine, self._gate, self._engine.pool.dispose)
            self._engine.pool = self._engine.pool.recreate()

    def read(self, names: Collection[str]) -> Rows:
        return {
            name: self._own.execute(f"SELECT * FROM {self.schemas.quoted(name)}").fetchall() for name in names
        }

    def look(self) -> Look:
        if self._journal is None:
            return Look(self.read(self.tables))
        self._reshaped = self._schema_version() != self._schema
        if self._reshaped:
            self.reflect()
            return Look(self.read(self.tables))
        added, removed = self._journal.net()
        return Look(self.read([name for name in self.tables if name not in self.journaled]), added, removed)

    def decode(self, table: str, rows: Sequence[Any]) -> Sequence[Mapping[str, Any]]:
        names = [column.name for column in self.tables[table].columns]
        return [dict(zip(names, row, strict=True)) for row in rows]

    def unchanged(self) -> bool:
        """Whether no connection has written since the last `restore`."""
        return self._data_version() == self._version

    def restore(self, added: Rows, removed: Rows) -> None:
        if self.unchanged():
            return
        try:
            if self._journal is None or self._reshaped:
                self._copy_back()
            else:
                self._journal.undo()
            for schema, copy in self._baselines.items():
                # Not by our own connection: what it changes itself, it does not take for a change.
                with contextlib.closing(sqlite3.connect(self._attached[schema], timeout=2.0)) as target:
                    copy.backup(target)
        except sqlite3.OperationalError as error:
            raise Unusable(
                f"the SQLite database cannot be restored ({error}): a connection still has a transaction open. "
                "Close sessions and connections that the test's body opens before it ends"
            ) from error
        self._version = self._data_version()

    def _copy_back(self) -> None:
        self._baseline.backup(self._own)
        # Copying makes the number larger, so that all connections read the schema again.
        self._schema = self._schema_version()
        if self._reshaped:
            self.reflect()
            self._reshaped = False

    def freshen(self) -> None:
        """Nothing is put off."""

    def perturb(self) -> bool:
        """Only AUTOINCREMENT remembers ids; a plain rowid is the largest one plus one."""
        if not self._own.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (_SEQUENCES,)).fetchone():
            return False
        # A row is made for tables that had none: their first id moves, too.
        known = {name for (name,) in self._own.execute(f"SELECT name FROM {_SEQUENCES}")}
        wanted = [
            name
            for name, sql in self._own.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'")
            if "autoincrement" in (sql or "").lower()
        ]
        for number, name in enumerate(wanted, 1):
            if name in known:
                self._own.execute(
                    f"UPDATE {_SEQUENCES} SET seq = seq + ? WHERE name = ?", (1000 + 37 * number, name)
                )
            else:
                self._own.execute(
                    f"INSERT INTO {_SEQUENCES} (name, seq) VALUES (?, ?)", (name, 1000 + 37 * number)
                )
        return bool(wanted)

    def uncommitted(self, connection: Any) -> bool:
        return bool(getattr(connection, "in_transaction", False))

    def roll_back(self, connection: Any) -> Callable[[], None]:
        with contextlib.suppress(sqlite3.Error):
            connection.rollback()
        return lambda: None

    def break_off(self, connection: Any) -> None:
        connection.interrupt()

    def rests(self, connection: Any) -> bool:
        return False

    def renew(self, connection: Any) -> bool:
        """Functions, attached files and pragmas cannot be listed; and opening a file costs little."""
        return False

    def autocommits(self, connection: Any, statement: Statement) -> bool:
        if connection.in_transaction:
            return False
        if getattr(connection, "autocommit", -1) is True or connection.isolation_level is None:
            return statement.verb not in ("begin", "savepoint")
        return statement.verb not in ("insert", "update", "delete", "replace")

    def welcome(self, connection: Any) -> None:
        """Nobody pulls the plug during a search: no commit needs to reach the disk. And the journal sees REPLACE."""
        for _, name, path in connection.execute("PRAGMA database_list").fetchall():
            if name not in ("main", "temp"):
                self._attached.setdefault(name, path)
        if self._journal is not None:
            connection.execute("PRAGMA recursive_triggers=ON")
        if not connection.in_transaction:
            connection.execute("PRAGMA synchronous=OFF")

    def be_hasty(self, connection: Any) -> None:
        connection.execute("PRAGMA busy_timeout=0")

    def be_patient(self, connection: Any) -> None:
        connection.execute("PRAGMA busy_timeout=5000")

    def cut(self, connection: Any) -> None:
        # SQLITE_IOERR rolls back by itself, and the connection may go on.
        with contextlib.suppress(sqlite3.Error):
            connection.rollback()

    def refuse(self, doing: str) -> BaseException:
        return sqlite3.OperationalError("disk I/O error")

    def lose(self, doing: str) -> BaseException:
        return sqlite3.OperationalError("disk I/O error")

    def busy(self, error: BaseException) -> bool:
        if not isinstance(error, sqlite3.OperationalError):
            return False
        code = getattr(error, "sqlite_errorcode", None)
        if code is None:
            return "is locked" in str(error)
        return code & 0xFF in (_BUSY, 6) and code != _BUSY_SNAPSHOT

    def waiting(self, connection: Any) -> Callable[[], bool] | None:
        return None

    def _facts(self) -> Facts:
        master = [
            (type_, self.schemas.called(schema, name), self.schemas.called(schema, table), sql)
            for schema in ("main", *self.schemas.names)
            for type_, name, table, sql in self._own.execute(
                f"SELECT type, name, tbl_name, coalesce(sql, '') FROM {_quoted(schema)}.sqlite_master"
            ).fetchall()
            if not is_ours(name)
        ]
        self.views = frozenset(name for type_, name, _, _ in master if type_ == "view")
        keys: dict[str, list[Key]] = {}
        odd: set[str] = set()
        vague: set[tuple[str, str]] = set()
        for type_, name, table, sql in master:
            if type_ == "trigger":
                odd.update((table, name))
            if _OWN_COLLATION.search(sql):
                vague.update((table, row[1]) for row in self._info("table_info", table))
            if type_ != "table":
                continue
            if _OWN_RULES.search(sql):
                odd.add(name)
            schema, _ = self.schemas.apart(name)
            for _, index, unique, _, partial in self._info("index_list", name):
                if unique:
                    where = self.schemas.called(schema, index)
                    columns = [row[2] for row in self._info("index_info", where)]
                    keys.setdefault(name, []).append(
                        Key(index, () if None in columns else tuple(columns), bool(partial))
                    )
        return Facts(keys, frozenset(odd), frozenset(vague), frozenset())

    def _info(self, pragma: str, name: str) -> list[Any]:
        schema, bare = self.schemas.apart(name)
        return self._own.execute(
            f"PRAGMA {_quoted(schema or self.schemas.default)}.{pragma}({_quoted(bare)})"
        ).fetchall()

    def _data_version(self) -> tuple[int, ...]:
        """Of each database that is looked at: it moves when another connection has written to it."""
        return tuple(
            int(self._own.execute(f"PRAGMA {_quoted(schema)}.data_version").fetchone()[0])
            for schema in (self.schemas.default, *self.schemas.names)
        )

    def _schema_version(self) -> int:
        (version,) = self._own.execute("PRAGMA schema_version").fetchone()
        return int(version)


class _Move:
    """An in-memory database lives in a private file from here to `back`."""

    def __init__(self, engine: Engine, gate: Gate) -> None:
        self._engine = engine
        self._gate = gate
        self._pool = engine.pool
        shared = Path("/dev/shm")
        usable = shared.is_dir() and os.access(shared, os.W_OK)
        with ExitStack() as life:
            folder = life.enter_context(scratch("idemfuzz-memory-", shared if usable else None))
            self.path = str(folder / "memory.sqlite")
            within(engine, gate, self._copy)
            self._life = life.pop_all()
        connect = engine.dialect.connect

        def connect_to_file(*args: Any, **kwargs: Any) -> Any:
            kwargs.pop("uri", None)
            connection: Any = connect(self.path, *args[1:], **{**kwargs, "check_same_thread": False})
            own = plain(connection, gate)
            own.execute("PRAGMA synchronous=OFF")
            own.execute("PRAGMA journal_mode=MEMORY").fetchone()
            return connection

        engine.dialect.connect = connect_to_file  # type: ignore[method-assign]
        pool = AsyncAdaptedQueuePool if engine.dialect.is_async else QueuePool
        engine.pool = pool(
            self._pool._creator,
            dialect=engine.dialect,
            max_overflow=-1,
            _dispatch=self._pool.dispatch,
        )

    def _copy(self) -> None:
        source = self._engine.raw_connection()
        cursor = source.cursor()
        cursor.execute("PRAGMA database_list")
        attached = [name for _, name, path in cursor.fetchall() if name not in ("main", "temp") and not path]
        cursor.close()
        if attached:
            source.close()
            raise Unusable(
                f"to the database in memory, {attached[0]!r} is attached, which is in memory, too: a worker with a connection of "
                "its own would have another one. Attach a file, or give the engine for tests "
                f"execution_options(schema_translate_map={{{attached[0]!r}: None}})"
            )
        target = sqlite3.connect(self.path, check_same_thread=False)
        try:
            copied = source.driver_connection.backup(target)  # type: ignore[union-attr]
            if copied is not None:
                self._gate.wait(copied)
        finally:
            target.close()
            source.close()

    def back(self) -> None:
        within(self._engine, self._gate, self._engine.pool.dispose)
        self._engine.pool = self._pool
        vars(self._engine.dialect).pop("connect", None)
        self._life.close()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
