"""The journal that triggers write: what a trial changed, without reading what is stored.

Each row that a statement inserts, changes or deletes leaves its images in a table of ours, within the same transaction.
An entry adds an image (+) or takes one away (-); a changed row does both. What a trial changed is the sum of all entries:
it needs no order and no key, and it is by construction what a comparison of all rows before and after would give.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

OURS = "_idemfuzz_"
"""How the name of everything begins that idemfuzz puts into a database."""

Entry = tuple[str, int, Any, Any]
"""Table, +1 or -1, the row's image, and where the row stands (None where its key tells)."""


@dataclass(slots=True)
class Net:
    """The sum of a journal's entries. ``places`` has, for each added image, where rows of this image stand now."""

    added: dict[str, list[Any]] = field(default_factory=dict)
    removed: dict[str, list[Any]] = field(default_factory=dict)
    places: dict[tuple[str, Any], list[Any]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.added or self.removed)


def fold(entries: Iterable[Entry]) -> Net:
    """Sum up. Rows keep the order in which the journal first names them."""
    images: dict[str, dict[Any, int]] = {}
    standing: dict[tuple[str, Any], dict[Any, int]] = {}
    for table, sign, image, place in entries:
        counts = images.setdefault(table, {})
        counts[image] = counts.get(image, 0) + sign
        if place is not None:
            places = standing.setdefault((table, image), {})
            places[place] = places.get(place, 0) + sign
    net = Net()
    for table, counts in images.items():
        added = [image for image, count in counts.items() for _ in range(count)]
        removed = [image for image, count in counts.items() for _ in range(-count)]
        if added:
            net.added[table] = added
        if removed:
            net.removed[table] = removed
        for image in added:
            places = standing.get((table, image), {})
            net.places[table, image] = [place for place, count in places.items() if count > 0]
    return net


def worth_following(sizes: Mapping[str, int], rows_max: int) -> frozenset[str]:
    """The tables to put a journal on: the largest ones, so that at most ``rows_max`` rows are left to be read.

    ``sizes`` may stop counting beyond ``rows_max``. With 0, all tables have a journal, empty ones too.
    """
    if not rows_max:
        return frozenset(sizes)
    left = rows_max
    chosen = []
    for name, size in sorted(sizes.items(), key=lambda item: item[1]):
        left -= size
        if left < 0:
            chosen.append(name)
    return frozenset(chosen)


def is_ours(name: object) -> bool:
    """Whether a table, trigger or schema is idemfuzz's own."""
    return str(name).startswith(OURS)


def listed(names: Collection[str], at_most: int = 3) -> str:
    """Some names for a sentence."""
    shown: Iterator[str] = islice(sorted(names), at_most)
    more = len(names) - at_most
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
