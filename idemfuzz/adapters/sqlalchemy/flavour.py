"""What differs between databases: reading and restoring rows, generated ids, locks, and how connections break."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy.engine import Engine

from idemfuzz.abc import Gate
from idemfuzz.adapters.sqlalchemy.journal import is_ours
from idemfuzz.adapters.sqlalchemy.statement import Statement

if TYPE_CHECKING:
    from idemfuzz.adapters.sqlalchemy.schema import Schema

Rows = Mapping[str, Sequence[Any]]
"""Table name -> its rows, each in whatever raw form the flavour compares exactly and cheaply."""


@dataclass(frozen=True, slots=True)
class Look:
    """The state of a database now: all rows of some tables, and what was added to and removed from the others."""

    rows: Rows = field(default_factory=dict)
    added: Rows = field(default_factory=dict)
    removed: Rows = field(default_factory=dict)


@dataclass(slots=True)
class Schemas:
    """The schemas that are looked at besides the default one, and what their tables are called.

    A table of the default schema goes by its own name, any other one by both: ``billing.invoices``.
    """

    quote: Callable[[str], str]
    default: str = ""
    names: list[str] = field(default_factory=list)

    def called(self, schema: str | None, table: str) -> str:
        return table if schema in (None, self.default) else f"{schema}.{table}"

    def apart(self, name: str) -> tuple[str | None, str]:
        """The schema, None for the default one, and the table's own name."""
        schema, dot, table = name.partition(".")
        return (schema, table) if dot and schema in self.names else (None, name)

    def quoted(self, name: str) -> str:
        """A table's name for a statement."""
        schema, table = self.apart(name)
        return self.quote(table) if schema is None else f"{self.quote(schema)}.{self.quote(table)}"


class Kind(StrEnum):
    """Types whose values a footprint may compare: equal in the database only if equal here, once made plain."""

    INTEGER = "integer"
    TEXT = "text"
    UUID = "uuid"
    DATE = "date"
    BOOLEAN = "boolean"


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    computed: bool = False
    kind: Kind | None = None
    """None: no value of it tells two rows apart."""
    size: int | None = None
    """The longest text, or (where the server may clamp what is larger) the largest number, that is kept as given."""
    nullable: bool = False
    made_up: bool = False
    """Whether the database makes a value up where none is given: an autoincrement or identity column."""


@dataclass(frozen=True, slots=True)
class Key:
    """A unique index, a primary key or an exclusion constraint."""

    name: str
    columns: tuple[str, ...]
    """Empty: of expressions, prefixes or ranges, so that no column's value says which entry is meant."""
    drifts: bool = False
    """Whether an entry may come and go without a change of the columns: a partial index, a computed column."""


@dataclass(frozen=True, slots=True)
class Link:
    """A foreign key, as seen from its child."""

    columns: tuple[str, ...]
    parent: str
    referred: tuple[str, ...]
    on_delete: str = ""
    """CASCADE, SET NULL or SET DEFAULT; empty if the child is only looked at."""
    on_update: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a flavour asks its catalogue for, beyond what SQLAlchemy reflects."""

    keys: Mapping[str, Sequence[Key]]
    odd: frozenset[str]
    """Tables with triggers, rules, policies, partitions, functions of the user's own, another engine."""
    vague: frozenset[tuple[str, str]]
    """Text columns whose equality is not what `Kind.TEXT` takes it for."""
    computed: frozenset[tuple[str, str]]
    """Columns that the database computes, where SQLAlchemy does not tell."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table as `restore`, the facts and footprints need it."""

    name: str
    """As `Schemas.called` has it."""
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    generated: Mapping[str, str] = field(default_factory=dict)
    """Column -> the table that makes its value up: an autoincrement key, or a foreign key to one."""
    keys: tuple[Key, ...] = ()
    links: tuple[Link, ...] = ()
    plain: bool = False
    """Whether a statement touches just what keys and links say: no trigger or the like acts behind it."""
    whole: str = ""
    """The partitioned table that this is a part of, by whose name its rows go."""

    @property
    def writable(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns if not column.computed)


