"""PostgreSQL with psycopg 3, psycopg2 or asyncpg.

All rows are read in one query, each as the text of its composite value: exact for every type, cheap to compare, and
the way back (``$1::table``) needs no knowledge of types either. A journal keeps the same texts of the rows that changed.
"""

from __future__ import annotations

import itertools
import time
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from sqlalchemy import create_engine, event
from sqlalchemy.engine import Engine
from sqlalchemy.pool import NullPool

from idemfuzz.abc import Gate, Unusable
from idemfuzz.adapters.sqlalchemy.awaited import Plain, within
from idemfuzz.adapters.sqlalchemy.flavour import Facts, Key, Look, Rows, Schemas, Table, reflect
from idemfuzz.adapters.sqlalchemy.journal import OURS, Net, fold
from idemfuzz.adapters.sqlalchemy.postgresql_journal import PostgresqlJournal, clear_away
from idemfuzz.adapters.sqlalchemy.schema import PostgresqlSchema, recover
from idemfuzz.adapters.sqlalchemy.statement import Statement, mentions

_DECODED_MAX = 10_000
_PLACES = ("host", "port", "options", "service", "sslmode", "sslrootcert", "sslcert", "sslkey")
"""What of an URL says where the database is, whatever the driver."""
_PASSES_MAX = 3
_numbers = itertools.count()
_HASTE = {"synchronous_commit": "off", "deadlock_timeout": "100ms"}
_real_sleep = time.sleep
_LOST = "server closed the connection unexpectedly"
# What `_ask` fills in: the schemas that are looked at.
_SCHEMAS = "/* schemas */"
_HERE = f"JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname IN ({_SCHEMAS})"
_CALLED = "CASE n.nspname WHEN current_schema() THEN c.relname::text ELSE n.nspname || '.' || c.relname END"
_ELSEWHERE = f"""
SELECT nspname::text FROM pg_namespace
WHERE nspname NOT IN ({_SCHEMAS}, 'information_schema') AND left(nspname, 3) <> 'pg_' AND left(nspname, {len(OURS)}) <> '{OURS}'
"""
_TABLES = f"SELECT c.relname::text FROM pg_class c {_HERE} WHERE c.relkind = 'r'"
_SEQUENCES = f"""
SELECT format('%I.%I', schemaname, sequencename) FROM pg_sequences WHERE schemaname IN ({_SCHEMAS}) ORDER BY 1
"""
_WRITTEN = "SELECT pg_current_xact_id_if_assigned() IS NOT NULL"
_VIEWS = f"SELECT {_CALLED} FROM pg_class c {_HERE} WHERE c.relkind IN ('v', 'm')"
# An exclusion constraint is a key without columns: which rows exclude one another is for its operators to say.
_KEYS = f"""
SELECT {_CALLED}, i.relname::text,
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
SELECT {_CALLED} FROM pg_class c {_HERE} WHERE c.relkind IN ('r', 'p', 'f') AND (
    c.relkind <> 'r' OR c.relrowsecurity OR c.relhasrules OR c.relhassubclass
    OR EXISTS (SELECT 1 FROM pg_inherits i WHERE i.inhrelid = c.oid)
    OR EXISTS (SELECT 1 FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal
               AND left(t.tgname, {len(OURS)}) <> '{OURS}')
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
SELECT {_CALLED}, a.attname::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid {_HERE}
JOIN pg_collation l ON l.oid = a.attcollation
WHERE c.relkind IN ('r', 'p') AND to_jsonb(l) ->> 'collisdeterministic' = 'false'
"""
_COMPUTED = f"""
SELECT {_CALLED}, a.attname::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid {_HERE}
WHERE a.attgenerated <> '' AND NOT a.attisdropped
"""

# Every table that holds rows itself, the partitioned one that it is a part of, and whether it may get triggers from us.
_STORED = f"""
WITH RECURSIVE parts (oid, root) AS (
    SELECT c.oid, c.oid FROM pg_class c WHERE c.relkind = 'p' AND NOT c.relispartition
    UNION ALL
    SELECT i.inhrelid, p.root FROM pg_inherits i JOIN parts p ON p.oid = i.inhparent
)
SELECT {_CALLED}, m.nspname::text, r.relname::text, pg_has_role(c.relowner, 'USAGE') FROM pg_class c {_HERE}
LEFT JOIN parts p ON p.oid = c.oid LEFT JOIN pg_class r ON r.oid = p.root LEFT JOIN pg_namespace m ON m.oid = r.relnamespace
WHERE c.relkind = 'r'
"""


