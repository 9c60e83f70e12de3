"""Lists, dicts and sets handed in by fixtures: how tests record what a patched function was called with."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Hashable, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from idemfuzz.abc import Gate, Options
from idemfuzz.adapters.idempotency import key_in
from idemfuzz.model import Delta, Fact, FactKind

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


class ContainersAdapter:
    """Adopts values whose type is exactly list, dict, set or deque."""

    name = "containers"

    def adopt(self, name: str, value: object, options: Options) -> ContainerStore | None:
        return ContainerStore(name, value) if type(value) in (list, dict, set, deque) else None


class ContainerStore:
    """Its elements are facts, those with one idempotency key are one; changing it is no Effect, so only its end counts."""

    kind = "container"

    def __init__(self, name: str, value: Any) -> None:
        self.name = name
        self._value = value
        self._baseline: Any = None
        self._before: Counter[str] = Counter()

    @property
    def identity(self) -> Hashable:
        return ("container", id(self._value))

    def open(self, gate: Gate) -> None:
        self._baseline = self._value.copy()
        self._before = Counter(repr(plain(item)) for item in _items(self._value))

    def changes(self) -> Delta:
        left = Counter(self._before)
        added = []
        for item in _items(self._value):
            shown = plain(item)
            if left[repr(shown)] > 0:
                left[repr(shown)] -= 1
            else:
                added.append(self._fact(shown))
        removed = tuple(self._fact(text) for text in left.elements())
        return Delta(tuple(added), removed)

    def restore(self) -> None:
        self._value.clear()
        if isinstance(self._value, dict | set):
            self._value.update(self._baseline)
        else:
            self._value.extend(self._baseline)

    def perturb(self) -> bool:
        return False

    def advance(self, seconds: float) -> None:
        """Nothing in it has a clock."""

    def sever(self, scope: Hashable) -> None:
        """Nothing holds on to it."""

    def settle(self, scope: Hashable, *, failed: bool) -> None:
        """What a dead worker recorded stays recorded."""

    def close(self) -> None:
        """Nothing was installed."""

    def _fact(self, item: Any) -> Fact:
        return Fact(self.name, FactKind.CALL, self.name, {"item": item}, once=key_in(item))


def _items(value: Any) -> list[Any]:
    return list(value.items()) if isinstance(value, dict) else list(value)


def plain(value: Any) -> Any:
    """A value without object identities: what two runs of the same code have in common."""
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | deque):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=repr)
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if type(value).__module__ in ("datetime", "decimal", "uuid"):
        return value
    return _ADDRESS.sub("", repr(value))
