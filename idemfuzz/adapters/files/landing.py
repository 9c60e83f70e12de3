"""File objects of a delivery: what brings content into a file passes the gate, and a dead one's goes nowhere."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from idemfuzz.adapters.files.folder import pattern
from idemfuzz.model import Access, Effect

if TYPE_CHECKING:
    from idemfuzz.adapters.files.store import FilesStore

_DRAWN = re.compile(r"(?:tmp)?[a-z0-9_]{8}(?=[^a-z0-9_]*\.|[^a-z0-9_]*\Z)")

# The real ones, whoever patches them while this module is at work.
_close = os.close
_dup2 = os.dup2
_os_open = os.open


@dataclass(slots=True, eq=False)
class Handle:
    """A file that an Execution has open for writing; ``scope`` is None and ``dead`` tells how once it ended."""

    store: FilesStore
    path: str
    scope: Hashable | None
    dead: bool = False

    def land(self, act: Callable[[], Any], detail: str) -> Any:
        """Do ``act``, which brings content into the file, as an Effect of the Execution that opened it.

        Elsewhere (closed by the garbage collector on another thread, inside a larger Effect) it is a plain
        call. For a dead Execution it leads nowhere in any case, see `Taps.bury`.
        """
        gate = self.store._gate
        here = gate.scope() if gate is not None else None
        if gate is None or here is None or self.scope is None or here.key != self.scope:
            return act()
        return gate.perform(effect_of(self.store, "write", self.path, detail), act)


def sink(descriptor: int) -> None:
    """Let everything that is still written there go nowhere; frees the file's locks, too, as a death does."""
    nowhere = _os_open(os.devnull, os.O_RDWR)
    try:
        _dup2(nowhere, descriptor, inheritable=False)
    finally:
        _close(nowhere)


class _Landing:
    """What the file objects of a delivery do differently: what brings content into the file passes the gate.

    Without pending content, flush and close do nothing that could be observed, and are no Effects.
    """

    _handle: Handle | None = None
    _pending = False

    def write(self, data: Any, /) -> Any:
        self._pending = True
        return super().write(data)  # type: ignore[misc]

    def flush(self) -> None:
        self._land("flush", super().flush)  # type: ignore[misc]
        self._pending = False

    def truncate(self, pos: int | None = None, /) -> Any:
        self._pending = True
        return self._land("truncate", functools.partial(super().truncate, pos))  # type: ignore[misc]

    def close(self) -> None:
        file: Any = super()
        try:
            self._land("close", file.close)
        except BaseException:
            if self._handle is not None and self._handle.dead:
                # What is buffered goes nowhere by now.
                self._handle = None
                file.close()
            raise

    def __del__(self) -> None:
        # What the gate raises here ends nobody's code, and would only be reported as an accident.
        with contextlib.suppress(BaseException):
            self.close()

    def _land(self, verb: str, act: Callable[[], Any]) -> Any:
        file: Any = self
        handle = self._handle
        if handle is None or not self._pending or file.closed:
            return act()
        return handle.land(act, f"{verb} {handle.path}")


class Text(_Landing, io.TextIOWrapper):
    @property
    def buffer(self) -> Any:
        """Whoever asks for it may write past us."""
        self._pending = True
        return super().buffer


class Writer(_Landing, io.BufferedWriter):
    pass


class Random(_Landing, io.BufferedRandom):
    pass


class Raw(_Landing, io.FileIO):
    """Unbuffered: every write lands."""

    def write(self, data: Any, /) -> Any:
        self._pending = True
        try:
            return self._land("write", functools.partial(io.FileIO.write, self, data))
        finally:
            self._pending = False


def effect_of(
    store: FilesStore, verb: str, path: str, detail: str, access: Access = Access.DURABLE
) -> Effect:
    folder, name = os.path.split(path)
    # `tempfile` draws eight characters, which may well be a word.
    known = os.path.join(folder, _DRAWN.sub("*", name)) if name in store.drawn else path
    return Effect(
        label=f"{store.name}.{verb}.{pattern(known)}", store=store.name, access=access, detail=detail
    )
