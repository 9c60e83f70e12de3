"""Report files of a pytest session: registered where one is asked for, in the process that talks to the user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from idemfuzz.abc import Unusable
from idemfuzz.reporting.files import Stream, Target, conclude

__all__ = ["ReportFiles"]


class ReportFiles:
    """Gathers what the searches found, here and in xdist's workers, and writes it."""

    def __init__(self, wanted: Sequence[Target]) -> None:
        self._wanted = wanted
        self._reports: list[dict[str, Any]] = []
        self._streams = [Stream(t.path) for t in wanted if t.kind == "ndjson" and t.path is not None]
        self._lines: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for one in getattr(report, "idemfuzz", ()):
            self._reports.append(one)
            for stream in self._streams:
                stream.add(one)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        try:
            for stream in self._streams:
                stream.close()
            self._lines += conclude(self._wanted, self._reports)
            self._lines += [f"wrote {target.path}" for target in self._wanted if target.path is not None]
        except Unusable as error:
            self._lines.append(f"idemfuzz: {error}")
            session.exitstatus = pytest.ExitCode.USAGE_ERROR

    def pytest_terminal_summary(self, terminalreporter: Any, config: pytest.Config) -> None:
        for line in self._lines:
            if not config.hook.pytest_idemfuzz_say(text=line):
                terminalreporter.write_line(line)
