"""Turns the text of a statement into what it touches, for one state of the schema.

Longer than most, as one class: looks, writes, keys and foreign keys add to one draft and follow each other's tables.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from idemfuzz.adapters.sqlalchemy.flavour import Column, Kind, Link, Table
from idemfuzz.adapters.sqlalchemy.footprint.names import Names
from idemfuzz.adapters.sqlalchemy.footprint.plan import (
    NULL,
    ROWS_MAX,
    Does,
    Pairs,
    Part,
    StatementPlan,
    TouchedRows,
    Value,
)
from idemfuzz.adapters.sqlalchemy.footprint.text import Parsed, parse
from idemfuzz.model.footprint import Plane, Region

if TYPE_CHECKING:
    from sqlglot import exp

_COMMENTS = re.compile(r"/\*.*?\*/|--[^\n]*", re.S)
_CONTROL = (
    (re.compile(r"(?:begin|start)(?: (?:deferred|work|transaction))*"), Does.BEGIN),
    (re.compile(r"begin (?:immediate|exclusive)(?: transaction)?"), Does.BEGIN_EXCLUSIVE),
    (re.compile(r"(?:commit|end)(?: (?:work|transaction))?"), Does.COMMIT),
    (re.compile(r"rollback(?: (?:work|transaction))?|abort"), Does.ROLLBACK),
    (re.compile(r"rollback(?: (?:work|transaction))? to .+"), Does.ROLLBACK_TO),
    (re.compile(r"savepoint .+"), Does.NOTHING),
    (re.compile(r"release .+"), Does.RELEASE),
    (
        re.compile(
            r"set (?:local |session )?(?:(?:innodb_)?lock_(?:wait_)?timeout|statement_timeout|application_name"
            r"|idle_in_transaction_session_timeout|max_statement_time|max_execution_time|wait_timeout)\b[^;,]*"
        ),
        Does.NOTHING,
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


class _NotUnderstood(Exception):
    """The whole store, then."""


@dataclass(slots=True)
class _Draft:
    """A plan in the making."""

    reads: list[TouchedRows] = field(default_factory=list)
    written: list[TouchedRows] = field(default_factory=list)
    locked: list[TouchedRows] = field(default_factory=list)
    shared: list[TouchedRows] = field(default_factory=list)
    gaps: set[Region] = field(default_factory=set)
    now: set[Region] = field(default_factory=set)
    kept: bool = False
    followed: set[Hashable] = field(default_factory=set)
    """Foreign keys that were followed, with the rows in question: they may go round in circles."""


class Planner:
    """Turns texts into plans, for one state of the schema."""

    def __init__(
        self, store: str, backend: str, tables: Mapping[str, Table], views: frozenset[str], schema: str | None
    ) -> None:
        self._store = store
        self._backend = backend
        self._names = Names(backend, tables, views, schema)

    def plan(self, sql: str) -> StatementPlan:
        """What the statement touches; never fails."""
        text = " ".join(_COMMENTS.sub(" ", sql).split()).rstrip("; ").lower()
        for pattern, does in _CONTROL:
            if pattern.fullmatch(text):
                return StatementPlan(does)
        if _LOOKING.fullmatch(text):
            return StatementPlan(Does.TOUCH, reads=Part(frozenset({Region(self._store)})))
        if re.match(r"(?:set|use|begin|start|reset|discard)\b", text):
            return StatementPlan(
                Does.TOUCH, blinding=True, local=bool(re.match(r"set (?:local|transaction)\b", text))
            )
        parsed = parse(sql, self._backend)
        if parsed is None:
            return StatementPlan(Does.UNKNOWN)
        try:
            draft, looks, looks_only = self._draft(parsed)
        except _NotUnderstood:
            return StatementPlan(Does.UNKNOWN)
        return StatementPlan(
            Does.TOUCH,
            Part.of(draft.reads),
            Part.of(draft.written),
            Part.of(draft.locked),
            Part.of(draft.shared),
            frozenset(draft.gaps),
            frozenset(draft.now),
            looks,
            looks_only,
            draft.kept,
        )

    def _draft(self, parsed: Parsed) -> tuple[_Draft, bool, bool]:
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

    def _function(self, node: exp.Func, parsed: Parsed, draft: _Draft) -> None:
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

    def _advisory(self, name: str, node: exp.Func, parsed: Parsed, draft: _Draft) -> None:
        arguments = list(node.expressions)
        postgresql = self._backend == "postgresql"
        kind = Kind.INTEGER if postgresql else Kind.TEXT
        column = Column("key", kind=kind)
        pairs = []
        for label, argument in zip(("key", "second"), arguments[: 2 if postgresql else 1], strict=False):
            value = self._value(argument, parsed)
            if value is not None:
                pairs.append((label, column, value))
        draft.locked.append(TouchedRows(self._store, "!advisory", tuple(pairs), Plane.LOCK, self._backend))
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
                earlier.add(self._names.fold_table(cte.alias))
                inner = {self._names.fold_table(t.name) for t in cte.this.find_all(exp.Table)}
                if inner & earlier and not with_.args.get("recursive"):
                    raise _NotUnderstood

    def _look(self, parsed: Parsed, target: Any, draft: _Draft) -> bool:
        """The tables that are read; whether there are any."""
        from sqlglot import exp

        tree = parsed.tree
        ctes = {self._names.fold_table(cte.alias) for cte in tree.find_all(exp.CTE)}
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
            table = self._names.table(node)
            if table is None:
                if self._names.is_view(node) and not locks:
                    draft.reads.append(TouchedRows(self._store, None, (), Plane.DATA, self._backend))
                    continue
                if self._names.fold_table(node.name) in ctes and not node.args.get("db"):
                    continue
                raise _NotUnderstood
            if not table.plain:
                # A policy or a partition: what is read behind it is not known.
                if locks or target is not None:
                    raise _NotUnderstood
                draft.reads.append(TouchedRows(self._store, None, (), Plane.DATA, self._backend))
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

    def _ranges(
        self, table: Table, alternatives: Sequence[Pairs], draft: _Draft, into: list[TouchedRows]
    ) -> None:
        """InnoDB locks what it scans; only a full unique key finds one entry, and where gaps are locked, not even that."""
        exact = all(
            any(key.columns and set(key.columns) <= set(pairs) for key in table.keys)
            for pairs in alternatives
        )
        if not exact:
            into.append(self._rows(table.name, {}, Plane.LOCK))
        else:
            draft.gaps.add(Region(self._store, table.name, (), Plane.LOCK))

    def _restricted(self, node: exp.Table, table: Table, parsed: Parsed) -> list[Pairs]:
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
        self, where: Any, table: Table, node: exp.Table, parsed: Parsed, *, alone: bool
    ) -> list[Pairs]:
        """Values that a WHERE demands of columns, one set for each way to fulfil it."""
        from sqlglot import exp

        if where is None or where.find(exp.Xor) is not None:
            return [{}]
        condition = where.this.unnest()
        parts = list(condition.flatten()) if isinstance(condition, exp.And) else [condition]
        pairs: dict[str, Value] = {}
        several: tuple[str, list[Value]] | None = None
        for part in parts:
            part = part.unnest()
            if isinstance(part, exp.EQ):
                for one, other in ((part.this, part.expression), (part.expression, part.this)):
                    column = self._names.column(one, table, node, alone=alone)
                    value = self._value(other, parsed) if column is not None else None
                    if column is not None and value is not None and value is not NULL:
                        pairs.setdefault(column.name, value)
            elif isinstance(part, exp.Is) and isinstance(part.expression, exp.Null) and alone:
                # Of several tables, a missing row has nulls, too.
                column = self._names.column(part.this, table, node, alone=alone)
                if column is not None:
                    pairs.setdefault(column.name, NULL)
            elif isinstance(part, exp.In) and several is None and not part.args.get("query"):
                column = self._names.column(part.this, table, node, alone=alone)
                values = [self._value(value, parsed) for value in part.expressions]
                if column is not None and values and len(values) <= ROWS_MAX:
                    known = [value for value in values if value is not None and value is not NULL]
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
        table = self._names.table(node)
        if table is None or not table.plain:
            raise _NotUnderstood
        return table

    def _insert(self, tree: exp.Insert, parsed: Parsed, draft: _Draft) -> None:
        from sqlglot import exp

        into = tree.this
        listed: list[str] | None = None
        node = into
        if isinstance(into, exp.Schema):
            node = into.this
            listed = [self._names.fold_column(name) for name in into.expressions]
        table = self._target(node)
        alternative = str(tree.args.get("alternative") or "").upper()
        if alternative not in ("", "REPLACE", "IGNORE", "ABORT", "FAIL") or tree.args.get("overwrite"):
            raise _NotUnderstood
        columns = self._names.columns[table.name]
        rows: list[dict[str, Value]] = [{}]
        given: set[str] = (
            set(columns) if listed is None and not tree.args.get("default") else set(listed or ())
        )
        source = tree.expression
        if listed is not None and isinstance(source, exp.Values) and len(source.expressions) <= ROWS_MAX:
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
        return self._names.column(node, table, None, alone=True)

    def _update(self, tree: exp.Update, parsed: Parsed, draft: _Draft) -> None:
        node = tree.this
        table = self._target(node)
        if tree.args.get("or") or tree.args.get("joins"):
            raise _NotUnderstood
        alone = not (tree.args.get("from_") or tree.args.get("from"))
        alternatives = self._conjunction(tree.args.get("where"), table, node, parsed, alone=alone)
        self._changed_rows(table, alternatives, self._assigned(tree.expressions, table, node, parsed), draft)
        if self._backend == "mysql":
            self._ranges(table, alternatives, draft, draft.locked)

    def _delete(self, tree: exp.Delete, parsed: Parsed, draft: _Draft) -> None:
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
        self, assignments: Sequence[Any], table: Table, node: Any, parsed: Parsed
    ) -> dict[str, Value | None]:
        """Column -> its new value, None where that is not known."""
        from sqlglot import exp

        found: dict[str, Value | None] = {}
        for assignment in assignments:
            left = assignment.this if isinstance(assignment, exp.EQ) else None
            if not isinstance(left, exp.Column):
                raise _NotUnderstood
            column = self._names.columns[table.name].get(self._names.fold_column(left.this))
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
        self, table: Table, old: Sequence[Pairs], assigned: Mapping[str, Value | None], draft: _Draft
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
            for child, link in self._names.children_of(table):
                if not set(assigned).isdisjoint(link.referred):
                    self._orphans(child, link, pairs, draft, deleted=False)

    def _delete_rows(self, table: Table, old: Sequence[Pairs], draft: _Draft) -> None:
        for pairs in old:
            draft.reads.append(self._rows(table.name, pairs, Plane.DATA, table))
            draft.written.append(self._rows(table.name, pairs, Plane.LOCK, table))
            for key in table.keys:
                name = f"{table.name}!{key.name}"
                draft.shared.append(self._rows(name, _of(pairs, key.columns), Plane.LOCK, table))
            for child, link in self._names.children_of(table):
                self._orphans(child, link, pairs, draft, deleted=True)

    def _orphans(self, child: Table, link: Link, pairs: Pairs, draft: _Draft, *, deleted: bool) -> None:
        """The rows that refer to rows which go or change their key."""
        if not child.plain:
            raise _NotUnderstood
        parent = self._names.tables[self._names.fold_table(link.parent)]
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
            unknown: dict[str, Value | None] = dict.fromkeys(link.columns)
            self._changed_rows(child, [referring], unknown, draft)

    def _parent(self, table: Table, link: Link, row: Pairs, draft: _Draft) -> None:
        """A foreign key's parent row is looked at and kept from being deleted."""
        if any(row.get(name) is NULL for name in link.columns):
            return
        parent = self._names.tables.get(self._names.fold_table(link.parent))
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

    def _rows(self, name: str, pairs: Pairs, plane: Plane, table: Table | None = None) -> TouchedRows:
        columns = {column.name: column for column in table.columns} if table is not None else {}
        found = tuple(
            (column, columns[column], pairs[column])
            for column in sorted(pairs)
            if column in columns and columns[column].kind is not None
        )
        return TouchedRows(self._store, name, found, plane, self._backend)

    def _value(self, node: Any, parsed: Parsed) -> Value | None:
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
            return Value(place, cast=cast) if place is not None else None
        if isinstance(node, exp.Null):
            return NULL
        if isinstance(node, exp.Boolean):
            return Value(constant=bool(node.this), cast=cast)
        sign = 1
        if isinstance(node, exp.Neg):
            sign, node = -1, node.this
        if isinstance(node, exp.Literal):
            if not node.is_string:
                return Value(constant=sign * int(node.this), cast=cast) if node.is_int else None
            if sign == 1:
                return Value(constant=str(node.this), cast=cast)
        return None


def _of(pairs: Pairs, names: Iterable[str]) -> dict[str, Value]:
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
