"""PostgreSQL with psycopg 3, psycopg2 or asyncpg.

All rows are read in one query, each as the text of its composite value: exact for every type, cheap to compare, and
the way back (``$1::table``) needs no knowledge of types either.
"""

from __future__ import annotations

import itertools
import time
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.engine import Engine
from sqlalchemy.pool import NullPool

from idemfuzz.abc import Gate, Unusable
from idemfuzz.adapters.sqlalchemy.awaited import Plain
from idemfuzz.adapters.sqlalchemy.flavour import Facts, Key, Rows, Table, reflect
from idemfuzz.adapters.sqlalchemy.statement import Statement

_DECODED_MAX = 10_000
_PLACES = ("host", "port", "options", "service", "sslmode", "sslrootcert", "sslcert", "sslkey")
"""What of an URL says where the database is, whatever the driver."""
_numbers = itertools.count()
_HASTE = {"synchronous_commit": "off", "deadlock_timeout": "100ms"}
_real_sleep = time.sleep
_LOST = "server closed the connection unexpectedly"
_HERE = "JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = current_schema()"
_WRITTEN = "SELECT pg_current_xact_id_if_assigned() IS NOT NULL"
_VIEWS = f"SELECT c.relname::text FROM pg_class c {_HERE} WHERE c.relkind IN ('v', 'm')"
# An exclusion constraint is a key without columns: which rows exclude one another is for its operators to say.
_KEYS = f"""
SELECT c.relname::text, i.relname::text,
       CASE WHEN x.indisexclusion THEN ARRAY[NULL::text] ELSE ARRAY(
           SELECT a.attname::text FROM unnest(x.indkey::int2[]) WITH ORDINALITY AS k(number, place)
           LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number
           WHERE k.place <= x.indnkeyatts ORDER BY k.place) END,
       x.indpred IS NOT NULL
FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid {_HERE} JOIN pg_class i ON i.oid = x.indexrelid
WHERE x.indisunique OR x.indisexclusion
"""
# The server's own functions are pinned: a dependency on a function is one on a user's or an extension's.
_ODD = f"""
SELECT c.relname::text FROM pg_class c {_HERE} WHERE c.relkind IN ('r', 'p', 'f') AND (
    c.relkind <> 'r' OR c.relrowsecurity OR c.relhasrules OR c.relhassubclass
    OR EXISTS (SELECT 1 FROM pg_inherits i WHERE i.inhrelid = c.oid)
    OR EXISTS (SELECT 1 FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal)
    OR EXISTS (SELECT 1 FROM pg_constraint f JOIN pg_class child ON child.oid = f.conrelid
               JOIN pg_class parent ON parent.oid = f.confrelid
               WHERE f.contype = 'f' AND c.oid IN (f.conrelid, f.confrelid)
               AND child.relnamespace <> parent.relnamespace)
    OR EXISTS (SELECT 1 FROM pg_depend d WHERE d.refclassid = 'pg_proc'::regclass AND (
        d.classid = 'pg_attrdef'::regclass AND d.objid IN (SELECT oid FROM pg_attrdef WHERE adrelid = c.oid)
        OR d.classid = 'pg_constraint'::regclass
           AND d.objid IN (SELECT oid FROM pg_constraint WHERE conrelid = c.oid)
        OR d.classid = 'pg_class'::regclass
           AND d.objid IN (SELECT indexrelid FROM pg_index WHERE indrelid = c.oid))))
"""
# Read as JSON, since PostgreSQL 11 has no such column.
_VAGUE = f"""
SELECT c.relname::text, a.attname::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid {_HERE}
JOIN pg_collation l ON l.oid = a.attcollation
WHERE c.relkind IN ('r', 'p') AND to_jsonb(l) ->> 'collisdeterministic' = 'false'
"""


