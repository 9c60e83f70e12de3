"""Hooks through which front ends watch searches as they run in pytest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from idemfuzz.model import Report
    from idemfuzz.session import Progress


def pytest_idemfuzz_progress(nodeid: str, progress: Progress) -> None:
    """A search has moved on."""


def pytest_idemfuzz_report(nodeid: str, report: Report) -> None:
    """A search has ended."""


def pytest_idemfuzz_unusable(nodeid: str, message: str) -> None:
    """A search was refused; nothing was changed."""


@pytest.hookspec(firstresult=True)
def pytest_idemfuzz_say(text: str) -> bool | None:
    """A line about the run as a whole; who shows it returns True, and pytest's own terminal does not."""
