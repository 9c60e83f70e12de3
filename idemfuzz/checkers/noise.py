"""What is noise is learned: two References from one state, the clock moved between them; what differs is made up."""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from idemfuzz.checkers.atoms import Atom, AtomKind, leaves_of
from idemfuzz.checkers.ragged import Frame, Frames, frame_of, learned
from idemfuzz.model import Fact

_SLACK_SECONDS = 3.0
_DAY_LENGTH = len("2026-01-31")
_SHAPELESS = {AtomKind.WORD, AtomKind.LITERAL}


@dataclass(frozen=True, slots=True)
class Span:
    """When a run took place, as its own clocks showed it (seconds since the epoch)."""

    start: float
    end: float

    def __contains__(self, seconds: float) -> bool:
        return self.start - _SLACK_SECONDS <= seconds <= self.end + _SLACK_SECONDS

    def shows(self, atom: Atom) -> bool:
        """Whether an atom is a reading of this run's clock: in UTC, in local time, or as today's date."""
        if atom.seconds is None:
            return False
        if atom.seconds in self or atom.seconds + _zone_seconds(self.start) in self:
            return True
        return (
            atom.kind is AtomKind.TIME
            and len(atom.value) == _DAY_LENGTH
            and (
                _day(self.start) <= atom.seconds <= _day(self.end)
                or _day(self.start) <= atom.seconds + _zone_seconds(self.start) <= _day(self.end)
            )
        )


class Trait(StrEnum):
    """What is known of a place in the state whose values are made up."""

    IDENTIFIER = "identifier"
    """Its values name things: compared up to a consistent renaming."""
    VOLATILE = "volatile"
    """Its values mean nothing: compared by presence only."""


Place = tuple[str, str, str, str]
"""Store, group, field, path inside the value."""

Group = tuple[str, str, str]
"""Store, kind, name."""