class PostgresqlFlavour:
    renews = True
    stale = False

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._side = engine
        """Leads to the same database without an event loop."""
        self._own: Any = None
        self.schema: PostgresqlSchema
        self._sequences: dict[str, str] = {}
        self._now: dict[str, str] = {}
        """Sequence -> last value and whether it was given out, as `setval` takes them: at `open`, and at the last `read`."""
        self._decoded: dict[tuple[str, str], Mapping[str, Any]] = {}
        self._places: dict[tuple[str, str], list[str]] = {}
        self._row_query = self._sequence_query = self._query = ""
        self._journal: PostgresqlJournal | None = None
        self._blocked = ""
        """Why there can be no journal at all."""
        self._entries: list[str] = []
        """The places of the entries that the last look has seen."""
        self._stored: dict[str, bool] = {}
        """Tables that hold rows themselves -> whether they are ours to put triggers on."""
        self.journaled: frozenset[str] = frozenset()
        self.refused: dict[str, str] = {}
        self.unsure: frozenset[str] = frozenset()
        self._replica = True
        self._prompt: weakref.WeakKeyDictionary[Any, Sequence[str]] = weakref.WeakKeyDictionary()
        """Connections that make haste, and the settings that each was allowed."""
        self._haste = dict(_HASTE)
        self._usual: dict[str, str] = {}
        """The settings that make a search faster, and what they are without it."""
        self.tables: dict[str, Table] = {}
        self.schemas = Schemas(_quoted)
        self._elsewhere: Sequence[str] = ()
        """Schemas that are not looked at."""
        self.views: frozenset[str] = frozenset()
        self.loose = False

    def open(self, gate: Gate) -> None:
        self._side = _synchronous(self._engine, gate)
        self._own = self._connected()
        # Before our own connection makes haste itself.
        settings = ", ".join(f"current_setting('{name}')" for name in _HASTE)
        self._usual = dict(zip(_HASTE, self._run(f"SELECT {settings}")[0], strict=True))
        # For what is sent without parameters, and so that restoring waits for no disk and is seen by no SERIALIZABLE.
        self._run(
            "SET lock_timeout = '5s'; SET standard_conforming_strings = on; SET synchronous_commit = off; "
            "SET default_transaction_isolation = 'read committed'"
        )
        ((path, self.schemas.default),) = self._run(
            "SELECT current_schemas(false)::text[], current_schema()::text"
        )
        # What is not named in full may be in any of the path.
        self.schemas.names = [name for name in path if name != self.schemas.default]
        self._elsewhere = [name for (name,) in self._ask(_ELSEWHERE)]
        self.schema = PostgresqlSchema(self._run, self._error, self.schemas)
        recover(self.schema)
        try:
            clear_away(self._run)
        except self._error as error:
            self._blocked = f"what a killed search left behind cannot be removed: {_first_line(error)}"
        self.reflect()
        try:
            # No triggers and no foreign key checks while rows are put back.
            self._run("SET session_replication_role = replica")
        except self._error:
            self._replica = False
        names = [name for (name,) in self._ask(_SEQUENCES)]
        self._sequence_query = _positions(names)
        self._sequences = dict(self._run(self._sequence_query)) if names else {}
        self._combine()

    def elsewhere(self, statement: Statement, parameters: Any) -> Sequence[str]:
        """By its name anywhere, also in a search path; a schema too many costs no more than a look at its rows."""
        given = f" {parameters}" if "search_path" in statement.text else ""
        return [name for name in self._elsewhere if mentions(statement.text + given, name)]

    def adopt(self, schema: str) -> Rows:
        own = self._connected()

        def run(sql: str) -> list[tuple[Any, ...]]:
            with own.cursor() as cursor:
                cursor.execute(sql)
                return list(cursor.fetchall())

        names = [*self.schemas.names, schema]
        try:
            own.autocommit = False
            sql = "SET LOCAL lock_timeout = '5s'; SET LOCAL TRANSACTION ISOLATION LEVEL REPEATABLE READ"
            with own.cursor() as cursor:
                cursor.execute(sql)
            within = Schemas(_quoted, self.schemas.default, names)
            tables = [
                within.called(schema, name) for (name,) in run(_TABLES.replace(_SCHEMAS, _literal(schema)))
            ]
            rows = {
                name: [text for (text,) in run(f"SELECT t::text FROM ONLY {within.quoted(name)} t")]
                for name in tables
            }
            sequences = [name for (name,) in run(_SEQUENCES.replace(_SCHEMAS, _literal(schema)))]
            positions = dict(run(_positions(sequences))) if sequences else {}
        except self._error as error:
            raise Unusable(f"the schema {schema!r} cannot be read: {_first_line(error)}") from error
        finally:
            own.close()
        self.schemas.names = names
        self._elsewhere = [name for name in self._elsewhere if name != schema]
        self._sequences |= positions
        self._sequence_query = _positions(list(self._sequences))
        return rows

    def _connected(self) -> Any:
        """A connection of our own."""
        fairy = self._side.raw_connection()
        own: Any = fairy.driver_connection
        fairy.detach()
        own.rollback()
        own.autocommit = True
        return own

    def reflect(self) -> None:
        with self._side.connect() as connection:
            tables = reflect(self._side, connection, schemas=self.schemas, facts=self._facts())
        stored = self._ask(_STORED)
        wholes = {
            name: self.schemas.called(schema, whole) for name, schema, whole, _ in stored if whole is not None
        }
        self._stored = {name: ours for name, _, _, ours in stored if name in tables}
        self.tables = {
            name: replace(
                table,
                whole=wholes.get(name, ""),
                generated={c: wholes.get(origin, origin) for c, origin in table.generated.items()},
            )
            for name, table in tables.items()
        }
        self._decoded.clear()
        self._combine()

    def _combine(self) -> None:
        """Rows, sequences and the journal are read by one statement; a sequence goes without a table's name."""
        followed = self._journal is not None and bool(self.journaled)
        rest = ", 0, ''" if followed else ""
        parts = [
            f"SELECT {_literal(name)}, ctid::text, t::text{rest} FROM ONLY {self.schemas.quoted(name)} t"
            for name in self._stored
            if name not in self.journaled
        ]
        if self._sequence_query:
            parts.append(f"SELECT '', name, at{rest} FROM ({self._sequence_query}) s (name, at)")
        if followed and self._journal is not None:
            parts.append(self._journal.query)
        self._query = " UNION ALL ".join(parts)

    def close(self) -> None:
        try:
            self.unfollow()
        finally:
            try:
                self._be_as_usual()
            finally:
                self._own.close()
                if self._side is not self._engine:
                    self._side.dispose()

    def _be_as_usual(self) -> None:
        """Take `welcome` back."""
        for connection, names in list(self._prompt.items()):
            # What is still in a transaction is the test's own, and ends with it.
            # One that belongs to an event loop cannot be asked now; the loop's end is its own.
            if isinstance(connection, Plain) or connection.closed:
                continue
            if int(connection.info.transaction_status) == 0:
                self._at_once(connection, _settings({name: self._usual[name] for name in names}))
        self._prompt.clear()

    def sizes(self, rows_max: int) -> Mapping[str, int]:
        counts = (
            f"(SELECT count(*) FROM (SELECT FROM ONLY {self.schemas.quoted(n)} LIMIT {rows_max + 1}) s)"
            for n in self._stored
        )
        found = self._run(f"SELECT {', '.join(counts)}")[0] if self._stored else ()
        return dict(zip(self._stored, found, strict=True))

    def follow(self, names: Collection[str]) -> None:
        for name in names:
            if self._blocked or not self._stored[name]:
                self.refused[name] = self._blocked or "the role does not own it"
        wanted = [name for name in names if name not in self.refused]
        if not wanted:
            return
        journal = PostgresqlJournal(self._run, self.schemas)
        try:
            journal.start(wanted, quiet=self._replica)
        except self._error as error:
            self._run("ROLLBACK")
            self.refused.update(dict.fromkeys(wanted, _first_line(error)))
            return
        self._journal = journal
        self.journaled = frozenset(wanted)
        self._combine()

    def unfollow(self) -> None:
        if self._journal is not None:
            clear_away(self._run)
            self._journal = None
            self.journaled = frozenset()
            self._entries = []
            self._combine()

    def rebase(self) -> None:
        """The baseline is remembered as rows, which a change of keys does not touch."""

    def foresee(self, connection: Any, statement: Statement) -> bool:
        """TRUNCATE has a trigger; other definitions of a table end its journal, as images and places no longer match."""
        if not self.journaled or statement.verb == "truncate":
            return False
        return (
            statement.verb in ("vacuum", "cluster")
            or any(statement.names(self.schemas.apart(name)[1]) for name in self.journaled)
            or ("schema" in statement.text.lower())
        )

    def reconstruct(self) -> Rows:
        assert self._journal is not None
        own = self._connected()
        try:
            with own.cursor() as cursor:
                cursor.execute("SET lock_timeout = '5s'")
                cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                cursor.execute(self._journal.query)
                net = self._folded(cursor.fetchall())
                found: dict[str, list[Any]] = {}
                for name in self.journaled:
                    cursor.execute(f"SELECT t::text FROM ONLY {self.schemas.quoted(name)} t")
                    rows = Counter(text for (text,) in cursor.fetchall())
                    rows.subtract(net.added.get(name, ()))
                    rows.update(net.removed.get(name, ()))
                    found[name] = list(rows.elements())
        finally:
            own.close()
        self.journaled = frozenset()
        self._entries = []
        self._combine()
        return found

    def strayed(self) -> Sequence[str]:
        return self._journal.strayed() if self._journal is not None and self.journaled else ()

    def recall(self, table: str) -> Sequence[Any]:
        return ()

    def unchanged(self) -> bool:
        return False

    def read(self, names: Collection[str]) -> Rows:
        return {
            name: [text for (text,) in self._run(f"SELECT t::text FROM ONLY {self.schemas.quoted(name)} t")]
            for name in names
        }

    def look(self) -> Look:
        rows: dict[str, list[Any]] = {name: [] for name in self._stored if name not in self.journaled}
        journal = []
        self._places = {}
        self._now = {}
        for entry in self._run(self._query) if self._query else ():
            name, place, text = entry[:3]
            if not name:
                self._now[place] = text
            elif len(entry) > 3 and entry[3]:
                journal.append(entry)
            else:
                rows[name].append(text)
                self._places.setdefault((name, text), []).append(place)
        net = self._folded(journal)
        self._entries = [entry[4] for entry in journal]
        self._places.update(net.places)
        return Look(rows, net.added, net.removed)

    def _folded(self, journal: Sequence[tuple[Any, ...]]) -> Net:
        return fold((name, sign, image, place) for name, place, image, sign, _ in journal)

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
        sql = f"SELECT {listed} FROM (SELECT unnest(ARRAY[{texts}]::text[])::{self.schemas.quoted(table)} AS r) s"
        return [dict(zip(names, values, strict=True)) for values in self._run(sql)]

    def restore(self, added: Rows, removed: Rows) -> None:
        if self._replica or not self.journaled:
            self._put_back(added, removed, forget=True)
            return
        # Triggers and foreign keys answer to what is put back, and all of it is journaled: look until the sum is nothing.
        for _ in range(_PASSES_MAX):
            self._put_back(added, removed, forget=False)
            look = self.look()
            added, removed = look.added, look.removed
            if not added and not removed:
                self._put_back({}, {}, forget=True)
                return

    def _put_back(self, added: Rows, removed: Rows, *, forget: bool) -> None:
        tables = [name for name in self.tables if added.get(name) or removed.get(name)]
        ordered = tables if self._replica else self._by_parent(tables)
        try:
            # One round trip, and one transaction.
            statements = [
                *(self._deletion(name, added[name]) for name in reversed(ordered) if added.get(name)),
                *(self._insertion(self.tables[name], removed[name]) for name in ordered if removed.get(name)),
                *self._moves_back(),
            ]
            if forget and self._journal is not None and self._entries:
                statements.append(self._journal.removal(self._entries))
            if statements:
                self._run("; ".join(statements))
            if forget:
                self._entries = []
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

    def break_off(self, connection: Any) -> None:
        pid = int(connection.info.backend_pid)
        self._run("SELECT pg_terminate_backend(%s)", (pid,))
        self._await_end(pid)

    def rests(self, connection: Any) -> bool:
        # 0 is idle, 2 in a transaction, 3 in a failed one.
        return not connection.closed and int(connection.info.transaction_status) in (0, 2, 3)

    def renew(self, connection: Any) -> bool:
        connection.rollback()
        # psycopg 3 forgets its prepared statements when it sees this pass, but looks at each text only once.
        self._at_once(connection, f"DISCARD ALL /* {next(_numbers)} */")
        self._prompt.pop(connection, None)
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
        self._prompt[connection] = tuple(self._haste)

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

    def _ask(self, sql: str) -> list[tuple[Any, ...]]:
        """Of the schemas that are looked at."""
        listed = ", ".join(map(_literal, (self.schemas.default, *self.schemas.names)))
        return self._run(sql.replace(_SCHEMAS, listed))

    def _facts(self) -> Facts:
        self.views = frozenset(name for (name,) in self._ask(_VIEWS))
        keys: dict[str, list[Key]] = {}
        for table, name, columns, drifts in self._ask(_KEYS):
            keys.setdefault(table, []).append(Key(name, () if None in columns else tuple(columns), drifts))
        odd = frozenset(name for (name,) in self._ask(_ODD))
        vague, computed = (frozenset((t, c) for t, c in self._ask(sql)) for sql in (_VAGUE, _COMPUTED))
        return Facts(keys, odd, vague, computed)

    def _deletion(self, name: str, rows: Sequence[str]) -> str:
        # Of equal rows any will do; the newest stand last.
        places = [
            place for text, count in Counter(rows).items() for place in self._places[name, text][-count:]
        ]
        listed = ",".join(f'"{place}"' for place in places)
        statement = f"DELETE FROM ONLY {self.schemas.quoted(name)} t WHERE ctid = ANY('{{{listed}}}'::tid[])"
        if name in self.journaled:
            # Whatever is wrong about the journal, no other row is deleted.
            statement += f" AND t::text = ANY(ARRAY[{', '.join(map(_literal, rows))}]::text[])"
        return statement

    def _insertion(self, table: Table, rows: Sequence[str]) -> str:
        where = self.schemas.quoted(table.name)
        names = ", ".join(_quoted(name) for name in table.writable)
        values = ", ".join(f"(r).{_quoted(name)}" for name in table.writable)
        listed = ", ".join(_literal(row) for row in rows)
        return (
            f"INSERT INTO {where} ({names}) OVERRIDING SYSTEM VALUE "
            f"SELECT {values} FROM (SELECT unnest(ARRAY[{listed}]::text[])::{where} AS r) s"
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
        links = [(name, link.parent) for name in names for link in self.tables[name].links]
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


def _positions(sequences: Sequence[str]) -> str:
    """Asks where each sequence stands."""
    return " UNION ALL ".join(
        f"SELECT {_literal(name)}, last_value || ' ' || is_called FROM {name}" for name in sequences
    )


def _settings(values: Mapping[str, str]) -> str:
    return "; ".join(f"SET {name} = {_literal(value)}" for name, value in values.items())


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(name: str) -> str:
    """Only for statements without parameters: a driver with parameters would read a percent sign."""
    return "'" + name.replace("'", "''") + "'"


def _synchronous(engine: Engine, gate: Gate) -> Engine:
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
    side = create_engine(url, poolclass=NullPool)

    def search_path() -> str:
        # A pool of its own: connections belong to a loop that may be gone before the next one needs them.
        pool = engine.pool.recreate()
        connection = pool.connect()
        try:
            cursor = connection.cursor()
            cursor.execute("SHOW search_path")
            return str(cursor.fetchall()[0][0])
        finally:
            connection.close()
            pool.dispose()

    path = within(engine, gate, search_path)

    # What the engine's own driver is told when it connects is not in the URL.
    @event.listens_for(side, "connect")
    def take_the_same_path(connection: Any, _: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET search_path TO {path}")
        connection.commit()

    return side