class Flavour(Protocol):
    """One kind of database. All methods but the fault makers run outside deliveries."""

    tables: dict[str, Table]
    """A new dictionary after each reflection."""
    schemas: Schemas
    views: frozenset[str]
    renews: bool
    """Whether `renew` can succeed at all."""
    loose: bool
    """Whether generated ids may drift from trial to trial, where putting them back is expensive."""

    stale: bool
    """Whether something waits for `freshen` before the next statement is run."""

    def freshen(self) -> None:
        """Do what `restore` has put off, as it costs much and may never be needed."""
        ...

    journaled: frozenset[str]
    """Tables whose changes a journal tells; `look` reads all rows of the others."""
    refused: Mapping[str, str]
    """Tables that were to have a journal -> why they have none."""
    unsure: frozenset[str]
    """Journaled tables that `look` may have to read after all: their baseline must be known."""

    def open(self, gate: Gate) -> None:
        """Take a connection of our own, which waits for no event loop, clear away what a killed search left, remember the baseline."""
        ...

    def close(self) -> None: ...

    @property
    def schema(self) -> Schema:
        """What changes keys of this database for a while; there from `open` to `close`."""
        ...

    def reflect(self) -> None:
        """Look at the schema again."""
        ...

    def elsewhere(self, statement: Statement, parameters: Any) -> Sequence[str]:
        """Schemas, not looked at so far, that a statement may have to do with."""
        ...

    def adopt(self, schema: str) -> Rows:
        """Look at this schema from now on: all rows that it has. `reflect` tells the rest.

        Called within deliveries, so on a connection that no other thread uses, before anything of a search is in the schema.

        Raises:
            Unusable: it cannot be looked at; nothing has changed.
        """
        ...

    def sizes(self, rows_max: int) -> Mapping[str, int]:
        """How many rows each table has; beyond ``rows_max`` it is not counted on."""
        ...

    def follow(self, names: Collection[str]) -> None:
        """Put a journal on these tables, where that can be: see ``journaled`` and ``refused``."""
        ...

    def unfollow(self) -> None:
        """Take the journal away, as if it had never been there."""
        ...

    def rebase(self) -> None:
        """The keys were changed by ``schema`` while the baseline was in place: take that for the baseline's schema."""
        ...

    def foresee(self, connection: Any, statement: Statement) -> bool:
        """On this connection a statement is about to run that changes tables. False: the journal survives that.

        Called within deliveries: what is in the statement's way is cleared on its own connection.
        """
        ...

    def reconstruct(self) -> Rows:
        """The baseline of the journaled tables, from what they hold now and the journal, which ends with this.

        Called within deliveries, so on a connection that no other thread uses.
        """
        ...

    def strayed(self) -> Sequence[str]:
        """Journaled tables that do not hold the baseline, though they should. Reads all of them."""
        ...

    def recall(self, table: str) -> Sequence[Any]:
        """The baseline of a table that `look` has read and nobody has remembered; none for a new table."""
        ...

    def read(self, names: Collection[str]) -> Rows:
        """All rows of these tables."""
        ...

    def look(self) -> Look:
        """How the tables stand; `restore` takes back what this has found."""
        ...

    def decode(self, table: str, rows: Sequence[Any]) -> Sequence[Mapping[str, Any]]:
        """Raw rows as column -> plain value."""
        ...

    def restore(self, added: Rows, removed: Rows) -> None:
        """Take ``added`` out, put ``removed`` in, set generated ids back."""
        ...

    def perturb(self) -> bool: ...

    def uncommitted(self, connection: Any) -> bool:
        """Whether a driver connection has written rows that are not committed."""
        ...

    def roll_back(self, connection: Any) -> Callable[[], None]:
        """End a dead process's transaction now; the result waits until the closed connection's locks are gone."""
        ...

    def break_off(self, connection: Any) -> None:
        """End what another thread has under way on a driver connection: there, the driver raises an error."""
        ...

    def rests(self, connection: Any) -> bool:
        """Whether a driver connection is open, and outside any transaction once it is rolled back."""
        ...

    def renew(self, connection: Any) -> bool:
        """Give an idle connection the session of a new one; False, or any error, where that cannot be had."""
        ...

    def autocommits(self, connection: Any, statement: Statement) -> bool: ...

    def welcome(self, connection: Any) -> None:
        """A connection leaves the pool: settings that only make a search faster."""
        ...

    def be_hasty(self, connection: Any) -> None:
        """Report a lock at once instead of waiting for it inside the driver."""
        ...

    def be_patient(self, connection: Any) -> None:
        """Take `be_hasty` back."""
        ...

    def cut(self, connection: Any) -> None:
        """Break a connection: its transaction is over, and the driver's object is of no more use."""
        ...

    def refuse(self, doing: str) -> BaseException:
        """The driver's error for a connection that broke before the server got anything."""
        ...

    def lose(self, doing: str) -> BaseException:
        """The driver's error for a connection that broke before the server's answer came."""
        ...

    def busy(self, error: BaseException) -> bool: ...

    def waiting(self, connection: Any) -> Callable[[], bool] | None: ...


