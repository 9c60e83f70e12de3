"""Values taken apart into atoms: the smallest pieces that can be generated, be a time, or be the same.

``"user:17 at 2026-01-02T03:04:05"`` becomes the literals and the atoms 17 and a time; JSON inside a string is read as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from functools import lru_cache
from itertools import groupby
from typing import Any
from uuid import UUID

from idemfuzz.checkers.packed import unpacked, unpacked_text
from idemfuzz.model import Opaque


class AtomKind(StrEnum):
    LITERAL = "literal"
    NUMBER = "number"
    WORD = "word"
    TOKEN = "token"
    """A UUID, a long hexadecimal word, a random token in base64: made up by its looks."""
    TIME = "time"
    OPAQUE = "opaque"


@dataclass(frozen=True, slots=True)
class Atom:
    path: str
    kind: AtomKind
    value: str
    seconds: float | None = None
    """For a time or a number that may be one: seconds since the epoch, naive times read as UTC."""


_UUID = r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
_MIXED = r"(?=[\w-]*[A-Z][\w-]*[A-Z])(?=[\w-]*[a-z][\w-]*[a-z])(?=[\w-]*\d)[A-Za-z0-9_-]{16,}"
_PIECE = re.compile(
    rf"(?P<uuid>{_UUID})"
    r"|(?P<time>\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?: ?(?:Z|[+-]\d\d:?\d\d))?)?)"
    r"(?![A-Za-z0-9_])"
    rf"|(?P<blob>{_MIXED})"
    rf"|(?P<number>(?!-{_UUID})(?:(?<![A-Za-z0-9_])-)?\d+(?:\.\d+)?(?![A-Za-z0-9_]))"
    rf"|(?P<word>(?:(?!{_UUID})[A-Za-z0-9_])+)"
    r"|(?P<other>[^A-Za-z0-9_]+?(?=[A-Za-z0-9_-]|$))",
    re.S,
)
_BLOB = re.compile(rf"{_MIXED}\Z")
_PLACE = re.compile(r"/\d+\Z")
_HEX = re.compile(r"(?=.*\d)(?=.*[a-fA-F])[0-9a-fA-F]{12,}\Z")
_MADE_UP = frozenset({AtomKind.NUMBER, AtomKind.TOKEN, AtomKind.TIME})
_REMEMBERED_LENGTH_MAX = 200
_TIME_EPOCH = (1_000_000_000.0, 5_000_000_000.0)


def atoms_of(value: Any, path: str = "") -> Iterator[Atom]:
    """Take one value apart; equal values give equal atoms."""
    if value is None or isinstance(value, bool):
        yield Atom(path, AtomKind.LITERAL, repr(value))
    elif isinstance(value, Enum):
        yield from atoms_of(value.value, path)
    elif isinstance(value, int | float | Decimal):
        yield _number(str(value), path)
    elif isinstance(value, str):
        yield from _text(value, path)
    elif isinstance(value, datetime):
        yield Atom(path, AtomKind.TIME, value.isoformat(), _epoch(value))
    elif isinstance(value, date):
        yield Atom(
            path, AtomKind.TIME, value.isoformat(), _epoch(datetime(value.year, value.month, value.day))
        )
    elif isinstance(value, time | timedelta):
        yield Atom(path, AtomKind.NUMBER, str(value))
    elif isinstance(value, UUID):
        yield Atom(path, AtomKind.TOKEN, str(value))
    elif isinstance(value, Opaque):
        yield Atom(path, AtomKind.OPAQUE, str(value))
    elif isinstance(value, Mapping):
        yield from _mapping(value, path)
    elif isinstance(value, list | tuple):
        yield Atom(path, AtomKind.LITERAL, f"[{len(value)}]")
        for item in value:
            yield from atoms_of(item, f"{path}[]")
    elif isinstance(value, set | frozenset):
        yield from atoms_of(sorted(value, key=repr), path)
    elif isinstance(value, bytes | bytearray | memoryview):
        yield from _bytes(bytes(value), path)
    else:
        yield Atom(path, AtomKind.WORD, repr(value))


Leaves = Sequence[tuple[str, Sequence[Atom]]]
"""Path of a text or a number -> its atoms."""


def leaves_of(value: Any) -> Leaves:
    """The atoms of each text or number inside a value together, with the path of it."""
    if type(value) in (str, int) and len(str(value)) <= _REMEMBERED_LENGTH_MAX:
        return _leaves_of_plain(value)
    return _leaves(atoms_of(value))


@lru_cache(maxsize=8192, typed=True)
def _leaves_of_plain(value: str | int) -> Leaves:
    """The same few hundred values come back in every trial."""
    return tuple(_leaves(atoms_of(value)))


def _leaves(atoms: Iterator[Atom]) -> Leaves:
    return [(leaf, list(group)) for leaf, group in groupby(atoms, lambda atom: _PLACE.sub("", atom.path))]


def _mapping(value: Mapping[Any, Any], path: str) -> Iterator[Atom]:
    yield Atom(path, AtomKind.LITERAL, f"{{{len(value)}}}")
    named, collected = [], []
    for key in sorted(value, key=str):
        atoms = list(_text(str(key), f"{path}.?"))
        if any(atom.kind in _MADE_UP for atom in atoms):
            collected.append((key, atoms))
        else:
            named.append(key)
    for key in named:
        yield from _text(str(key), f"{path}.!")
        yield from atoms_of(value[key], f"{path}.{key}")
    # Keys that are ids, times or tokens are members of a collection: what stands under them has one place, and their order is
    # that of what they hold, as theirs would be another one in each run.
    members = [(atoms, list(atoms_of(value[key], f"{path}.*"))) for key, atoms in collected]
    for atoms, held in sorted(members, key=lambda member: _looks(member[1])):
        yield from atoms
        yield from held


def _looks(atoms: Sequence[Atom]) -> tuple[Sequence[str], Sequence[tuple[int, str]]]:
    """What a member of a collection is told apart by: its words first, then its numbers, and nothing that is made up by its looks.

    A short number says more than a long one, which may be an id, a time or a duration.
    """
    said = [a for a in atoms if a.kind in (AtomKind.WORD, AtomKind.LITERAL) and not _BLOB.match(a.value)]
    numbers = sorted((len(a.value), a.value) for a in atoms if a.kind is AtomKind.NUMBER)
    return [a.value for a in said], numbers


def _bytes(value: bytes, path: str) -> Iterator[Atom]:
    said = unpacked(value)
    if said is None:
        yield Atom(f"{path}/0", AtomKind.WORD, value.hex())
    else:
        yield from atoms_of(said, f"{path}%")


def _text(value: str, path: str) -> Iterator[Atom]:
    if value[:1] in "{[" and value[-1:] in "}]" and value:
        try:
            parsed = json.loads(value)
        except ValueError:
            pass
        else:
            yield from atoms_of(parsed, f"{path}$")
            return
    said = unpacked_text(value)
    if said is not None:
        yield from atoms_of(said, f"{path}%")
        return
    pieces = list(_PIECE.finditer(value))
    for number, match in enumerate(pieces):
        kind, piece, place = match.lastgroup, match.group(), f"{path}/{number}"
        if kind == "uuid":
            yield Atom(place, AtomKind.TOKEN, piece.lower())
        elif kind == "time":
            seconds = _parsed(piece)
            yield Atom(place, AtomKind.TIME if seconds is not None else AtomKind.WORD, piece, seconds)
        elif kind == "number":
            yield _number(piece, place)
        elif kind == "blob":
            # No TOKEN: the next one may have a sign in it, or no digit, and fall into other pieces.
            yield Atom(place, AtomKind.WORD, piece)
        elif kind == "word":
            yield Atom(place, AtomKind.TOKEN if _HEX.match(piece) else AtomKind.WORD, piece)
        else:
            yield Atom(place, AtomKind.LITERAL, piece)
    if not pieces:
        yield Atom(path, AtomKind.LITERAL, value)


def _number(text: str, path: str) -> Atom:
    if "." in text:
        text = text.rstrip("0").rstrip(".") or "0"
    try:
        value = float(text)
    except ValueError:
        return Atom(path, AtomKind.WORD, text)
    for unit in (1.0, 1e3, 1e6, 1e9):
        if _TIME_EPOCH[0] <= value / unit <= _TIME_EPOCH[1]:
            return Atom(path, AtomKind.NUMBER, text, value / unit)
    return Atom(path, AtomKind.NUMBER, text)


def _parsed(text: str) -> float | None:
    try:
        return _epoch(datetime.fromisoformat(text.replace(" Z", "Z")))
    except ValueError:
        return None


def _epoch(moment: datetime) -> float | None:
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (OverflowError, OSError, ValueError):
        return None
