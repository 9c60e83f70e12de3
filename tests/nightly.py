"""What the whole of would take too long for each change: a part of it each time, all of it at night."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

NIGHTLY = os.environ.get("IDEMFUZZ_NIGHTLY", "") not in {"", "0"}
"""Set by the nightly workflow."""


def some_of(lines: Sequence[T], step: int) -> Sequence[T]:
    """Every ``step``-th line, the same ones each time; all of them with ``IDEMFUZZ_NIGHTLY=1``."""
    return lines if NIGHTLY else lines[::step]


def is_for_the_night(name: str) -> bool:
    """Whether a slow test is left to the night when everything is run: every second one, the same ones each time."""
    return not NIGHTLY and zlib.crc32(name.encode()) % 2 == 1
