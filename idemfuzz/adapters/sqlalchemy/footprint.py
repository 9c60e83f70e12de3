"""What a statement reads and writes, told from its text, its values and the schema, before it runs.

The text is parsed once (sqlglot); a `Footprints` turns it into a plan against the schema once; per call only the
values are bound. Whatever is not understood, or acts behind the statement's back (triggers, a function of the
user's own, an unknown table), is the whole store on both planes.

Within a transaction, a write touches the LOCK plane. Locks are exclusive (a write of the LOCK plane) or shared (a
read of it: a foreign key's parent row, a unique index's entry of a row that is merely updated). A commit publishes the
written rows on the DATA plane, and gives up each lock in the way in which it was held: two shared ones never
kept each other waiting, so neither taking nor giving them up needs an order.
"""

from __future__ import annotations

import logging
import re
import threading
import uuid
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import Enum, auto
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from idemfuzz.adapters.sqlalchemy.flavour import Column, Kind, Link, Table
from idemfuzz.model.footprint import NOTHING, Footprint, Plane, Region

if TYPE_CHECKING:
    from sqlglot import exp

__all__ = ["Books", "Footprints", "Isolation", "isolation_of", "literal"]

_ROWS_MAX = 8
"""More rows or values than these in one statement count as the whole table."""
_PLANS_MAX = _KNOWN_MAX = 4096
_DIALECTS = {"sqlite": "sqlite", "postgresql": "postgres", "mysql": "mysql", "mariadb": "mysql"}


@dataclass(frozen=True, slots=True)
class Isolation:
    """What an isolation level adds to READ COMMITTED."""

    snapshot: bool = False
    """The first look fixes what all later ones see (and, in InnoDB, gaps are locked)."""
    predicates: bool = False
    """What was looked at is kept from others, or remembered against them, until the end."""
    dirty: bool = False
    """What is not committed is seen."""


_LEVELS = {
    "READ COMMITTED": Isolation(),
    "READ UNCOMMITTED": Isolation(dirty=True),
    "REPEATABLE READ": Isolation(snapshot=True),
    "SERIALIZABLE": Isolation(snapshot=True, predicates=True),
}
UNSURE = Isolation(snapshot=True, predicates=True, dirty=True)


def isolation_of(level: str | None) -> Isolation:
    """By SQLAlchemy's name of the level; all that any level adds where it is not known."""
    return _LEVELS.get((level or "").upper().replace("_", " "), UNSURE)


@dataclass(slots=True)
class Books:
    """What one driver connection holds: since its transaction began, and beyond it."""

    looked: bool = False
    """Whether the transaction has its snapshot."""
    blind: bool = False
    """Whether a statement has changed what other statements mean, until the connection is gone."""
    blind_here: bool = False
    """The same until the transaction ends."""
    serial: bool = False
    """Whether the transaction takes part in the order that SERIALIZABLE promises."""
    written: set[Region] = field(default_factory=set)
    locked: set[Region] = field(default_factory=set)
    shared: set[Region] = field(default_factory=set)
    kept: set[Region] = field(default_factory=set)
    """Advisory and named locks that no commit gives up."""

    @property
    def holds(self) -> bool:
        """Whether the end of the transaction can matter to others."""
        return bool(self.written or self.locked or self.shared)

    def take(self, other: Books) -> None:
        """Enter what one statement adds."""
        self.looked, self.serial = other.looked, self.serial or other.serial
        self.written |= other.written
        self.locked |= other.locked
        self.shared |= other.shared
        self.kept |= other.kept

    def end(self) -> None:
        """The transaction is over."""
        self.looked = self.blind_here = self.serial = False
        self.written.clear()
        self.locked.clear()
        self.shared.clear()


