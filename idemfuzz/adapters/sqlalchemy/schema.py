"""Unique keys, taken away from a test database or put in for a while, and the schema as it was afterwards.

What is to be done to have the old schema again is written into a table of ours before anything is changed (or with it,
where that is one transaction): the next search puts back what a killed one has left.
"""

from __future__ import annotations

import itertools
import re
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from idemfuzz.abc import Irremovable, Unusable
from idemfuzz.adapters.sqlalchemy.flavour import Key, Schemas, Table
from idemfuzz.adapters.sqlalchemy.journal import OURS

__all__ = ["MysqlSchema", "PostgresqlSchema", "Schema", "SqliteSchema", "recover"]

Run = Callable[..., list[tuple[Any, ...]]]

_NOTES = f"{OURS}schema"
_numbers = itertools.count(1)


class Schema(Protocol):
    """Changes of one database's keys. Called between trials, on idemfuzz's own connection."""

    def drop(self, table: Table, key: Key) -> None:
        """Take a unique key away.

        Raises:
            Irremovable: the database refuses; nothing was changed.
        """
        ...

    def add(self, table: str, columns: Sequence[str]) -> None:
        """Put a unique key in.

        Raises:
            Irremovable: the database refuses; nothing was changed.
        """
        ...

    def put_back(self) -> None:
        """The schema as it was; also what a search that was killed has left."""
        ...


def recover(schema: Schema) -> None:
    """Before a search: the schema as it was before one that was killed.

    Raises:
        Unusable: it cannot be had, as rows stand against it now.
    """
    try:
        schema.put_back()
    except Exception as error:
        raise Unusable(
            f"a search that was killed has left the database without a unique key, and it cannot be put back: "
            f"{_first_line(error)}. The table {_NOTES} has the statements; make the database anew, or run them by hand"
        ) from error


class PostgresqlSchema:
    """A change and the note of how to undo it are one transaction."""

    def __init__(self, run: Run, error: type[Exception], schemas: Schemas) -> None:
        self._run = run
        self._error = error
        self._schemas = schemas

    def drop(self, table: Table, key: Key) -> None:
        where = self._schemas.quoted(table.name)
        found = self._run(
            "SELECT pg_get_indexdef(x.indexrelid), quote_ident(c.conname), pg_get_constraintdef(c.oid) "
            "FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid "
            "LEFT JOIN pg_constraint c ON c.conindid = x.indexrelid AND c.contype IN ('p', 'u', 'x') "
            f"WHERE t.oid = to_regclass({_text(where)}) AND i.relname = {_text(key.name)}"
        )
        if not found:
            raise Irremovable(
                f"the index {key.name} of {table.name} is not in the schema that the connection uses"
            )
        index, constraint, definition = found[0]
        if constraint is None:
            self._change(f"DROP INDEX {self._beside(table.name, key.name)}", index)
        else:
            self._change(
                f"ALTER TABLE {where} DROP CONSTRAINT {constraint}",
                f"ALTER TABLE {where} ADD CONSTRAINT {constraint} {definition}",
            )

    def add(self, table: str, columns: Sequence[str]) -> None:
        name = f"{OURS}key_{next(_numbers)}"
        listed = ", ".join(map(_doubly, columns))
        self._change(
            f"CREATE UNIQUE INDEX {_doubly(name)} ON {self._schemas.quoted(table)} ({listed})",
            f"DROP INDEX {self._beside(table, name)}",
        )

    def _beside(self, table: str, index: str) -> str:
        """An index is in its table's schema."""
        schema, _ = self._schemas.apart(table)
        return _doubly(index) if schema is None else f"{_doubly(schema)}.{_doubly(index)}"

    def _change(self, statement: str, undo: str) -> None:
        self._run("BEGIN")
        try:
            self._run(f"CREATE TABLE IF NOT EXISTS {_NOTES} (number int, way_back text)")
            self._run(f"INSERT INTO {_NOTES} VALUES ({next(_numbers)}, {_text(undo)})")
            self._run(statement)
            self._run("COMMIT")
        except self._error as error:
            self._run("ROLLBACK")
            raise _refused(error) from error
        except BaseException:
            self._run("ROLLBACK")
            raise

    def put_back(self) -> None:
        if not self._run(f"SELECT to_regclass({_text(_NOTES)})::text")[0][0]:
            return
        self._run("BEGIN")
        try:
            for (undo,) in self._run(f"SELECT way_back FROM {_NOTES} ORDER BY number DESC"):
                self._run(undo)
            self._run(f"DROP TABLE {_NOTES}")
            self._run("COMMIT")
        except BaseException:
            self._run("ROLLBACK")
            raise


