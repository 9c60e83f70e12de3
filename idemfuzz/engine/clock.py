"""The clock that a job sees: it can be moved, and sleeping moves it instead of waiting.

`time.sleep` and `time.monotonic` are replaced for threads that work for an Execution; everybody else keeps the
real ones. The wall clock (``time.time``, ``datetime.now``) is moved for the whole process by time-machine,
and only while it is off the real time. A clock that the test holds by freezegun is moved by freezegun, and put back.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from idemfuzz.engine.source import is_library_file

_real_sleep = time.sleep
_real_monotonic = time.monotonic
_real_perf_counter = time.perf_counter
_real_time = time.time
_real_ctime, _real_asctime = time.ctime, time.asctime


def move_words() -> None:
    """From now on `time.ctime` and `time.asctime` follow the wall clock, too: time-machine leaves them alone."""
    time.ctime, time.asctime = _ctime, _asctime


def _ctime(seconds: Any = None, /) -> str:
    return _real_ctime(time.time() if seconds is None else seconds)


def _asctime(moment: Any = None, /) -> str:
    return _real_asctime(time.localtime() if moment is None else moment)


class Clock:
    """Virtual time of one search: real time plus ``offset_seconds``."""

    def __init__(self, here: Callable[[], Any], pause: Callable[[float, bool], None]) -> None:
        self._here = here
        self._pause = pause
        self._travel: Any = None
        self._coordinates: Any = None
        self._frozen: list[tuple[Any, float]] = []
        """Clocks of freezegun, and by how much each was moved."""
        self.offset_seconds = 0.0
        self.advanced_seconds = 0.0
        """By how much time was moved in all: unlike the offset, this never goes back."""

    def install(self) -> None:
        time.sleep = self._sleep  # type: ignore[assignment]
        time.monotonic = self._monotonic
        time.perf_counter = self._perf_counter
        move_words()

    def uninstall(self) -> None:
        self.reset()
        time.sleep = _real_sleep
        time.monotonic = _real_monotonic
        time.perf_counter = _real_perf_counter
        time.ctime, time.asctime = _real_ctime, _real_asctime

    def now(self) -> float:
        """Seconds since the epoch as the job sees them."""
        return _real_time() if self._travel is not None else _real_time() + self.offset_seconds

    def advance(self, seconds: float) -> None:
        """Move the wall clock on; monotonic time follows for Executions."""
        if seconds <= 0:
            return
        self.offset_seconds += seconds
        self.advanced_seconds += seconds
        freezegun = sys.modules.get("freezegun.api")
        held: list[Any] = getattr(freezegun, "freeze_factories", [])
        if held:
            # What it shows is all that the job sees; beneath it time-machine could not be started.
            held[-1].tick(timedelta(seconds=seconds))
            self._frozen.append((held[-1], seconds))
            return
        import time_machine

        if self._travel is None:
            self._travel = time_machine.travel(_real_time() + seconds, tick=True)
            self._coordinates = self._travel.start()
        else:
            self._coordinates.shift(seconds)

    def reset(self) -> None:
        """Back to real time, or to what a test holds."""
        for clock, seconds in self._frozen:
            clock.tick(timedelta(seconds=-seconds))
        self._frozen.clear()
        if self._travel is not None:
            self._travel.stop()
        self._travel = self._coordinates = None
        self.offset_seconds = 0.0

    def _sleep(self, seconds: float, /) -> None:
        if self._here() is None:
            _real_sleep(seconds)
        else:
            # A library that sleeps waits for something; the job's own code may just take its time.
            self._pause(float(seconds), is_library_file(sys._getframe(1).f_code.co_filename))

    def _monotonic(self) -> float:
        real = _real_monotonic()
        return real if self._here() is None else real + self.offset_seconds

    def _perf_counter(self) -> float:
        real = _real_perf_counter()
        return real if self._here() is None else real + self.offset_seconds
