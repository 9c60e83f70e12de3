"""The doors of the standard library to files: patched once for all open stores, routed by the longest prefix."""

from __future__ import annotations

import _io
import builtins
import functools
import io
import os
import shutil
import sys
import threading
import weakref
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from idemfuzz.abc import Gate, Scope
from idemfuzz.adapters.files.landing import Handle, Random, Raw, Text, Writer, effect_of, sink
from idemfuzz.model import Access, Effect

if TYPE_CHECKING:
    from idemfuzz.adapters.files.store import FilesStore

# The real one, whoever patches it while this module is at work.
_close = os.close


class Door:
    """Stands in for a function of the standard library; like a built-in, it does not turn into a method."""

    def __init__(self, original: Callable[..., Any], handler: Callable[..., Any]) -> None:
        functools.update_wrapper(self, original)
        self._original = original
        self._handler = handler

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._handler(self._original, *args, **kwargs)

    # Equal to the original, so that it is found in `os.supports_dir_fd` and the like.
    def __eq__(self, other: object) -> bool:
        return other is self or other == self._original

    def __hash__(self) -> int:
        return hash(self._original)


class _Taps:
    """Patches the standard library once for all open stores, and routes by the longest prefix."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stores: tuple[FilesStore, ...] = ()
        self._patches: list[tuple[Any, str, Any, Door]] = []
        self._files: weakref.WeakKeyDictionary[Any, Handle] = weakref.WeakKeyDictionary()
        self._descriptors: dict[int, tuple[Handle, tuple[int, int]]] = {}

    def add(self, store: FilesStore) -> None:
        with self._lock:
            # Longest root first: a folder in a folder gets what is below it.
            self._stores = tuple(sorted((*self._stores, store), key=lambda each: -len(each.root)))
            if not self._patches:
                self._patch()

    def discard(self, store: FilesStore) -> None:
        with self._lock:
            self._stores = tuple(each for each in self._stores if each is not store)
            if self._stores:
                return
            while self._patches:
                owner, name, original, door = self._patches.pop()
                if getattr(owner, name) is door:
                    setattr(owner, name, original)
            self._descriptors.clear()

    def roots(self) -> list[str]:
        return [store.root for store in self._stores]

    def bury(self, scope: Hashable) -> None:
        """The Execution is dead: what it still has open writes to nowhere."""
        for file, handle in list(self._files.items()):
            if handle.scope == scope:
                handle.dead = True
                if not file.closed:
                    sink(file.fileno())
        for descriptor in [d for d, (handle, _) in self._descriptors.items() if handle.scope == scope]:
            if self._known(descriptor) is not None:
                sink(descriptor)
            self._descriptors.pop(descriptor, None)

    def release(self, scope: Hashable) -> None:
        """The Execution has ended: what it left open is nobody's Effect any more, and a dead one's is closed."""
        for file, handle in list(self._files.items()):
            if handle.scope == scope:
                handle.scope = None
                if handle.dead:
                    file.close()
        for descriptor in [d for d, (handle, _) in self._descriptors.items() if handle.scope == scope]:
            del self._descriptors[descriptor]

    def _patch(self) -> None:
        doors: list[tuple[Any, str, Callable[..., Any]]] = [
            # `tempfile` uses `_io.open`, `pathlib` uses `io.open`.
            *((owner, "open", self._file) for owner in (builtins, io, _io)),
            (os, "open", self._descriptor),
            (os, "write", self._write),
            (os, "truncate", self._truncate),
            *((os, name, self._one) for name in ("remove", "unlink", "mkdir", "rmdir")),
            *((os, name, self._two) for name in ("rename", "replace", "link", "symlink")),
            (shutil, "rmtree", self._one),
        ]
        for owner, name, handler in doors:
            original = getattr(owner, name)
            door = Door(original, handler)
            self._patches.append((owner, name, original, door))
            setattr(owner, name, door)

    def _scope(self) -> Scope | None:
        stores = self._stores
        return stores[0].gate.scope() if stores else None

    def _route(self, path: Any) -> tuple[FilesStore, str] | None:
        if not isinstance(path, str | bytes | os.PathLike):
            return None
        full = os.path.abspath(os.fsdecode(path))
        stores = self._stores
        folder, base = os.path.split(full)
        for candidate in (full, os.path.join(os.path.realpath(folder), base)):
            for store in stores:
                relative = store.relative(candidate)
                if relative is not None:
                    return store, relative
        return None

    def _known(self, descriptor: int) -> Handle | None:
        """The handle behind a descriptor; its number may have been reused since."""
        entry = self._descriptors.get(descriptor)
        if entry is None:
            return None
        try:
            status = os.fstat(descriptor)
        except OSError:
            status = None
        if status is None or (status.st_dev, status.st_ino) != entry[1]:
            self._descriptors.pop(descriptor, None)
            return None
        return entry[0]

    # -- the doors: each gets the real function first ------------------------------------------------------

    def _file(self, real: Callable[..., Any], file: Any, mode: Any = "r", *args: Any, **kwargs: Any) -> Any:
        scope = self._scope()
        if scope is None or not isinstance(mode, str) or not set("wax+") & set(mode):
            return real(file, mode, *args, **kwargs)
        routed = self._route(file)
        if routed is not None and not os.path.isdir(file):
            handle = Handle(*routed, scope.key)
            opened = functools.partial(self._opened, real, handle, file, mode, *args, **kwargs)
            # "r+" changes nothing yet.
            access = Access.DURABLE if set("wax") & set(mode) else Access.READ
            effect = effect_of(handle.store, "open", handle.path, f"open {handle.path} ({mode})", access)
            return self._given(handle.store.gate, effect, opened, lambda file: file.close())
        return self._opened(real, None, file, mode, *args, **kwargs)

    def _opened(
        self,
        real: Callable[..., Any],
        handle: Handle | None,
        file: Any,
        mode: str,
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        """A file object whose content passes the gate when it lands; the real one outside of our folders."""
        plain = real(file, mode, buffering, encoding, errors, newline, closefd, opener)
        if handle is None:
            # A number, or a temporary file whose opener has come through `os.open`.
            handle = self._known(plain.fileno())
            if handle is None:
                return plain
        landing: Any
        if isinstance(plain, io.TextIOWrapper):
            settings = (plain.encoding, plain.errors, newline, plain.line_buffering)
            landing = Text(plain.detach(), *settings)
            landing.mode = mode
        elif isinstance(plain, io.BufferedRandom):
            landing = Random(plain.detach(), *((buffering,) if buffering > 1 else ()))
        elif isinstance(plain, io.BufferedWriter):
            landing = Writer(plain.detach(), *((buffering,) if buffering > 1 else ()))
        elif isinstance(plain, io.FileIO):
            # Not opened anew: a second "x" would fail. The real object gives its descriptor away.
            landing = Raw(os.dup(plain.fileno()), plain.mode.replace("b", "").replace("x", "w"))
            landing.name = plain.name
            plain.close()
        else:
            return plain
        landing._handle = handle
        self._files[landing] = handle
        return landing

    def _descriptor(
        self, real: Callable[..., int], path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None
    ) -> int:
        scope = self._scope()
        writes = flags & (os.O_WRONLY | os.O_RDWR)
        routed = self._route(path) if scope is not None and writes and dir_fd is None else None
        if scope is None or routed is None or os.path.isdir(path):
            return real(path, flags, mode, dir_fd=dir_fd)
        handle = Handle(*routed, scope.key)
        if any(sys._getframe(depth).f_globals.get("__name__") == "tempfile" for depth in (1, 2, 3)):
            handle.store.drawn.add(os.path.basename(handle.path))

        def opened() -> int:
            descriptor = real(path, flags, mode)
            status = os.fstat(descriptor)
            self._descriptors[descriptor] = (handle, (status.st_dev, status.st_ino))
            return descriptor

        access = Access.DURABLE if flags & (os.O_CREAT | os.O_TRUNC) else Access.READ
        effect = effect_of(handle.store, "open", handle.path, f"open {handle.path}", access)
        return int(self._given(handle.store.gate, effect, opened, _close))

    @staticmethod
    def _given(gate: Gate, effect: Effect, opened: Callable[[], Any], close: Callable[[Any], object]) -> Any:
        """What ``opened`` returns; closed again where a fault keeps it from whoever asked for it."""
        made: list[Any] = []

        def open_and_keep() -> Any:
            made.append(opened())
            return made[-1]

        try:
            return gate.perform(effect, open_and_keep)
        except BaseException:
            for each in made:
                close(each)
            raise

    def _write(self, real: Callable[..., int], descriptor: int, data: Any) -> int:
        handle = self._known(descriptor) if self._descriptors else None
        if handle is None:
            return real(descriptor, data)
        return int(handle.land(functools.partial(real, descriptor, data), f"write {handle.path}"))

    def _truncate(self, real: Callable[..., Any], path: Any, length: int) -> Any:
        return self._act(real, path, path, length)

    def _one(self, real: Callable[..., Any], path: Any, *args: Any, **kwargs: Any) -> Any:
        return self._act(real, path, path, *args, **kwargs)

    def _two(self, real: Callable[..., Any], src: Any, dst: Any, *args: Any, **kwargs: Any) -> Any:
        return self._act(real, dst, src, dst, *args, **kwargs)

    def _act(self, real: Callable[..., Any], changed: Any, *args: Any, **kwargs: Any) -> Any:
        call = functools.partial(real, *args, **kwargs)
        names = ("dir_fd", "src_dir_fd", "dst_dir_fd")
        if self._scope() is None or any(kwargs.get(name) is not None for name in names):
            return call()
        routed = self._route(changed) or self._route(args[0])
        if routed is None:
            return call()
        store, path = routed
        verb = {"unlink": "remove", "replace": "rename", "rmtree": "remove"}.get(real.__name__, real.__name__)
        detail = f"{verb} {path}"
        if changed is not args[0]:
            source = self._route(args[0])
            detail = f"{verb} {args[0] if source is None else source[1]} to {path}"
        return store.gate.perform(effect_of(store, verb, path, detail), call)


TAPS = _Taps()
