"""MariaDB and MySQL with PyMySQL (or another driver of the same shape)."""

from __future__ import annotations

import contextlib
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy.engine import Engine

from idemfuzz.abc import Gate, Unusable
from idemfuzz.adapters.sqlalchemy.flavour import Facts, Key, Look, Rows, Schemas, Table, reflect
from idemfuzz.adapters.sqlalchemy.journal import OURS, fold
from idemfuzz.adapters.sqlalchemy.mysql_journal import MysqlJournal, clear_away
from idemfuzz.adapters.sqlalchemy.schema import MysqlSchema, recover
from idemfuzz.adapters.sqlalchemy.statement import Statement

_PASSES_MAX = 3
_ROWS_MAX = 500
_COM_RESET_CONNECTION = 0x1F
_real_sleep = time.sleep
# Without a language's own letters, of which some make two ASCII letters equal (i and y in Lithuanian).
_PLAIN_COLLATION = re.compile(
    r"_(?:bin|nopad_bin|general_(?:nopad_)?ci|general_cs|unicode(?:_520)?_(?:nopad_)?ci"
    r"|0900_(?:ai_ci|as_ci|as_cs|bin)|uca1400_(?:nopad_)?(?:ai|as)_(?:ci|cs))$"
)
# What `_ask` fills in: the schemas that are looked at.
_SCHEMAS = "/* schemas */"
_TRIGGERED = f"""
SELECT event_object_schema, event_object_table FROM information_schema.triggers
WHERE event_object_schema IN ({_SCHEMAS}) AND LEFT(trigger_name, {len(OURS)}) <> '{OURS}'
"""
_ODD = f"""
{_TRIGGERED}
UNION SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema IN ({_SCHEMAS})
  AND (table_type <> 'BASE TABLE' OR engine IS NULL OR engine <> 'InnoDB')
UNION SELECT table_schema, table_name FROM information_schema.key_column_usage
  WHERE table_schema IN ({_SCHEMAS}) AND referenced_table_schema <> table_schema
UNION SELECT referenced_table_schema, referenced_table_name FROM information_schema.key_column_usage
  WHERE referenced_table_schema IN ({_SCHEMAS}) AND referenced_table_schema <> table_schema
"""
_BUILT_IN = ("information_schema", "mysql", "performance_schema", "sys")
_QUALIFIED = re.compile(
    r"\b(?:from|join|into|update|ignore|table|only|using)\s+`?([\w$]+)`?\s*\.\s*`?[\w$]", re.I
)
_USED = re.compile(r"^use\s+`?([\w$]+)", re.I)


