"""Leases that stand in rows: a moment in the near future that a statement writes, for the job to compare with its clock."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

__all__ = ["lease_in"]

_SECONDS_MAX = 3600.0
"""What lies further ahead is a due date or the like: no worker holds anything for so long."""
_MOMENT_LENGTH = len("2026-01-31 12:00:00")


def lease_in(parameters: Any) -> float | None:
    """In how many seconds, rounded up, the first moment comes that is among a statement's parameters; None if none does."""
    now = time.time()
    ahead = [moment - now for value in _plain(parameters) for moment in _moments(value)]
    found = [seconds for seconds in ahead if 0 < seconds <= _SECONDS_MAX]
    return float(math.ceil(min(found))) if found else None


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
    """The seconds since the epoch that a value may stand for: one without a zone is local, or UTC."""
    if isinstance(value, str) and len(value) >= _MOMENT_LENGTH and value[4] == "-" and value[:4].isdigit():
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return
    if isinstance(value, datetime):
        yield value.timestamp()
        if value.tzinfo is None:
            yield value.replace(tzinfo=UTC).timestamp()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)
