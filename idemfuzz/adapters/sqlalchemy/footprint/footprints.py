"""The Footprint of each Effect of a connection, by what its transaction has touched so far."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from idemfuzz.adapters.sqlalchemy.flavour import Table
from idemfuzz.adapters.sqlalchemy.footprint.plan import Does, StatementPlan, bound, bound_many, on_plane
from idemfuzz.adapters.sqlalchemy.footprint.planner import Planner
from idemfuzz.adapters.sqlalchemy.footprint.text import PLANS_MAX
from idemfuzz.model.footprint import NOTHING, Footprint, Plane, Region

_KNOWN_MAX = 4096


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
        self._planner = Planner(store, self._backend, tables, frozenset(views), schema)
        self._plans: dict[str, StatementPlan] = {}
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
            if len(self._plans) > PLANS_MAX:
                self._plans.clear()
        if plan.does is not Does.TOUCH:
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
        self,
        plan: StatementPlan,
        parameters: Any,
        books: Books,
        autocommit: bool,
        isolation: Isolation,
        many: bool,
    ) -> Footprint:
        """What one statement touches, with what it adds to ``books``."""
        touched = bound_many(plan, parameters) if many else bound(plan, parameters)
        reads, written, locked, shared = touched
        if not autocommit:
            self._isolate(plan, books, isolation, reads, shared)
        else:
            if isolation.predicates and self._backend == "postgresql":
                shared.update([Region(r.store, r.name, (), Plane.LOCK) for r in reads])
                locked.add(self._serial)
            if isolation.dirty:
                reads.update([on_plane(Plane.LOCK, region) for region in reads])
        if isolation.snapshot and plan.gaps:
            locked.update(plan.gaps)
        if self._backend == "sqlite" and (written or locked):
            locked.add(self._lock)
        if plan.kept:
            # A session's lock outlives the transaction, and an autocommitted statement.
            books.kept.update(locked)
        writes = written | locked
        if autocommit:
            writes.update([on_plane(Plane.DATA, region) for region in written])
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
        writes = books.written | books.locked | {on_plane(Plane.DATA, region) for region in books.written}
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
        self, plan: StatementPlan, books: Books, isolation: Isolation, reads: set[Region], shared: set[Region]
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
            reads.update([on_plane(Plane.LOCK, region) for region in reads])
        if isolation.snapshot and not books.looked:
            # PostgreSQL's snapshot is that of the first statement; InnoDB's that of the first plain look.
            if self._backend == "postgresql":
                reads.add(self._all)
                books.looked = True
            elif plan.looks:
                reads.add(self._all)
                books.looked = plan.looks_only

    def _unknown(self, plan: StatementPlan, books: Books, autocommit: bool) -> Footprint:
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

    def _control(self, plan: StatementPlan, books: Books, autocommit: bool) -> Footprint:
        if plan.does is Does.UNKNOWN:
            return self._unknown(plan, books, autocommit)
        if plan.does is Does.NOTHING:
            return NOTHING
        if plan.does is Does.RELEASE:
            # In SQLite, the release of the outermost savepoint commits.
            return self.commit(books) if self._backend == "sqlite" else NOTHING
        if plan.does is Does.ROLLBACK_TO:
            return self.rollback(books)
        if plan.does is Does.ROLLBACK:
            found = self.rollback(books)
            books.end()
            return found
        # A BEGIN within a transaction commits it (MySQL) or does nothing.
        found = self.commit(books)
        if plan.does is Does.COMMIT or self._backend != "sqlite":
            books.end()
        if plan.does is Does.BEGIN_EXCLUSIVE:
            books.locked.add(self._lock)
            found = found | Footprint.of([self._all], [self._lock])
        return found