class MysqlFlavour:
    renews = True

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._own: Any = None
        self.schema: MysqlSchema
        self._next_ids: dict[str, int] = {}
        self._triggers: set[str] | None = None
        """The tables that have some; None until it is asked for."""
        self.tables: dict[str, Table] = {}
        self.schemas = Schemas(_quoted)
        self._elsewhere: frozenset[str] = frozenset()
        """Schemas that are not looked at."""
        self.views: frozenset[str] = frozenset()
        self.stale = False
        self.loose = False
        """Whether next ids need not be put back after each trial: each time is an ALTER TABLE, tens of milliseconds."""

        self._journal: MysqlJournal | None = None
        self._blocked = ""
        """Why there can be no journal at all."""
        self.journaled: frozenset[str] = frozenset()
        self.refused: dict[str, str] = {}
        self.unsure: frozenset[str] = frozenset()

    def open(self, gate: Gate) -> None:
        self._own = self._connected()
        ((self.schemas.default,),) = self._run("SELECT DATABASE()")
        self.schemas.names = []
        found = {name for (name,) in self._run("SELECT schema_name FROM information_schema.schemata")}
        self._elsewhere = frozenset(found - {self.schemas.default, *_BUILT_IN})
        self.schema = MysqlSchema(self._run, self._error, self.schemas)
        recover(self.schema)
        try:
            clear_away(self._run)
        except self._error as error:
            self._blocked = f"what a killed search left behind cannot be removed: {error.args[-1]}"
        self.reflect()
        self._next_ids = self._read_next_ids()

    def _connected(self) -> Any:
        """A connection of our own."""
        fairy = self._engine.raw_connection()
        own: Any = fairy.driver_connection
        fairy.detach()
        own.rollback()
        own.autocommit(True)
        with own.cursor() as cursor:
            cursor.execute(
                "SET SESSION foreign_key_checks=0, innodb_lock_wait_timeout=5, lock_wait_timeout=5, "
                "sql_mode='NO_AUTO_VALUE_ON_ZERO'"
            )
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        return own

    def reflect(self) -> None:
        with self._engine.connect() as connection:
            self.tables = reflect(self._engine, connection, schemas=self.schemas, facts=self._facts())
        self._triggers = None

    def _read_triggers(self) -> set[str]:
        return {self.schemas.called(*place) for place in self._ask(_TRIGGERED)}

    def elsewhere(self, statement: Statement, parameters: Any) -> Sequence[str]:
        """Where a table stands in a statement: a server has many schemas, of which most are none of its business."""
        named = [*_QUALIFIED.findall(statement.text), *_USED.findall(statement.text)]
        return [name for name in dict.fromkeys(named) if name in self._elsewhere]

    def adopt(self, schema: str) -> Rows:
        own = self._connected()

        def run(sql: str, *parameters: str) -> list[tuple[Any, ...]]:
            with own.cursor() as cursor:
                cursor.execute(sql, parameters)
                return list(cursor.fetchall())

        within = Schemas(_quoted, self.schemas.default, [schema])
        try:
            run("START TRANSACTION WITH CONSISTENT SNAPSHOT")
            tables = run(
                "SELECT table_name, auto_increment FROM information_schema.tables "
                "WHERE table_schema = %s AND table_type = 'BASE TABLE'",
                schema,
            )
            places = {within.called(schema, table): following for table, following in tables}
            rows = {name: run(f"SELECT * FROM {within.quoted(name)}") for name in places}
        except self._error as error:
            raise Unusable(f"the database {schema!r} cannot be read: {error.args[-1]}") from error
        finally:
            own.close()
        self.schemas.names.append(schema)
        self._elsewhere -= {schema}
        self._next_ids |= {name: int(number) for name, number in places.items() if number is not None}
        self._triggers = None
        return rows

    def close(self) -> None:
        try:
            self.unfollow()
            if self.loose or self.stale:
                self._reset_next_ids()
        finally:
            self._own.close()

    def sizes(self, rows_max: int) -> Mapping[str, int]:
        counts = (
            f"(SELECT COUNT(*) FROM (SELECT 1 FROM {self.schemas.quoted(n)} LIMIT {rows_max + 1}) s)"
            for n in self.tables
        )
        found = self._run(f"SELECT {', '.join(counts)}")[0] if self.tables else ()
        return dict(zip(self.tables, found, strict=True))

    def follow(self, names: Collection[str]) -> None:
        if self._blocked:
            self.refused = dict.fromkeys(names, self._blocked)
        if self._blocked or not names:
            return
        engines = self._run(
            "SELECT table_name, engine FROM information_schema.tables WHERE table_schema = DATABASE()"
        )
        possible = {
            name: "" if engine == "InnoDB" else f"{engine} knows no transactions"
            for name, engine in engines
            if name in self.tables
        }
        journal = MysqlJournal(self._run, self.tables)
        # Whoever works on a table just now is not waited for: it is read in full then.
        self._run("SET SESSION lock_wait_timeout=1")
        try:
            self.refused = journal.start(names, possible, self._error)
        finally:
            self._run("SET SESSION lock_wait_timeout=5")
        self._journal = journal
        self.journaled, self.unsure = journal.followed, journal.unsure

    def unfollow(self) -> None:
        if self._journal is not None:
            clear_away(self._run)
            self._journal = None
            self.journaled = self.unsure = frozenset()

    def rebase(self) -> None:
        """The baseline is remembered as rows, which a change of keys does not touch."""

    def foresee(self, connection: Any, statement: Statement) -> bool:
        if self._journal is None:
            return False
        text = statement.text.lower()
        meant = [name for name in self._journal.followed if statement.names(name)]
        if "alter" in text:
            # The statement itself ends the transaction, too.
            with connection.cursor() as cursor:
                for name in meant:
                    self._journal.make_way(cursor, name)
        return bool(self.journaled) and (bool(meant) or "database" in text or "schema" in text)

    def reconstruct(self) -> Rows:
        assert self._journal is not None
        own = self._connected()

        def run(sql: str) -> list[tuple[Any, ...]]:
            with own.cursor() as cursor:
                cursor.execute(sql)
                return list(cursor.fetchall())

        try:
            run("START TRANSACTION WITH CONSISTENT SNAPSHOT")
            entries, _ = self._journal.entries(run)
            net = fold(entries)
            # The baseline of the others is remembered already.
            now = {
                name: run(f"SELECT * FROM {self.schemas.quoted(name)}")
                for name in self.journaled
                if name not in self.unsure
            }
        finally:
            own.close()
        self.journaled = self.unsure = frozenset()
        return _minus(now, net.added, net.removed)

    def strayed(self) -> Sequence[str]:
        return self._journal.strayed() if self._journal is not None and self.journaled else ()

    def recall(self, table: str) -> Sequence[Any]:
        return ()

    def unchanged(self) -> bool:
        return False

    def read(self, names: Collection[str]) -> Rows:
        return {name: self._run(f"SELECT * FROM {self.schemas.quoted(name)}") for name in names}

    def look(self) -> Look:
        entries, unseen = (
            self._journal.entries() if self._journal is not None and self.journaled else ([], set())
        )
        net = fold(entry for entry in entries if entry[0] not in unseen)
        rows = self.read([name for name in self.tables if name not in self.journaled or name in unseen])
        return Look(rows, net.added, net.removed)

    def decode(self, table: str, rows: Sequence[Any]) -> Sequence[Mapping[str, Any]]:
        names = [column.name for column in self.tables[table].columns]
        return [dict(zip(names, row, strict=True)) for row in rows]

    def restore(self, added: Rows, removed: Rows) -> None:
        try:
            if self._triggers is None:
                self._triggers = self._read_triggers()
            for _ in range(_PASSES_MAX):
                touched = [name for name in self.tables if added.get(name) or removed.get(name)]
                answered = not self._triggers.isdisjoint(touched)
                baseline = self._baseline(added, removed) if answered else {}
                self._put_back(touched, added, removed, quiet=not answered)
                if not answered:
                    break
                # A trigger may have answered to what was put back: look again.
                look = self.look()
                added = {
                    **look.added,
                    **{name: _left(rows, baseline[name]) for name, rows in look.rows.items()},
                }
                removed = {
                    **look.removed,
                    **{name: _left(baseline[name], rows) for name, rows in look.rows.items()},
                }
            self.stale = not self.loose
        except self._error as error:
            with contextlib.suppress(self._error):
                self._own.rollback()
            raise self._unusable(error) from error

    def _baseline(self, added: Rows, removed: Rows) -> dict[str, list[Any]]:
        """What the tables that `look` reads, or may have to read, held before all this was added and removed."""
        return _minus({**self.look().rows, **self.read(self.unsure)}, added, removed)

    def _put_back(self, touched: Sequence[str], added: Rows, removed: Rows, *, quiet: bool) -> None:
        """In one transaction; ``quiet``: and the journal forgets what the last look has seen, and does not see this."""
        journal = self._journal
        if not touched and not (journal is not None and quiet and journal.forget()):
            return
        if journal is not None:
            journal.hush(quiet=quiet)
        self._run("BEGIN")
        for name in touched:
            self._replace(self.tables[name], added.get(name, ()), removed.get(name, ()))
        for statement in journal.forget() if journal is not None and quiet else ():
            self._run(statement)
        self._run("COMMIT")

    def freshen(self) -> None:
        self.stale = False
        if not self.loose:
            try:
                self._reset_next_ids()
            except self._error as error:
                raise self._unusable(error) from error

    def perturb(self) -> bool:
        self.stale = False
        for number, (name, following) in enumerate(self._next_ids.items(), 1):
            self._run(
                f"ALTER TABLE {self.schemas.quoted(name)} AUTO_INCREMENT = {following + 1000 + 37 * number}"
            )
        return bool(self._next_ids)

    def uncommitted(self, connection: Any) -> bool:
        sql = "SELECT trx_rows_modified FROM information_schema.innodb_trx WHERE trx_mysql_thread_id = %s"
        return any(count for (count,) in self._run(sql, (connection.thread_id(),)))

    def roll_back(self, connection: Any) -> Callable[[], None]:
        if not connection.open:
            return lambda: None
        number = connection.thread_id()
        connection.rollback()
        return lambda: self._await_end(number)

    def _await_end(self, number: int) -> None:
        """The server notices a closed connection a little later; its named locks must not linger."""
        for _ in range(400):
            if not self._run("SELECT 1 FROM information_schema.processlist WHERE id = %s", (number,)):
                return
            _real_sleep(0.0005)

    def break_off(self, connection: Any) -> None:
        number = int(connection.thread_id())
        self._run(f"KILL {number}")
        self._await_end(number)

    def rests(self, connection: Any) -> bool:
        return bool(connection.open)

    def renew(self, connection: Any) -> bool:
        """PyMySQL has no public way to reset a session: where its private one is gone, a new connection is made."""
        command, read = (getattr(connection, name, None) for name in ("_execute_command", "_read_ok_packet"))
        if command is None or read is None or not hasattr(connection, "autocommit_mode"):
            return False
        command(_COM_RESET_CONNECTION, b"")
        read()
        # What PyMySQL does after it has connected; the server has forgotten it.
        connection.set_character_set(connection.charset, connection.collation)
        if connection.db is not None:
            connection.select_db(connection.db)
        with connection.cursor() as cursor:
            if connection.sql_mode is not None:
                cursor.execute("SET sql_mode=%s", (connection.sql_mode,))
            if connection.init_command is not None:
                cursor.execute(connection.init_command)
        if connection.autocommit_mode is not None:
            connection.autocommit(connection.autocommit_mode)
        return True

    def autocommits(self, connection: Any, statement: Statement) -> bool:
        if statement.defines or statement.verb == "truncate":
            return True
        in_transaction = bool(getattr(connection, "server_status", 0) & 1)
        return bool(connection.get_autocommit()) and not in_transaction

    def welcome(self, connection: Any) -> None:
        """Nothing is changed."""

    def be_hasty(self, connection: Any) -> None:
        """The server is asked who waits; nothing needs to be hasty."""

    def be_patient(self, connection: Any) -> None:
        """Nothing was changed."""

    def cut(self, connection: Any) -> None:
        # Rolled back first: the server notices a closed socket a little later, and locks would linger.
        connection.rollback()
        connection._force_close()

    def refuse(self, doing: str) -> BaseException:
        return self._gone(f"MySQL server has gone away (before {doing})", 2006)

    def lose(self, doing: str) -> BaseException:
        return self._gone(f"Lost connection to MySQL server during query ({doing})", 2013)

    def busy(self, error: BaseException) -> bool:
        return False

    def waiting(self, connection: Any) -> Callable[[], bool] | None:
        """Asked of InnoDB's status, which is always fresh (information_schema.innodb_trx is cached for 0.1 s)."""
        if not connection.open:
            return None
        number = connection.thread_id()
        thread = re.compile(rf"\bthread id {number}\b")
        sql = (
            "SELECT 1 FROM information_schema.processlist WHERE id = %s "
            "AND (state LIKE 'User lock%%' OR state LIKE 'Waiting for%%lock')"
        )

        def ask() -> bool:
            ((_, _, status),) = self._run("SHOW ENGINE INNODB STATUS")
            transactions = str(status).split("---TRANSACTION ")[1:]
            if any("LOCK WAIT" in t and thread.search(t) for t in transactions):
                return True
            return bool(self._run(sql, (number,)))

        return ask

    @property
    def _error(self) -> type[Exception]:
        error: type[Exception] = self._engine.dialect.loaded_dbapi.Error
        return error

    def _unusable(self, error: Exception) -> Unusable:
        return Unusable(
            f"the database cannot be restored ({error}): a transaction that the test's body opened still holds "
            "locks. Close sessions and connections that the body opens before it ends"
        )

    def _gone(self, text: str, number: int) -> BaseException:
        error: BaseException = self._engine.dialect.loaded_dbapi.OperationalError(number, text)
        return error

    def _run(self, sql: str, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        with self._own.cursor() as cursor:
            cursor.execute(sql, parameters)
            return list(cursor.fetchall()) if cursor.description is not None else []

    def _ask(self, sql: str) -> list[tuple[Any, ...]]:
        """Of the schemas that are looked at."""
        names = (self.schemas.default, *self.schemas.names)
        return self._run(sql.replace(_SCHEMAS, ", ".join("%s" for _ in names)), names * sql.count(_SCHEMAS))

    def _facts(self) -> Facts:
        vague = set()
        moving = set()
        computed = set()
        for *place, column, collation, extra in self._ask(
            "SELECT table_schema, table_name, column_name, collation_name, extra FROM information_schema.columns "
            f"WHERE table_schema IN ({_SCHEMAS})"
        ):
            table = self.schemas.called(*place)
            if collation is not None and not _PLAIN_COLLATION.search(collation):
                vague.add((table, column))
            if "on update" in extra.lower():
                moving.add((table, column))
            if "GENERATED" in extra.upper() and "DEFAULT_GENERATED" not in extra.upper():
                computed.add((table, column))
        parts: dict[tuple[str, str], list[tuple[str | None, int | None]]] = {}
        for *place, name, column, prefix in self._ask(
            "SELECT table_schema, table_name, index_name, column_name, sub_part FROM information_schema.statistics "
            f"WHERE table_schema IN ({_SCHEMAS}) AND non_unique = 0 ORDER BY table_name, index_name, seq_in_index"
        ):
            parts.setdefault((self.schemas.called(*place), name), []).append((column, prefix))
        keys: dict[str, list[Key]] = {}
        for (table, name), found in parts.items():
            whole = all(column is not None and prefix is None for column, prefix in found)
            columns = tuple(str(column) for column, _ in found) if whole else ()
            keys.setdefault(table, []).append(
                Key(name, columns, any((table, column) in moving for column in columns))
            )
        # Another engine than InnoDB knows no transactions; a history table has rows that nobody names.
        odd = {self.schemas.called(*place) for place in self._ask(_ODD)}
        views = f"SELECT table_schema, table_name FROM information_schema.views WHERE table_schema IN ({_SCHEMAS})"
        self.views = frozenset(self.schemas.called(*place) for place in self._ask(views))
        return Facts(keys, frozenset(odd), frozenset(vague), frozenset(computed))

    def _read_next_ids(self) -> dict[str, int]:
        sql = (
            "SELECT table_schema, table_name, auto_increment FROM information_schema.tables "
            f"WHERE table_schema IN ({_SCHEMAS}) AND auto_increment IS NOT NULL"
        )
        return {self.schemas.called(schema, table): int(number) for schema, table, number in self._ask(sql)}

    def _reset_next_ids(self) -> None:
        now = self._read_next_ids()
        for name, following in self._next_ids.items():
            if now.get(name, following) != following:
                self._run(f"ALTER TABLE {self.schemas.quoted(name)} AUTO_INCREMENT = {following}")

    def _replace(self, table: Table, added: Sequence[Any], removed: Sequence[Any]) -> None:
        names = [column.name for column in table.columns]
        where = self.schemas.quoted(table.name)
        if added and table.key:
            places = [names.index(name) for name in table.key]
            listed = ", ".join(_quoted(name) for name in table.key)
            marks = "(" + ", ".join("%s" for _ in places) + ")"
            for some in _parts(added):
                self._run(
                    f"DELETE FROM {where} WHERE ({listed}) IN ({', '.join([marks] * len(some))})",
                    [row[place] for row in some for place in places],
                )
        elif added:
            condition = " AND ".join(f"{_quoted(name)} <=> %s" for name in names)
            for row in added:
                self._run(f"DELETE FROM {where} WHERE {condition} LIMIT 1", row)
        if removed:
            listed = ", ".join(_quoted(name) for name in table.writable)
            marks = ", ".join("%s" for _ in table.writable)
            places = [names.index(name) for name in table.writable]
            for some in _parts(removed):
                self._run(
                    f"INSERT INTO {where} ({listed}) VALUES {', '.join([f'({marks})'] * len(some))}",
                    [row[place] for row in some for place in places],
                )


def _parts(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (rows[start : start + _ROWS_MAX] for start in range(0, len(rows), _ROWS_MAX))


def _left(rows: Sequence[Any], others: Sequence[Any]) -> list[Any]:
    return list((Counter(rows) - Counter(others)).elements())


def _minus(now: Rows, added: Rows, removed: Rows) -> dict[str, list[Any]]:
    """The baseline: what there is now, without what was added, with what was removed."""
    return {
        name: _left(rows, added.get(name, ())) + list(removed.get(name, ())) for name, rows in now.items()
    }


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
