"""Doors of libraries, wrapped from attach to detach, and no library imported for it.

A library that a job imports for the first time during a delivery is tapped right then.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from idemfuzz.abc import Gate

__all__ = ["Ask", "LibraryTap", "Perform", "unwrapped"]

Perform = Callable[[Gate, Callable[[], Any]], Any]
"""Does what it is given as one Effect."""
Ask = Callable[[Sequence[Any], Mapping[str, Any]], Perform | None]
"""What a call with these arguments is; None where it is no Effect."""


@dataclass(frozen=True, slots=True)
class _Patch:
    owner: Any
    attribute: str
    original: Any
    wrapper: Any


class LibraryTap:
    """Taps modules by name, as soon as somebody has imported them; a function each puts in the wrappers."""

    def __init__(self, libraries: Mapping[str, Callable[[Any, ModuleType], None]]) -> None:
        self._libraries = libraries
        self._gate: Gate | None = None
        self._patches: list[_Patch] = []
        self._finder = _Announcing(tuple(libraries), self._tap_library)

    def attach(self, gate: Gate, values: Mapping[str, object]) -> None:
        self._gate = gate
        self._tap_loaded()
        sys.meta_path.insert(0, self._finder)

    def reset(self) -> None:
        self._tap_loaded()

    def detach(self) -> None:
        """Put every attribute back; what a test has put over ours since is the test's own to undo."""
        self._gate = None
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        while self._patches:
            patch = self._patches.pop()
            if vars(patch.owner).get(patch.attribute) is patch.wrapper:
                setattr(patch.owner, patch.attribute, patch.original)

    def _tap_loaded(self) -> None:
        for library in self._libraries:
            if sys.modules.get(library) is not None:
                self._tap_library(library)

    def _tap_library(self, library: str) -> None:
        if self._gate is not None:
            self._libraries[library](self, sys.modules[library])

    def tap(self, owner: Any, attribute: str, ask: Ask) -> None:
        """Make calls of ``owner.attribute`` Effects, if there is such a function and it is not tapped yet."""
        original = unwrapped(vars(owner).get(attribute))
        if original is None or any(p.wrapper is vars(owner)[attribute] for p in self._patches):
            return
        wrapper = self._wrapper(original, ask)
        self._patches.append(_Patch(owner, attribute, original, wrapper))
        setattr(owner, attribute, wrapper)

    def _wrapper(self, original: Callable[..., Any], ask: Ask) -> Callable[..., Any]:
        def asked(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Gate, Perform] | None:
            gate = self._gate
            if gate is None or gate.scope() is None:
                return None
            perform = ask(args, kwargs)
            return None if perform is None else (gate, perform)

        @functools.wraps(original)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            known = asked(args, kwargs)
            if known is None:
                return original(*args, **kwargs)
            gate, perform = known
            return perform(gate, functools.partial(original, *args, **kwargs))

        @functools.wraps(original)
        async def coroutine_wrapper(*args: Any, **kwargs: Any) -> Any:
            known = asked(args, kwargs)
            if known is None:
                return await original(*args, **kwargs)
            gate, perform = known
            return perform(gate, lambda: gate.wait(original(*args, **kwargs)))

        chosen: Any = coroutine_wrapper if inspect.iscoroutinefunction(original) else wrapper
        chosen._idemfuzz_wrapped = original
        return chosen  # type: ignore[no-any-return]


def unwrapped(function: Any) -> Any:
    """What a wrapper of an earlier search wraps, which a test's monkeypatch has brought back; None for a Mock in its place.

    The mock tap counts that, and a Mock has whatever attribute it is asked for.
    """
    library: Any = sys.modules.get("unittest.mock")
    if library is not None and issubclass(type(function), library.NonCallableMock):
        return None
    while (inner := getattr(function, "_idemfuzz_wrapped", None)) is not None:
        function = inner
    return function


class _Announcing(MetaPathFinder):
    """Tells when one of ``modules`` has been imported; finding and loading is left to the others."""

    def __init__(self, modules: Sequence[str], loaded: Callable[[str], None]) -> None:
        self._modules = modules
        self._loaded = loaded

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._modules:
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(fullname, path, target) if find is not None else None
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _AnnouncingLoader(spec.loader, lambda: self._loaded(fullname))
                return spec
        return None


class _AnnouncingLoader(Loader):
    """Loads as the real loader does and hands the module over to it; then tells."""

    def __init__(self, loader: Loader, loaded: Callable[[], None]) -> None:
        self._loader = loader
        self._loaded = loaded

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._loaded()
