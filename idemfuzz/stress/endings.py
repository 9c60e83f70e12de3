"""Ctrl-C, and who dies with whom: what a run asks of the system so that it ends cleanly and no process is ever left behind.

On systems other than Linux orphans go to init, and workers outlive a run that was itself killed by SIGKILL.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

__all__ = ["adopt_orphans", "die_if_left", "die_with_parent", "outlive_parent", "remembered", "shielded"]

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def adopt_orphans() -> None:
    """Horses whose worker is gone become children of this process."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(*parents: int) -> None:
    """From now on this process gets SIGKILL when its parent ends, also if it has ended by now; what it forks does not.

    ``parents`` are the processes that may be its parent: another one has taken it over.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The system tells nobody of a death that was before: a parent killed while this process came up.
    die_if_left(*parents)


def die_if_left(*parents: int) -> None:
    """End this process if none of ``parents`` is its parent any more."""
    if os.getppid() not in parents:
        os.kill(os.getpid(), signal.SIGKILL)


def outlive_parent() -> None:
    """Undo `die_with_parent`."""
    _prctl(_PR_SET_PDEATHSIG, 0)


@contextmanager
def shielded() -> Iterator[None]:
    """A second Ctrl-C does not interrupt the clearing up after the first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextmanager
def remembered() -> Iterator[threading.Event]:
    """Ctrl-C raises `KeyboardInterrupt` as ever, and sets the event: Python drops one that comes in a callback of its own."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed
        return

    def press(number: int, frame: FrameType | None) -> None:
        pressed.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, press)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        with suppress(OSError):
            ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