class Footprints:
    """The footprints of one SQL store, for one state of its schema."""

    def __init__(
        self,
        store: str,
        backend: str,
        tables: Mapping[str, Table],
        views: Iterable[str] = (),
        schema: str | None = None,
    ) -> None:
        self._backend = "mysql" if backend == "mariadb" else backend
        self._planner = _Planner(store, self._backend, tables, frozenset(views), schema)
        self._plans: dict[str, _Plan] = {}
        self._known: dict[Hashable, tuple[Footprint, Books]] = {}
        """What a statement with these values touches: it is the same in each trial."""
        self._store = store
        self._all = Region(store)
        self._lock = Region(store, plane=Plane.LOCK)
        self._whole = Footprint.whole(store)
        self._serial = Region(store, "!serializable", plane=Plane.LOCK)
        # Now, rather than within the first statement of a job.
        import sqlglot  # noqa: F401

    def unknown(self, books: Books, *, autocommit: bool) -> Footprint:
        """A statement of which nothing is known, entered into ``books`` unless it commits itself."""
        return self._enter_all(books, autocommit)

    def statement(
        self,
        sql: str,
        parameters: Any,
        books: Books,
        *,
        values: Hashable = None,
        autocommit: bool,
        isolation: Isolation,
        many: bool = False,
    ) -> Footprint:
        """One statement, entered into ``books`` unless it commits itself.

        ``parameters`` are as the driver gets them; with ``many``, a sequence of such. ``values`` are what `literal` makes
        of them: with these, what the statement touches is remembered.
        """
        plan = self._plans.get(sql)
        if plan is None:
            plan = self._plans[sql] = self._planner.plan(sql)
            if len(self._plans) > _PLANS_MAX:
                self._plans.clear()
        if plan.does is not _Does.TOUCH:
            return self._control(plan, books, autocommit)
        if plan.blinding or books.blind or books.blind_here:
            return self._unknown(plan, books, autocommit)
        key = (sql, values, autocommit, isolation, books.looked)
        known = self._known.get(key) if values is not None else None
        if known is None:
            entry = Books(looked=books.looked)
            known = self._touch(plan, parameters, entry, autocommit, isolation, many), entry
            if values is not None:
                if len(self._known) >= _KNOWN_MAX:
                    self._known.clear()
                self._known[key] = known
        footprint, entry = known
        books.take(entry)
        return footprint

    def _touch(
        self, plan: _Plan, parameters: Any, books: Books, autocommit: bool, isolation: Isolation, many: bool
    ) -> Footprint:
        """What one statement touches, with what it adds to ``books``."""
        touched = _bound_many(plan, parameters) if many else _bound(plan, parameters)
        reads, written, locked, shared = touched
        if not autocommit:
            self._isolate(plan, books, isolation, reads, shared)
        else:
            if isolation.predicates and self._backend == "postgresql":
                shared.update([Region(r.store, r.name, (), Plane.LOCK) for r in reads])
                locked.add(self._serial)
            if isolation.dirty:
                reads.update([_on(Plane.LOCK, region) for region in reads])
        if isolation.snapshot and plan.gaps:
            locked.update(plan.gaps)
        if self._backend == "sqlite" and (written or locked):
            locked.add(self._lock)
        if plan.kept:
            # A session's lock outlives the transaction, and an autocommitted statement.
            books.kept.update(locked)
        writes = written | locked
        if autocommit:
            writes.update([_on(Plane.DATA, region) for region in written])
        else:
            books.written |= written
            books.locked |= locked
            books.shared |= shared
        if plan.now:
            writes.update(plan.now)
        if shared:
            reads |= shared
        return Footprint(frozenset(reads), frozenset(writes)) if reads or writes else NOTHING

    def commit(self, books: Books) -> Footprint:
        """The commit of what stands in ``books``; they stay as they are until `Books.end`."""
        if not books.holds:
            return NOTHING
        writes = books.written | books.locked | {_on(Plane.DATA, region) for region in books.written}
        if books.serial and self._backend == "postgresql":
            # Which of three transactions fails depends on the order of commits that share nothing else.
            writes.add(self._serial)
        return Footprint(frozenset(books.shared), frozenset(writes))

    def rollback(self, books: Books) -> Footprint:
        """The end of the locks that stand in ``books``."""
        if not books.holds:
            return NOTHING
        return Footprint(frozenset(books.shared), frozenset(books.written | books.locked))

    def _isolate(
        self, plan: _Plan, books: Books, isolation: Isolation, reads: set[Region], shared: set[Region]
    ) -> None:
        """What the level of a running transaction adds."""
        if self._backend == "sqlite":
            # The first statement fixes what is seen; a write is kept from all others anyway.
            if not books.looked and reads:
                reads.add(self._all)
            if reads:
                shared.add(self._lock)
            books.looked = True
            return
        if isolation.predicates:
            # Remembered by page and index range: as far as rows are concerned, the whole table.
            shared.update([Region(r.store, r.name, (), Plane.LOCK) for r in reads])
            books.serial = True
        if isolation.dirty and reads:
            reads.update([_on(Plane.LOCK, region) for region in reads])
        if isolation.snapshot and not books.looked:
            # PostgreSQL's snapshot is that of the first statement; InnoDB's that of the first plain look.
            if self._backend == "postgresql":
                reads.add(self._all)
                books.looked = True
            elif plan.looks:
                reads.add(self._all)
                books.looked = plan.looks_only

    def _unknown(self, plan: _Plan, books: Books, autocommit: bool) -> Footprint:
        if plan.blinding:
            if plan.local and not autocommit:
                books.blind_here = True
            else:
                books.blind = True
        return self._enter_all(books, autocommit)

    def _enter_all(self, books: Books, autocommit: bool) -> Footprint:
        if not autocommit:
            books.written.add(self._lock)
        return self._whole

    def _control(self, plan: _Plan, books: Books, autocommit: bool) -> Footprint:
        if plan.does is _Does.UNKNOWN:
            return self._unknown(plan, books, autocommit)
        if plan.does is _Does.NOTHING:
            return NOTHING
        if plan.does is _Does.RELEASE:
            # In SQLite, the release of the outermost savepoint commits.
            return self.commit(books) if self._backend == "sqlite" else NOTHING
        if plan.does is _Does.ROLLBACK_TO:
            return self.rollback(books)
        if plan.does is _Does.ROLLBACK:
            found = self.rollback(books)
            books.end()
            return found
        # A BEGIN within a transaction commits it (MySQL) or does nothing.
        found = self.commit(books)
        if plan.does is _Does.COMMIT or self._backend != "sqlite":
            books.end()
        if plan.does is _Does.BEGIN_EXCLUSIVE:
            books.locked.add(self._lock)
            found = found | Footprint.of([self._all], [self._lock])
        return found


# -- plans ---------------------------------------------------------------------------------------------------


class _Does(Enum):
    TOUCH = auto()
    UNKNOWN = auto()
    NOTHING = auto()
    BEGIN = auto()
    BEGIN_EXCLUSIVE = auto()
    COMMIT = auto()
    ROLLBACK = auto()
    ROLLBACK_TO = auto()
    RELEASE = auto()


@dataclass(frozen=True, slots=True)
class _Value:
    """Where a value comes from: a parameter, or the text itself."""

    parameter: Hashable = None
    """The name or the place of the parameter; None for a value of the text."""
    constant: Any = None
    cast: Kind | None = None

    def plain(self, column: Column, parameters: Any, backend: str) -> Any:
        """The value as it is compared, or `_UNKNOWN`."""
        if self.parameter is None:
            value = self.constant
        else:
            try:
                value = parameters[self.parameter]
            except (KeyError, IndexError, TypeError):
                return _UNKNOWN
        if self.cast is not None and self.cast is not column.kind:
            return _UNKNOWN
        return comparable(column, value, backend)


