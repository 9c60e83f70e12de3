"""Two states are the same if one becomes the other by renaming what was made up, consistently.

First each fact is reduced to its skeleton: literals stay, times of the run's clock and volatile values become
placeholders, identifiers become blanks. Different multisets of skeletons are a difference. Then the blanks are
compared by colour refinement over the graph of facts and identifiers (Weisfeiler and Leman, 1968): a foreign key
or an id inside a Redis key must point at the fact that corresponds.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from idemfuzz.checkers.atoms import Atom, AtomKind, atoms_of, leaves_of
from idemfuzz.checkers.noise import Noise, Span, Trait, extent
from idemfuzz.checkers.ragged import frame_of
from idemfuzz.model import Delta, Difference, DifferenceKind, Fact, FactKind

_ROUNDS_MAX = 8
_LAST_TOUCH = re.compile(
    r"(?:updated|modified|touched|changed|last_\w+|\w*_?seen)(?:_?(?:at|on|time|date|ts))?\Z", re.I
)
Id = tuple[str, str, str]
"""Store, table, and an id that the table made up."""
_TIME = "\0time"
_ANY = "\0any"
_NAME = "\0name"


@dataclass(frozen=True, slots=True)
class State:
    """What a run left behind, and when it ran."""

    delta: Delta
    span: Span
    memo: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """What was computed from it: a Reference is compared with every trial, and most trials with nothing new in them."""


@dataclass(frozen=True, slots=True)
class Comparison:
    differences: tuple[Difference, ...]
    matched: int = 0
    """Facts of the Reference that the other state has, too."""
    matched_work: int = 0
    """Of these, those that are no Redis keys: work, and not only guards and locks."""


@dataclass(frozen=True, slots=True)
class _Reduced:
    fact: Fact
    skeleton: Hashable
    parts: Mapping[str, tuple[Hashable, ...]]
    names: tuple[Hashable, ...]

    @property
    def named(self) -> bool:
        """Whether its identity is literal: it says which one this is over all runs."""
        return bool(self.fact.identity) and not any(
            part in (_NAME, _ANY) for name in self.fact.identity for part in self.parts.get(name, ())
        )


def compare(expected: State, actual: State, noise: Noise) -> Comparison:
    """Where ``actual`` differs from ``expected`` beyond noise; empty if nowhere."""
    if _literal(expected) == _literal(actual):
        same = expected.delta.added
        return Comparison((), len(same), _work(same))
    expected, actual = _called(expected, noise), _called(actual, noise)
    expected, actual = _unlapsed(expected, actual, noise), _unlapsed(actual, expected, noise)
    kept = _kept(expected.delta, actual.delta)
    left, right = _reduce(expected, noise, kept), _reduce(actual, noise, kept)
    unmatched_left, unmatched_right = _subtract(left, right)
    missed = {id(reduced) for reduced in unmatched_left}
    matched = [reduced for reduced in left if id(reduced) not in missed]
    differences, tolerated = _differences(unmatched_left, unmatched_right, expected, actual, left, right)
    differences += _removals(expected.delta, actual.delta)
    if not differences:
        # What only bears another stamp of its last touch stands for its counterpart.
        stand_ins = ((tolerated.get(id(r), r), r) for r in right)
        differences = _mislinked(left, [replace(s, names=r.names) for s, r in stand_ins if s is not None])
    return Comparison(tuple(differences), len(matched), _work(reduced.fact for reduced in matched))


def _work(facts: Iterable[Fact]) -> int:
    return sum(fact.kind is not FactKind.KEY for fact in facts)


def _literal(state: State) -> Hashable:
    """Equal for states in which not even the noise differs. It tells 1 from True, as `==` of the facts would not."""
    literal = state.memo.get("literal")
    if literal is None:
        literal = state.memo["literal"] = tuple(
            tuple((f.store, f.kind, f.group, repr(f.fields), f.expires, f.once) for f in facts)
            for facts in (state.delta.added, state.delta.removed)
        )
    return literal


def _reduce(state: State, noise: Noise, kept: frozenset[Id]) -> list[_Reduced]:
    known = state.memo.get("reduced")
    if known is not None and known[0] is noise and known[1:3] == (noise.lessons, kept):
        return known[3]  # type: ignore[no-any-return]
    new = _new(state.delta.added, kept)
    reduced = _once(_skeleton(fact, state.span, noise, new) for fact in state.delta.added)
    state.memo["reduced"] = (noise, noise.lessons, kept, reduced)
    return reduced


def _called(state: State, noise: Noise) -> State:
    """The state in groups whose names are the same in each run."""
    if not noise.families:
        return state
    known = state.memo.get("called")
    if known is None or known[:2] != (noise, noise.lessons):
        delta = state.delta
        called = Delta(*(noise.called(facts) for facts in (delta.added, delta.removed, delta.lapsed)))
        known = state.memo["called"] = (noise, noise.lessons, State(called, state.span))
    return known[2]


def _unlapsed(state: State, other: State, noise: Noise) -> State:
    """The state with what ran out in it by itself, as far as the other one has it: only one of them had the time for it."""
    delta, theirs = state.delta, other.delta
    if not delta.lapsed:
        return state
    there = Counter(_skeletons(theirs.added, other, noise))
    there.subtract(_skeletons(delta.added, state, noise))
    back = []
    for fact, skeleton in zip(delta.lapsed, _skeletons(delta.lapsed, state, noise), strict=True):
        if there[skeleton] > 0:
            there[skeleton] -= 1
            back.append(fact)
    untouched = [fact for fact in delta.lapsed if fact in delta.removed and fact not in theirs.removed]
    removed = tuple(fact for fact in delta.removed if fact not in untouched)
    return State(Delta((*delta.added, *back), removed), state.span)


def _skeletons(facts: Iterable[Fact], state: State, noise: Noise) -> list[Hashable]:
    return [_skeleton(fact, state.span, noise, {}).skeleton for fact in facts]


def _kept(expected: Delta, actual: Delta) -> frozenset[Id]:
    """Ids that a table has made up, of rows that were there before and stayed: they say which row it is.

    Whether a row was updated, or removed and another one made under its id, cannot be seen of its images. It was updated
    if both runs put something in the place of the very same rows, or if only one of them touched it.
    """
    added, removed = (
        (_ids(expected.added), _ids(actual.added)),
        (_ids(expected.removed), _ids(actual.removed)),
    )
    if not removed[0] and not removed[1]:
        return frozenset()
    both = [ours & gone for ours, gone in zip(added, removed, strict=True)]
    kept = (both[0] - removed[1]) | (both[1] - removed[0])
    tables: list[dict[tuple[str, str], set[Id]]] = [defaultdict(set), defaultdict(set)]
    for table, ids in zip(tables, both, strict=True):
        for one in ids:
            table[one[:2]].add(one)
    return kept.union(*(ids for name, ids in tables[0].items() if ids == tables[1].get(name)))


def _ids(facts: Iterable[Fact]) -> frozenset[Id]:
    return frozenset(
        (fact.store, origin, str(fact.fields.get(name)))
        for fact in facts
        for name, origin in fact.generated.items()
        if origin == fact.group
    )


def _once(reduced: Iterable[_Reduced]) -> list[_Reduced]:
    """Calls under one idempotency key are one call, if they say the same."""
    seen: set[Hashable] = set()
    kept = []
    for each in reduced:
        if each.fact.once is not None:
            call = (each.fact.once, each.skeleton)
            if call in seen:
                continue
            seen.add(call)
        kept.append(each)
    return kept


def _new(facts: Sequence[Fact], kept: frozenset[Id] = frozenset()) -> dict[str, set[str]]:
    """Table -> generated keys of the rows that this run added."""
    new: dict[str, set[str]] = defaultdict(set)
    for fact in facts:
        for name, origin in fact.generated.items():
            if origin == fact.group and (fact.store, origin, str(fact.fields.get(name))) not in kept:
                new[origin].add(str(fact.fields.get(name)))
    return new


def _skeleton(fact: Fact, span: Span, noise: Noise, new: Mapping[str, set[str]]) -> _Reduced:
    parts: dict[str, tuple[Hashable, ...]] = {}
    names: list[Hashable] = []
    for name, value in fact.fields.items():
        origin = fact.generated.get(name)
        place = (fact.store, fact.group, name)
        wild = noise.places.get((*place, "**"))
        whole = wild or noise.places.get((*place, "*"))
        size = () if wild else (extent(value),)
        if origin is not None and str(value) in new.get(origin, ()):
            parts[name] = (_NAME,)
            names.append((origin, str(value)))
        elif origin is not None and whole is not Trait.VOLATILE:
            # It refers to a row that was there before: the very same in each run.
            parts[name] = (str(value),)
        elif whole is Trait.VOLATILE:
            parts[name] = (_ANY, *size)
        elif whole is Trait.IDENTIFIER:
            parts[name] = (_NAME, *size)
            names.append(_name(str(value), new))
        else:
            parts[name] = tuple(_parts(fact, name, value, span, noise, new, names))
    skeleton = (fact.store, str(fact.kind), fact.group, fact.expires, tuple(parts.items()))
    return _Reduced(fact, skeleton, parts, tuple(names))


def _parts(
    fact: Fact,
    field: str,
    value: Any,
    span: Span,
    noise: Noise,
    new: Mapping[str, set[str]],
    names: list[Hashable],
) -> Iterator[Hashable]:
    for leaf, atoms in leaves_of(value):
        place = (fact.store, fact.group, field, leaf)
        if place not in noise.ragged:
            yield from (_part(atom, fact, field, span, noise, new, names) for atom in atoms)
            continue
        text = "".join(atom.value for atom in atoms)
        frame = frame_of(noise.ragged[place], text)
        if frame is None:
            yield text
        elif noise.places.get(place) is Trait.IDENTIFIER:
            names.append(("", frame.middle(text)))
            yield from (frame.head, _NAME, frame.tail, frame.extent(text))
        else:
            yield from (frame.head, _ANY, frame.tail, frame.extent(text))


def _part(
    atom: Atom,
    fact: Fact,
    field: str,
    span: Span,
    noise: Noise,
    new: Mapping[str, set[str]],
    names: list[Hashable],
) -> Hashable:
    if atom.kind is AtomKind.LITERAL:
        return atom.value
    if atom.kind is AtomKind.OPAQUE:
        return _ANY
    trait = noise.places.get((fact.store, fact.group, field, atom.path))
    if trait is Trait.VOLATILE:
        return _ANY
    if trait is Trait.IDENTIFIER:
        names.append(_name(atom.value, new, noise.origins.get((fact.store, fact.group, field, atom.path))))
        return _NAME
    if atom.seconds is not None and span.shows(atom):
        return _TIME
    return atom.value


def _name(value: str, new: Mapping[str, set[str]], origin: str | None = None) -> Hashable:
    """A generated row id met inside a text is the same name as in its table, if it is known which table made it."""
    if origin is not None and value in new.get(origin, ()):
        return (origin, value)
    origins = [origin for origin, values in new.items() if value in values]
    return (origins[0], value) if len(origins) == 1 else ("", value)


def _subtract(left: list[_Reduced], right: list[_Reduced]) -> tuple[list[_Reduced], list[_Reduced]]:
    counts = Counter(r.skeleton for r in right)
    unmatched_left = []
    for reduced in left:
        if counts[reduced.skeleton] > 0:
            counts[reduced.skeleton] -= 1
        else:
            unmatched_left.append(reduced)
    unmatched_right = []
    # The later ones of equal facts are the extra ones.
    for reduced in reversed(right):
        if counts[reduced.skeleton] > 0:
            counts[reduced.skeleton] -= 1
            unmatched_right.append(reduced)
    return unmatched_left, unmatched_right[::-1]


def _differences(
    left: list[_Reduced],
    right: list[_Reduced],
    expected: State,
    actual: State,
    all_left: list[_Reduced],
    all_right: list[_Reduced],
) -> tuple[list[Difference], dict[int, _Reduced | None]]:
    """The differences, and for facts that differ in nothing that counts their counterparts (None: the baseline)."""
    found: list[Difference] = []
    tolerated: dict[int, _Reduced | None] = {}
    rest = list(right)
    for one in left:
        other = _counterpart(one, rest) or _updated(one, rest, expected.delta, actual.delta)
        if other is None:
            missing = _counted(DifferenceKind.MISSING, one.fact, all_left, all_right)
            found.append(replace(missing, actual=_before(one.fact, expected.delta)))
            continue
        rest = [reduced for reduced in rest if reduced is not other]
        columns = _columns(one, other, actual.span)
        if not columns:
            tolerated[id(other)] = one
        else:
            twice = _applied_twice(one.fact, other.fact, columns, _before(one.fact, expected.delta))
            found.append(
                Difference(
                    DifferenceKind.CHANGED,
                    one.fact.store,
                    one.fact.group,
                    one.fact,
                    other.fact,
                    columns,
                    twice=twice,
                )
            )
    for reduced in rest:
        before = _before(reduced.fact, actual.delta)
        if before is None:
            found.append(_counted(DifferenceKind.EXTRA, reduced.fact, all_left, all_right))
        elif columns := _touched(before, reduced.fact, actual.span):
            # The Reference leaves this one as it was.
            found.append(
                Difference(
                    DifferenceKind.CHANGED,
                    before.store,
                    before.group,
                    before,
                    reduced.fact,
                    columns,
                    twice=True,
                )
            )
        else:
            tolerated[id(reduced)] = None
    return found, tolerated


def _columns(one: _Reduced, other: _Reduced, span: Span) -> tuple[str, ...]:
    """The fields in which two facts really differ; a stamp of the last touch that only one of them has is none."""
    names = sorted(one.fact.fields.keys() | other.fact.fields.keys())
    differing = [n for n in names if one.parts.get(n) != other.parts.get(n)]
    if one.fact.expires != other.fact.expires and not differing:
        return ("ttl",)
    return tuple(
        n for n in differing if not _only_touched(n, one.fact.fields.get(n), other.fact.fields.get(n), span)
    )


def _touched(before: Fact, after: Fact, span: Span) -> tuple[str, ...]:
    return tuple(
        n
        for n in sorted(before.fields.keys() | after.fields.keys())
        if before.fields.get(n) != after.fields.get(n)
        and not (_stamp(n) and _shown(after.fields.get(n), span))
    )


def _only_touched(name: str, expected: Any, actual: Any, span: Span) -> bool:
    return expected is None and _stamp(name) and _shown(actual, span)


def _stamp(name: str) -> bool:
    return _LAST_TOUCH.search(name) is not None


def _shown(value: Any, span: Span) -> bool:
    atoms = list(atoms_of(value))
    return bool(atoms) and any(span.shows(atom) for atom in atoms)


def _before(fact: Fact, delta: Delta) -> Fact | None:
    """What the baseline held under the identity of ``fact``, if the run changed it."""
    if not fact.identity:
        return None
    return next(
        (
            f
            for f in delta.removed
            if f.store == fact.store and f.group == fact.group and _identity(f) == _identity(fact)
        ),
        None,
    )


def _counted(
    kind: DifferenceKind, fact: Fact, left: Sequence[_Reduced], right: Sequence[_Reduced]
) -> Difference:
    def count(reduced: Sequence[_Reduced]) -> int:
        return sum(r.fact.store == fact.store and r.fact.group == fact.group for r in reduced)

    expected, actual = (fact, None) if kind is DifferenceKind.MISSING else (None, fact)
    return Difference(
        kind, fact.store, fact.group, expected, actual, expected_count=count(left), actual_count=count(right)
    )


def _counterpart(one: _Reduced, others: Sequence[_Reduced]) -> _Reduced | None:
    """The fact in the other state that is the same thing: by its literal identity, else by likeness."""
    fact = one.fact
    same = [
        other
        for other in others
        if other.fact.store == fact.store
        and other.fact.group == fact.group
        and all(one.parts.get(name) == other.parts.get(name) for name in fact.identity)
    ]
    if one.named:
        return same[0] if same else None
    if fact.kind not in (FactKind.ROW, FactKind.KEY, FactKind.FILE):
        return None
    plain = [name for name in fact.fields if name not in fact.generated and name not in fact.identity]
    best, alike = None, 0
    for other in same:
        equal = sum(one.parts.get(name) == other.parts.get(name) for name in plain)
        if equal > alike:
            best, alike = other, equal
    return best if best is not None and 2 * alike >= len(plain) else None


def _updated(one: _Reduced, others: Sequence[_Reduced], expected: Delta, actual: Delta) -> _Reduced | None:
    """What both runs made of one thing that was there before: whatever its identity was drawn from, it is given."""
    if _before(one.fact, expected) is None:
        return None
    return next(
        (
            other
            for other in others
            if other.fact.store == one.fact.store
            and other.fact.group == one.fact.group
            and _identity(other.fact) == _identity(one.fact)
            and _before(other.fact, actual) is not None
        ),
        None,
    )


def _applied_twice(one: Fact, other: Fact, columns: Sequence[str], before: Fact | None) -> bool:
    """Whether a value went on from the Reference's in the direction in which the Reference had moved it."""
    return any(
        _went_on(
            None if before is None else before.fields.get(name), one.fields.get(name), other.fields.get(name)
        )
        for name in columns
    )


