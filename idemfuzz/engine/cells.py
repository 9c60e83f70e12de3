"""Cells: the places in a process's memory whose content can be read, compared, and put back in place.

In place, because the user's code holds on to the set, the lock or the cached function itself: other modules have
imported it, closures have caught it. None of them knows what the content means.
"""

from __future__ import annotations

import functools
import gc
import threading
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Protocol

from idemfuzz.engine.intercept import coded
from idemfuzz.engine.source import is_of_user

__all__ = [
    "Cell",
    "Closed",
    "Container",
    "Lock",
    "Memo",
    "Names",
    "Reentrant",
    "cell_kind",
    "is_lasting",
    "namespace",
]

_CONTAINERS = (list, dict, set, deque, OrderedDict, defaultdict, Counter)
_LOCKS = (type(threading.Lock()), type(threading.RLock()))
_MEMOISED: type = type(functools.cache(lambda: None))
_CODE = (BuiltinFunctionType, MethodType, type, ModuleType)
_CLOSERS = ("close", "aclose", "dispose", "shutdown", "close_all", "disconnect")
_MISSING: Any = object()


class Cell(Protocol):
    """One place. A content that `read` gave may be written back any number of times."""

    def read(self) -> Any: ...

    def write(self, content: Any, /) -> None: ...

    def has(self, content: Any, /) -> bool:
        """Whether this is what it holds now."""
        ...

    def merged(self, before: Any, one: Any, other: Any, /) -> Any:
        """What it holds if two have each made something else of what stood there before."""
        ...


class Container:
    """The elements of a list, dict, set or deque."""

    def __init__(self, container: Any) -> None:
        self._container = container

    def read(self) -> Any:
        return self._container.copy()

    def write(self, content: Any, /) -> None:
        if isinstance(self._container, dict):
            kept = {key: value for key, value in self._container.items() if is_lasting(value)}
            self._container.clear()
            # Not by its own update, which adds up where it is a Counter's.
            dict.update(self._container, {**kept, **content})
            return
        known = {*map(id, content)}
        lasting = [item for item in self._container if is_lasting(item) and id(item) not in known]
        self._container.clear()
        if isinstance(self._container, set):
            self._container.update(content, lasting)
        else:
            self._container.extend([*content, *lasting])

    def has(self, content: Any, /) -> bool:
        if len(self._container) != len(content):
            return False
        try:
            return bool(self._container == content)
        except Exception:
            # Elements with an equality of their own, such as SQL expressions.
            return False

    def merged(self, before: Any, one: Any, other: Any, /) -> Any:
        if isinstance(before, dict):
            return {**one, **other}
        if isinstance(before, set):
            return one | other
        first = list(before)
        both = list(one)[: len(first)] == first == list(other)[: len(first)]
        return [*one, *list(other)[len(first) :]] if both else other


class Names:
    """The values that the names of a module, a class or an object stand for, but for its functions and classes."""

    def __init__(self, owner: Any, *, without: frozenset[str] = frozenset()) -> None:
        self._owner = owner
        self._without = without
        self._namespace = namespace(owner)
        # For a quick look whether anything has changed at all.
        self._length = len(self._namespace)
        self._first = {n: value for n, value in self._namespace.items() if self._counts(n, value)}
        self._names = tuple(self._first)
        self._values = [*self._first.values()]

    def read(self) -> dict[str, Any]:
        if self._is_as_at_first():
            return self._first
        return {n: value for n, value in self._namespace.items() if self._counts(n, value)}

    def write(self, content: dict[str, Any], /) -> None:
        now = self.read()
        for name in now.keys() - content.keys():
            if not is_lasting(now[name]):
                self._set(name, _MISSING)
        for name, value in content.items():
            # What is open belongs to the process, whoever opened it.
            if now.get(name) is not value and not is_lasting(now.get(name)):
                self._set(name, value)

    def _set(self, name: str, value: Any) -> None:
        """Past what a class or its metaclass has made of attributes, such as a frozen dataclass."""
        if isinstance(self._owner, type):
            if value is _MISSING:
                type.__delattr__(self._owner, name)
            else:
                type.__setattr__(self._owner, name, value)
        elif value is _MISSING:
            del self._namespace[name]
        else:
            self._namespace[name] = value

    def has(self, content: dict[str, Any], /) -> bool:
        if content is self._first and self._is_as_at_first():
            return True
        now = self.read()
        differing = [
            n for n in now.keys() | content.keys() if now.get(n, _MISSING) is not content.get(n, _MISSING)
        ]
        return all(name in now and is_lasting(now[name]) for name in differing)

    def merged(self, before: Any, one: Any, other: Any, /) -> Any:
        return {**one, **other}

    def _is_as_at_first(self) -> bool:
        if len(self._namespace) != self._length:
            return False
        # As lists compare: who is the same is not asked whether it is equal.
        try:
            return [*map(self._namespace.get, self._names)] == self._values
        except Exception:
            return False

    def _counts(self, name: str, value: Any) -> bool:
        return not _is_code(value) and not name.startswith("__") and name not in self._without


class Closed:
    """What a function's ``nonlocal`` name stands for."""

    def __init__(self, cell: Any) -> None:
        self._cell = cell

    def read(self) -> Any:
        try:
            return self._cell.cell_contents
        except ValueError:
            return _MISSING

    def write(self, content: Any, /) -> None:
        if content is not _MISSING and not is_lasting(self.read()):
            self._cell.cell_contents = content

    def has(self, content: Any, /) -> bool:
        now = self.read()
        return now is content or is_lasting(now)

    def merged(self, before: Any, one: Any, other: Any, /) -> Any:
        return other