_UNKNOWN: Any = object()
_NULL = _Value()
Pairs = Mapping[str, _Value]


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of a table, or entries of one of its keys, whose values are bound later."""

    store: str
    name: str | None
    pairs: tuple[tuple[str, Column, _Value], ...]
    """Sorted by column."""
    plane: Plane
    backend: str

    def bind(self, parameters: Any) -> Region:
        found = []
        for name, column, value in self.pairs:
            plain = value.plain(column, parameters, self.backend)
            if plain is not _UNKNOWN:
                found.append((name, plain))
        return Region(self.store, self.name, tuple(found), self.plane)

    @property
    def fixed(self) -> bool:
        return all(value.parameter is None for _, _, value in self.pairs)


@dataclass(frozen=True, slots=True)
class _Part:
    """The same kind of touch by one statement: what is known already, and what depends on values."""

    fixed: frozenset[Region] = frozenset()
    open: tuple[_Rows, ...] = ()

    @classmethod
    def of(cls, rows: Iterable[_Rows]) -> _Part:
        found = list(dict.fromkeys(rows))
        fixed = frozenset(r.bind(()) for r in found if r.fixed)
        return cls(fixed, tuple(r for r in found if not r.fixed))

    def bind(self, parameters: Any) -> set[Region]:
        found = set(self.fixed)
        for rows in self.open:
            found.add(rows.bind(parameters))
        return found

    def loosened(self) -> set[Region]:
        """Without values."""
        return {*self.fixed, *(Region(r.store, r.name, (), r.plane) for r in self.open)}


_NO_PART = _Part()


@dataclass(frozen=True, slots=True)
class _Plan:
    does: _Does
    reads: _Part = _NO_PART
    """On the DATA plane."""
    written: _Part = _NO_PART
    """On the LOCK plane now, on the DATA plane with the commit."""
    locked: _Part = _NO_PART
    """On the LOCK plane only."""
    shared: _Part = _NO_PART
    """Read on the LOCK plane."""
    gaps: frozenset[Region] = frozenset()
    """Locked besides where gaps are."""
    now: frozenset[Region] = frozenset()
    """Written on the DATA plane at once: a sequence knows no transaction."""
    looks: bool = False
    """Whether it looks at tables and writes none."""
    looks_only: bool = False
    """Whether it does so without locks."""
    kept: bool = False
    """Whether it takes locks that no commit gives up."""
    blinding: bool = False
    """Whether statements may mean something else after it."""
    local: bool = False


def _bound(plan: _Plan, parameters: Any) -> tuple[set[Region], set[Region], set[Region], set[Region]]:
    return (
        plan.reads.bind(parameters),
        plan.written.bind(parameters),
        plan.locked.bind(parameters),
        plan.shared.bind(parameters),
    )


def _bound_many(plan: _Plan, parameters: Any) -> tuple[set[Region], set[Region], set[Region], set[Region]]:
    parts = (plan.reads, plan.written, plan.locked, plan.shared)
    found = list(parameters or ())
    if len(found) > _ROWS_MAX or not all(isinstance(one, Mapping | tuple | list) for one in found):
        reads, written, locked, shared = (part.loosened() for part in parts)
        return reads, written, locked, shared
    reads, written, locked, shared = (set().union(*(part.bind(one) for one in found)) for part in parts)
    return reads, written, locked, shared


def _on(plane: Plane, region: Region) -> Region:
    return Region(region.store, region.name, region.where, plane)


# -- values --------------------------------------------------------------------------------------------------

# Not those of which equal ones are written in more than one way: decimals, times in their zones.
_LITERAL = frozenset({str, int, float, bool, type(None), bytes, date, uuid.UUID})
_LITERAL_LENGTH_MAX = 200


def literal(parameters: Any) -> Hashable:
    """The parameters as a key that tells 1 from True; None where that cannot be had, or would keep much alive."""
    if parameters is None:
        return ()
    if type(parameters) is dict:
        values = tuple(parameters.values())
        names = tuple(parameters)
    elif type(parameters) in (tuple, list):
        values, names = tuple(parameters), ()
    else:
        return None
    types = tuple(map(type, values))
    if not _LITERAL.issuperset(types):
        return None
    for value in values:
        if type(value) in (str, bytes) and len(value) > _LITERAL_LENGTH_MAX:
            return None
    return names, values, types


_INTEGER = re.compile(r"-?\d{1,18}")
_ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def comparable(column: Column, value: Any, backend: str) -> Any:
    """The value made plain, so that what the column takes for equal is equal here; `_UNKNOWN` if that is not sure.

    Subclasses are not trusted: a driver may send an enum by its name.
    """
    kind, type_ = column.kind, type(value)
    if value is None:
        return None if column.nullable and not column.made_up and kind is not None else _UNKNOWN
    if kind is Kind.INTEGER:
        if type_ is str and _INTEGER.fullmatch(value):
            value = int(value)
        elif type_ is not int and type_ is not bool:
            return _UNKNOWN
        if backend == "mysql" and not (
            (value > 0 or (value == 0 and not column.made_up)) and value <= (column.size or 127)
        ):
            return _UNKNOWN
        return int(value)
    if kind is Kind.TEXT:
        # Case and trailing spaces make no difference in some collations, types and servers: here in all.
        if type_ is not str or (column.size is not None and len(value) > column.size):
            return _UNKNOWN
        if backend == "mysql" and not (value.isascii() and value.isprintable()):
            return _UNKNOWN
        return str(value.rstrip(" ").casefold())
    if kind is Kind.UUID and (type_ is str or type_ is uuid.UUID):
        try:
            return value.int if type_ is uuid.UUID else uuid.UUID(value).int
        except ValueError:
            return _UNKNOWN
    if kind is Kind.DATE:
        if type_ is date:
            return str(value.isoformat())
        return str(value) if type_ is str and _ISO_DATE.fullmatch(value) else _UNKNOWN
    if kind is Kind.BOOLEAN and type_ is bool:
        return bool(value)
    return _UNKNOWN


# -- the text ------------------------------------------------------------------------------------------------

# Texts that a server may read in another way than the parser: escapes, comments that are executed, quotes by mode.
_SLIPPERY = {
    "sqlite": re.compile(r"\x00"),
    "postgresql": re.compile(r"\x00|\\|\$\w*\$"),
    "mysql": re.compile(r'\x00|\\|/\*M?!|"'),
}
_QUOTED = r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|--[^\n]*|/\*.*?\*/"""
_PERCENT = re.compile(
    rf"(?P<quoted>{_QUOTED})|(?P<percent>%%)|%\((?P<name>[^)]+)\)[sbt]|(?P<place>%[sbt])", re.S
)
_QMARK = re.compile(
    rf"(?P<quoted>{_QUOTED})|(?P<percent>(?!))|[:@$](?P<name>[A-Za-z_]\w*)|(?P<place>\?(?!\d))|(?P<bad>\?\d)",
    re.S,
)
# asyncpg's, numbered from 1.
_DOLLAR = re.compile(
    rf"(?P<quoted>{_QUOTED})|(?P<percent>(?!))|(?P<name>(?!))|\$(?P<number>\d+)",
    re.S,
)
_PLACEHOLDER = re.compile(r"(?<!%)(?:%%)*%(?:\([^)]+\))?[sbt]")
_REPLACE = re.compile(r"^\s*replace\s+(?:into\s+)?", re.I)
_COMMENTS = re.compile(r"/\*.*?\*/|--[^\n]*", re.S)


