"""Fakes that a test writes by hand stand in the outside's place: their calls count as those of mocks do.

*Which.* Methods of classes that say so (``FakeGateway``, ``StubMailer``, ``InMemoryBus``), also class and static ones, among
the fixtures' values and in the test's module; and what `monkeypatch.setattr` or ``patch(..., new)`` has put into another's
place: a function, a bound method, ``sent.append``, an object, a class of the user's own.

*What counts as a call.* A fake's own record is the truth where it keeps one: a call that changes a list, a dict, a set
or a counter of the fake or of its class counts, and a call that changes none does not, once this method was seen to change
one (the fake knows the key already). Where there is no record, names decide, as for mocks. A call inside which other Effects happen,
or that gives back a live object, is no outside call: its Effects count, and making a session is none.

*When two calls are one.* By an idempotency key among the arguments, by name.

*Reset.* Records go back at each trial to how they were at their first call in it.
"""

from __future__ import annotations

import functools
import gc
import inspect
import re
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from types import BuiltinMethodType, FunctionType, MethodType, ModuleType
from typing import Any

from idemfuzz.abc import Errors, Gate
from idemfuzz.adapters.containers import plain
from idemfuzz.adapters.idempotency import key_in
from idemfuzz.adapters.mock import asks_nobody, reads, shown
from idemfuzz.model import Access, Effect, Fact, FactKind, FaultKind

__all__ = ["FakesTap"]

_SAYS_SO = re.compile(
    r"(?:^_*|(?<=[a-z0-9_]))(?:Fake|Stub|Spy|Dummy|Recording|Recorder|Capturing|Collecting|InMemory|Memory|LocMem|Locmem|Mock)(?=[A-Z_0-9]|$)"
)
_MAKES = re.compile(
    r"_*(?:make|build|new|calculate|compute|format|render|parse|convert|generate|to|from|normali[sz]e|hash|encode|decode|"
    r"session|engine|settings|config|template)(?=_|$|[A-Z])|.*(?:session|engine|factory|settings|config)$"
)
_MARK = "__idemfuzz_tapped__"
_CONTAINERS = (list, dict, set, deque)
_ANSWERS = (type(None), bool, int, float, str, bytes, dict, list, tuple)


@dataclass(frozen=True, slots=True)
class _Placed:
    """A function that we have wrapped, and where."""

    owner: Any
    name: str
    original: Any
    wrapper: Any


@dataclass(frozen=True, slots=True)
class _Function:
    """The function behind what stands in a place, what it is bound to, and how a class holds it."""

    function: Any
    bound: tuple[Any, ...] = ()
    kind: type[staticmethod[..., Any]] | type[classmethod[Any, ..., Any]] | None = None

    @classmethod
    def behind(cls, held: Any) -> _Function | None:
        """None for what is no function of the user's own, or the face of a mock."""
        if isinstance(held, BuiltinMethodType):
            return cls(held, (held.__self__,), staticmethod) if type(held.__self__) in _CONTAINERS else None
        if isinstance(held, FunctionType):
            found = cls(held)
        elif isinstance(held, MethodType):
            found = cls(held.__func__, (held.__self__,), staticmethod)
        elif isinstance(held, classmethod | staticmethod):
            found = cls(held.__func__, kind=type(held))
        else:
            return None
        function = found.function
        known = isinstance(function, FunctionType) and _is_users(function.__module__)
        return found if known and not hasattr(function, "mock") else None


