"""What `idemfuzz run` shows of a pytest session: searches, findings, and what went wrong; no chatter."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import pytest

from idemfuzz.cli import EXIT_FOUND, EXIT_HOLDS, EXIT_UNUSABLE
from idemfuzz.model import Report, Verdict
from idemfuzz.pytest_plugin.outcome import skip_reason
from idemfuzz.reporting.certificate import counted
from idemfuzz.reporting.proof import proof_text
from idemfuzz.reporting.screen import Screen
from idemfuzz.reporting.text import headline, mark_of, render

if TYPE_CHECKING:
    from idemfuzz.session import Progress

__all__ = ["Display"]


class Display:
    """A pytest plugin that takes the terminal over from pytest's own reporter."""

    def __init__(self, screen: Screen, *, verbose: int = 0, quiet: bool = False) -> None:
        self._screen = screen
        self._verbose = verbose
        self._quiet = quiet
        self._phase: tuple[str, str] = ("", "")
        self._last: tuple[str, int] = ("", 0)
        self._reports: dict[str, list[Report]] = {}
        self._verdicts: list[Verdict] = []
        self._refused: set[str] = set()
        self._failures = 0
        self._errors = 0
        self._skipped = 0
        self._left_out = 0
        self._interrupted = ""
        self._said: list[str] = []

    # -- taking over -------------------------------------------------------------------------------------

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        if getattr(config.option, "numprocesses", None):
            raise pytest.UsageError(
                "idemfuzz run searches in one process; for many, mark tests and use pytest -n"
            )
        # Other plugins write to the reporter, so there must be one; nobody reads what it writes.
        standard = config.pluginmanager.getplugin("terminalreporter")
        if standard is not None:
            config.pluginmanager.unregister(standard)
            config.pluginmanager.register(pytest.TerminalReporter(config, io.StringIO()), "terminalreporter")
        config.idemfuzz_quiet = True  # type: ignore[attr-defined]

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Only what is marked is searched; the rest is pytest's own business."""
        chosen = [item for item in items if _is_searched(item)]
        left_out = [item for item in items if not _is_searched(item)]
        self._left_out = len(left_out)
        if left_out:
            config.hook.pytest_deselected(items=left_out)
            items[:] = chosen

    # -- searches ----------------------------------------------------------------------------------------

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        if not self._screen.live and not self._quiet:
            self._screen.say(f"searching {nodeid}", style="dim")
        self._screen.advance(nodeid, "starting", 0, 0, 0)

    @pytest.hookimpl(optionalhook=True)
    def pytest_idemfuzz_progress(self, nodeid: str, progress: Progress) -> None:
        if (nodeid, progress.phase) != self._phase:
            self._end_phase()
            self._phase = (nodeid, progress.phase)
        self._last = (progress.phase, progress.total)
        self._screen.advance(nodeid, progress.phase, progress.done, progress.total, progress.findings)

    @pytest.hookimpl(optionalhook=True)
    def pytest_idemfuzz_report(self, nodeid: str, report: Report) -> None:
        self._reports.setdefault(nodeid, []).append(report)

    @pytest.hookimpl(optionalhook=True)
    def pytest_idemfuzz_unusable(self, nodeid: str, message: str) -> None:
        self._refused.add(nodeid)
        self._block(f"✗ {nodeid}  cannot be searched", message)

    @pytest.hookimpl(optionalhook=True)
    def pytest_idemfuzz_say(self, text: str) -> bool:
        # Written as it is: whoever runs this reads commands out of such lines.
        self._said.append(text)
        return True

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """The searches of one test are shown together: Hypothesis makes one per example."""
        self._end_phase()
        self._phase = ("", "")
        self._screen.clear()
        reports = self._reports.pop(nodeid, [])
        if not reports:
            return
        worst = Verdict.worst(*(report.verdict for report in reports))
        self._verdicts.append(worst)
        self._show(next(report for report in reversed(reports) if report.verdict is worst), len(reports))

    def _end_phase(self) -> None:
        phase, total = self._last
        if self._verbose and total:
            self._screen.say(f"  {phase}: {counted(total, 'plan')}", style="dim")
        self._last = ("", 0)

    def _show(self, report: Report, searches: int) -> None:
        screen = self._screen
        if self._quiet and report.verdict is Verdict.HOLDS:
            screen.say(f"{mark_of(report.verdict)} {report.name}  {headline(report)}")
            for line in proof_text(report).splitlines():
                screen.say(f"  {line}")
            return
        text = render(report, colour=screen.colour, width=screen.width, with_certificate=not self._quiet)
        screen.write(text)
        if searches > 1:
            screen.say(f"  (the last of {searches} searches with this verdict or a better one)", style="dim")
        screen.write()

    # -- what is not a search ----------------------------------------------------------------------------

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped:
            self._skipped += 1
            self._screen.say(f"- {report.nodeid}  skipped: {skip_reason(report)}", style="yellow")
        if not report.failed or report.nodeid in self._reports or report.nodeid in self._refused:
            return
        if report.when == "call":
            self._failures += 1
            self._block(f"✗ {report.nodeid}  fails without any duplicate", report.longreprtext)
        else:
            self._errors += 1
            self._block(f"✗ {report.nodeid}  error in {report.when}", report.longreprtext)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._errors += 1
            self._block(f"✗ {report.nodeid or 'collection'}  cannot be collected", report.longreprtext)

    def pytest_internalerror(self, excrepr: Any) -> None:
        self._errors += 1
        self._block("✗ internal error", str(excrepr))

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        if excinfo.type is KeyboardInterrupt:
            self._interrupted = "Interrupted. What the search had changed was put back."
        else:
            # pytest stops itself, too: after errors of collection, or when asked by pytest.exit.
            self._interrupted = f"Stopped: {excinfo.value}."

    def _block(self, title: str, text: str) -> None:
        self._screen.clear()
        self._screen.say(title, style="bold red")
        for line in _without_colour(text).strip().splitlines():
            self._screen.say(f"  {line}".rstrip())
        self._screen.write()

    # -- the end -----------------------------------------------------------------------------------------

    def conclude(self, code: int) -> int:
        """The closing line, and the exit code for what pytest's ``code`` and the searches amount to."""
        screen = self._screen
        screen.clear()
        for line in self._said:
            screen.write(line)
        if self._interrupted:
            screen.say(self._interrupted, style="bold yellow")
            return EXIT_UNUSABLE
        if code == pytest.ExitCode.USAGE_ERROR:
            # pytest has said why, on standard error.
            return EXIT_UNUSABLE
        found = sum(verdict is not Verdict.HOLDS for verdict in self._verdicts) + self._failures
        trouble = len(self._refused) + self._errors
        if not self._verdicts and not found:
            self._say_nothing_was_searched(trouble)
            return EXIT_UNUSABLE
        screen.say(self._summary(), style="bold red" if found or trouble else "bold green")
        if found:
            return EXIT_FOUND
        stopped = code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        return EXIT_UNUSABLE if trouble or stopped else EXIT_HOLDS

    def _summary(self) -> str:
        counts = {verdict: self._verdicts.count(verdict) for verdict in Verdict}
        words = {Verdict.HOLDS: "holds", Verdict.VIOLATED: "violated", Verdict.UNKNOWN: "unknown"}
        parts = [f"{counts[verdict]} {word}" for verdict, word in words.items() if counts[verdict]]
        parts += [f"{counted(self._failures, 'test')} failed without any duplicate"] if self._failures else []
        parts += [f"{len(self._refused)} refused"] if self._refused else []
        parts += [counted(self._errors, "error")] if self._errors else []
        parts += [f"{self._skipped} skipped"] if self._skipped else []
        parts += [self._left_out_text()] if self._left_out else []
        return f"{counted(len(self._verdicts), 'search', 'searches')}: {', '.join(parts)}"

    def _left_out_text(self) -> str:
        return f"{counted(self._left_out, 'test')} without the marker left out"

    def _say_nothing_was_searched(self, trouble: int) -> None:
        if trouble:
            self._screen.say(f"Nothing was searched: {counted(trouble, 'error')}.", style="bold red")
        elif self._skipped:
            self._screen.say(
                f"Nothing was searched: {counted(self._skipped, 'test')} skipped.", style="bold red"
            )
        else:
            left_out = f" ({self._left_out_text()})" if self._left_out else ""
            self._screen.say(
                f"No marked test and no registered job was found{left_out}. "
                "Mark a job's test with @pytest.mark.idempotent, or call idemfuzz.register(job, ...).",
                style="bold red",
            )


def _is_searched(item: pytest.Item) -> bool:
    if item.get_closest_marker("idempotent") is not None or "deliver" in getattr(item, "fixturenames", ()):
        return True
    return hasattr(item, "registration")


def _without_colour(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
