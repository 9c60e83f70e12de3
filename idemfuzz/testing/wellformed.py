"""What effects and facts must look like, whoever made them; and whether anything stays patched."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, time, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from types import ModuleType
from typing import Any
from uuid import UUID

from idemfuzz.model import Access, Effect, Fact, FactKind, FaultKind, Opaque, Plan, Point, Side
from idemfuzz.testing.bench import fault_at

__all__ = ["Attributes", "check_effect", "check_fact", "ranges"]

_PLAIN = (str, bytes, bool, int, float, type(None), date, time, timedelta, tzinfo, Decimal, UUID, Opaque)
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{4,}")
_LABEL = re.compile(r"[^\s#.][^\s#]*\.[^\n]*\S")
_ADDED_BY_ADAPTERS = frozenset({FaultKind.REFUSED, FaultKind.LOST, FaultKind.RESENT, FaultKind.FAILOVER})


def check_effect(effect: Effect, *, store: str | None = None) -> None:
    """The label is ``<store>.<operation>`` and survives in a plan; the faults are those of an Effect."""
    assert isinstance(effect.access, Access)
    assert _LABEL.fullmatch(effect.label), f"label {effect.label!r} is not of the form <store>.<operation>"
    assert not _ADDRESS.search(effect.label), f"label {effect.label!r} holds an address in memory"
    assert not _ADDRESS.search(effect.detail), f"detail {effect.detail!r} holds an address in memory"
    assert effect.store, f"{effect.label} does not say which store it belongs to"
    assert effect.detail, f"{effect.label} has no detail for people"
    if store is not None:
        assert effect.store == store
        assert effect.label.startswith(f"{store}."), f"label {effect.label!r} is not of store {store!r}"
    plan = fault_at(FaultKind.KILL, Point(1, 1, effect.label, 1), Side.AFTER)
    assert Plan.parse(str(plan)) == plan, f"label {effect.label!r} does not survive in a plan"
    assert len(set(effect.faults)) == len(effect.faults)
    strange = set(effect.faults) - _ADDED_BY_ADAPTERS
    assert not strange, f"{sorted(strange)} are the engine's to add, and not for {effect.label} to declare"
    assert effect.source is not None, f"{effect.label} does not know the line of the user's code"


def check_fact(fact: Fact, *, store: str | None = None) -> None:
    """Plain values under text names; identity and generated speak of fields that are there."""
    assert isinstance(fact, Fact)
    assert isinstance(fact.kind, FactKind)
    assert isinstance(fact.group, str)
    assert fact.group, "a fact belongs to a group"
    assert not _ADDRESS.search(fact.group)
    if store is not None:
        assert fact.store == store
    assert fact.fields, f"{fact.group} has no fields"
    assert all(isinstance(name, str) for name in fact.fields)
    assert set(fact.identity) <= set(fact.fields), f"{fact}: identity {fact.identity} is not among the fields"
    assert set(fact.generated) <= set(fact.fields), (
        f"{fact}: generated {fact.generated} is not among the fields"
    )
    assert fact.once is None or isinstance(fact.once, str)
    for name, value in fact.fields.items():
        for strange in _strange(value):
            raise AssertionError(f"{fact.group}.{name} holds {strange!r}, which is not a plain value")
        assert not _ADDRESS.search(repr(value)), f"{fact.group}.{name} holds an address in memory: {value!r}"
    assert str(fact)


def _strange(value: Any) -> Iterable[Any]:
    if isinstance(value, Enum) or not isinstance(value, (*_PLAIN, Mapping, list, tuple, set, frozenset)):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strange(key)
            yield from _strange(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _strange(item)


def ranges(count: int) -> Iterable[tuple[int, Side, int]]:
    """Every place to break a run of ``count`` effects: (index, side, how many effects are done by then)."""
    for index in range(count):
        yield index, Side.BEFORE, index
        yield index, Side.AFTER, index + 1


class Attributes:
    """The functions that modules, classes and objects have now, to be compared with those that they have later."""

    def __init__(self, owners: Sequence[object]) -> None:
        self._owners = owners
        self._then = self._read()

    def check_unchanged(self) -> None:
        now = self._read()
        changed = sorted(f"{owner}.{name}" for owner, name in now.keys() ^ self._then.keys())
        changed += [
            ".".join(key) for key in now.keys() & self._then.keys() if now[key] is not self._then[key]
        ]
        assert not changed, f"still patched: {', '.join(changed)}"

    def _read(self) -> dict[tuple[str, str], object]:
        found: dict[tuple[str, str], object] = {}
        for number, owner in enumerate(self._owners):
            for each in (owner, *_classes_of(owner)):
                where = f"{number}:{getattr(each, '__qualname__', type(each).__qualname__)}"
                for name, value in vars(each).items():
                    if callable(value) or isinstance(value, property | classmethod | staticmethod):
                        found[where, name] = value
        return found


def _classes_of(owner: object) -> list[type]:
    if not isinstance(owner, ModuleType):
        return []
    return [
        value
        for value in vars(owner).values()
        if isinstance(value, type) and value.__module__ == owner.__name__
    ]
