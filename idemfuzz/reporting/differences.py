"""What differs from one clean delivery, as rows of a small table: where, what, expected, actual."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from idemfuzz.model import Difference, DifferenceKind, Fact, FactKind, Opaque

__all__ = ["Row", "rows_of"]

_NOUNS = {
    FactKind.ROW: ("row", "rows"),
    FactKind.KEY: ("key", "keys"),
    FactKind.FILE: ("file", "files"),
    FactKind.MAIL: ("mail", "mails"),
    FactKind.HTTP: ("call", "calls"),
    FactKind.JOB: ("child job", "child jobs"),
    FactKind.CALL: ("call", "calls"),
}
_FIELDS_MAX = 8
_DIFFERENCES_MAX = 12
_NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; ``where`` is empty where it is that of the line above."""

    where: str
    what: str
    expected: str
    actual: str
    key: bool = False
    """It says which thing is meant, and differs in nothing."""


def rows_of(differences: Sequence[Difference]) -> list[Row]:
    """The lines for all differences, a long list cut with its count."""
    rows: list[Row] = []
    for difference in differences[:_DIFFERENCES_MAX]:
        lines = list(_changed(difference) if _is_change(difference) else _counted(difference))
        place = _place(difference)
        rows += [Row(place if i == 0 else "", *line) for i, line in enumerate(lines)]
    if len(differences) > _DIFFERENCES_MAX:
        rows.append(Row(f"… {len(differences) - _DIFFERENCES_MAX} more differences", "", "", ""))
    return rows


_Line = tuple[str, str, str, bool]


def _is_change(difference: Difference) -> bool:
    changed = difference.kind in (DifferenceKind.CHANGED, DifferenceKind.MISLINKED)
    not_updated = difference.kind is DifferenceKind.MISSING and difference.actual is not None
    return changed or (not_updated and difference.expected is not None)


def _changed(difference: Difference) -> Iterator[_Line]:
    """The fields that differ, below those that say which thing it is."""
    expected, actual = difference.expected, difference.actual
    old, new = _fields(expected), _fields(actual)
    columns = difference.columns or tuple(name for name in {**old, **new} if old.get(name) != new.get(name))
    for name in (actual or expected or difference.fact).identity:
        if name not in columns and name in {**old, **new}:
            yield name, shown(old.get(name, new.get(name))), shown(new.get(name, old.get(name))), True
    for name in columns:
        yield name, _value(old, name), _value(new, name), False
    if not columns:
        yield "refers to", _inner(expected), _inner(actual), False


def _counted(difference: Difference) -> Iterator[_Line]:
    """How many there are, then the one that is too many or missing, field by field."""
    extra = difference.kind is DifferenceKind.EXTRA
    one, many = _NOUNS[difference.fact.kind]
    if difference.removal:
        # It is about something that stood there before: an extra difference is an extra removal.
        yield one, "stays" if extra else "removed", "removed" if extra else "still there", False
    elif difference.expected_count != difference.actual_count:
        yield many, str(difference.expected_count), str(difference.actual_count), False
    else:
        yield one, _NOTHING if extra else "there", "there" if extra else _NOTHING, False
    fields = _fields(difference.fact)
    for name in list(fields)[:_FIELDS_MAX]:
        value = shown(fields[name])
        there = extra is not difference.removal
        yield f"  {name}", _NOTHING if there else value, value if there else _NOTHING, False
    if len(fields) > _FIELDS_MAX:
        yield f"  … {len(fields) - _FIELDS_MAX} more", "", "", False


def _place(difference: Difference) -> str:
    group = difference.group
    return group if group.startswith(difference.store) else f"{difference.store}: {group}"


def _fields(fact: Fact | None) -> dict[str, Any]:
    return {} if fact is None else dict(fact.fields)


def _value(fields: dict[str, Any], name: str) -> str:
    return shown(fields[name]) if name in fields else _NOTHING


def _inner(fact: Fact | None) -> str:
    return ", ".join(f"{name}={shown(value)}" for name, value in _fields(fact).items()) or _NOTHING


def shown(value: Any, limit: int = 400) -> str:
    """A value on one line."""
    text = str(value) if isinstance(value, Opaque) else repr(value)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text):,} characters)"
