"""Coroutines that can be halted anywhere: in an ``await``, and in the plain functions that they call.

The steps of such a coroutine are taken in a greenlet of its own, as SQLAlchemy's asyncio extension does with its
synchronous core. Whoever has to wait in it, however deep below and in however many further greenlets, switches to the
event loop with what it waits for, and is switched back to when that is there. So the gate needs no second form for
asyncio, and an asynchronous action is one that waits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Generator
from functools import cache
from types import SimpleNamespace
from typing import Any

from idemfuzz.abc import Unusable

__all__ = ["can_wait", "drive", "wait"]


@cache
def _library() -> Any:
    """The greenlets of a driven coroutine.

    Raises:
        Unusable: greenlet is not installed.
    """
    try:
        import greenlet
    except ImportError as error:
        raise Unusable(
            "jobs that are coroutines need the package 'greenlet', which is not installed: pip install 'idemfuzz[asyncio]'"
        ) from error

    class Root(greenlet.greenlet):  # type: ignore[misc]
        """The outermost greenlet of a driven coroutine. Its parent is whoever runs the event loop."""

        waiter: Any = None
        """Which greenlet below it has switched to the loop."""

    return SimpleNamespace(Root=Root, getcurrent=greenlet.getcurrent)


def drive(coroutine: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
    """A coroutine that does what ``coroutine`` does, and in which `wait` works.

    Raises:
        Unusable: greenlet is not installed.
    """
    _library()
    return _Driven(coroutine)


class _Driven(Coroutine[Any, Any, Any]):
    """Takes the steps of a coroutine in a greenlet."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine
        self._root: Any = None
        self.__name__ = getattr(coroutine, "__name__", "coroutine")
        self.__qualname__ = getattr(coroutine, "__qualname__", "coroutine")

    def send(self, value: Any) -> Any:
        library = _library()
        loop = library.getcurrent()
        if self._root is None:
            root = self._root = library.Root(lambda: _stepped(self._coroutine))
            # The same context variables in all of them.
            root.gr_context = loop.gr_context
            return self._after(root.switch())
        self._root.parent = loop
        return self._after(self._root.waiter.switch(value))

    def throw(self, kind: Any, value: Any = None, traceback: Any = None) -> Any:
        if self._root is None:
            # It has not begun, and has nothing to clear away.
            return self._coroutine.throw(kind, value, traceback) if value else self._coroutine.throw(kind)
        self._root.parent = _library().getcurrent()
        return self._after(self._root.waiter.throw(kind, value, traceback))

    def close(self) -> None:
        if self._root is None:
            self._coroutine.close()
        elif not self._root.dead:
            super().close()

    def __await__(self) -> Generator[Any, Any, Any]:
        value, error = None, None
        while True:
            try:
                out = self.send(value) if error is None else self.throw(error)
            except StopIteration as end:
                return end.value
            try:
                value, error = (yield out), None
            except BaseException as raised:
                error = raised

    def _after(self, out: Any) -> Any:
        if self._root.dead:
            raise StopIteration(out)
        return out


def can_wait() -> bool:
    """Whether the code at hand is part of a driven coroutine."""
    return _root() is not None


def wait(awaitable: Awaitable[Any]) -> Any:
    """Wait for ``awaitable`` from a plain function within a driven coroutine."""
    return _stepped(awaitable)


def _stepped(awaitable: Awaitable[Any]) -> Any:
    """Take the steps of ``awaitable`` here; the loop gets to see only what it has to wait for."""
    steps: Any = awaitable.__await__()
    try:
        out = steps.send(None)
        while True:
            try:
                value = _leave(out)
            except BaseException as error:
                out = steps.throw(error)
            else:
                out = steps.send(value)
    except StopIteration as end:
        return end.value


def _leave(future: Any) -> Any:
    """Hand the loop a future (or None: any other turn will do), and come back when it is done."""
    root = _root()
    if root is None:
        raise RuntimeError("idemfuzz: a wait outside of a coroutine that can be halted; please report this")
    root.waiter = _library().getcurrent()
    return root.parent.switch(future)


def _root() -> Any:
    library = _library()
    current = library.getcurrent()
    while current is not None and not isinstance(current, library.Root):
        current = current.parent
    return current