_parsing = threading.Lock()


@dataclass(frozen=True, slots=True)
class _Parsed:
    tree: Any
    parameters: Mapping[str, Hashable]
    replaces: bool


def _numbered(sql: str, backend: str) -> bool:
    return backend == "postgresql" and any(match["number"] for match in _DOLLAR.finditer(sql))


@lru_cache(maxsize=_PLANS_MAX)
def _parse(sql: str, backend: str) -> _Parsed | None:
    """The tree of one statement; None if it is not understood for certain."""
    if backend not in _DIALECTS or _SLIPPERY[backend].search(sql):
        return None
    parameters: dict[str, Hashable] = {}
    unsure = False

    def replace(match: re.Match[str]) -> str:
        nonlocal unsure
        found = match.groupdict()
        if found["quoted"] is not None:
            # Drivers that format the text look for marks in quotes, too.
            unsure |= backend != "sqlite" and _PLACEHOLDER.search(found["quoted"]) is not None
            return match[0]
        if found["percent"] is not None:
            return "%"
        unsure |= found.get("bad") is not None
        name = f"idemfuzz_{len(parameters)}"
        place = int(found["number"]) - 1 if found.get("number") else len(parameters)
        parameters[name] = found["name"] if found["name"] is not None else place
        return f":{name}"

    marks = _QMARK if backend == "sqlite" else _DOLLAR if _numbered(sql, backend) else _PERCENT
    text = marks.sub(replace, sql)
    # Places are counted, names are not: a statement with both is nobody's.
    if unsure or len({type(place) for place in parameters.values()}) > 1:
        return None
    replaces = _REPLACE.match(text) is not None
    if replaces:
        text = _REPLACE.sub("INSERT INTO ", text, count=1)
    import sqlglot
    from sqlglot.errors import SqlglotError

    with _parsing:
        # It warns of what it does not understand, which is none of the user's business.
        logger = logging.getLogger("sqlglot")
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            trees = sqlglot.parse(text, read=_DIALECTS[backend])
        except (SqlglotError, RecursionError):
            return None
        finally:
            logger.setLevel(level)
    if len(trees) != 1 or trees[0] is None:
        return None
    return _Parsed(trees[0], parameters, replaces)


_CONTROL = (
    (re.compile(r"(?:begin|start)(?: (?:deferred|work|transaction))*"), _Does.BEGIN),
    (re.compile(r"begin (?:immediate|exclusive)(?: transaction)?"), _Does.BEGIN_EXCLUSIVE),
    (re.compile(r"(?:commit|end)(?: (?:work|transaction))?"), _Does.COMMIT),
    (re.compile(r"rollback(?: (?:work|transaction))?|abort"), _Does.ROLLBACK),
    (re.compile(r"rollback(?: (?:work|transaction))? to .+"), _Does.ROLLBACK_TO),
    (re.compile(r"savepoint .+"), _Does.NOTHING),
    (re.compile(r"release .+"), _Does.RELEASE),
    (
        re.compile(
            r"set (?:local |session )?(?:(?:innodb_)?lock_(?:wait_)?timeout|statement_timeout|application_name"
            r"|idle_in_transaction_session_timeout|max_statement_time|max_execution_time|wait_timeout)\b[^;,]*"
        ),
        _Does.NOTHING,
    ),
)
_LOOKING = re.compile(r"(?:show|describe|desc|pragma)\b[^=;]*")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Functions that only look at their arguments, the clock or their own session. All others may do anything.
_PURE_CLASSES = _words(
    """
    Abs And Array ArrayAgg Avg Case Cast Ceil Coalesce Concat ConcatWs Count CountIf CurrentDate CurrentDatetime
    CurrentSchema CurrentTime CurrentTimestamp CurrentUser CurrentDatabase CurrentVersion DateAdd DateDiff DateSub
    DateTrunc DenseRank Exists Exp Extract Floor GroupConcat Greatest If JSONExtract JSONExtractScalar Least Left
    Length Like Ln Localtime Localtimestamp Lower Max Min Not Nullif Or Pad Pow Rand Rank Replace Right Round
    RowNumber SessionUser Sign Sqrt StrPosition Substring Sum TimestampTrunc Trim TsOrDsToDate Upper Uuid Version Xor
    """
)
_PURE_NAMES = _words(
    """
    changes clock_timestamp connection_id currval database gen_random_uuid hex ifnull julianday last_insert_id
    last_insert_rowid lastval localtime localtimestamp now pg_backend_pid pg_current_xact_id pg_sleep random rand
    row_count sleep statement_timestamp sysdate total_changes transaction_timestamp txid_current typeof utc_date
    utc_time utc_timestamp uuid values version datetime strftime unixepoch date time char_length
    """
)
_ADVISORY = re.compile(
    r"(?:pg_(?:try_)?advisory_(?:xact_)?(?:un)?lock(?:_shared)?|get_lock|release_lock|is_free_lock|is_used_lock)"
)
_ADVISORY_ALL = frozenset({"pg_advisory_unlock_all", "release_all_locks"})
_SEQUENCE = frozenset({"nextval", "setval"})
_CATALOGUES = frozenset({"information_schema", "pg_catalog"})


class _NotUnderstood(Exception):
    """The whole store, then."""


@dataclass(slots=True)
class _Draft:
    """A plan in the making."""

    reads: list[_Rows] = field(default_factory=list)
    written: list[_Rows] = field(default_factory=list)
    locked: list[_Rows] = field(default_factory=list)
    shared: list[_Rows] = field(default_factory=list)
    gaps: set[Region] = field(default_factory=set)
    now: set[Region] = field(default_factory=set)
    kept: bool = False
    followed: set[Hashable] = field(default_factory=set)
    """Foreign keys that were followed, with the rows in question: they may go round in circles."""


