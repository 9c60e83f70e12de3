"""One SQL database as a Store."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from idemfuzz.abc import Gate, Options, Unusable
from idemfuzz.adapters.sqlalchemy.awaited import core_of, is_async, plain, within
from idemfuzz.adapters.sqlalchemy.flavour import Rows, Table, identity_of, is_memory
from idemfuzz.adapters.sqlalchemy.given import check_permission
from idemfuzz.adapters.sqlalchemy.guards import Guards
from idemfuzz.adapters.sqlalchemy.journal import listed, worth_following
from idemfuzz.adapters.sqlalchemy.mysql import MysqlFlavour
from idemfuzz.adapters.sqlalchemy.postgresql import PostgresqlFlavour
from idemfuzz.adapters.sqlalchemy.sqlite import SqliteFlavour
from idemfuzz.adapters.sqlalchemy.statement import Statement
from idemfuzz.adapters.sqlalchemy.tap import DialectTap
from idemfuzz.adapters.sqlalchemy.wording import SqlWording
from idemfuzz.model import Delta, Difference, DifferenceKind, Fact, FactKind, Guard, GuardKind

_FLAVOURS: Mapping[str, Any] = {
    "sqlite": SqliteFlavour,
    "postgresql": PostgresqlFlavour,
    "mysql": MysqlFlavour,
    "mariadb": MysqlFlavour,
}


class SqlStore:
    """Captures by a journal of what changed, or by comparing all rows; restores; keeps sessions handed in usable."""

    kind = "sql"

    def __init__(self, name: str, engine: Engine, options: Options) -> None:
        self.name = name
        self.engine = engine
        self.wording = SqlWording(engine.dialect)
        backend = engine.url.get_backend_name()
        if backend not in _FLAVOURS:
            raise Unusable(
                f"{name!r} is a {backend} database; idemfuzz knows {', '.join(sorted(_FLAVOURS))}. "
                "Leave it out with stores=[...]"
            )
        is_async(engine)
        self._options = options
        self._gate: Gate
        self._sessions: list[Any] = []
        self._known: list[tuple[Session, set[int]]] = []
        self._flavour = _FLAVOURS[backend](engine)
        self._identity = identity_of(engine)
        self._tap: DialectTap
        self._baseline: dict[str, list[Any]] = {}
        self._counted: dict[str, Counter[Any]] = {}
        self._added: Rows = {}
        self._removed: Rows = {}
        self._outgrown = False
        """Whether the triggers of a journal that has ended are still in the database."""
        self._adopted = False
        """Whether another schema is looked at since the tables were reflected."""
        self._elsewhere: Callable[[str], str] | None = None
        """Where the baseline is another process', it adopts schemas."""
        self._failed: str | None = None
        """Why the baseline may be unknown."""
        self._overflow: int | None = None
        self._guards = Guards(name, backend, lambda: self._flavour.tables)
        self._described: Mapping[str, Table] = {}
        """The tables as they are without what `alter` does: by their keys rows are told apart."""
        self._altered = False
        self._keyless: frozenset[str] = frozenset()
        """The tables whose primary key is away: more than one row may have it."""

    @property
    def identity(self) -> Hashable:
        return self._identity

    @property
    def place(self) -> str:
        """Where it is: one text in every process."""
        return repr(self._identity)

    @property
    def in_process(self) -> bool:
        """Whether another process would have one of its own."""
        return self.engine.url.get_backend_name() == "sqlite" and is_memory(self.engine)

    @property
    def shared_connection(self) -> bool:
        """Whether two overlapping Executions have used one connection."""
        return self._tap.shared

    @property
    def description(self) -> str:
        """The kind, with how the changes of large tables are learned."""
        parts = [self.kind]
        followed, refused = self._flavour.journaled, self._flavour.refused
        if followed:
            parts.append(f"{len(followed)} table{'' if len(followed) == 1 else 's'} by journal")
        for why in dict.fromkeys(refused.values()):
            parts.append(f"{listed([n for n in refused if refused[n] == why])} read in full: {why}")
        return "; ".join(parts)

    def hand(self, value: Any) -> None:
        """Remember a Session that the scenario and the job may share."""
        value = core_of(value)
        if hasattr(value, "get_bind") or hasattr(value, "session_factory"):
            self._sessions.append(value)

    def open(self, gate: Gate) -> None:
        self.check_given()
        self._gate = gate
        self._check_sessions()
        self._flavour.open(gate)
        try:
            self._start(gate)
        except BaseException:
            self._flavour.close()
            raise

    def _start(self, gate: Gate) -> None:
        pool = self.engine.pool
        if isinstance(pool, QueuePool):
            # A job that leaks connections must not starve the search.
            self._overflow, pool._max_overflow = pool._max_overflow, -1
        if self.engine.dialect.is_async and getattr(self.engine.dialect, "server_version_info", None) is None:
            # What a dialect asks a server when it first connects is no work of the job's.
            self._within(lambda: self.engine.raw_connection().close())
            self._within(self.engine.dispose)
        self._known = [(s, {id(o) for o in s.identity_map.values()}) for s in self._plain_sessions()]
        rows_max = self._options.full_read_rows_max
        self._flavour.follow(worth_following(self._flavour.sizes(rows_max), rows_max))
        self._remember({**self._flavour.look().rows, **self._flavour.read(self._flavour.unsure)})
        guards = self._guards if self._options.prove else None
        self._tap = DialectTap(
            self.name, self._identity, self._flavour, gate, self._foresee, self.adopt_schema, guards
        )
        self._tap.attach(self.engine)

    def changes(self) -> Delta:
        self._release_sessions()
        if self._tap.defined or self._adopted:
            self._flavour.reflect()
            self._adopted = False
        if self._flavour.unchanged():
            self._added, self._removed = {}, {}
            return Delta()
        look = self._flavour.look()
        added, removed = dict(look.added), dict(look.removed)
        for table, rows in look.rows.items():
            before = self._before(table)
            if rows == before:
                continue
            left = Counter(rows)
            left.subtract(self._counted[table])
            added[table] = [row for row, count in left.items() for _ in range(count)]
            removed[table] = [row for row, count in left.items() for _ in range(-count)]
        self._added, self._removed = added, removed
        return Delta(self._facts(added), self._facts(removed))

    def restore(self) -> None:
        self._release_sessions()
        self._flavour.restore(self._added, self._with_neighbours() if self._keyless else self._removed)
        self._added, self._removed = {}, {}
        if self._outgrown:
            self._flavour.unfollow()
            self._outgrown = False

    def verify(self) -> str | None:
        """Between trials: what speaks against the journal, after a look at all rows of the tables that it follows."""
        strayed = self._flavour.strayed()
        if not strayed:
            return self._failed
        return (
            f"{listed(strayed)} in {self.name!r} should be as before the search and is not: "
            "something changed rows past the triggers"
        )

    def perturb(self) -> bool:
        return bool(self._flavour.perturb())

    def loosen(self) -> None:
        """The scenario was seen not to depend on the very ids: they may drift until `close` puts them back."""
        self._flavour.loose = True

    def isolate(self, level: str) -> None:
        """From now on transactions run at this isolation level, unless the job itself asks for another one.

        Raises:
            Unusable: the database does not know the level.
        """

        def levels() -> list[str]:
            with self.engine.connect() as connection:
                driver: Any = connection.connection.dbapi_connection
                return list(self.engine.dialect.get_isolation_level_values(driver))

        known = [name for name in within(self.engine, self._gate, levels) if name != "AUTOCOMMIT"]
        if level not in known:
            raise Unusable(
                f"isolation level {level!r} is not known to {self.name!r} ({self.engine.dialect.name}); "
                f"it has {', '.join(known)}"
            )
        self._tap.level = level

    def advance(self, seconds: float) -> None:
        """The server's own clock cannot be moved."""

    def sever(self, scope: Hashable) -> None:
        for connection in self._tap.connections_of(scope).values():
            self._tap.drop(connection)

    def settle(self, scope: Hashable, *, failed: bool) -> None:
        kept = set() if failed else {id(self._tap.plain(c)) for c in self._session_connections()}
        for number, connection in self._tap.connections_of(scope).items():
            if number not in kept:
                self._tap.drop(connection)
        self._guards.forget_commits(scope)
        left = self._tap.locks_left_by(scope)
        if left:
            # The process of a forking worker ends here, and its pool with it.
            gone = [self._tap.free(connection) for connection in left]
            self.engine.dispose()
            for wait in gone:
                wait()
        if failed:
            for session in self._plain_sessions():
                self._within(session.rollback)

    # -- guards ------------------------------------------------------------------------------------------

    @property
    def uses(self) -> int:
        """How often deliveries would have used a guard that is away, since the last `alter`."""
        return self._guards.uses

    def guards(self) -> Sequence[Guard]:
        """What keeps a second delivery from doing the work again, as far as deliveries were seen to use it."""
        return self._guards.found()

    def mends(
        self, differences: Sequence[Difference], volatile: Callable[[str, str], bool]
    ) -> Sequence[Guard]:
        """A unique key on what says which row it is of rows that were written twice, one transaction for all, SERIALIZABLE."""
        found: dict[Guard, None] = {}
        mine = [d for d in differences if d.store == self.name]
        for difference in mine:
            table = self._flavour.tables.get(difference.group)
            if difference.kind is not DifferenceKind.EXTRA or difference.removal or table is None:
                continue
            columns = [
                name
                for name, value in difference.fact.fields.items()
                if value is not None
                and name not in difference.fact.generated
                and not volatile(table.name, name)
                and name in table.writable
            ]
            if columns:
                mark = "|".join([table.name, *columns])
                name = f"UNIQUE({table.name}.{', '.join(columns)})"
                found.setdefault(Guard(GuardKind.UNIQUE, self.name, name, mark))
        commits = self._guards.commits_max
        if mine and commits > 1 and not is_async(self.engine):
            found.setdefault(
                Guard(GuardKind.COMMIT, self.name, f"one transaction for {commits} commits", "one commit")
            )
        if mine and self.engine.url.get_backend_name() != "sqlite" and not self._options.isolation:
            found.setdefault(Guard(GuardKind.ISOLATION, self.name, "SERIALIZABLE", "SERIALIZABLE"))
        return list(found)

    def alter(self, without: Collection[Guard], with_: Collection[Guard] = ()) -> None:
        """Go on without these guards and with those; none of either: as it was."""
        if self._altered:
            self._put_back()
        if not without and not with_:
            return
        self._altered = True
        self._described = dict(self._flavour.tables)
        try:
            self._forget_journal()
            keys = [key for g in without if g.kind is GuardKind.UNIQUE for key in self._guards.keys_of(g)]
            added = [g.mark.split("|") for g in with_ if g.kind is GuardKind.UNIQUE]
            self._guards.take(without)
            for name, key in keys:
                self._flavour.schema.drop(self._flavour.tables[name], key)
            for table, *columns in added:
                self._flavour.schema.add(table, columns)
            if keys or added:
                self._flavour.reflect()
                self._flavour.rebase()
                # Rows are still found by the key that told them apart: not every value equals itself in a WHERE.
                found = {n: t.key for n, t in self._described.items() if t.key != self._flavour.tables[n].key}
                self._keyless = frozenset(found)
                self._flavour.tables.update(
                    {name: replace(self._flavour.tables[name], key=key) for name, key in found.items()}
                )
            for guard in with_:
                if guard.kind is GuardKind.ISOLATION:
                    self.isolate(guard.mark)
                elif guard.kind is GuardKind.COMMIT:
                    self._tap.join()
        except BaseException:
            self._put_back()
            raise

    def finish(self) -> None:
        """The delivery at work has done all that it does, and has not failed."""
        self._tap.finish()

    def remedy(self, guard: Guard) -> str:
        """What a person would write to have this guard."""
        if guard.kind is GuardKind.UNIQUE:
            table, *columns = guard.mark.split("|")
            return self.wording.unique_key(table, columns)
        if guard.kind is GuardKind.COMMIT:
            return "with engine.begin() as connection:, once around all that the job writes (or one session.commit() at its end)"
        return (
            f'create_engine(url, isolation_level="{guard.mark}"), and try again what could not be serialised'
        )

    def _with_neighbours(self) -> Rows:
        """What was removed, with the baseline's rows of a key that was added once more: all rows of it are put back."""
        removed = dict(self._removed)
        for name in self._keyless:
            table, rows = self._flavour.tables[name], self._added.get(name, ())
            if not rows or isinstance(rows[0], str):
                # PostgreSQL's rows are found where they stand.
                continue
            places = [number for number, column in enumerate(table.columns) if column.name in table.key]
            keys = {tuple(row[place] for place in places) for row in rows}
            left = self._counted[name] - Counter(removed.get(name, ()))
            again = [row for row in left.elements() if tuple(row[place] for place in places) in keys]
            removed[name] = [*removed.get(name, ()), *again]
        return removed

    def _forget_journal(self) -> None:
        """A journal follows the schema that it was made for: for a proof, all rows are read."""
        if self._flavour.journaled:
            rows = self._flavour.read(self._flavour.journaled)
            self._flavour.unfollow()
            self._remember(rows)
            self._flavour.rebase()

    def _put_back(self) -> None:
        self._guards.take(())
        self._tap.part()
        if self._tap.level is not None:
            self._tap.level = None
            # No connection must keep the level.
            self._within(self.engine.dispose)
        self._flavour.schema.put_back()
        self._flavour.reflect()
        self._flavour.rebase()
        self._described, self._keyless = {}, frozenset()
        self._altered = False

    def close(self) -> None:
        self._release_sessions()
        self._tap.detach()
        try:
            if self._altered:
                self._put_back()
        finally:
            self._end()

    def _end(self) -> None:
        pool = self.engine.pool
        if self._overflow is not None and isinstance(pool, QueuePool):
            pool._max_overflow = self._overflow
        if self._tap.level is not None or self.engine.dialect.is_async:
            # No connection must keep the level, or belong to a loop that may be gone before the next one needs it.
            self._within(self.engine.dispose)
        try:
            self._flavour.close()
        except Exception as error:
            warnings.warn(
                f"idemfuzz could not remove its triggers from {self.name!r} ({str(error).strip()}): something still "
                "holds locks. The next search of this database removes them",
                stacklevel=2,
            )

    # -- parts -------------------------------------------------------------------------------------------

    def check_given(self) -> None:
        """Never a database that was not given: a server's must say by its name that it may be changed.

        Raises:
            Unusable: it does not.
        """
        check_permission(self.engine.url, called=repr(self.name), allow=self._options.allow)

    def _check_sessions(self) -> None:
        for session in self._plain_sessions():
            pending = len(session.new) + len(session.dirty) + len(session.deleted)
            if pending or any(self._flavour.uncommitted(plain(c, self._gate)) for c in _connections(session)):
                raise Unusable(
                    f"the session behind {self.name!r} has changes that are not committed when the test begins: a worker "
                    "could not see them. Commit in the fixture"
                )
            self._within(session.rollback)

    def _plain_sessions(self) -> list[Session]:
        sessions = []
        for value in self._sessions:
            if hasattr(value, "registry"):
                if value.registry.has():
                    sessions.append(value())
            elif isinstance(value, Session) and value not in sessions:
                sessions.append(value)
        return sessions

    def _session_connections(self) -> list[Any]:
        return [connection for session in self._plain_sessions() for connection in _connections(session)]

    def _release_sessions(self) -> None:
        """End what the scenario's own sessions hold, keep the objects that fixtures made, forget the trial's."""
        known = {id(s): objects for s, objects in self._known}
        for session in self._plain_sessions():
            self._within(session.rollback)
            before = known.get(id(session))
            if before is not None:
                for instance in list(session.identity_map.values()):
                    if id(instance) not in before:
                        session.expunge(instance)
            session.expire_all()

    def _within(self, action: Callable[[], Any]) -> None:
        within(self.engine, self._gate, action)

    def _remember(self, rows: Rows) -> None:
        for table, found in rows.items():
            self._baseline[table] = list(found)
            self._counted[table] = Counter(found)

    def _before(self, table: str) -> list[Any]:
        if table not in self._baseline:
            self._remember({table: self._flavour.recall(table)})
        return self._baseline[table]

    def _foresee(self, connection: Any, statement: Statement) -> None:
        """A journal cannot follow a change of the table itself: what it has told so far gives the baseline to compare with."""
        if self._elsewhere is not None:
            # The baseline is the parent's.
            return
        try:
            if self._flavour.foresee(connection, statement):
                self._remember(self._flavour.reconstruct())
                self._outgrown = True
        except Exception as error:
            # Nothing of this must reach the job.
            self._failed = (
                f"before `{statement.label}`, the baseline of {self.name!r} could not be read "
                f"({str(error).strip()}), so that nothing is certain after it"
            )

    def leave_schemas_to(self, adopt: Callable[[str], str]) -> None:
        """In a forked process, whose parent has the baseline: ``adopt`` tells the parent of a schema, and nothing is read here."""
        self._elsewhere = adopt

    def adopt_schema(self, schema: str) -> str:
        """From now on this schema is looked at, too; why not, where that cannot be."""
        if self._elsewhere is not None:
            return self._elsewhere(schema)
        if schema in self._flavour.schemas.names:
            return ""
        url = self.engine.url
        try:
            if url.get_backend_name() in ("mysql", "mariadb"):
                # Its schemas are databases of their own.
                check_permission(url.set(database=schema), called=repr(schema), allow=self._options.allow)
        except Unusable:
            return f"its name does not say that it is for tests; allow=[{schema!r}] allows it"
        try:
            self._remember(self._flavour.adopt(schema))
        except Exception as error:
            # Nothing of this must reach the job.
            return str(error).strip()
        self._adopted = True
        return ""

    def _facts(self, rows: Rows) -> tuple[Fact, ...]:
        facts = []
        for name, found in rows.items():
            if not found:
                continue
            table = self._described.get(name) or self._flavour.tables[name]
            decoded = self._flavour.decode(name, found)
            if table.key:
                decoded = sorted(decoded, key=lambda row: tuple(repr(row[k]).rjust(24) for k in table.key))
            facts += [
                Fact(self.name, FactKind.ROW, table.whole or name, row, table.key, table.generated)
                for row in decoded
            ]
        return tuple(facts)


def _connections(session: Session) -> list[Any]:
    """The connections of a Session's running transaction, as its dialect knows them."""
    transaction = session.get_transaction()
    if transaction is None:
        return []
    found = []
    for key, value in getattr(transaction, "_connections", {}).items():
        if hasattr(key, "dialect") and hasattr(value[0], "connection"):
            driver = getattr(value[0].connection, "dbapi_connection", None)
            if driver is not None and driver not in found:
                found.append(driver)
    return found
