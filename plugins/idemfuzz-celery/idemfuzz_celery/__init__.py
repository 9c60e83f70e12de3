"""Celery for idemfuzz: an adapter that is found through the entry point group ``idemfuzz.adapters``.

Installing it is all there is to do. `CeleryQueue` is what the entry point names; Celery itself is imported when the
tests have imported it.
"""

from __future__ import annotations

from idemfuzz_celery.queue import CeleryQueue

__all__ = ["CeleryQueue"]
__version__ = "0.1.0"
