"""What a statement touches, before and after its parameters are bound; and which values tell rows apart."""

from __future__ import annotations

import re
import uuid
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import Enum, auto
from typing import Any

from idemfuzz.adapters.sqlalchemy.flavour import Column, Kind
from idemfuzz.model.footprint import Plane, Region

ROWS_MAX = 8
"""More rows or values than these in one statement count as the whole table."""


class Does(Enum):
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
class Value:
    """Where a value comes from: a parameter, or the text itself."""

    parameter: Hashable = None
    """The name or the place of the parameter; None for a value of the text."""
    constant: Any = None
    cast: Kind | None = None

    def plain(self, column: Column, parameters: Any, backend: str) -> Any:
        """The value as it is compared, or `UNKNOWN`."""
        if self.parameter is None:
            value = self.constant
        else:
            try:
                value = parameters[self.parameter]
            except (KeyError, IndexError, TypeError):
                return UNKNOWN
        if self.cast is not None and self.cast is not column.kind:
            return UNKNOWN
        return comparable(column, value, backend)


UNKNOWN: Any = object()
NULL = Value()
Pairs = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class TouchedRows:
    """Rows of a table, or entries of one of its keys, whose values are bound later."""

    store: str
    name: str | None
    pairs: tuple[tuple[str, Column, Value], ...]
    """Sorted by column."""
    plane: Plane
    backend: str

    def bind(self, parameters: Any) -> Region:
        found = []
        for name, column, value in self.pairs:
            plain = value.plain(column, parameters, self.backend)
            if plain is not UNKNOWN:
                found.append((name, plain))
        return Region(self.store, self.name, tuple(found), self.plane)

    @property
    def fixed(self) -> bool:
        return all(value.parameter is None for _, _, value in self.pairs)


@dataclass(frozen=True, slots=True)
class Part:
    """The same kind of touch by one statement: what is known already, and what depends on values."""

    fixed: frozenset[Region] = frozenset()
    open: tuple[TouchedRows, ...] = ()

    @classmethod
    def of(cls, rows: Iterable[TouchedRows]) -> Part:
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


NO_PART = Part()


@dataclass(frozen=True, slots=True)
class StatementPlan:
    does: Does
    reads: Part = NO_PART
    """On the DATA plane."""
    written: Part = NO_PART
    """On the LOCK plane now, on the DATA plane with the commit."""
    locked: Part = NO_PART
    """On the LOCK plane only."""
    shared: Part = NO_PART
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


def bound(plan: StatementPlan, parameters: Any) -> tuple[set[Region], set[Region], set[Region], set[Region]]:
    return (
        plan.reads.bind(parameters),
        plan.written.bind(parameters),
        plan.locked.bind(parameters),
        plan.shared.bind(parameters),
    )


def bound_many(
    plan: StatementPlan, parameters: Any
) -> tuple[set[Region], set[Region], set[Region], set[Region]]:
    parts = (plan.reads, plan.written, plan.locked, plan.shared)
    found = list(parameters or ())
    if len(found) > ROWS_MAX or not all(isinstance(one, Mapping | tuple | list) for one in found):
        reads, written, locked, shared = (part.loosened() for part in parts)
        return reads, written, locked, shared
    reads, written, locked, shared = (set().union(*(part.bind(one) for one in found)) for part in parts)
    return reads, written, locked, shared


def on_plane(plane: Plane, region: Region) -> Region:
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
    """The value made plain, so that what the column takes for equal is equal here; `UNKNOWN` if that is not sure.

    Subclasses are not trusted: a driver may send an enum by its name.
    """
    kind, type_ = column.kind, type(value)
    if value is None:
        return None if column.nullable and not column.made_up and kind is not None else UNKNOWN
    if kind is Kind.INTEGER:
        if type_ is str and _INTEGER.fullmatch(value):
            value = int(value)
        elif type_ is not int and type_ is not bool:
            return UNKNOWN
        if backend == "mysql" and not (
            (value > 0 or (value == 0 and not column.made_up)) and value <= (column.size or 127)
        ):
            return UNKNOWN
        return int(value)
    if kind is Kind.TEXT:
        # Case and trailing spaces make no difference in some collations, types and servers: here in all.
        if type_ is not str or (column.size is not None and len(value) > column.size):
            return UNKNOWN
        if backend == "mysql" and not (value.isascii() and value.isprintable()):
            return UNKNOWN
        return str(value.rstrip(" ").casefold())
    if kind is Kind.UUID and (type_ is str or type_ is uuid.UUID):
        try:
            return value.int if type_ is uuid.UUID else uuid.UUID(value).int
        except ValueError:
            return UNKNOWN
    if kind is Kind.DATE:
        if type_ is date:
            return str(value.isoformat())
        return str(value) if type_ is str and _ISO_DATE.fullmatch(value) else UNKNOWN
    if kind is Kind.BOOLEAN and type_ is bool:
        return bool(value)
    return UNKNOWN