def identity_of(engine: Engine) -> Hashable:
    """Equal for Engines to one database."""
    url = engine.url
    backend = url.get_backend_name()
    if backend == "sqlite":
        if is_memory(engine):
            return ("sqlite", id(engine.dialect))
        return ("sqlite", os.path.realpath(str(url.database)))
    socket = url.query.get("host") or url.query.get("unix_socket")
    host = url.host or socket or "localhost"
    return (backend, "localhost" if host in ("127.0.0.1", "::1") else host, url.port, url.database)


def is_memory(engine: Engine) -> bool:
    """Whether this is SQLite's in-memory database, also in its URI forms."""
    database = engine.url.database
    return (
        not database or database == ":memory:" or "mode=memory" in str(engine.url) or "::memory:" in database
    )


def reflect(
    engine: Engine,
    connection: Any,
    *,
    schemas: Schemas,
    facts: Facts,
) -> dict[str, Table]:
    """The tables of the default schema and of ``schemas``, with their generated columns.

    A server is asked for all tables of a schema at once.
    """
    import sqlalchemy
    from sqlalchemy.engine.reflection import ObjectKind, ObjectScope

    inspector = sqlalchemy.inspect(connection)
    places = {
        schema: [table for table in inspector.get_table_names(schema) if not is_ours(table)]
        for schema in (None, *schemas.names)
    }
    anything = {"kind": ObjectKind.ANY, "scope": ObjectScope.ANY}

    def answers(ask: Callable[..., Mapping[Any, Any]], **options: Any) -> dict[str, Any]:
        return {
            schemas.called(schema, table): answer
            for schema, tables in places.items()
            if tables
            for (_, table), answer in ask(schema, tables, **anything, **options).items()
        }

    constraints = answers(inspector.get_multi_pk_constraint)
    columns = answers(inspector.get_multi_columns)
    # Else a parent that the search path leads to would be said to be in the default schema.
    linked = answers(inspector.get_multi_foreign_keys, postgresql_ignore_search_path=True)
    called = [schemas.called(schema, table) for schema, tables in places.items() for table in tables]
    # A table that somebody drops meanwhile is not answered for.
    names = [name for name in called if name in constraints and name in columns and name in linked]
    keys = {name: tuple(constraints[name]["constrained_columns"]) for name in names}
    foreign = {name: [_link(link, schemas) for link in linked[name]] for name in names}
    backend = engine.url.get_backend_name()
    generated: dict[str, dict[str, str]] = {name: {} for name in names}
    made_up: set[tuple[str, str]] = set()
    for name in names:
        for column in columns[name]:
            if _makes_up(column, keys[name], backend):
                generated[name][column["name"]] = name
                made_up.add((name, column["name"]))
    # Foreign keys follow; a key that is itself a foreign key (joined inheritance) follows its parent.
    links = [
        (name, local, link.parent, remote)
        for name in names
        for link in foreign[name]
        for local, remote in zip(link.columns, link.referred, strict=False)
    ]
    for _ in links:
        for name, local, parent, remote in links:
            origin = generated.get(parent, {}).get(remote)
            if origin is not None and (name, local) != (parent, remote):
                generated[name][local] = origin
    tables = {}
    for name in names:
        found = []
        for c in columns[name]:
            is_computed = bool(c.get("computed")) or (name, c["name"]) in facts.computed
            kind = None if is_computed or (name, c["name"]) in facts.vague else _kind(c["type"], backend)
            size = _size(c["type"], kind, backend)
            makes = (name, c["name"]) in made_up
            found.append(Column(c["name"], is_computed, kind, size, bool(c.get("nullable")), makes))
        moving = {c.name for c in found if c.computed}
        unique = [
            Key(key.name, key.columns, key.drifts or not moving.isdisjoint(key.columns))
            for key in facts.keys.get(name, ())
        ]
        if keys[name] and not any(set(key.columns) == set(keys[name]) for key in unique):
            # SQLite's rowid has no index of its own.
            unique.append(Key("pk", keys[name]))
        own = tuple(foreign[name])
        plain = name not in facts.odd and all(
            link.parent in keys
            and moving.isdisjoint(link.columns)
            and len(link.columns) == len(link.referred)
            for link in own
        )
        tables[name] = Table(name, tuple(found), keys[name], generated[name], tuple(unique), own, plain)
    return tables


