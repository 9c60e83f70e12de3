"""Plugins that run a failed test again: refused where they would do so with a search, however they were asked.

A finding is reproduced by idemfuzz itself. Another run may happen not to see it, and the test would pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest

__all__ = ["refuse_reruns"]

_OPTIONS = {
    "reruns": "--reruns",
    "force_reruns": "--force-reruns",
    "max_suite_reruns": "--max-suite-reruns",
    "retries": "--retries",
    "force_flaky": "--force-flaky",
}
"""Of pytest-rerunfailures, pytest-retry and flaky: where pytest keeps the option, and how it is written."""
_SETTINGS = ("reruns", "retries")
_COUNTS = ("reruns", "retries", "max_runs")
_FLAKY_ATTRIBUTE = "_flaky_max_runs"
"""What the decorator of flaky leaves on a function."""


def refuse_reruns(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """Refuse reruns of these items; other tests may have them by a marker of their own.

    Raises:
        UsageError: somebody asks for them; the message says where.
    """
    if not items:
        return
    asked = next(_asked_of_all(config), None)
    if asked is not None:
        raise pytest.UsageError(
            f"{asked} would run {items[0].nodeid} again until it passes, and hide findings of idemfuzz: a finding is reproduced by "
            "idemfuzz itself. Leave it out (also of addopts), and mark the tests that may be run again: @pytest.mark.flaky(...)"
        )
    for item in items:
        if _is_marked_flaky(item):
            raise pytest.UsageError(
                f"{item.nodeid}: flaky would run it again until it passes, and hide findings of idemfuzz: a finding is reproduced by "
                "idemfuzz itself. Take the marker away from this test (also from its class and module)"
            )


def _asked_of_all(config: pytest.Config) -> Iterator[str]:
    for name, written in _OPTIONS.items():
        value = getattr(config.option, name, None)
        if value:
            yield written if value is True else f"{written}={value}"
    for name in _SETTINGS:
        # Unknown to pytest, where no plugin reads it.
        with suppress(ValueError):
            value = config.getini(name)
            # The command line may have set it to nothing.
            if str(value or 0).strip() not in ("", "0") and getattr(config.option, name, None) is None:
                yield f"the setting {name} = {value}"


def _is_marked_flaky(item: pytest.Item) -> bool:
    marker = item.get_closest_marker("flaky")
    if marker is not None:
        given = [marker.kwargs[name] for name in _COUNTS if name in marker.kwargs]
        count: Any = given[0] if given else marker.args[0] if marker.args else 1
        return bool(count)
    return hasattr(getattr(item, "obj", None), _FLAKY_ATTRIBUTE)
