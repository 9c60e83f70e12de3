"""Makes every statement, commit and rollback of an Engine an Effect.

The dialect's own ``do_execute``, ``do_commit`` and so on are wrapped, not the engine's events: an error raised here
reaches SQLAlchemy as the driver's own would, and an ambiguous COMMIT can be made (the ``commit`` event fires before it).
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from idemfuzz.abc import Errors, Gate
from idemfuzz.adapters.lease import lease_in
from idemfuzz.adapters.sqlalchemy import engines
from idemfuzz.adapters.sqlalchemy.awaited import closing, forget, is_async, plain
from idemfuzz.adapters.sqlalchemy.footprint import Books, Footprints, Isolation, isolation_of, literal
from idemfuzz.adapters.sqlalchemy.joining import Joining
from idemfuzz.adapters.sqlalchemy.reconnection import Reconnections, disconnected, reveals
from idemfuzz.adapters.sqlalchemy.statement import Statement, shown, understand
from idemfuzz.model import Access, Effect, FaultKind, Source
from idemfuzz.model.footprint import Footprint

if TYPE_CHECKING:
    from idemfuzz.adapters.sqlalchemy.flavour import Flavour
    from idemfuzz.adapters.sqlalchemy.guards import Guards

_METHODS = (
    "do_execute",
    "do_executemany",
    "do_execute_no_params",
    "do_commit",
    "do_rollback",
    "set_isolation_level",
    "reset_isolation_level",
)
_WELCOMED = "idemfuzz"
_EXECUTING, _COMMITTING = "executing a statement", "committing"
_EFFECTS_MAX = 4096
_LOOK_SECONDS, _BREAKING_OFF_LOOKS = 0.001, 3_000
_real_sleep = time.sleep


class DialectTap:
    """Wraps the dialects of all Engines to one database, from attach to detach."""

    def __init__(
        self,
        name: str,
        identity: Hashable,
        flavour: Flavour,
        gate: Gate,
        foresee: Callable[[Any, Statement], None],
        adopt: Callable[[str], str],
        guards: Guards | None = None,
    ) -> None:
        """``foresee`` is told of a statement that may change tables other than row by row, just before it runs.

        ``adopt`` is told of a schema before the first statement that has to do with it; it returns what speaks against that.

        ``guards`` are told of all statements, and may change them.
        """
        self._guards = guards
        self.shared = False
        self.defined = False
        self.level: str | None = None
        """The isolation level that connections get where the job does not ask for one."""
        self.joining: Joining | None = None
        """Where it is there, all that a delivery commits is one transaction."""
        self._name = name
        self._identity = identity
        self._flavour = flavour
        self._gate = gate
        self._foresee = foresee
        self._adopt = adopt
        self._placed: set[str] = set()
        """Statements whose schemas are looked at, or cannot be."""
        self._wandering = False
        """Whether a statement has changed where names without a schema lead to."""
        self._engine: Engine
        self._dialects: list[Any] = []
        self._used: dict[Hashable, dict[int, Any]] = {}
        self._owner: dict[int, Hashable] = {}
        self._proxies: dict[int, Callable[[], Any]] = {}
        self._dirty: set[int] = set()
        self._session_state: set[int] = set()
        self._left: dict[Hashable, list[Any]] = {}
        self._hasty: set[int] = set()
        self._blocks = False
        """Whether its driver has the thread wait for a server."""
        self._under_way: set[int] = set()
        """Connections whose driver has something to do for a delivery at this moment."""
        self._labels: dict[str, str] = {}
        self._effects: dict[Hashable, Effect] = {}
        self._here = object()
        """The mark of connections that were made welcome in this search."""
        self._failures: dict[tuple[int, str], Errors] = {}
        """How a connection that is out of its pool fails."""
        self._books: dict[int, Books] = {}
        self._levels: dict[int, tuple[Any, str]] = {}
        self._met: set[int] = set()
        self._footprints: Footprints
        self._tables: object = None
        self._outdated: object = None
        self._reconnections = Reconnections(flavour)

    def attach(self, engine: Engine) -> None:
        engines.watch(self._identity, self)
        self._engine = engine
        self._blocks = self._flavour.renews and not is_async(engine)
        self._current_footprints()
        event.listen(engine, "checkout", self._taken)
        event.listen(engine, "checkin", self._returned)
        self.wrap(engine)

    def wrap(self, engine: Engine) -> None:
        dialect = engine.dialect
        if any(dialect is known for known in self._dialects):
            return
        self._dialects.append(dialect)
        tapped: Any = dialect
        tapped.do_execute = self._execute(dialect, dialect.do_execute)
        tapped.do_executemany = self._execute(dialect, dialect.do_executemany, many=True)
        tapped.do_execute_no_params = self._execute_plain(dialect, dialect.do_execute_no_params)
        tapped.do_commit = self._commit(dialect.do_commit)
        tapped.do_rollback = self._rollback(dialect.do_rollback)
        tapped.set_isolation_level = self._set_level(dialect.set_isolation_level)
        tapped.reset_isolation_level = self._reset_level(dialect.reset_isolation_level)
        if is_async(engine):
            for method in ("do_close", "do_terminate"):
                setattr(tapped, method, closing(getattr(dialect, method), self._gate))
        elif self._flavour.renews:
            self._reconnections.wrap(dialect)

    def detach(self) -> None:
        for dialect in self._dialects:
            for method in (*_METHODS, "do_close", "do_terminate"):
                vars(dialect).pop(method, None)
            if self._flavour.renews:
                self._reconnections.unwrap(dialect)
        self._dialects.clear()
        self._books.clear()
        self._levels.clear()
        self._failures.clear()
        self._reconnections.clear()
        forget()
        event.remove(self._engine, "checkout", self._taken)
        event.remove(self._engine, "checkin", self._returned)
        engines.leave(self._identity)

    def connections_of(self, scope: Hashable) -> dict[int, Any]:
        """The driver connections that an Execution has used, taken out of the books."""
        used = self._used.pop(scope, {})
        for number in used:
            self._owner.pop(number, None)
        return used

    def locks_left_by(self, scope: Hashable) -> list[Any]:
        """Connections that an Execution gave back to the pool with something of the session's, or a transaction, still held."""
        left = self._left.pop(scope, [])
        self._session_state.difference_update(id(connection) for connection in left)
        return left

    def drop(self, connection: Any) -> None:
        """A dead process's connection: its transaction ends at the server now, then it is closed."""
        number = id(connection)
        held = number in self._session_state
        for known in (self._dirty, self._hasty, self._session_state):
            known.discard(number)
        if self.joining is not None:
            self.joining.forget(connection)
        self._books.pop(number, None)
        self._levels.pop(number, None)
        self._forget_errors(connection)
        if number in self._under_way:
            self._break_off(connection)
        gone = self._flavour.roll_back(connection)
        proxy = self._proxies.pop(number, lambda: None)()
        if proxy is not None and proxy.is_valid:
            released = held and self._reconnections.release(connection)
            proxy.invalidate()
            if held and not released:
                gone()

    def _break_off(self, connection: Any) -> None:
        """Another thread is in the driver with it, and no driver can be made to roll back meanwhile.

        Raises:
            RuntimeError: it does not come out of the driver, so nothing more can be done with the connection.
        """
        self._flavour.break_off(connection)
        for _ in range(_BREAKING_OFF_LOOKS):
            if id(connection) not in self._under_way:
                return
            _real_sleep(_LOOK_SECONDS)
        raise RuntimeError("a statement was broken off at the server, and the driver did not return from it")

    def free(self, connection: Any) -> Callable[[], None]:
        """A connection in the pool: its session lets go of what it holds, at the latest when the result was called."""
        gone = self._flavour.roll_back(connection)
        self._dirty.discard(id(connection))
        self._books_of(connection).end()
        self._levels.pop(id(connection), None)
        return (lambda: None) if self._reconnections.release(connection) else gone

    # -- the wrappers ------------------------------------------------------------------------------------

    def _execute(
        self, dialect: Any, original: Callable[..., None], *, many: bool = False
    ) -> Callable[..., None]:
        def do_execute(cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
            self._statement(
                dialect,
                cursor,
                statement,
                parameters,
                lambda sql, values: original(cursor, sql, values, context),
                many=many,
            )

        return do_execute

    def _execute_plain(self, dialect: Any, original: Callable[..., None]) -> Callable[..., None]:
        def do_execute_no_params(cursor: Any, statement: str, context: Any = None) -> None:
            self._statement(
                dialect, cursor, statement, None, lambda sql, values: original(cursor, sql, context)
            )

        return do_execute_no_params

    def _statement(
        self,
        dialect: Any,
        cursor: Any,
        sql: str,
        parameters: Any,
        action: Callable[[str, Any], None],
        *,
        many: bool = False,
    ) -> None:
        if self._flavour.stale:
            self._flavour.freshen()
        scope = self._gate.scope()
        source = self._gate.source() if scope is not None else None
        if scope is not None and self._guards is not None:
            self._guards.note(sql, source)
            sql, parameters = self._guards.rewrite(sql, parameters, many=many)
        statement = understand(sql)
        connection = self.plain(getattr(cursor, "_adapt_connection", None) or cursor.connection)
        if sql not in self._placed or statement.wanders:
            self._placed.add(sql)
            for schema in self._flavour.elsewhere(statement, parameters):
                self.adopt(schema)
        if scope is None:
            if statement.reshapes:
                self._foresee(connection, statement)
            action(sql, parameters)
            return
        self._use(connection, scope)
        autocommit = self._flavour.autocommits(connection, statement)
        values = None if many else literal(parameters)
        footprint = self._footprint(dialect, connection, sql, parameters, values, statement, autocommit, many)
        effect = self._effect(statement, parameters, values, autocommit, source, footprint)

        def act() -> None:
            if statement.reshapes:
                self._foresee(connection, statement)
            self._doing(connection, lambda: action(sql, parameters))
            # Noted before a fault strikes after the Effect: the transaction is open all the same.
            self._note(connection, statement, autocommit)

        self._gate.perform(
            effect,
            act,
            errors=self._errors(connection, _EXECUTING),
            describe=lambda _: _rows(cursor, statement),
        )

    def adopt(self, schema: str) -> None:
        """Look at this schema, too; what cannot be looked at is a stranger."""
        why = self._adopt(schema)
        if why:
            engines.note_stranger(f"the schema {schema!r} beside {self._name!r} ({why})")

    def _effect(
        self,
        statement: Statement,
        parameters: Any,
        values: Hashable,
        autocommit: bool,
        source: Source | None,
        footprint: Footprint,
    ) -> Effect:
        """The Effect that a statement is; the same one for the same statement, as it comes back in each trial."""
        key = (statement.text, values, autocommit, source, footprint)
        effect = self._effects.get(key) if values is not None else None
        if effect is None:
            access = Access.READ if not statement.writes else Access.DURABLE if autocommit else Access.PENDING
            effect = Effect(
                self._label(statement.label),
                self._name,
                access,
                shown(statement, parameters),
                (FaultKind.REFUSED, FaultKind.LOST) if access is Access.DURABLE else (FaultKind.REFUSED,),
                source,
                footprint,
                lease_in(parameters) if statement.writes else None,
            )
            if len(self._effects) >= _EFFECTS_MAX:
                self._effects.clear()
            if values is not None:
                self._effects[key] = effect
        return effect

    def _commit(self, original: Callable[[Any], None]) -> Callable[[Any], None]:
        def do_commit(proxied: Any) -> None:
            scope = self._gate.scope()
            if scope is None:
                original(proxied)
                return
            connection = self._connection_of(proxied)
            self._use(connection, scope)
            wrote = id(connection) in self._dirty
            if wrote and self._guards is not None:
                self._guards.note_commit(scope.key)
            if self.joining is not None and (wrote or self.joining.holds(connection)):
                proxy = self._proxies.get(id(connection), lambda: None)()
                self.joining.put_off(scope.key, connection, proxy)
                return
            self._end_transaction(connection, lambda: original(proxied))

        return do_commit

    def finish(self) -> None:
        """The delivery at work comes to its end: what it has committed so far is committed now, all of it at once."""
        scope = self._gate.scope()
        if self.joining is None or scope is None or scope.dead:
            return
        connection = self.joining.connection_of(scope.key)
        if connection is not None:
            self._use(connection, scope)
            self._end_transaction(connection, connection.commit)
            self.joining.release(scope.key)

    def _end_transaction(self, connection: Any, commit: Callable[[], None]) -> None:
        wrote = id(connection) in self._dirty
        books = self._books_of(connection)
        effect = Effect(
            self._label("commit"),
            self._name,
            Access.DURABLE if wrote else Access.READ,
            "COMMIT" if wrote else "COMMIT (nothing was written)",
            (FaultKind.REFUSED, FaultKind.LOST) if wrote else (),
            self._gate.source(),
            self._footprints.commit(books),
        )
        self._gate.perform(
            effect,
            lambda: self._doing(connection, commit),
            errors=self._errors(connection, _COMMITTING),
        )
        self._dirty.discard(id(connection))
        books.end()

    def _rollback(self, original: Callable[[Any], None]) -> Callable[[Any], None]:
        def do_rollback(proxied: Any) -> None:
            scope = self._gate.scope()
            connection = self._connection_of(proxied)
            if self.joining is not None and scope is not None and self.joining.holds(connection):
                if not scope.dead:
                    self.joining.roll_back(connection)
                return
            books = self._books_of(connection)
            if scope is None or scope.dead or not (id(connection) in self._dirty or books.holds):
                original(proxied)
            else:
                effect = Effect(
                    self._label("rollback"),
                    self._name,
                    Access.READ,
                    "ROLLBACK",
                    source=self._gate.source(),
                    footprint=self._footprints.rollback(books),
                )
                self._gate.perform(effect, lambda: original(proxied))
            self._dirty.discard(id(connection))
            books.end()

        return do_rollback

    def _doing(self, connection: Any, action: Callable[[], None]) -> None:
        number = id(connection)
        self._under_way.add(number)

        def doing() -> None:
            try:
                action()
            finally:
                self._under_way.discard(number)

        if self._blocks:
            # A job that is a coroutine may use a driver that is not: a wait for a lock would stop the loop.
            self._gate.aside(doing)
        else:
            doing()

    # -- footprints --------------------------------------------------------------------------------------

    def _footprint(
        self,
        dialect: Any,
        connection: Any,
        sql: str,
        parameters: Any,
        values: Hashable,
        statement: Statement,
        autocommit: bool,
        many: bool,
    ) -> Footprint:
        footprints = self._current_footprints()
        books = self._books_of(connection)
        if statement.defines:
            # Until it is reflected anew, nothing that is known of the schema holds.
            self._outdated = self._tables
        self._wandering = self._wandering or statement.wanders
        elsewhere = dialect.default_schema_name != self._engine.dialect.default_schema_name
        if self._outdated is self._tables or self._wandering or elsewhere:
            return footprints.unknown(books, autocommit=autocommit)
        return footprints.statement(
            sql,
            parameters,
            books,
            values=values,
            autocommit=autocommit,
            isolation=self._isolation(dialect, connection),
            many=many,
        )

    def _current_footprints(self) -> Footprints:
        """Made anew after each reflection."""
        tables = self._flavour.tables
        if self._tables is not tables:
            url, dialect = self._engine.url, self._engine.dialect
            self._footprints = Footprints(
                self._name, url.get_backend_name(), tables, self._flavour.views, dialect.default_schema_name
            )
            self._tables = tables
        return self._footprints

    def _isolation(self, dialect: Any, connection: Any) -> Isolation:
        """As SQLAlchemy has set it; a level set by the driver's own means is not noticed."""
        known = self._levels.get(id(connection))
        if known is not None and known[0] is connection:
            level: str | None = known[1]
        elif id(connection) not in self._met:
            # Taken from the pool before we watched.
            level = None
        else:
            level = getattr(dialect, "_on_connect_isolation_level", None) or getattr(
                dialect, "default_isolation_level", None
            )
        if level is not None and level.upper() == "AUTOCOMMIT":
            level = getattr(dialect, "default_isolation_level", None)
        return isolation_of(level)

    def _set_level(self, original: Callable[..., None]) -> Callable[..., None]:
        def set_isolation_level(connection: Any, level: str) -> None:
            if self._guards is not None and self._gate.scope() is not None:
                default = getattr(self._engine.dialect, "default_isolation_level", None)
                level = self._guards.level(level, default, self._gate.source())
            original(connection, level)
            known = self.plain(connection)
            self._levels[id(known)] = (known, level)

        return set_isolation_level

    def _reset_level(self, original: Callable[..., None]) -> Callable[..., None]:
        def reset_isolation_level(connection: Any) -> None:
            original(connection)
            self._levels.pop(id(self.plain(connection)), None)

        return reset_isolation_level

    def _books_of(self, connection: Any) -> Books:
        books = self._books.get(id(connection))
        if books is None:
            books = self._books[id(connection)] = Books()
        return books

    def meet(self, connection: Any, level: str | None = None) -> None:
        """A connection leaves its pool: no transaction of its has begun."""
        if self.joining is not None and self.joining.holds(connection):
            return
        self._met.add(id(connection))
        if level is not None:
            self._levels[id(connection)] = (connection, level)
        books = self._books.get(id(connection))
        if books is not None:
            books.end()

    def join(self) -> None:
        """From now on all that a delivery commits is one transaction; `part` takes it back."""
        self.joining = Joining()
        engines.join(self._identity)

    def part(self) -> None:
        if self.joining is not None:
            engines.part(self._identity)
            self.joining = None

    # -- what `engines` asks and tells -------------------------------------------------------------------

    @property
    def is_delivering(self) -> bool:
        """Whether who asks is a delivery at work."""
        return self._gate.scope() is not None

    def met(self, engine: Engine, connection: Any) -> None:
        """An Engine to this database has connected; it may be one that the job has made."""
        self.wrap(engine)
        level = connection.get_execution_options().get("isolation_level")
        driver = self.plain(connection.connection.dbapi_connection)
        self.meet(driver, level)
        if engine is not self._engine:
            self._flavour.welcome(driver)
            self._settle_in(engine.dialect.default_schema_name)

    def _settle_in(self, schema: str | None) -> None:
        """An Engine that the job has made takes this for its default schema."""
        mine = self._engine.dialect.default_schema_name
        if schema and mine and schema != mine and schema not in self._flavour.schemas.names:
            self.adopt(schema)

    def held_connection(self) -> Any:
        """The connection that holds what the delivery at work has committed so far; None if there is none."""
        scope = self._gate.scope()
        return self.joining.again(scope.key) if self.joining is not None and scope is not None else None

    # -- what is remembered of connections ---------------------------------------------------------------

    def _use(self, connection: Any, scope: Any) -> None:
        key = id(connection)
        owner = self._owner.get(key)
        if owner == scope.key:
            return
        if owner is not None and scope.overlapping and owner in self._used:
            self.shared = True
        self._owner[key] = scope.key
        self._used.setdefault(scope.key, {})[key] = connection
        if scope.crowded and key not in self._hasty:
            self._hasty.add(key)
            self._flavour.be_hasty(connection)
        elif not scope.crowded and key in self._hasty:
            self._hasty.discard(key)
            self._flavour.be_patient(connection)

    def plain(self, connection: Any) -> Any:
        """What a connection is known by, whether it comes from a cursor, a dialect or a pool."""
        return plain(connection, self._gate)

    def _connection_of(self, proxied: Any) -> Any:
        """Commits come with the pool's proxy, statements with the connection: the latter is what we know."""
        return self.plain(getattr(proxied, "dbapi_connection", proxied))

    def _taken(self, taken: Any, record: Any, proxy: Any) -> None:
        connection = self.plain(taken)
        self._forget_errors(connection)
        self._proxies[id(connection)] = weakref.ref(proxy)
        if self._flavour.stale:
            self._flavour.freshen()
        self.meet(connection)
        if self.level is not None and self._levels.get(id(connection), (None, None))[1] != self.level:
            self._engine.dialect.set_isolation_level(taken, self.level)  # type: ignore[arg-type]
        if record.info.get(_WELCOMED) is not self._here:
            # SQLAlchemy clears the record's notes when it connects anew; the number may have been another connection's.
            self._hasty.discard(id(connection))
            self._flavour.welcome(connection)
            record.info[_WELCOMED] = self._here

    def _returned(self, returned: Any, record: Any) -> None:
        """Back in the pool: the next one to use it does not share it."""
        if returned is None:
            # It was invalidated meanwhile.
            return
        connection = self.plain(returned)
        owner = self._owner.pop(id(connection), None)
        self._used.get(owner, {}).pop(id(connection), None)
        # SQLAlchemy rolls nothing back where a time limit struck within COMMIT: the transaction is still open.
        begun = id(connection) in self._dirty or self._books_of(connection).holds
        if owner is not None and (begun or id(connection) in self._session_state):
            self._left.setdefault(owner, []).append(connection)
        self._proxies.pop(id(connection), None)
        self._forget_errors(connection)

    def _note(self, connection: Any, statement: Statement, autocommit: bool) -> None:
        if statement.writes and not autocommit:
            self._dirty.add(id(connection))
        if statement.session:
            self._session_state.add(id(connection))
        if statement.defines:
            self.defined = True
        if reveals(statement.text):
            self._reconnections.reveal(connection)

    def _errors(self, connection: Any, doing: str) -> Errors:
        key = (id(connection), doing)
        errors = self._failures.get(key)
        if errors is None:
            flavour = self._flavour
            errors = Errors(
                refused=lambda: self._break(connection, lambda: flavour.refuse(doing)),
                lost=lambda: self._lose(connection, doing),
                busy=flavour.busy,
                waiting=flavour.waiting(connection),
            )
            if id(connection) in self._proxies:
                self._failures[key] = errors
        return errors

    def _forget_errors(self, connection: Any) -> None:
        for doing in (_EXECUTING, _COMMITTING):
            self._failures.pop((id(connection), doing), None)

    def _lose(self, connection: Any, doing: str) -> BaseException:
        # The server has done it: nothing is left to roll back.
        self._dirty.discard(id(connection))
        self._books_of(connection).end()
        return self._break(connection, lambda: self._flavour.lose(doing))

    def _break(self, connection: Any, error: Callable[[], BaseException]) -> BaseException:
        """SQLAlchemy takes the connection for broken; what it connects to next may be the same session, made as new."""
        if self._reconnections.release(connection):
            return disconnected(error())
        self._flavour.cut(connection)
        return error()

    def _label(self, operation: str) -> str:
        label = self._labels.get(operation)
        if label is None:
            label = self._labels[operation] = f"{self._name}.{operation}"
        return label


def _rows(cursor: Any, statement: Statement) -> str:
    count = getattr(cursor, "rowcount", -1)
    if not isinstance(count, int) or count < 0 or statement.verb in ("savepoint", "release"):
        return ""
    return f"{count} row{'' if count == 1 else 's'}"
