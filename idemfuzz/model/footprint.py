"""Footprints: what an Effect reads and writes, so that it can be told whether two Effects commute.

A footprint speaks of Regions of a store: the whole of it, a table or a key in it, or the rows of a table that have
given values in given columns. There are two planes. DATA is what another Execution can see; LOCK is what it can be
kept from. An uncommitted write of a row touches the LOCK plane only; its commit touches both.

Goal: two Effects that do not conflict lead to the same state, and to the same answers, in either order. A Region
may be too large (that costs trials), never too small (that hides interleavings). No footprint at all means
"unknown": it conflicts with everything.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from enum import StrEnum

Where = tuple[tuple[str, Hashable], ...]
"""Column and value pairs, sorted by column: the rows that have all of them. Empty: every row."""


class Plane(StrEnum):
    """What can be touched of a Region: what is seen, or what one is kept from."""

    DATA = "data"
    LOCK = "lock"


@dataclass(frozen=True, slots=True)
class Region:
    """A part of one store. ``name`` is a table, a key or the like; None is the whole store."""

    store: str
    name: str | None = None
    where: Where = ()
    plane: Plane = Plane.DATA

    def meets(self, other: Region) -> bool:
        """Whether both may speak of one thing: not on other planes, and no column says that the rows differ."""
        if self.store != other.store or self.plane is not other.plane:
            return False
        if self.name is None or other.name is None:
            return True
        if self.name != other.name:
            return False
        if not self.where or not other.where:
            return True
        values = dict(self.where)
        return all(values.get(column, value) == value for column, value in other.where)


@dataclass(frozen=True, slots=True)
class Footprint:
    """The Regions that an Effect reads, and those that it writes."""

    reads: frozenset[Region] = frozenset()
    writes: frozenset[Region] = frozenset()

    @classmethod
    def of(cls, reads: Iterable[Region] = (), writes: Iterable[Region] = ()) -> Footprint:
        return cls(frozenset(reads), frozenset(writes))

    @classmethod
    def whole(cls, store: str) -> Footprint:
        """Writes all of one store, on both planes: the safe answer where only the store is known."""
        return cls.of(writes=[Region(store, plane=plane) for plane in Plane])

    def conflicts(self, other: Footprint) -> bool:
        """Whether the order of two Effects can matter."""
        return (
            _meet(self.writes, other.writes)
            or _meet(self.writes, other.reads)
            or _meet(self.reads, other.writes)
        )

    def __or__(self, other: Footprint) -> Footprint:
        return Footprint(self.reads | other.reads, self.writes | other.writes)


NOTHING = Footprint()
"""The footprint of an Effect that nobody can notice and that notices nobody."""


def conflict(one: Footprint | None, other: Footprint | None) -> bool:
    """Whether the order of two Effects can matter; None is unknown and conflicts with all but nothing at all."""
    if one is None:
        return other is None or other != NOTHING
    if other is None:
        return one != NOTHING
    return one.conflicts(other)


def _meet(ones: frozenset[Region], others: frozenset[Region]) -> bool:
    return any(one.meets(other) for one in ones for other in others)