class MysqlSchema:
    """A key is replaced by an index of the same columns that is not unique, so that foreign keys still have theirs.

    Each change commits by itself; undoing one that was noted and not made says that there is nothing to drop.
    """

    def __init__(self, run: Run, error: type[Exception], schemas: Schemas) -> None:
        self._run = run
        self._error = error
        self._schemas = schemas

    def drop(self, table: Table, key: Key) -> None:
        ((_, created),) = self._run(f"SHOW CREATE TABLE {self._schemas.quoted(table.name)}")
        primary = key.name == "PRIMARY"
        head = "PRIMARY KEY " if primary else f"UNIQUE KEY {_backed(key.name)} "
        lines = (line.strip().rstrip(",") for line in str(created).splitlines())
        unique = next((line for line in lines if line.startswith(head)), None)
        if unique is None:
            raise Irremovable(f"the key {key.name} of {table.name} was not found in its definition")
        name = f"{OURS}key_{next(_numbers)}" if primary else key.name
        plain = f"KEY {_backed(name)} {unique.removeprefix(head)}"
        old = "DROP PRIMARY KEY" if primary else f"DROP KEY {_backed(key.name)}"
        self._change(
            f"ALTER TABLE {self._schemas.quoted(table.name)} {old}, ADD {plain}",
            f"ALTER TABLE {self._schemas.quoted(table.name)} DROP KEY {_backed(name)}, ADD {unique}",
        )

    def add(self, table: str, columns: Sequence[str]) -> None:
        name = _backed(f"{OURS}key_{next(_numbers)}")
        listed = ", ".join(map(_backed, columns))
        self._change(
            f"ALTER TABLE {self._schemas.quoted(table)} ADD UNIQUE KEY {name} ({listed})",
            f"ALTER TABLE {self._schemas.quoted(table)} DROP KEY {name}",
        )

    def _change(self, statement: str, undo: str) -> None:
        number = next(_numbers)
        self._run(f"CREATE TABLE IF NOT EXISTS {_NOTES} (number int, way_back text)")
        self._run(f"INSERT INTO {_NOTES} VALUES (%s, %s)", (number, undo))
        try:
            self._run(statement)
        except self._error as error:
            self._run(f"DELETE FROM {_NOTES} WHERE number = %s", (number,))
            raise _refused(error) from error

    def put_back(self) -> None:
        if not self._run(
            "SELECT 1 FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = %s",
            (_NOTES,),
        ):
            return
        for number, undo in self._run(f"SELECT number, way_back FROM {_NOTES} ORDER BY number DESC"):
            try:
                self._run(undo)
            except self._error as error:
                if error.args[:1] != (_NOTHING_TO_DROP,):
                    raise
            self._run(f"DELETE FROM {_NOTES} WHERE number = %s", (number,))
        self._run(f"DROP TABLE {_NOTES}")


_NOTHING_TO_DROP = 1091


class SqliteSchema:
    """SQLite drops an index, but no constraint: such a table is made anew without it, and filled again."""

    def __init__(self, own: sqlite3.Connection) -> None:
        self._own = own

    def drop(self, table: Table, key: Key) -> None:
        sql = self._definition("index", key.name)
        if sql:
            self._change([f"DROP INDEX {_doubly(key.name)}"], [sql])
            return
        created = self._definition("table", table.name)
        without = _without_key(created, [column.name for column in table.columns], key)
        if without is None:
            raise Irremovable(
                f"the definition of {table.name} is one that idemfuzz cannot write without this key"
            )
        self._change(self._made_anew(table, without), self._made_anew(table, created))

    def add(self, table: str, columns: Sequence[str]) -> None:
        name = _doubly(f"{OURS}key_{next(_numbers)}")
        listed = ", ".join(map(_doubly, columns))
        self._change(
            [f"CREATE UNIQUE INDEX {name} ON {_doubly(table)} ({listed})"], [f"DROP INDEX IF EXISTS {name}"]
        )

    def put_back(self) -> None:
        if not self._definition("table", _NOTES):
            return
        undo = [
            statement
            for (text,) in self._own.execute(f"SELECT way_back FROM {_NOTES} ORDER BY number DESC").fetchall()
            for statement in text.split(_BETWEEN)
        ]
        self._transact([*undo, f"DROP TABLE {_NOTES}"])

    def _change(self, statements: Sequence[str], undo: Sequence[str]) -> None:
        note = f"INSERT INTO {_NOTES} VALUES ({next(_numbers)}, {_text(_BETWEEN.join(undo))})"
        try:
            self._transact([f"CREATE TABLE IF NOT EXISTS {_NOTES} (number, way_back)", note, *statements])
        except sqlite3.Error as error:
            raise _refused(error) from error

    def _transact(self, statements: Sequence[str]) -> None:
        # So that renaming does not touch what other tables and views say of this one.
        self._own.execute("PRAGMA legacy_alter_table=ON")
        self._own.execute("BEGIN IMMEDIATE")
        try:
            for statement in statements:
                self._own.execute(statement)
            self._own.execute("COMMIT")
        except BaseException:
            self._own.execute("ROLLBACK")
            raise
        finally:
            self._own.execute("PRAGMA legacy_alter_table=OFF")

    def _definition(self, kind: str, name: str) -> str:
        row = self._own.execute(
            "SELECT sql FROM sqlite_master WHERE type = ? AND name = ?", (kind, name)
        ).fetchone()
        return str(row[0] or "") if row else ""

    def _made_anew(self, table: Table, sql: str) -> list[str]:
        """What gives a table another definition: its rows, indexes, triggers and next id stay."""
        name, aside = _doubly(table.name), _doubly(f"{OURS}{table.name}")
        listed = ", ".join(map(_doubly, table.writable))
        others = self._own.execute(
            "SELECT sql FROM sqlite_master WHERE tbl_name = ? AND type IN ('index', 'trigger') AND sql IS NOT NULL",
            (table.name,),
        ).fetchall()
        statements = [
            f"ALTER TABLE {name} RENAME TO {aside}",
            sql,
            f"INSERT INTO {name} ({listed}) SELECT {listed} FROM {aside} ORDER BY rowid"
            if self._has_rowid(table.name)
            else f"INSERT INTO {name} ({listed}) SELECT {listed} FROM {aside}",
            f"DROP TABLE {aside}",
            *(sql for (sql,) in others),
        ]
        known = (
            self._definition("table", "sqlite_sequence")
            and self._own.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table.name,)).fetchone()
        )
        if known:
            statements += [
                f"DELETE FROM sqlite_sequence WHERE name = {_text(table.name)}",
                f"INSERT INTO sqlite_sequence (name, seq) VALUES ({_text(table.name)}, {int(known[0])})",
            ]
        return statements

    def _has_rowid(self, table: str) -> bool:
        try:
            self._own.execute(f"SELECT rowid FROM {_doubly(table)} LIMIT 0")
        except sqlite3.OperationalError:
            return False
        return True


