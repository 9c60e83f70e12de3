"""Leases that stand in values: a moment that a row or a key is given, for jobs to compare with their clock.

One in the near future says itself when the lease ends. One that is now says since when something is held: how old that must be
for another worker to take it over, the job alone knows.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

__all__ = ["lease_in"]

_SECONDS_MAX = 3600.0
"""What lies further ahead is a due date or the like: no worker holds anything for so long."""
_NOW_SECONDS = 1.0
"""How far from now a moment is taken for now."""
_TEXT_LENGTH_MAX = 2000
_NUMBER = re.compile(r"(?<![\w.])(?:\d{10}(?:\.\d+)?|\d{13})(?![\w.])")
_WRITTEN = re.compile(r"(?<!\d)\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:?\d\d)?(?![\w:])")


def lease_in(parameters: Any) -> float | None:
    """In how many seconds, rounded up, the first moment comes that is among the values of what is written.

    Infinity if one of them is now: what is written has an age from here on. None if there is no moment.
    """
    now = time.time()
    ahead = [moment - now for value in _plain(parameters) for moment in _moments(value)]
    found = [seconds for seconds in ahead if _NOW_SECONDS < seconds <= _SECONDS_MAX]
    if found:
        return float(math.ceil(min(found)))
    return math.inf if any(abs(seconds) <= _NOW_SECONDS for seconds in ahead) else None


def _plain(parameters: Any) -> Iterator[Any]:
    if isinstance(parameters, Mapping):
        yield from parameters.values()
    elif isinstance(parameters, Iterable) and not isinstance(parameters, str | bytes):
        for item in parameters:
            if isinstance(item, Mapping | list | tuple):
                yield from _plain(item)
            else:
                yield item


def _moments(value: Any) -> Iterator[float]:
    """The seconds since the epoch that a value may stand for, or that stand in a text: one without a zone is local, or UTC."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace") if len(value) <= _TEXT_LENGTH_MAX else ""
    if isinstance(value, datetime):
        yield value.timestamp()
        if value.tzinfo is None:
            yield value.replace(tzinfo=UTC).timestamp()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        # Some count milliseconds.
        yield float(value) / 1000 if value > 1e12 else float(value)
    elif isinstance(value, str) and len(value) <= _TEXT_LENGTH_MAX:
        for number in _NUMBER.findall(value):
            yield from _moments(float(number))
        for written in _WRITTEN.findall(value):
            try:
                yield from _moments(datetime.fromisoformat(written))
            except ValueError:
                continue