class Noise:
    """The places where values are made up, learned from References."""

    def __init__(self) -> None:
        self.places: dict[Place, Trait] = {}
        self.origins: dict[Place, str] = {}
        """Whose generated row ids stand at a place (inside JSON or a text), where that could be told."""
        self.ragged: dict[Place, Frames] = {}
        """Texts that fall into other pieces each time: what stays at the start and at the end."""
        self.families: dict[tuple[str, str], Frames] = {}
        """Names of groups with a made-up word in them, by store and kind: ``code:KXQWJ`` and ``code:PLMRT`` are both ``code:*``."""
        self.steady: set[Group] = set()
        """Groups that have the same name in each run."""
        self.stamps: set[tuple[str, str, str]] = set()
        """Fields (store, group, field) in which each run leaves a reading of its clock, to the second or finer."""
        self.lessons = 0
        """How often it has learned: what was reduced by it before is out of date after."""

    def copy(self) -> Noise:
        twin = Noise()
        twin.places, twin.origins, twin.ragged = dict(self.places), dict(self.origins), dict(self.ragged)
        twin.families, twin.steady = dict(self.families), set(self.steady)
        twin.stamps = set(self.stamps)
        return twin

    def trait(self, place: Place) -> Trait | None:
        return self.places.get(place) or self.places.get((*place[:3], "*"))

    def called(self, facts: Iterable[Fact]) -> tuple[Fact, ...]:
        """The facts in groups whose names are the same in each run."""
        return tuple(map(self._called, facts) if self.families else facts)

    def _called(self, fact: Fact) -> Fact:
        group = _group(fact)
        frame = None if group in self.steady else frame_of(self.families.get(group[:2], ()), fact.group)
        return fact if frame is None else replace(fact, group=f"{frame.head}*{frame.tail}")

    def learn(
        self, first: Iterable[Fact], second: Iterable[Fact], first_span: Span, second_span: Span
    ) -> bool:
        """Compare two References; False if they differ in more than values (nothing can be learned)."""
        ones, others = list(first), list(second)
        self._learn_families({*map(_group, ones)}, {*map(_group, others)})
        pairs = _aligned(self.called(ones), self.called(others))
        if pairs is None:
            return False
        self.lessons += 1
        ids_first = _new_ids(fact for fact, _ in pairs)
        ids_second = _new_ids(fact for _, fact in pairs)
        for one, other in pairs:
            for name in one.fields:
                if name in other.fields:
                    self._learn_field(one, other, name, first_span, second_span, ids_first, ids_second)
        return True

    def described(self) -> tuple[str, ...]:
        """For the certificate: each field with a made-up value, once."""
        return tuple(sorted({f"{store}.{group}.{name}" for store, group, name, _ in self.places}))

    def makes_up(self, store: str) -> Callable[[str, str], bool]:
        """Whether a field of a group of this store has values that are made up."""
        known = {place[:3] for place in (*self.places, *self.ragged)}
        return lambda group, name: (store, group, name) in known

    def never_same(self, store: str) -> Callable[[str, str], bool]:
        """Whether a field's values are another in each run: made up, or read from the clock. A key with one in it keeps no row away."""
        makes_up, stamps = self.makes_up(store), self.stamps
        return lambda group, name: makes_up(group, name) or (store, group, name) in stamps

    def _learn_families(self, ones: set[Group], others: set[Group]) -> None:
        """Groups that only one of two References has are one, if they are as many, and alike but for a word."""
        if ones == others:
            return
        for kind in {group[:2] for group in ones ^ others}:
            left, right = (
                sorted(name for *of, name in groups if tuple(of) == kind)
                for groups in (ones - others, others - ones)
            )
            if len(left) != len(right):
                continue
            frames = self.families.get(kind, ())
            for name in left:
                other = max(right, key=lambda other: Frame.between(name, other).width)
                right.remove(other)
                if re.search(r"\w", Frame.between(name, other).stays):
                    frames = learned(frames, name, other)
            if frames:
                self.lessons += 1
                self.families[kind] = frames
                self.steady |= {group for group in ones & others if group[:2] == kind}

    def _learn_field(
        self,
        one: Fact,
        other: Fact,
        name: str,
        first: Span,
        second: Span,
        ids_first: Mapping[str, set[str]],
        ids_second: Mapping[str, set[str]],
    ) -> None:
        if name in one.generated:
            return
        left, right = leaves_of(one.fields[name]), leaves_of(other.fields[name])
        place = (one.store, one.group, name)
        if [leaf for leaf, _ in left] != [leaf for leaf, _ in right]:
            # However its parts look, how many there are counts, unless that differs, too.
            path = "*" if extent(one.fields[name]) == extent(other.fields[name]) else "**"
            self._mark((*place, path), Trait.IDENTIFIER if name in one.identity else Trait.VOLATILE)
            return
        pairs: list[tuple[Atom, Atom]] = []
        for (leaf, ones), (_, others) in zip(left, right, strict=True):
            if _is_ragged(ones, others):
                self._learn_ragged((*place, leaf), ones, others, key=name in one.identity)
            else:
                pairs += zip(ones, others, strict=True)
        for a, b in pairs:
            if first.shows(a) and second.shows(b):
                if a.kind is not AtomKind.TIME or len(a.value) > _DAY_LENGTH:
                    self.stamps.add(place)
                continue
            if a.value == b.value:
                if first.shows(a):
                    # The clock was moved, and this one was not: it is the server's, read twice within one tick.
                    self._mark((*place, a.path), Trait.VOLATILE)
                continue
            tables = [
                t for t, ids in ids_first.items() if a.value in ids and b.value in ids_second.get(t, ())
            ]
            # Once known to hold a table's ids, it is no arbitrary number where a trial broke the link.
            named = bool(tables) or (*place, a.path) in self.origins
            if len(tables) == 1:
                # The second Reference's ids are moved apart, table by table.
                self.origins[(*place, a.path)] = tables[0]
            self._mark((*place, a.path), _trait(a, b, key=name in one.identity, named=named))

    def _learn_ragged(self, place: Place, ones: Sequence[Atom], others: Sequence[Atom], *, key: bool) -> None:
        a, b = ("".join(atom.value for atom in atoms) for atoms in (ones, others))
        self.ragged[place] = frames = learned(self.ragged.get(place, ()), a, b)
        frame = frame_of(frames, a)
        stays = frame.stays if frame is not None else ""
        made_up = [
            atom.value
            for atom in (*ones, *others)
            if atom.kind in (AtomKind.WORD, AtomKind.TOKEN) and atom.value not in stays
        ]
        named = key or any(len(value) >= 8 for value in made_up)
        self._mark(place, Trait.IDENTIFIER if named else Trait.VOLATILE)

    def _mark(self, place: Place, trait: Trait) -> None:
        # Volatile wins: it was seen to mean nothing at least once.
        if self.places.get(place) is not Trait.VOLATILE:
            self.places[place] = trait


