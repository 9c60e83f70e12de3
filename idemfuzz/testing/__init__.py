"""What an adapter's tests need: conformance suites, a bench that delivers jobs, and stores and queues in memory.

An adapter proves itself with one line: a class that inherits from `StoreConformance`, `TapConformance` or
`QueueConformance` and has a fixture named ``subject``, which says how to use what is adapted. For tests of its
own there are `run_delivery` (one plan, one call) and `Bench` (several). `idemfuzz.testing.memory` is the
smallest example of an adapter.
"""

from __future__ import annotations

import pytest

# The assertions in these modules explain themselves as those in a test module do.
pytest.register_assert_rewrite(
    *(f"idemfuzz.testing.{name}" for name in ("wellformed", "stores", "taps", "queues"))
)

from idemfuzz.testing.bench import Bench, Delivered, run_delivery  # noqa: E402
from idemfuzz.testing.queues import QueueConformance, QueueSubject  # noqa: E402
from idemfuzz.testing.stores import StoreConformance, StoreSubject  # noqa: E402
from idemfuzz.testing.taps import TapConformance, TapSubject  # noqa: E402

__all__ = [
    "Bench",
    "Delivered",
    "QueueConformance",
    "QueueSubject",
    "StoreConformance",
    "StoreSubject",
    "TapConformance",
    "TapSubject",
    "run_delivery",
]
