"""Objects of the test's own (a fake mail server with its list of messages): put back between Trials, not compared.

So are signal handlers: a worker that runs in the scenario installs its own and leaves them behind, and then Ctrl-C
would no longer end the search.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections import deque
from collections.abc import Iterable
from typing import Any

from idemfuzz.engine.source import is_of_user

_DEPTH_MAX = 3
_OBJECTS_MAX = 500
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGALRM") if hasattr(signal, name))
_PLAIN = (int, float, str, bytes, bool, type(None))


class Keepsakes:
    """Remembers attributes and containers of the user's own objects, and restores them in place."""

    def __init__(self, values: Iterable[object]) -> None:
        self._containers: list[tuple[Any, Any]] = []
        self._attributes: list[tuple[Any, dict[str, Any]]] = []
        self._seen: set[int] = set()
        self._handlers = {number: signal.getsignal(number) for number in _SIGNALS}
        for value in values:
            self._visit(value, 0, own=False)

    def restore(self) -> None:
        for container, copy in self._containers:
            if container != copy:
                container.clear()
                (container.update if isinstance(container, dict | set) else container.extend)(copy)
        for instance, attributes in self._attributes:
            state = vars(instance)
            for name, value in attributes.items():
                if state.get(name, _MISSING) is not value:
                    state[name] = value
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._handlers.items():
                if handler is not None and signal.getsignal(number) is not handler:
                    signal.signal(number, handler)

    def _visit(self, value: Any, depth: int, *, own: bool) -> None:
        if id(value) in self._seen or depth > _DEPTH_MAX or len(self._seen) > _OBJECTS_MAX:
            return
        if type(value) in (list, dict, set, deque):
            if own:
                self._seen.add(id(value))
                self._containers.append((value, value.copy()))
            return
        state = getattr(value, "__dict__", None)
        if not isinstance(state, dict) or isinstance(value, type | type(sys)):
            return
        self._seen.add(id(value))
        users = is_of_user(type(value))
        if users:
            kept = {name: item for name, item in state.items() if isinstance(item, _PLAIN)}
            self._attributes.append((value, kept))
        for item in list(state.values()):
            self._visit(item, depth + 1, own=users)


_MISSING = object()