class PostgresqlFlavour:
    renews = True
    stale = False

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._side = engine
        """Leads to the same database without an event loop."""
        self._own: Any = None
        self._sequences: dict[str, str] = {}
        self._now: dict[str, str] = {}
        """Sequence -> last value and whether it was given out, as `setval` takes them: at `open`, and at the last `read`."""
        self._decoded: dict[tuple[str, str], Mapping[str, Any]] = {}
        self._places: dict[tuple[str, str], list[str]] = {}
        self._row_query = self._sequence_query = self._query = ""
        self._replica = True
        self._prompt: weakref.WeakSet[Any] = weakref.WeakSet()
        """Connections that make haste."""
        self._haste = dict(_HASTE)
        self._usual: dict[str, str] = {}
        """The settings that make a search faster, and what they are without it."""
        self.tables: dict[str, Table] = {}
        self.views: frozenset[str] = frozenset()
        self.loose = False

    def open(self, gate: Gate) -> None:
        self._side = _synchronous(self._engine)
        fairy = self._side.raw_connection()
        self._own = fairy.driver_connection
        fairy.detach()
        self._own.rollback()
        self._own.autocommit = True
        settings = ", ".join(f"current_setting('{name}')" for name in _HASTE)
        self._usual = dict(zip(_HASTE, self._run(f"SELECT {settings}")[0], strict=True))
        # For what is sent without parameters, and so that restoring waits for no disk.
        self._run(
            "SET lock_timeout = '5s'; SET standard_conforming_strings = on; SET synchronous_commit = off"
        )
        self.reflect()
        try:
            # No triggers and no foreign key checks while rows are put back.
            self._run("SET session_replication_role = replica")
        except self._error:
            self._replica = False
        names = self._run(
            "SELECT format('%I.%I', schemaname, sequencename) FROM pg_sequences WHERE schemaname = ANY(current_schemas(false))"
        )
        parts = (f"SELECT {_literal(name)}, last_value || ' ' || is_called FROM {name}" for (name,) in names)
        self._sequence_query = " UNION ALL ".join(parts)
        self._sequences = dict(self._run(self._sequence_query)) if self._sequence_query else {}
        self._combine()

    def reflect(self) -> None:
        with self._side.connect() as connection:
            self.tables = reflect(self._side, connection, computed=self._computed, facts=self._facts())
        parts = (
            f"SELECT {_literal(name)}, ctid::text, t::text FROM {_quoted(name)} t" for name in self.tables
        )
        self._row_query = " UNION ALL ".join(parts)
        self._decoded.clear()
        self._combine()

    def _combine(self) -> None:
        """Rows and sequences are read by one statement; a sequence goes without a table's name."""
        sequences = (
            f"SELECT '', name, at FROM ({self._sequence_query}) s (name, at)" if self._sequence_query else ""
        )
        self._query = " UNION ALL ".join(filter(None, (self._row_query, sequences)))

    def close(self) -> None:
        for connection in list(self._prompt):
            # What is still in a transaction is the test's own, and ends with it.
            # One that belongs to an event loop cannot be asked now; the loop's end is its own.
            if isinstance(connection, Plain) or connection.closed:
                continue
            if int(connection.info.transaction_status) == 0:
                self._at_once(connection, _settings({name: self._usual[name] for name in self._haste}))
        self._prompt.clear()
        self._own.close()
        if self._side is not self._engine:
            self._side.dispose()

    def unchanged(self) -> bool:
        return False

    def read(self) -> Rows:
        rows: dict[str, list[Any]] = {name: [] for name in self.tables}
        if self._query:
            self._places = {}
            self._now = {}
            for name, place, text in self._run(self._query):
                if not name:
                    self._now[place] = text
                    continue
                rows[name].append(text)
                self._places.setdefault((name, text), []).append(place)
        return rows

    def decode(self, table: str, rows: Sequence[Any]) -> Sequence[Mapping[str, Any]]:
        # The trials of a search write the same rows again and again.
        unknown = [row for row in dict.fromkeys(rows) if (table, row) not in self._decoded]
        if unknown:
            if len(self._decoded) > _DECODED_MAX:
                self._decoded.clear()
                unknown = list(dict.fromkeys(rows))
            values = self._decode(table, unknown)
            self._decoded.update({(table, row): value for row, value in zip(unknown, values, strict=True)})
        return [self._decoded[table, row] for row in rows]

    def _decode(self, table: str, rows: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        names = [column.name for column in self.tables[table].columns]
        listed = ", ".join(f"(r).{_quoted(name)}" for name in names)
        texts = ", ".join(_literal(row) for row in rows)
        sql = f"SELECT {listed} FROM (SELECT unnest(ARRAY[{texts}]::text[])::{_quoted(table)} AS r) s"
        return [dict(zip(names, values, strict=True)) for values in self._run(sql)]

    def restore(self, added: Rows, removed: Rows) -> None:
        tables = [name for name in self.tables if added.get(name) or removed.get(name)]
        ordered = tables if self._replica else self._by_parent(tables)
        try:
            # One round trip, and one transaction.
            statements = [
                *(self._deletion(name, added[name]) for name in reversed(ordered) if added.get(name)),
                *(self._insertion(self.tables[name], removed[name]) for name in ordered if removed.get(name)),
                *self._moves_back(),
            ]
            if statements:
                self._run("; ".join(statements))
        except self._error as error:
            self._own.rollback() if not self._own.closed else None
            raise Unusable(
                f"the PostgreSQL database cannot be restored ({str(error).strip()}): a transaction that the test's body "
                "opened still holds locks, or foreign keys stand in the way of a role that may not set "
                "session_replication_role. Close what the body opens; use a superuser for the test database"
            ) from error

    def freshen(self) -> None:
        """Nothing is put off."""

    def perturb(self) -> bool:
        calls = (
            f"setval({_literal(name)}, {int(at.partition(' ')[0]) + 1000 + 37 * number}, true)"
            for number, (name, at) in enumerate(self._sequences.items(), 1)
        )
        if self._sequences:
            self._run(f"SELECT {', '.join(calls)}")
        return bool(self._sequences)

    def uncommitted(self, connection: Any) -> bool:
        status = connection.info.transaction_status if hasattr(connection.info, "transaction_status") else 0
        if int(status) != 2:
            return False
        if isinstance(connection, Plain):
            return connection.has_written()
        with connection.cursor() as cursor:
            cursor.execute(_WRITTEN)
            return bool(cursor.fetchone()[0])

    def roll_back(self, connection: Any) -> Callable[[], None]:
        if connection.closed:
            return lambda: None
        pid = int(connection.info.backend_pid)
        connection.rollback()
        return lambda: self._await_end(pid)

    def rests(self, connection: Any) -> bool:
        # 0 is idle, 2 in a transaction, 3 in a failed one.
        return not connection.closed and int(connection.info.transaction_status) in (0, 2, 3)

    def renew(self, connection: Any) -> bool:
        connection.rollback()
        # psycopg 3 forgets its prepared statements when it sees this pass, but looks at each text only once.
        self._at_once(connection, f"DISCARD ALL /* {next(_numbers)} */")
        self._prompt.discard(connection)
        return True

    def autocommits(self, connection: Any, statement: Statement) -> bool:
        return bool(connection.autocommit) and int(connection.info.transaction_status) == 0

    def welcome(self, connection: Any) -> None:
        """No commit waits for the disk, and a deadlock is noticed soon.

        Whoever waited first is its victim, as it is after PostgreSQL's own second.
        """
        if connection in self._prompt:
            return
        try:
            self._at_once(connection, _settings(self._haste))
        except (self._error, self._engine.dialect.loaded_dbapi.Error):
            # Only a superuser may have deadlocks looked for.
            self._haste.pop("deadlock_timeout", None)
            connection.rollback()
            self._at_once(connection, _settings(self._haste))
        self._prompt.add(connection)

    def _at_once(self, connection: Any, sql: str) -> Sequence[Any]:
        """A statement of ours on an idle connection of the pool, outside any transaction; its first row."""
        if isinstance(connection, Plain):
            connection.execute_at_once(sql)
            return ()
        before = connection.autocommit
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql, **({"prepare": False} if hasattr(connection, "prepare_threshold") else {}))
            found = tuple(cursor.fetchone()) if cursor.description is not None else ()
        connection.autocommit = before
        return found

    def be_hasty(self, connection: Any) -> None:
        """The server is asked who waits; nothing needs to be hasty."""

    def be_patient(self, connection: Any) -> None:
        """Nothing was changed."""

    def cut(self, connection: Any) -> None:
        if not connection.closed:
            gone = self.roll_back(connection)
            connection.close()
            gone()

    def refuse(self, doing: str) -> BaseException:
        return self._operational(f"{_LOST} before {doing}")

    def lose(self, doing: str) -> BaseException:
        return self._operational(f"{_LOST} while {doing}")

    def busy(self, error: BaseException) -> bool:
        return False

    def waiting(self, connection: Any) -> Callable[[], bool] | None:
        if connection.closed:
            return None
        pid = int(connection.info.backend_pid)
        return lambda: bool(self._run("SELECT cardinality(pg_blocking_pids(%s)) > 0", (pid,))[0][0])

    def _await_end(self, pid: int) -> None:
        """The server notices a closed connection a little later; its session locks must not linger."""
        for _ in range(400):
            if not self._run("SELECT 1 FROM pg_stat_activity WHERE pid = %s", (pid,)):
                return
            _real_sleep(0.0005)

    @property
    def _error(self) -> type[Exception]:
        error: type[Exception] = self._side.dialect.loaded_dbapi.Error
        return error

    def _operational(self, text: str) -> BaseException:
        dbapi: Any = self._engine.dialect.loaded_dbapi
        if self._engine.dialect.driver == "asyncpg":
            lost = dbapi.asyncpg.exceptions.ConnectionDoesNotExistError(
                "connection was closed in the middle of operation"
            )
            asyncpg: BaseException = dbapi.Error(f"{type(lost)}: {lost}", lost)
            return asyncpg
        error: BaseException = dbapi.OperationalError(text)
        return error

    def _run(self, sql: str, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        with self._own.cursor() as cursor:
            cursor.execute(sql, parameters) if parameters is not None else cursor.execute(sql)
            return cursor.fetchall() if cursor.description is not None else []

    def _computed(self, table: str) -> list[str]:
        sql = "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attgenerated <> '' AND NOT attisdropped"
        return [name for (name,) in self._run(sql, (_quoted(table),))]

    def _facts(self) -> Facts:
        self.views = frozenset(name for (name,) in self._run(_VIEWS))
        keys: dict[str, list[Key]] = {}
        for table, name, columns, drifts in self._run(_KEYS):
            keys.setdefault(table, []).append(Key(name, () if None in columns else tuple(columns), drifts))
        odd = frozenset(name for (name,) in self._run(_ODD))
        return Facts(keys, odd, frozenset((table, column) for table, column in self._run(_VAGUE)))

    def _deletion(self, name: str, rows: Sequence[str]) -> str:
        # Of equal rows any will do; the newest stand last.
        places = [
            place for text, count in Counter(rows).items() for place in self._places[name, text][-count:]
        ]
        listed = ",".join(f'"{place}"' for place in places)
        return f"DELETE FROM {_quoted(name)} WHERE ctid = ANY('{{{listed}}}'::tid[])"

    def _insertion(self, table: Table, rows: Sequence[str]) -> str:
        names = ", ".join(_quoted(name) for name in table.writable)
        values = ", ".join(f"(r).{_quoted(name)}" for name in table.writable)
        listed = ", ".join(_literal(row) for row in rows)
        return (
            f"INSERT INTO {_quoted(table.name)} ({names}) OVERRIDING SYSTEM VALUE "
            f"SELECT {values} FROM (SELECT unnest(ARRAY[{listed}]::text[])::{_quoted(table.name)} AS r) s"
        )

    def _moves_back(self) -> list[str]:
        """Sequences that stood elsewhere at the last `read` go back."""
        moved = [name for name, at in self._sequences.items() if self._now.get(name, at) != at]
        self._now = {}
        if not moved:
            return []
        calls = (f"setval({_literal(name)}, {self._sequences[name].replace(' ', ', ')})" for name in moved)
        return [f"SELECT {', '.join(calls)}"]

    def _by_parent(self, names: Sequence[str]) -> list[str]:
        """Parents before children, for a role that cannot switch foreign keys off."""
        sql = "SELECT conrelid::regclass::text, confrelid::regclass::text FROM pg_constraint WHERE contype = 'f'"
        links = [(child.strip('"'), parent.strip('"')) for child, parent in self._run(sql)]
        ordered: list[str] = []

        def place(name: str, above: tuple[str, ...] = ()) -> None:
            if name in ordered or name in above:
                return
            for child, parent in links:
                if child == name and parent in names:
                    place(parent, (*above, name))
            ordered.append(name)

        for name in names:
            place(name)
        return ordered


def _settings(values: Mapping[str, str]) -> str:
    return "; ".join(f"SET {name} = {_literal(value)}" for name, value in values.items())


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(name: str) -> str:
    """Only for statements without parameters: a driver with parameters would read a percent sign."""
    return "'" + name.replace("'", "''") + "'"


def _synchronous(engine: Engine) -> Engine:
    """``engine``, or one to the same database whose driver waits for no event loop.

    Raises:
        Unusable: no such driver is installed.
    """
    if not engine.dialect.is_async:
        return engine
    for driver in ("psycopg", "psycopg2"):
        if find_spec(driver) is not None:
            break
    else:
        raise Unusable(
            f"idemfuzz looks at the database of an engine on {engine.dialect.driver} by a synchronous driver, and none is "
            "installed: pip install 'idemfuzz[postgresql]'"
        )
    kept = {name: value for name, value in engine.url.query.items() if name in _PLACES}
    url = engine.url.set(drivername=f"postgresql+{driver}", query=kept)
    return create_engine(url, poolclass=NullPool)
