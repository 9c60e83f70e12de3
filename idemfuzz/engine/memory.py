"""The memory of workers: what each delivery finds in the user's modules, and what it leaves there for nobody else.

Deliveries are threads of one process, and workers are not. So the locks, sets, counters and caches of the user's own
modules get, at each switch from one delivery to another, the content that they have in that one's worker. One worker
takes the first delivery of each call, for as long as it lives; each further delivery comes to a fresh one, which has what
the search began with and what the scenario has set since. The scenario, and nobody else, is shown what all of them left
behind, for there may be a recorder among it.

An application has thousands of such cells, and a job changes two of them. So only those are exchanged that a delivery has
been seen to change: at an effect of the first reference (`look`), or by the end of a trial (`restore`).

What stays common: what belongs to libraries; what is open, such as an engine made when it was first needed; what
was handed in, but for its locks; what the test's own code names; and the records of fakes.
"""

from __future__ import annotations

import asyncio.locks
import functools
import queue
import sys
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Set
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Generic

from idemfuzz.engine.cells import Cell, Closed, Lock, Memo, Names, Reentrant, cell_kind, namespace
from idemfuzz.engine.source import is_library_file, is_of_user

_DEPTH_MAX = 6
_CELLS_MAX = 20_000
_TRANSPARENT = (threading.__name__, asyncio.locks.__name__, queue.__name__)
"""Modules of locks and queues that are made of locks and containers."""
_BASES = (object, Generic)

Image = dict[int, Any]
"""What differs from the beginning: the index of the cell -> its content."""


class Memory:
    """The cells of the user's modules.

    Args:
        handed: what fixtures brought, which is no worker's; its locks are.
        scenario: names in its code, and in that which it closes over, are the test's own.
        outside: ids of what is known to be the outside's memory by now, the records of fakes; no worker's either.
    """

    def __init__(
        self,
        handed: Iterable[object],
        scenario: Callable[..., Any],
        outside: Callable[[], Set[int]] = frozenset,
    ) -> None:
        found = _Survey(list(handed), frozenset(_names_of(scenario)))
        self._cells = found.cells
        self._beginning = [cell.read() for cell in self._cells]
        # A lock is seldom still held where one looks.
        self._exchanged = {i for i, cell in enumerate(self._cells) if isinstance(cell, Lock | Reentrant)}
        # The objects whose ids were noted must not go.
        self._kept = found.kept
        self._owners = found.owners
        self._outside = outside
        self._owner: Hashable = None
        self._images: dict[Hashable, Image] = {}
        self._fresh: Image = {}
        self._common: Image = {}
        """The memory of the worker that takes first deliveries."""
        self._shown: Image = {}

    def begin(self) -> None:
        """A call is delivered: what the scenario has changed since the last one is there for each delivery."""
        now = self._image()
        for index in now.keys() | self._shown.keys():
            content = now.get(index, self._beginning[index])
            if index not in self._shown or not _same(self._shown[index], content):
                self._fresh[index] = self._common[index] = content
        self._images = {None: now}

    def switch(self, owner: Hashable, *, first: bool = False) -> None:
        """From here on a delivery is at work, the same as before or another one; whether it is the ``first`` of its call."""
        if owner == self._owner:
            return
        now = self._images[self._owner] = self._image()
        self._write(self._images.get(owner, self._common if first else self._fresh), now)
        self._owner = owner

    def end(self, survivor: Hashable) -> None:
        """The call is over: the scenario sees what all its deliveries did. ``survivor``: the first one, if it was not killed."""
        self.switch(None)
        self._common = (
            self._images.get(survivor, dict(self._fresh)) if survivor is not None else dict(self._fresh)
        )
        before = self._images.pop(None, {})
        merged = dict(before)
        for image in self._images.values():
            for index, content in image.items():
                if index in merged:
                    first = before.get(index, self._beginning[index])
                    content = self._cells[index].merged(first, merged[index], content)
                merged[index] = content
        self._images = {}
        self._write(merged, before)
        self._shown = merged

    def look(self) -> bool:
        """What has changed is exchanged from here on; whether that is anything new."""
        outside = self._outside()
        changed = {
            index
            for index, (cell, content) in enumerate(zip(self._cells, self._beginning, strict=True))
            if index not in self._exchanged and self._owners[index] not in outside and not cell.has(content)
        }
        self._exchanged |= changed
        return bool(changed)

    def restore(self) -> bool:
        """All as it was when the search began; whether something had changed that was not exchanged."""
        learned = self.look()
        self._write({}, self._image())
        self._owner = None
        self._images, self._fresh, self._common, self._shown = {}, {}, {}, {}
        return learned

    def _image(self) -> Image:
        return {
            index: self._cells[index].read()
            for index in self._exchanged
            if not self._cells[index].has(self._beginning[index])
        }

    def _write(self, image: Image, now: Image) -> None:
        for index in now.keys() | image.keys():
            content = image[index] if index in image else self._beginning[index]
            if not self._cells[index].has(content):
                self._cells[index].write(content)


