"""Which line of the user's own code is at work."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from types import FrameType
from typing import Any

from idemfuzz.model import Source

_FRAMES_MAX = 32
_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_LIBRARIES = tuple(
    {
        os.path.abspath(path) + os.sep
        for key in ("stdlib", "platstdlib", "purelib", "platlib")
        if (path := sysconfig.get_paths().get(key))
    }
)


@lru_cache(maxsize=4096)
def is_library_file(filename: str) -> bool:
    """Whether a file belongs to a library, to the interpreter or to idemfuzz, and not to the user."""
    if filename.startswith("<"):
        return True
    path = os.path.abspath(filename)
    if path.startswith(_OWN):
        # The shipped demo is a user's application as far as evidence is concerned.
        return not path.startswith(_OWN + "demo" + os.sep)
    return path.startswith(_LIBRARIES) or f"{os.sep}site-packages{os.sep}" in path


def is_of_user(cls: type) -> bool:
    """Whether a class is the user's own."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return file is not None and not is_library_file(file)


def innermost_user_line(depth: int = 1) -> Source | None:
    """The innermost frame of the user's own code, or None if only libraries are on the stack."""
    return next(_user_lines(depth + 1), None)


def user_stack(depth: int = 1) -> tuple[Source, ...]:
    """All frames of the user's own code, innermost first, at most 32."""
    return tuple(islice(_user_lines(depth + 1), _FRAMES_MAX))


def _user_lines(depth: int) -> Iterator[Source]:
    stack: FrameType | None = sys._getframe(depth)
    greenlet: Any = sys.modules.get("greenlet")
    current = greenlet.getcurrent() if greenlet is not None else None
    while True:
        frame = stack
        while frame is not None:
            code = frame.f_code
            if not is_library_file(code.co_filename):
                yield _line(code.co_filename, frame.f_lineno, code.co_qualname)
            frame = frame.f_back
        # SQLAlchemy's asyncio extension has a stack of its own; who called it stands on its parent's.
        if current is None or current.parent is None or hasattr(current, "waiter"):
            return
        current = current.parent
        stack = current.gr_frame


@lru_cache(maxsize=4096)
def _line(filename: str, line: int, function: str) -> Source:
    return Source(_relative(filename), line, function)


@lru_cache(maxsize=1024)
def _relative(filename: str) -> str:
    path = os.path.abspath(filename)
    here = os.getcwd() + os.sep
    return path.removeprefix(here)