class Lock:
    """Whether a `threading.Lock` is held. Any thread may set it free."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock

    def read(self) -> bool:
        return bool(self._lock.locked())

    def write(self, content: bool, /) -> None:
        if content:
            self._lock.acquire(blocking=False)
        elif self._lock.locked():
            self._lock.release()

    def has(self, content: bool, /) -> bool:
        return bool(self._lock.locked()) == content

    def merged(self, before: Any, one: Any, other: Any, /) -> Any:
        return before


class Reentrant:
    """How often, and by which thread, a `threading.RLock` is held."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock

    def read(self) -> tuple[int, int] | None:
        if self._lock.acquire(blocking=False):
            own = self._lock._release_save()
            if own[0] == 1:
                return None
            held = (own[0] - 1, own[1])
        else:
            # This is what a Condition does while it waits, and it may be done for another thread.
            held = self._lock._release_save()
        self._lock._acquire_restore(held)
        return (int(held[0]), int(held[1]))

    def write(self, content: tuple[int, int] | None, /) -> None:
        if self.read() is not None:
            self._lock._release_save()
        if content is not None:
            self._lock._acquire_restore(content)

    def has(self, content: tuple[int, int] | None, /) -> bool:
        return self.read() == content

    def merged(self, before: Any, one: Any, other: Any, /) -> Any:
        return before


class Memo:
    """The answers that a function under `functools.lru_cache` remembers, the oldest first."""

    def __init__(self, memoised: Any) -> None:
        self._memoised = memoised
        self._function: FunctionType = memoised.__wrapped__
        self._answer: Any = None
        self._code: CodeType = self._function.__code__

    def read(self) -> list[tuple[Any, Any]]:
        # The cache cannot be asked what it holds, but the garbage collector must know.
        told = gc.get_referents(self._memoised)[1:]
        at = next((i for i, item in enumerate(told) if type(item) is dict), None)
        if at is None:
            return []
        if self._memoised.cache_parameters()["maxsize"] is None:
            return list(told[at].items())
        return list(zip(told[:at:3], told[1:at:3], strict=False))

    def write(self, content: list[tuple[Any, Any]], /) -> None:
        known = {id(answer) for _, answer in content}
        kept = [pair for pair in self.read() if is_lasting(pair[1]) and id(pair[1]) not in known]
        self._memoised.cache_clear()
        self._code = self._function.__code__
        self._function.__code__ = coded(lambda *args, **kwargs: self._answer, self._code)
        try:
            for key, self._answer in [*content, *kept]:
                args, kwargs = self._called(key)
                self._memoised(*args, **kwargs)
        finally:
            self._function.__code__ = self._code
            self._answer = None

    def has(self, content: list[tuple[Any, Any]], /) -> bool:
        now = self.read()
        if len(now) != len(content):
            now = [pair for pair in now if not is_lasting(pair[1])]
            content = [pair for pair in content if not is_lasting(pair[1])]
        return len(now) == len(content) and all(
            mine[1] is its[1] for mine, its in zip(now, content, strict=True)
        )

    def merged(self, before: Any, one: Any, other: Any, /) -> Any:
        return other

    def _called(self, key: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments that a key of the cache was made of."""
        if type(key) is not tuple:
            return (key,), {}
        typed = self._memoised.cache_parameters()["typed"]
        mark = next((i for i, part in enumerate(key) if type(part) is object), None)
        if mark is None:
            # Where types count, that of each argument stands at the end.
            return (key[: len(key) // 2] if typed else key), {}
        named = key[mark + 1 :]
        if typed:
            named = named[: (len(named) - mark) // 3 * 2]
        return key[:mark], dict(zip(named[::2], named[1::2], strict=True))


def namespace(owner: Any) -> Any:
    """The names of a module, a class or an object. No code of a proxy's is run for it."""
    return vars(owner) if issubclass(type(owner), type) else object.__getattribute__(owner, "__dict__")


def is_lasting(value: Any) -> bool:
    """Whether a value stays where a delivery has put it, as every worker would come to the same: code, and what is open."""
    return _is_code(value) or _is_open(value)


def _is_code(value: Any) -> bool:
    """Whether it is a function, a class, a module or a descriptor, such as an attribute that an ORM has mapped."""
    return issubclass(type(value), _CODE) or hasattr(type(value), "__get__")


def _is_open(value: Any) -> bool:
    """Whether it is a resource of a library's, such as an engine, a client or a pool, or an object of the user's around one."""
    cls = type(value)
    if is_of_user(cls):
        return any(
            _is_open(inner)
            for inner in (namespace(value) if cls.__dictoffset__ else {}).values()
            if not is_of_user(type(inner))
        )
    return any(hasattr(cls, closer) for closer in _CLOSERS)


def cell_kind(value: Any) -> Callable[[Any], Cell] | None:
    """What kind of cell a value is by itself, if it is one."""
    cls = type(value)
    if cls in _CONTAINERS:
        return Container
    if cls in _LOCKS:
        return Lock if cls is _LOCKS[0] else Reentrant
    if cls is _MEMOISED:
        return Memo if isinstance(getattr(value, "__wrapped__", None), FunctionType) else None
    return None