class _Survey:
    """Walks from the user's modules, classes and functions to what can change in them."""

    def __init__(self, handed: list[object], named: frozenset[str]) -> None:
        self.cells: list[Cell] = []
        self.owners: list[int] = []
        """For each cell the id of what it belongs to."""
        self.kept: list[object] = []
        self._seen: set[int] = set()
        self._named = named
        for value in handed:
            self._visit(value, 0, locks_only=True)
        for module in list(sys.modules.values()):
            file = vars(module).get("__file__") if type(module) is ModuleType else None
            if isinstance(file, str) and not is_library_file(file):
                self._names(module, 0)

    def _names(self, owner: Any, depth: int) -> None:
        """The values that belong to a module, a class or an object by name."""
        self._add(Names(owner, without=self._named), owner)
        for name, value in list(namespace(owner).items()):
            if not name.startswith("__"):
                # To call a function is not to ask what it has kept.
                asked = name in self._named and not isinstance(value, FunctionType | type | staticmethod)
                self._visit(value, depth + 1, locks_only=asked)

    def _add(self, cell: Cell, value: object) -> None:
        self.cells.append(cell)
        self.owners.append(id(value))
        self.kept.append(value)

    def _visit(self, value: Any, depth: int, *, locks_only: bool = False) -> None:
        if id(value) in self._seen or depth > _DEPTH_MAX or len(self.cells) > _CELLS_MAX:
            return
        kind = cell_kind(value)
        if kind is not None:
            self._seen.add(id(value))
            if not locks_only or kind in (Lock, Reentrant):
                self._add(kind(value), value)
        for inner in self._below(value, depth, locks_only=locks_only):
            self._visit(inner, depth + 1, locks_only=locks_only)

    def _below(self, value: Any, depth: int, *, locks_only: bool) -> Iterator[Any]:
        """What is to be looked at behind a value.

        Its type alone is asked: a lazy object or a proxy would be woken up by ``isinstance`` and ``hasattr``.
        """
        cls = type(value)
        if issubclass(cls, dict):
            yield from list(value.values())
        elif issubclass(cls, list | tuple):
            yield from list(value)
        elif issubclass(cls, staticmethod | classmethod | MethodType):
            yield value.__func__
        elif issubclass(cls, functools.partial):
            yield from (value.func, *value.args, *value.keywords.values())
        elif cls is FunctionType:
            if not is_library_file(value.__code__.co_filename):
                self._seen.add(id(value))
                yield from self._of_function(value, locks_only=locks_only)
        elif issubclass(cls, type):
            if is_of_user(value) and not locks_only:
                self._seen.add(id(value))
                self._names(value, depth)
        elif _is_transparent(cls):
            self._seen.add(id(value))
            self.kept.append(value)
            if not locks_only or cls.__module__ in _TRANSPARENT:
                self._names(value, depth)
                return
            yield from list(namespace(value).values())
        elif cell_kind(value) is Memo:
            yield value.__wrapped__

    def _of_function(self, function: FunctionType, *, locks_only: bool) -> Iterator[Any]:
        yield from (function.__defaults__ or ())
        yield from (function.__kwdefaults__ or {}).values()
        if function.__dict__ and not locks_only:
            self._names(function, 0)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            closed = Closed(cell)
            if not locks_only and name not in self._named and name != "__class__":
                self._add(closed, cell)
            yield closed.read()


def _is_transparent(cls: type) -> bool:
    """Whether the attributes of its objects are the user's own, or a lock's."""
    if cls.__module__ in _TRANSPARENT:
        return bool(cls.__dictoffset__) and not issubclass(cls, threading.Thread | threading.local)
    return bool(cls.__dictoffset__) and all(is_of_user(base) for base in cls.__mro__ if base not in _BASES)


def _names_of(scenario: Callable[..., Any]) -> Iterator[str]:
    """The names in the code of a scenario and of the functions that it closes over."""
    left: list[Any] = [scenario]
    seen: set[int] = set()
    while left:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, CodeType):
            yield from value.co_names
            left += value.co_consts
        elif isinstance(value, MethodType | functools.partial):
            left.append(value.__func__ if isinstance(value, MethodType) else value.func)
        elif isinstance(value, FunctionType):
            if not is_library_file(value.__code__.co_filename):
                left.append(value.__code__)
            left += [Closed(cell).read() for cell in value.__closure__ or ()]
        elif hasattr(value, "obj") and type(value).__module__.startswith("_pytest"):
            left.append(value.obj)


def _same(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:
        return False