class _Planner:
    """Turns texts into plans, for one state of the schema."""

    def __init__(
        self, store: str, backend: str, tables: Mapping[str, Table], views: frozenset[str], schema: str | None
    ) -> None:
        self._store = store
        self._backend = backend
        self._tables = {self._fold_table(name): table for name, table in tables.items()}
        self._views = {self._fold_table(name) for name in views}
        self._schema = schema
        self._columns = {
            table.name: {self._known_column(c.name): c for c in table.columns} for table in tables.values()
        }
        self._children: dict[str, list[tuple[Table, Link]]] = {}
        for table in tables.values():
            for link in table.links:
                self._children.setdefault(self._fold_table(link.parent), []).append((table, link))

    def plan(self, sql: str) -> _Plan:
        """What the statement touches; never fails."""
        text = " ".join(_COMMENTS.sub(" ", sql).split()).rstrip("; ").lower()
        for pattern, does in _CONTROL:
            if pattern.fullmatch(text):
                return _Plan(does)
        if _LOOKING.fullmatch(text):
            return _Plan(_Does.TOUCH, reads=_Part(frozenset({Region(self._store)})))
        if re.match(r"(?:set|use|begin|start|reset|discard)\b", text):
            return _Plan(
                _Does.TOUCH, blinding=True, local=bool(re.match(r"set (?:local|transaction)\b", text))
            )
        parsed = _parse(sql, self._backend)
        if parsed is None:
            return _Plan(_Does.UNKNOWN)
        try:
            draft, looks, looks_only = self._draft(parsed)
        except _NotUnderstood:
            return _Plan(_Does.UNKNOWN)
        return _Plan(
            _Does.TOUCH,
            _Part.of(draft.reads),
            _Part.of(draft.written),
            _Part.of(draft.locked),
            _Part.of(draft.shared),
            frozenset(draft.gaps),
            frozenset(draft.now),
            looks,
            looks_only,
            draft.kept,
        )

    def _draft(self, parsed: _Parsed) -> tuple[_Draft, bool, bool]:
        from sqlglot import exp

        tree = parsed.tree
        draft = _Draft()
        if not isinstance(tree, exp.Select | exp.SetOperation | exp.Insert | exp.Update | exp.Delete):
            raise _NotUnderstood
        for node in tree.walk():
            if node is not tree and isinstance(node, exp.Insert | exp.Update | exp.Delete | exp.Merge):
                raise _NotUnderstood
            if isinstance(node, exp.Command | exp.Into | exp.PropertyEQ | exp.Version | exp.Semicolon):
                raise _NotUnderstood
            if isinstance(node, exp.Func):
                self._function(node, parsed, draft)
        self._check_names(tree)
        target = None
        if isinstance(tree, exp.Insert | exp.Update | exp.Delete):
            target = tree.this.this if isinstance(tree.this, exp.Schema) else tree.this
        looks = self._look(parsed, target, draft)
        if isinstance(tree, exp.Insert):
            self._insert(tree, parsed, draft)
        elif isinstance(tree, exp.Update):
            self._update(tree, parsed, draft)
        elif isinstance(tree, exp.Delete):
            self._delete(tree, parsed, draft)
        looks = looks and target is None
        return draft, looks, looks and tree.find(exp.Lock) is None

    # -- functions -------------------------------------------------------------------------------------------

    def _function(self, node: exp.Func, parsed: _Parsed, draft: _Draft) -> None:
        from sqlglot import exp

        if isinstance(node, exp.Anonymous):
            name = str(node.this).lower() if isinstance(node.this, str) else ""
            parent = node.parent
            if isinstance(parent, exp.Dot) and parent.name.lower() != "":
                owner = parent.this
                if not (isinstance(owner, exp.Identifier) and owner.name.lower() == "pg_catalog"):
                    raise _NotUnderstood
            if name in _PURE_NAMES:
                return
            if name in _SEQUENCE:
                draft.now.update(Region(self._store, "!sequence", plane=plane) for plane in Plane)
                return
            if name in _ADVISORY_ALL:
                draft.locked.append(self._rows("!advisory", {}, Plane.LOCK))
                return
            if _ADVISORY.fullmatch(name):
                self._advisory(name, node, parsed, draft)
                return
            raise _NotUnderstood
        if type(node).__name__ not in _PURE_CLASSES:
            raise _NotUnderstood

    def _advisory(self, name: str, node: exp.Func, parsed: _Parsed, draft: _Draft) -> None:
        arguments = list(node.expressions)
        postgresql = self._backend == "postgresql"
        kind = Kind.INTEGER if postgresql else Kind.TEXT
        column = Column("key", kind=kind)
        pairs = []
        for label, argument in zip(("key", "second"), arguments[: 2 if postgresql else 1], strict=False):
            value = self._value(argument, parsed)
            if value is not None:
                pairs.append((label, column, value))
        draft.locked.append(_Rows(self._store, "!advisory", tuple(pairs), Plane.LOCK, self._backend))
        draft.kept |= "xact" not in name

    # -- looks -----------------------------------------------------------------------------------------------

    def _check_names(self, tree: exp.Expression) -> None:
        """A WITH below the top, or one whose name means something else to itself or an earlier one, is not followed."""
        from sqlglot import exp

        for with_ in tree.find_all(exp.With):
            if with_.parent is not tree and not (
                isinstance(tree, exp.Insert) and with_.parent is tree.expression
            ):
                raise _NotUnderstood
            earlier: set[str] = set()
            for cte in reversed(with_.expressions):
                earlier.add(self._fold_table(cte.alias))
                inner = {self._fold_table(t.name) for t in cte.this.find_all(exp.Table)}
                if inner & earlier and not with_.args.get("recursive"):
                    raise _NotUnderstood

    def _look(self, parsed: _Parsed, target: Any, draft: _Draft) -> bool:
        """The tables that are read; whether there are any."""
        from sqlglot import exp

        tree = parsed.tree
        ctes = {self._fold_table(cte.alias) for cte in tree.find_all(exp.CTE)}
        locks = list(tree.find_all(exp.Lock))
        writes_lock = any(lock.args.get("update") for lock in locks)
        found = False
        for node in tree.find_all(exp.Table):
            if node is target:
                continue
            if not isinstance(node.this, exp.Identifier):
                # A function in place of a table; what it may do was asked before.
                if isinstance(node.this, exp.Func):
                    continue
                raise _NotUnderstood
            found = True
            table = self._table(node)
            if table is None:
                if self._is_view(node) and not locks:
                    draft.reads.append(_Rows(self._store, None, (), Plane.DATA, self._backend))
                    continue
                if self._fold_table(node.name) in ctes and not node.args.get("db"):
                    continue
                raise _NotUnderstood
            if not table.plain:
                # A policy or a partition: what is read behind it is not known.
                if locks or target is not None:
                    raise _NotUnderstood
                draft.reads.append(_Rows(self._store, None, (), Plane.DATA, self._backend))
                continue
            alternatives = self._restricted(node, table, parsed)
            draft.reads += [self._rows(table.name, pairs, Plane.DATA, table) for pairs in alternatives]
            if locks:
                self._lock_rows(table, alternatives, draft, exclusive=writes_lock)
            elif target is not None and self._backend == "mysql":
                # InnoDB locks what a write reads.
                draft.shared.append(self._rows(table.name, {}, Plane.LOCK))
        return found

    def _lock_rows(
        self, table: Table, alternatives: Sequence[Pairs], draft: _Draft, *, exclusive: bool
    ) -> None:
        into = draft.locked if exclusive else draft.shared
        into += [self._rows(table.name, pairs, Plane.LOCK, table) for pairs in alternatives]
        if self._backend == "mysql":
            self._ranges(table, alternatives, draft, into)

    def _ranges(self, table: Table, alternatives: Sequence[Pairs], draft: _Draft, into: list[_Rows]) -> None:
        """InnoDB locks what it scans; only a full unique key finds one entry, and where gaps are locked, not even that."""
        exact = all(
            any(key.columns and set(key.columns) <= set(pairs) for key in table.keys)
            for pairs in alternatives
        )
        if not exact:
            into.append(self._rows(table.name, {}, Plane.LOCK))
        else:
            draft.gaps.add(Region(self._store, table.name, (), Plane.LOCK))

    def _restricted(self, node: exp.Table, table: Table, parsed: _Parsed) -> list[Pairs]:
        """The rows that the enclosing SELECT can be about: those that its WHERE leaves, whatever is joined."""
        from sqlglot import exp

        select = node.parent
        if isinstance(select, exp.Join | exp.From):
            select = select.parent
        else:
            return [{}]
        if not isinstance(select, exp.Select) or node.args.get("joins") or node.args.get("pivots"):
            return [{}]
        alone = (
            isinstance(node.parent, exp.From)
            and not select.args.get("joins")
            and not select.args.get("laterals")
        )
        return self._conjunction(select.args.get("where"), table, node, parsed, alone=alone)

    def _conjunction(
        self, where: Any, table: Table, node: exp.Table, parsed: _Parsed, *, alone: bool
    ) -> list[Pairs]:
        """Values that a WHERE demands of columns, one set for each way to fulfil it."""
        from sqlglot import exp

        if where is None or where.find(exp.Xor) is not None:
            return [{}]
        condition = where.this.unnest()
        parts = list(condition.flatten()) if isinstance(condition, exp.And) else [condition]
        pairs: dict[str, _Value] = {}
        several: tuple[str, list[_Value]] | None = None
        for part in parts:
            part = part.unnest()
            if isinstance(part, exp.EQ):
                for one, other in ((part.this, part.expression), (part.expression, part.this)):
                    column = self._column(one, table, node, alone=alone)
                    value = self._value(other, parsed) if column is not None else None
                    if column is not None and value is not None and value is not _NULL:
                        pairs.setdefault(column.name, value)
            elif isinstance(part, exp.Is) and isinstance(part.expression, exp.Null) and alone:
                # Of several tables, a missing row has nulls, too.
                column = self._column(part.this, table, node, alone=alone)
                if column is not None:
                    pairs.setdefault(column.name, _NULL)
            elif isinstance(part, exp.In) and several is None and not part.args.get("query"):
                column = self._column(part.this, table, node, alone=alone)
                values = [self._value(value, parsed) for value in part.expressions]
                if column is not None and values and len(values) <= _ROWS_MAX:
                    known = [value for value in values if value is not None and value is not _NULL]
                    if len(known) == len(values):
                        several = (column.name, known)
        if several is None or several[0] in pairs:
            return [pairs]
        return [{**pairs, several[0]: value} for value in several[1]]

    # -- writes ----------------------------------------------------------------------------------------------

    def _target(self, node: Any) -> Table:
        from sqlglot import exp

        if not isinstance(node, exp.Table) or node.args.get("joins") or node.args.get("laterals"):
            raise _NotUnderstood
        table = self._table(node)
        if table is None or not table.plain:
            raise _NotUnderstood
        return table

    def _insert(self, tree: exp.Insert, parsed: _Parsed, draft: _Draft) -> None:
        from sqlglot import exp

        into = tree.this
        listed: list[str] | None = None
        node = into
        if isinstance(into, exp.Schema):
            node = into.this
            listed = [self._fold_column(name) for name in into.expressions]
        table = self._target(node)
        alternative = str(tree.args.get("alternative") or "").upper()
        if alternative not in ("", "REPLACE", "IGNORE", "ABORT", "FAIL") or tree.args.get("overwrite"):
            raise _NotUnderstood
        columns = self._columns[table.name]
        rows: list[dict[str, _Value]] = [{}]
        given: set[str] = (
            set(columns) if listed is None and not tree.args.get("default") else set(listed or ())
        )
        source = tree.expression
        if listed is not None and isinstance(source, exp.Values) and len(source.expressions) <= _ROWS_MAX:
            rows = []
            for entry in source.expressions:
                values = entry.expressions if isinstance(entry, exp.Tuple) else [entry]
                if len(values) != len(listed):
                    raise _NotUnderstood
                row = {}
                for name, expression in zip(listed, values, strict=True):
                    value = self._value(expression, parsed)
                    column = columns.get(name)
                    if value is not None and column is not None:
                        row[column.name] = value
                rows.append(row)
        names = {columns[name].name for name in given if name in columns}
        conflict = tree.args.get("conflict")
        replaces = parsed.replaces or alternative == "REPLACE"
        if replaces:
            self._delete_rows(table, [{}], draft)
        self._new_rows(table, rows, names, draft)
        if conflict is not None and conflict.expressions:
            existing: list[Pairs] = [{}]
            keys = [self._conflict_column(key, table) for key in conflict.args.get("conflict_keys") or ()]
            known = [column.name for column in keys if column is not None]
            if not conflict.args.get("duplicate") and keys and len(known) == len(keys):
                existing = [{name: row[name] for name in known if name in row} for row in rows]
            if conflict.args.get("duplicate") or self._backend == "mysql":
                draft.locked.append(self._rows(table.name, {}, Plane.LOCK))
            self._changed_rows(
                table, existing, self._assigned(conflict.expressions, table, node, parsed), draft
            )
        elif conflict is not None and "UPDATE" in str(conflict.args.get("action") or "").upper():
            raise _NotUnderstood

    def _conflict_column(self, node: Any, table: Table) -> Column | None:
        from sqlglot import exp

        node = node.this if isinstance(node, exp.Ordered) else node
        return self._column(node, table, None, alone=True)

    def _update(self, tree: exp.Update, parsed: _Parsed, draft: _Draft) -> None:
        node = tree.this
        table = self._target(node)
        if tree.args.get("or") or tree.args.get("joins"):
            raise _NotUnderstood
        alone = not (tree.args.get("from_") or tree.args.get("from"))
        alternatives = self._conjunction(tree.args.get("where"), table, node, parsed, alone=alone)
        self._changed_rows(table, alternatives, self._assigned(tree.expressions, table, node, parsed), draft)
        if self._backend == "mysql":
            self._ranges(table, alternatives, draft, draft.locked)

    def _delete(self, tree: exp.Delete, parsed: _Parsed, draft: _Draft) -> None:
        node = tree.this
        table = self._target(node)
        if tree.args.get("tables"):
            raise _NotUnderstood
        alternatives = self._conjunction(
            tree.args.get("where"), table, node, parsed, alone=not tree.args.get("using")
        )
        self._delete_rows(table, alternatives, draft)
        if self._backend == "mysql":
            self._ranges(table, alternatives, draft, draft.locked)

    def _assigned(
        self, assignments: Sequence[Any], table: Table, node: Any, parsed: _Parsed
    ) -> dict[str, _Value | None]:
        """Column -> its new value, None where that is not known."""
        from sqlglot import exp

        found: dict[str, _Value | None] = {}
        for assignment in assignments:
            left = assignment.this if isinstance(assignment, exp.EQ) else None
            if not isinstance(left, exp.Column):
                raise _NotUnderstood
            column = self._columns[table.name].get(self._fold_column(left.this))
            if column is None:
                raise _NotUnderstood
            found[column.name] = self._value(assignment.expression, parsed)
        return found

    def _new_rows(self, table: Table, rows: Sequence[Pairs], given: set[str], draft: _Draft) -> None:
        columns = {column.name: column for column in table.columns}
        for row in rows:
            draft.written.append(self._rows(table.name, row, Plane.LOCK, table))
            for key in table.keys:
                makes_up = [name for name in key.columns if columns[name].made_up]
                name = f"{table.name}!{key.name}"
                if makes_up and not given.intersection(makes_up):
                    # Never the same as another that is made up; a given one may be.
                    draft.shared.append(self._rows(f"{name}!given", {}, Plane.LOCK))
                    continue
                draft.written.append(self._rows(name, _of(row, key.columns), Plane.LOCK, table))
                if makes_up:
                    draft.written.append(self._rows(f"{name}!given", {}, Plane.LOCK))
                if self._backend == "mysql":
                    # A duplicate is locked with the gap before it, whatever the level.
                    draft.locked.append(self._rows(table.name, {}, Plane.LOCK))
            for link in table.links:
                self._parent(table, link, row, draft)

    def _changed_rows(
        self, table: Table, old: Sequence[Pairs], assigned: Mapping[str, _Value | None], draft: _Draft
    ) -> None:
        for pairs in old:
            new = {name: value for name, value in pairs.items() if name not in assigned}
            new.update({name: value for name, value in assigned.items() if value is not None})
            # Only what is demanded of the old row is said of the new one: more would not make it smaller in time.
            draft.reads.append(self._rows(table.name, pairs, Plane.DATA, table))
            draft.written.append(self._rows(table.name, pairs, Plane.LOCK, table))
            draft.written.append(self._rows(table.name, _of(new, pairs), Plane.LOCK, table))
            for key in table.keys:
                name = f"{table.name}!{key.name}"
                draft.shared.append(self._rows(name, _of(pairs, key.columns), Plane.LOCK, table))
                if not key.columns or key.drifts or not set(assigned).isdisjoint(key.columns):
                    draft.written.append(self._rows(name, _of(new, key.columns), Plane.LOCK, table))
                    if any(column.made_up and column.name in key.columns for column in table.columns):
                        draft.written.append(self._rows(f"{name}!given", {}, Plane.LOCK))
            for link in table.links:
                if not set(assigned).isdisjoint(link.columns):
                    self._parent(table, link, new, draft)
            for child, link in self._children.get(self._fold_table(table.name), ()):
                if not set(assigned).isdisjoint(link.referred):
                    self._orphans(child, link, pairs, draft, deleted=False)

    def _delete_rows(self, table: Table, old: Sequence[Pairs], draft: _Draft) -> None:
        for pairs in old:
            draft.reads.append(self._rows(table.name, pairs, Plane.DATA, table))
            draft.written.append(self._rows(table.name, pairs, Plane.LOCK, table))
            for key in table.keys:
                name = f"{table.name}!{key.name}"
                draft.shared.append(self._rows(name, _of(pairs, key.columns), Plane.LOCK, table))
            for child, link in self._children.get(self._fold_table(table.name), ()):
                self._orphans(child, link, pairs, draft, deleted=True)

    def _orphans(self, child: Table, link: Link, pairs: Pairs, draft: _Draft, *, deleted: bool) -> None:
        """The rows that refer to rows which go or change their key."""
        if not child.plain:
            raise _NotUnderstood
        parent = self._tables[self._fold_table(link.parent)]
        referring = self._across(link.referred, parent, link.columns, child, pairs)
        visit = (child.name, link, frozenset(referring.items()), deleted)
        if visit in draft.followed:
            return
        draft.followed.add(visit)
        action = link.on_delete if deleted else link.on_update
        if not action:
            draft.reads.append(self._rows(child.name, referring, Plane.DATA, child))
            draft.shared.append(self._rows(child.name, referring, Plane.LOCK, child))
            if self._backend == "mysql":
                draft.shared.append(self._rows(child.name, {}, Plane.LOCK))
            return
        if self._backend == "mysql":
            draft.locked.append(self._rows(child.name, {}, Plane.LOCK))
        if deleted and action == "CASCADE":
            self._delete_rows(child, [referring], draft)
        else:
            # Set null, set default, or a new key handed down: which value comes is not asked.
            unknown: dict[str, _Value | None] = dict.fromkeys(link.columns)
            self._changed_rows(child, [referring], unknown, draft)

    def _parent(self, table: Table, link: Link, row: Pairs, draft: _Draft) -> None:
        """A foreign key's parent row is looked at and kept from being deleted."""
        if any(row.get(name) is _NULL for name in link.columns):
            return
        parent = self._tables.get(self._fold_table(link.parent))
        if parent is None:
            raise _NotUnderstood
        pairs = self._across(link.columns, table, link.referred, parent, row)
        draft.reads.append(self._rows(parent.name, pairs, Plane.DATA, parent))
        draft.shared.append(self._rows(parent.name, pairs, Plane.LOCK, parent))

    def _across(
        self, names: Sequence[str], table: Table, others: Sequence[str], other: Table, pairs: Pairs
    ) -> Pairs:
        """Values of columns as those of the columns that they are compared with, where the types agree."""
        mine = {column.name: column for column in table.columns}
        theirs = {column.name: column for column in other.columns}
        found = {}
        for name, counterpart in zip(names, others, strict=True):
            one, two = mine.get(name), theirs.get(counterpart)
            if name in pairs and one is not None and two is not None and one.kind is two.kind:
                found[counterpart] = pairs[name]
        return found

    # -- names and values ------------------------------------------------------------------------------------

    def _rows(self, name: str, pairs: Pairs, plane: Plane, table: Table | None = None) -> _Rows:
        columns = {column.name: column for column in table.columns} if table is not None else {}
        found = tuple(
            (column, columns[column], pairs[column])
            for column in sorted(pairs)
            if column in columns and columns[column].kind is not None
        )
        return _Rows(self._store, name, found, plane, self._backend)

    def _value(self, node: Any, parsed: _Parsed) -> _Value | None:
        from sqlglot import exp

        cast = None
        if isinstance(node, exp.Cast) and not isinstance(node, exp.TryCast):
            cast = _cast_kind(node.to)
            if cast is None:
                return None
            node = node.this
        node = node.unnest() if isinstance(node, exp.Paren) else node
        if isinstance(node, exp.Placeholder):
            place = parsed.parameters.get(str(node.this))
            return _Value(place, cast=cast) if place is not None else None
        if isinstance(node, exp.Null):
            return _NULL
        if isinstance(node, exp.Boolean):
            return _Value(constant=bool(node.this), cast=cast)
        sign = 1
        if isinstance(node, exp.Neg):
            sign, node = -1, node.this
        if isinstance(node, exp.Literal):
            if not node.is_string:
                return _Value(constant=sign * int(node.this), cast=cast) if node.is_int else None
            if sign == 1:
                return _Value(constant=str(node.this), cast=cast)
        return None

    def _table(self, node: exp.Table) -> Table | None:
        db = node.args.get("db")
        if node.args.get("catalog") or (db is not None and self._fold_identifier(db) != self._schema):
            return None
        return self._tables.get(self._fold_identifier(node.this))

    def _is_view(self, node: exp.Table) -> bool:
        db = node.args.get("db")
        if db is not None and self._fold_identifier(db).lower() in _CATALOGUES:
            return True
        name = self._fold_identifier(node.this)
        return db is None and (name in self._views or name.startswith(("sqlite_", "pg_")))

    def _column(self, node: Any, table: Table, source: exp.Table | None, *, alone: bool) -> Column | None:
        from sqlglot import exp

        if not isinstance(node, exp.Column) or not isinstance(node.this, exp.Identifier):
            return None
        if node.args.get("db") or node.args.get("catalog"):
            return None
        qualifier = node.args.get("table")
        if qualifier is None:
            if not alone:
                return None
        elif source is None or self._fold_identifier(qualifier) != self._called(source):
            return None
        column = self._columns[table.name].get(self._fold_column(node.this))
        return column if column is not None and column.kind is not None else None

    def _called(self, node: exp.Table) -> str:
        alias = node.args.get("alias")
        return self._fold_identifier(alias.this if alias is not None else node.this)

    def _fold_identifier(self, node: Any) -> str:
        name = str(node.name)
        if self._backend == "postgresql":
            return name if node.args.get("quoted") else name.lower()
        return self._fold_table(name)

    def _fold_table(self, name: str) -> str:
        return name.lower() if self._backend == "sqlite" else name

    def _fold_column(self, node: Any) -> str:
        name = str(node.name)
        if self._backend == "postgresql":
            return name if node.args.get("quoted") else name.lower()
        return name.lower()

    def _known_column(self, name: str) -> str:
        return name if self._backend == "postgresql" else name.lower()


def _of(pairs: Pairs, names: Iterable[str]) -> dict[str, _Value]:
    return {name: pairs[name] for name in names if name in pairs}


def _cast_kind(to: Any) -> Kind | None:
    """A cast that leaves a value of the kind as it is; none that may cut it."""
    if to.expressions:
        return None
    return {
        "SMALLINT": Kind.INTEGER,
        "INT": Kind.INTEGER,
        "BIGINT": Kind.INTEGER,
        "VARCHAR": Kind.TEXT,
        "TEXT": Kind.TEXT,
        "UUID": Kind.UUID,
        "DATE": Kind.DATE,
        "BOOLEAN": Kind.BOOLEAN,
    }.get(getattr(to.this, "name", ""))