def _went_on(was: Any, once: Any, now: Any) -> bool:
    was, once, now = _parsed(was), _parsed(once), _parsed(now)
    b, c = _measure(once), _measure(now)
    if b is not None and c is not None:
        step = b - (_measure(was) or 0.0)
        return bool(step) and (c - b) / step > 0
    left, right = _entries(once), _entries(now)
    if left is not None and right is not None:
        known = _entries(was) or {}
        if any(_went_on(known.get(key), left[key], right[key]) for key in left.keys() & right.keys()):
            return True
    if isinstance(once, str) and isinstance(now, str):
        return _put_in(once, now)
    if isinstance(once, list | Mapping) and isinstance(now, list | Mapping):
        size = len(was) if isinstance(was, list | Mapping) else 0
        return len(now) > len(once) or len(now) < len(once) < size
    return False


def _put_in(once: str, now: str) -> bool:
    """Whether ``now`` is ``once`` with something put in; another word that is longer is not."""
    ahead = _common(once, now)
    behind = _common(once[ahead:][::-1], now[ahead:][::-1])
    return len(now) > len(once) > 0 and ahead + behind == len(once)


def _common(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    return next(
        (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def _parsed(value: Any) -> Any:
    """JSON in a text column as what it says."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _entries(value: Any) -> Mapping[Any, Any] | None:
    """A mapping, also as a list of pairs (a sorted set with its scores)."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list) and value and all(isinstance(p, list | tuple) and len(p) == 2 for p in value):
        return {repr(key): item for key, item in value}
    return None


def _measure(value: Any) -> float | None:
    """A number, or a time as seconds; None for all else."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        atoms = list(atoms_of(value)) if isinstance(value, str | date) else []
        return atoms[0].seconds if len(atoms) == 1 and atoms[0].kind is AtomKind.TIME else None


def _removals(expected: Delta, actual: Delta) -> list[Difference]:
    """Baseline facts that one run took away and the other did not."""
    left, right = _vanished(expected), _vanished(actual)
    found = []
    for fact in left:
        if fact in right:
            right.remove(fact)
        elif _after(fact, actual) is None:
            found.append(
                Difference(DifferenceKind.MISSING, fact.store, fact.group, expected=fact, removal=True)
            )
    for fact in right:
        if _after(fact, expected) is None:
            found.append(Difference(DifferenceKind.EXTRA, fact.store, fact.group, actual=fact, removal=True))
    return found


def _vanished(delta: Delta) -> list[Fact]:
    return [fact for fact in delta.removed if _after(fact, delta) is None]


def _after(fact: Fact, delta: Delta) -> Fact | None:
    """What became of a baseline fact, if the run changed it and did not take it away."""
    if not fact.identity:
        return None
    return next(
        (
            f
            for f in delta.added
            if f.store == fact.store and f.group == fact.group and _identity(f) == _identity(fact)
        ),
        None,
    )


def _identity(fact: Fact) -> tuple[str, ...]:
    return tuple(repr(fact.fields.get(name)) for name in fact.identity)


def _mislinked(left: list[_Reduced], right: list[_Reduced]) -> list[Difference]:
    colours_left, colours_right = _refine(left), _refine(right)
    if Counter(colours_left) == Counter(colours_right):
        return []
    extra = Counter(colours_right) - Counter(colours_left)
    found = []
    for reduced, colour in zip(right, colours_right, strict=True):
        if extra[colour] > 0:
            extra[colour] -= 1
            match = next((r for r in left if r.skeleton == reduced.skeleton), None)
            found.append(
                Difference(
                    DifferenceKind.MISLINKED,
                    reduced.fact.store,
                    reduced.fact.group,
                    match.fact if match else None,
                    reduced.fact,
                )
            )
    return found


def _refine(facts: Sequence[_Reduced]) -> list[int]:
    """A colour per fact, equal for facts that correspond under some consistent renaming."""
    colours = [hash(reduced.skeleton) for reduced in facts]
    places: dict[Hashable, list[tuple[int, int]]] = defaultdict(list)
    for index, reduced in enumerate(facts):
        for position, name in enumerate(reduced.names):
            places[name].append((index, position))
    if not places:
        return colours
    kinds = 0
    for _ in range(_ROUNDS_MAX):
        names = {
            name: hash(tuple(sorted((colours[index], position) for index, position in uses)))
            for name, uses in places.items()
        }
        colours = [
            hash((reduced.skeleton, tuple(names[name] for name in reduced.names))) for reduced in facts
        ]
        if len(set(colours)) == kinds:
            break
        kinds = len(set(colours))
    return colours