def _is_ragged(ones: Sequence[Atom], others: Sequence[Atom]) -> bool:
    """Whether a text has a made-up word in it, which may fall into other pieces the next time."""
    if len(ones) != len(others):
        return True
    return any(
        a.value != b.value and a.path[-1:].isdigit() and bool({a.kind, b.kind} & _SHAPELESS)
        for a, b in zip(ones, others, strict=True)
    )


def _trait(one: Atom, other: Atom, *, key: bool, named: bool) -> Trait:
    if AtomKind.TIME in (one.kind, other.kind) or (one.seconds is not None and other.seconds is not None):
        return Trait.VOLATILE
    if key or named or AtomKind.TOKEN in (one.kind, other.kind):
        return Trait.IDENTIFIER
    if one.kind is AtomKind.NUMBER and other.kind is AtomKind.NUMBER:
        return Trait.VOLATILE
    return Trait.IDENTIFIER if min(len(one.value), len(other.value)) >= 8 else Trait.VOLATILE


def extent(value: object) -> int | None:
    """How many elements a collection has, also one that is JSON in a text."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return len(value) if isinstance(value, list | tuple | set | frozenset | Mapping) else None


def _group(fact: Fact) -> Group:
    return fact.store, str(fact.kind), fact.group


def _aligned(first: Sequence[Fact], second: Sequence[Fact]) -> list[tuple[Fact, Fact]] | None:
    """Pair the facts of two References: within a group, the most alike ones."""
    left, right = _grouped(first), _grouped(second)
    if left.keys() != right.keys():
        return None
    pairs: list[tuple[Fact, Fact]] = []
    for key, ones in left.items():
        others = list(right[key])
        if len(ones) != len(others):
            return None
        for one in ones:
            best = 0 if len(ones) > 200 else min(range(len(others)), key=lambda i: _unlike(one, others[i]))
            pairs.append((one, others.pop(best)))
    return pairs


def _grouped(facts: Sequence[Fact]) -> dict[Group, list[Fact]]:
    groups: dict[Group, list[Fact]] = defaultdict(list)
    for fact in facts:
        groups[_group(fact)].append(fact)
    return groups


def _unlike(one: Fact, other: Fact) -> int:
    return sum(value != other.fields.get(name) for name, value in one.fields.items())


def _new_ids(facts: Iterable[Fact]) -> dict[str, set[str]]:
    """Table -> values of generated keys of its added rows."""
    found: dict[str, set[str]] = defaultdict(set)
    for fact in facts:
        for name, origin in fact.generated.items():
            if origin == fact.group and name in fact.fields:
                found[origin].add(str(fact.fields[name]))
    return found


def _zone_seconds(at: float) -> float:
    """What must be added to a local time read as UTC to be UTC."""
    return -float(time.localtime(at).tm_gmtoff)


def _day(seconds: float) -> float:
    return seconds - seconds % 86400.0