def _link(link: Mapping[str, Any], schemas: Schemas) -> Link:
    actions = {name: str(text).upper() for name, text in (link.get("options") or {}).items() if text}
    on_delete, on_update = (
        action if action in ("CASCADE", "SET NULL", "SET DEFAULT") else ""
        for action in (actions.get("ondelete", ""), actions.get("onupdate", ""))
    )
    referred = tuple(link["referred_columns"])
    schema, table = link.get("referred_schema"), link["referred_table"]
    return Link(
        tuple(link["constrained_columns"]), schemas.called(schema, table), referred, on_delete, on_update
    )


_TEXTS = {"VARCHAR", "TEXT", "CHAR", "NVARCHAR", "NCHAR", "CLOB", "TINYTEXT", "MEDIUMTEXT", "LONGTEXT"}
_BITS = {"TINYINT": 8, "SMALLINT": 16, "MEDIUMINT": 24, "INTEGER": 32, "BIGINT": 64}


def _kind(type_: Any, backend: str) -> Kind | None:
    from sqlalchemy import types

    name = str(type_.__visit_name__).upper()
    if isinstance(type_, types.Boolean):
        return Kind.BOOLEAN if backend == "postgresql" else Kind.INTEGER if backend == "sqlite" else None
    if isinstance(type_, types.Integer):
        return Kind.INTEGER
    if isinstance(type_, types.Uuid):
        return Kind.UUID
    if isinstance(type_, types.Date):
        return Kind.DATE
    if isinstance(type_, types.String) and not isinstance(type_, types.Enum) and name in _TEXTS:
        return Kind.TEXT
    return None


def _size(type_: Any, kind: Kind | None, backend: str) -> int | None:
    if kind is Kind.TEXT:
        length = getattr(type_, "length", None)
        return int(length) if length is not None else None
    if kind is Kind.INTEGER and backend in ("mysql", "mariadb"):
        # Without strict mode, a number that is too large becomes the largest.
        return int(2 ** (_BITS.get(str(type_.__visit_name__).upper(), 8) - 1) - 1)
    return None


def _makes_up(column: Mapping[str, Any], key: tuple[str, ...], backend: str) -> bool:
    if column.get("identity"):
        return True
    if "nextval(" in str(column.get("default") or ""):
        return True
    if backend == "sqlite":
        return key == (column["name"],) and str(column["type"]).upper() == "INTEGER"
    if backend == "postgresql":
        return False
    return column.get("autoincrement") is True