_BETWEEN = "\n-- _idemfuzz_ --\n"
_KEY_OF_COLUMN = re.compile(
    r"(?:\bCONSTRAINT\s+\S+\s+)?\b(?:UNIQUE|PRIMARY\s+KEY(?:\s+(?:ASC|DESC))?)\b"
    r"(?:\s+ON\s+CONFLICT\s+\w+)?(?:\s+AUTOINCREMENT\b)?",
    re.I,
)
_ROWLESS = re.compile(r",?\s*\bWITHOUT\s+ROWID\b", re.I)
_KEY_OF_TABLE = re.compile(
    r"^\s*(?:CONSTRAINT\s+\S+\s+)?(?:UNIQUE|PRIMARY\s+KEY)\s*\((?P<columns>[^()]*)\)(?:\s*ON\s+CONFLICT\s+\w+)?\s*$",
    re.I,
)


def _without_key(sql: str, columns: Sequence[str], key: Key) -> str | None:
    """A CREATE TABLE without one of its keys; None where that cannot be said."""
    if not key.columns:
        return None
    opening = sql.index("(")
    entries, closing = _entries(sql, opening)
    kept = []
    removed = 0
    for entry in entries:
        whole = _KEY_OF_TABLE.match(entry)
        name = _unquoted(entry.split()[0]) if entry.split() else ""
        if whole and tuple(_listed(whole["columns"])) == key.columns:
            removed += 1
        elif not whole and key.columns == (name,) and name in columns:
            changed, count = _KEY_OF_COLUMN.subn("", entry, count=1)
            removed += count
            kept.append(changed)
        else:
            kept.append(entry)
    if not removed:
        return None
    # Without its key, such a table needs its rowid.
    rest = sql[closing:] if _has_key(kept) else _ROWLESS.sub("", sql[closing:])
    return f"{sql[: opening + 1]}{','.join(kept)}{rest}"


def _has_key(entries: Sequence[str]) -> bool:
    return any(re.search(r"\bPRIMARY\s+KEY\b", entry, re.I) for entry in entries)


def _entries(sql: str, opening: int) -> tuple[list[str], int]:
    """What stands between the commas of a CREATE TABLE's parentheses, and where these close."""
    entries: list[str] = []
    depth, first, quote = 0, opening + 1, ""
    for place in range(opening, len(sql)):
        sign = sql[place]
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"`[":
            quote = "]" if sign == "[" else sign
        elif sign == "(":
            depth += 1
        elif sign == ")":
            depth -= 1
            if not depth:
                return [*entries, sql[first:place]], place
        elif sign == "," and depth == 1:
            entries.append(sql[first:place])
            first = place + 1
    return entries, len(sql)


def _listed(text: str) -> list[str]:
    return [_unquoted(part.split()[0]) for part in text.split(",") if part.split()]


def _unquoted(name: str) -> str:
    return name.strip("\"`[]'")


def _refused(error: Exception) -> Irremovable:
    return Irremovable(f"the database refuses: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    # PyMySQL's text stands behind a number.
    text = str(error.args[-1] if error.args else error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _doubly(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _backed(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