class FakesTap:
    """Taps the fakes among the values, in the scenario's module and in others' places, from attach to detach."""

    name = "fakes"

    def __init__(self) -> None:
        self._gate: Gate | None = None
        self._module: Mapping[str, Any] = {}
        self._handed: set[int] = set()
        self._placed: list[_Placed] = []
        self._hooks: list[_Placed] = []
        self._classes: set[type] = set()
        self._records: dict[int, tuple[Any, Any]] = {}
        self._counters: dict[tuple[int, str], tuple[Any, int]] = {}
        self.records: set[int] = set()
        """Ids of all that calls have had for a record: the outside's memory, and no worker's."""
        self._silent: set[str] = set()
        """Labels of calls that turned out to be no outside calls."""
        self._helpers: set[str] = set()
        """Labels of class and static methods: without a record, one that gives something back is no outside call."""
        self._heard: set[str] = set()
        self._recording: set[str] = set()
        """Labels of calls that were seen to change a record."""

    def look(self, scenario: Callable[..., Any]) -> None:
        """Take the scenario's module as one in which fakes may be defined."""
        function: Any = scenario
        while isinstance(function, functools.partial):
            function = function.func
        function = inspect.unwrap(getattr(function, "__func__", function))
        self._module = getattr(function, "__globals__", {})

    def attach(self, gate: Gate, values: Mapping[str, object]) -> None:
        self._gate = gate
        self._handed = {id(value) for value in values.values() if type(value) in _CONTAINERS}
        for value in (*values.values(), *list(self._module.values())):
            cls = value if isinstance(value, type) else type(value)
            if _SAYS_SO.search(cls.__name__):
                self._tap_class(cls)
        self._look_at_patches(values)

    def reset(self) -> None:
        for container, copy in self._records.values():
            container.clear()
            (container.update if isinstance(container, dict | set) else container.extend)(copy)
        for (_, name), (owner, count) in self._counters.items():
            setattr(owner, name, count)
        self._records, self._counters = {}, {}

    def detach(self) -> None:
        for placed in reversed([*self._placed, *self._hooks]):
            if vars(placed.owner).get(placed.name) is placed.wrapper:
                setattr(placed.owner, placed.name, placed.original)
        self._gate = None
        self._module, self._handed = {}, set()
        self._placed, self._hooks, self._classes = [], [], set()
        self._records, self._counters = {}, {}
        self._silent, self._helpers, self._heard, self._recording = set(), set(), set(), set()
        self.records = set()

    # -- which -----------------------------------------------------------------------------------------------

    def _look_at_patches(self, values: Mapping[str, object]) -> None:
        """What fixtures have put in others' places, and what the body will."""
        library = sys.modules.get("_pytest.monkeypatch")
        if library is not None:
            for value in values.values():
                if isinstance(value, library.MonkeyPatch):
                    for target, name, _ in list(value._setattr):
                        self._stands(target, name)

            def after_setattr(patch: Any) -> None:
                target, name, _ = patch._setattr[-1]
                self._stands(target, name)

            self._hook(library.MonkeyPatch, "setattr", after_setattr)
        mocks = sys.modules.get("unittest.mock")
        if mocks is not None:
            patcher: Any = mocks._patch
            for patch in gc.get_referrers(patcher):
                # No list names those that a `with` in a fixture has entered.
                if type(patch) is patcher and hasattr(patch, "temp_original"):
                    self._stands(patch.target, patch.attribute)
            self._hook(patcher, "__enter__", lambda patch: self._stands(patch.target, patch.attribute))

    def _hook(self, owner: Any, name: str, then: Callable[[Any], None]) -> None:
        original = vars(owner)[name]

        @functools.wraps(original)
        def hooked(patch: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(patch, *args, **kwargs)
            then(patch)
            return result

        setattr(owner, name, hooked)
        self._hooks.append(_Placed(owner, name, original, hooked))

    def _stands(self, target: Any, name: str) -> None:
        """Something was put into the place ``target.name``."""
        value = vars(target).get(name) if hasattr(target, "__dict__") else None
        if _Function.behind(value) is not None:
            self._place(target, name, value, name)
        elif value is not None and not isinstance(value, (ModuleType, *_CONTAINERS)):
            self._tap_class(value if isinstance(value, type) else type(value))

    def _tap_class(self, cls: type) -> None:
        if cls in self._classes or not _is_users(cls.__module__):
            return
        if any(hasattr(cls, mark) for mark in ("__table__", "__mapper__", "_mock_methods")):
            return
        self._classes.add(cls)
        for each in cls.__mro__:
            for name, value in list(vars(each).items()):
                public = not name.startswith("_") or name == "__call__"
                if public:
                    label = f"{cls.__name__}.{name}".replace(".__call__", "")
                    self._place(each, name, value, label)
                    if isinstance(value, classmethod | staticmethod):
                        self._helpers.add(label)

    def _place(self, owner: Any, name: str, held: Any, label: str) -> None:
        """Put a wrapper around a function of the user's own; leave all else, and what is wrapped, as it is."""
        behind = _Function.behind(held)
        if behind is None:
            return
        function, bound = behind.function, behind.bound
        if hasattr(function, _MARK) or inspect.isgeneratorfunction(function):
            return
        wrapper: Any
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def wrapper(*args: Any, **kwargs: Any) -> Any:
                gate = self._gate
                args = (*bound, *args)
                if gate is None or gate.scope() is None:
                    return await function(*args, **kwargs)
                return self._call(label, function, lambda: gate.wait(function(*args, **kwargs)), args, kwargs)
        else:
            called = held if bound else function

            @functools.wraps(function)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                if self._gate is None:
                    return called(*args, **kwargs)
                return self._call(label, function, lambda: called(*args, **kwargs), (*bound, *args), kwargs)

        setattr(wrapper, _MARK, True)
        put = behind.kind(wrapper) if behind.kind is not None and isinstance(owner, type) else wrapper
        setattr(owner, name, put)
        self._placed.append(_Placed(owner, name, held, put))

    # -- what a call means -----------------------------------------------------------------------------------

    def _call(
        self,
        label: str,
        function: Any,
        action: Callable[[], Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        gate = self._gate
        assert gate is not None
        before = self._remembered(function, args)
        scope = gate.scope()
        last = label.rpartition(".")[2]
        if scope is None or label in self._silent or asks_nobody(last) or _MAKES.match(last):
            return action()
        if label in self._heard:

            def act() -> tuple[bool, Any]:
                # Others may have taken their turn before this one acts.
                before = self._remembered(function, args)
                result = action()
                return self._counts(label, self._changed(function, args, before)), result

            return self._perform(label, function, act, args, kwargs)
        # What happens inside the first one, and what comes of it, tells whether it is an outside call at all.
        self._heard.add(label)
        inside = scope.effects
        result = action()
        changed = self._changed(function, args, before)
        helps = label in self._helpers and result is not None and not changed
        if helps or scope.effects != inside or not _is_answer(result):
            self._silent.add(label)
            return result
        counts = self._counts(label, changed)
        return self._perform(label, function, lambda: (counts, result), args, kwargs)

    def _perform(
        self,
        label: str,
        function: Any,
        action: Callable[[], tuple[bool, Any]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """``action`` gives whether it counts, and what it gives back."""
        gate = self._gate
        assert gate is not None
        only_reads = reads(label.rpartition(".")[2])
        named = _named(function, args, kwargs)
        effect = Effect(
            label=label,
            store="fake",
            access=Access.READ if only_reads else Access.DURABLE,
            detail=f"{label}({', '.join(f'{name}={shown(value)}' for name, value in named.items())})",
            faults=(FaultKind.REFUSED,) if only_reads else (FaultKind.REFUSED, FaultKind.LOST),
        )
        errors = Errors(
            refused=lambda: ConnectionRefusedError(f"{label}: connection refused"),
            lost=lambda: ConnectionResetError(f"{label}: connection reset; the call had arrived"),
        )
        key = key_in(named)
        fact = Fact(
            "fake", FactKind.CALL, label, {"arguments": plain(named)}, once=f"{label} {key}" if key else None
        )

        def counted(done: tuple[bool, Any]) -> Fact | None:
            return fact if not only_reads and done[0] else None

        _, result = gate.perform(
            effect, action, errors=errors, describe=lambda done: shown(done[1]), call=counted
        )
        return result

    def _changed(self, function: Any, args: tuple[Any, ...], before: Mapping[Any, Any]) -> set[Any]:
        """Which records are no longer what they were."""
        now = self._remembered(function, args)
        return {place for place, image in now.items() if before.get(place) != image}

    def _counts(self, label: str, changed: Set[Any]) -> bool:
        """Whether a call that has changed these records counts."""
        if changed:
            self._recording.add(label)
            self.records |= {place[0] if isinstance(place, tuple) else place for place in changed}
            # A record that is handed in is compared for itself.
            return not changed <= self._handed
        return label not in self._recording

    def _remembered(self, function: Any, args: tuple[Any, ...]) -> dict[Any, Any]:
        """The records that a function may write to, and what is in them now; kept for the reset when first seen."""
        images: dict[Any, Any] = {}
        for container in _containers(function, args):
            if id(container) not in self._records:
                self._records[id(container)] = (container, container.copy())
            images[id(container)] = repr(plain(container))
        for owner in (*(each for held in args[:1] for each in _owners(held)), function):
            for name, count in _attributes(owner):
                if type(count) is int:
                    self._counters.setdefault((id(owner), name), (owner, count))
                    images[(id(owner), name)] = count
        return images


def _containers(function: Any, args: tuple[Any, ...]) -> Iterator[Any]:
    """What the function's code can reach by its own names: cells, globals, attributes of its object and of classes."""
    held = [*args[:1], function]
    if isinstance(function, FunctionType):
        known = function.__globals__
        held += [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
        held += [known[name] for name in function.__code__.co_names if name in known]
    for value in held:
        if type(value) in _CONTAINERS:
            yield value
        elif not isinstance(value, ModuleType):
            for owner in _owners(value):
                yield from (each for _, each in _attributes(owner) if type(each) in _CONTAINERS)


def _owners(value: Any) -> tuple[Any, ...]:
    """An object and its classes, or a class and those above it."""
    return value.__mro__ if isinstance(value, type) else (value, *type(value).__mro__)


def _attributes(owner: Any) -> Iterator[tuple[str, Any]]:
    """What an object holds itself; of classes, only the user's own."""
    if isinstance(owner, type) and not _is_users(owner.__module__):
        return
    for name, value in list(getattr(owner, "__dict__", {}).items()):
        if not (name.startswith("_") and name.endswith("_")):
            yield name, value


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _is_answer(result: Any) -> bool:
    """Whether what a call gave back is data, as an outside call's answer is, and no live object."""
    return (
        isinstance(result, _ANSWERS)
        or type(result).__name__ in ("SimpleNamespace", "UUID", "Decimal")
        or (hasattr(type(result), "__dataclass_fields__"))
    )


def _is_users(module: str | None) -> bool:
    file = getattr(sys.modules.get(module or ""), "__file__", None) or ""
    root = (module or "").partition(".")[0]
    libraries = any(folder in file for folder in ("site-packages", "dist-packages"))
    return bool(file) and not libraries and root != "idemfuzz" and root not in sys.stdlib_module_names


def _named(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments by their names, without the object itself."""
    if isinstance(function, BuiltinMethodType):
        args = args[1:]
    try:
        bound = inspect.signature(function).bind(*args, **kwargs).arguments
    except TypeError:
        return {**{str(number): value for number, value in enumerate(args)}, **kwargs}
    return {name: value for name, value in bound.items() if name not in ("self", "cls")}
