"""What comes of a search in pytest: the failure and its report, what is saved, and the summary in the end."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from idemfuzz import corpus
from idemfuzz.abc import Unusable
from idemfuzz.model import Example, Finding, Plan, Report, Verdict
from idemfuzz.pytest_plugin import CRASH, REPORTS
from idemfuzz.reporting import junit
from idemfuzz.reporting.certificate import counted, headline
from idemfuzz.reporting.json_report import report_to_json, worst_per_search
from idemfuzz.reporting.steps import clean
from idemfuzz.reporting.text import mark_of, render
from idemfuzz.session import ScenarioFailed

__all__ = ["Violated", "command_for", "conclude", "failures", "skip_reason", "summarise", "told"]

_HOLDING_MAX = 10
_MARKUP = {Verdict.HOLDS: {"green": True}, Verdict.UNKNOWN: {"yellow": True}, Verdict.VIOLATED: {"red": True}}
_SECTION = "Captured stdout idemfuzz"


class Violated(AssertionError):
    """A search found something; the message is the whole report."""


def conclude(item: pytest.Item, report: Report, example: Example | None = None) -> None:
    report = replace(
        report,
        findings=tuple(_saved(finding, item, example, report.arguments) for finding in report.findings),
    )
    item.stash.setdefault(REPORTS, []).append(report)
    if not item.config.option.idemfuzz_plan:
        from idemfuzz.inventory.verdicts import Verdicts

        Verdicts(item.config.rootpath).keep(item.nodeid, report)
    item.ihook.pytest_idemfuzz_report(nodeid=item.nodeid, report=report)
    if report.verdict is not Verdict.HOLDS:
        item.stash[CRASH] = _crash(item, report)
        raise Violated(render(report, with_certificate=False))


def _crash(item: pytest.Item, report: Report) -> tuple[str, int, str]:
    """Where and what, for summaries of one line: the user's line that did it, else the test's own."""
    source = next((finding.source for finding in report.findings if finding.source is not None), None)
    told = [f"{finding.code} {finding.title}: {finding.summary}" for finding in report.findings]
    more = f" (and {len(told) - 1} more)" if len(told) > 1 else ""
    message = f"{told[0]}{more}" if told else headline(report)
    file, line, _ = item.location
    where = (file, (line or 0) + 1) if source is None else (source.file, source.line)
    return (*where, clean(message))


def told(item: pytest.Item, report: pytest.TestReport) -> None:
    """Put what the searches found into pytest's report, for the terminal, other plugins, xdist and JUnit."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if report.failed and crash is not None and CRASH in item.stash:
        # pytest would name the line of this plugin that raised.
        crash.path, crash.lineno, crash.message = item.stash[CRASH]
    found = item.stash.get(REPORTS, [])
    if not found:
        return
    # A report attribute survives the way from an xdist worker; objects would not.
    made = report.idemfuzz = [report_to_json(one) for one in found]  # type: ignore[attr-defined]
    (last,) = worst_per_search([{**one, "name": ""} for one in made])
    item.user_properties += junit.properties(last)
    report.user_properties += junit.properties(last)
    # JUnit's system-out is what pytest takes for captured; it reads it of the report of the teardown.
    item.add_report_section("idemfuzz", "stdout", last["certificate_text"] + "\n")
    if item.config.get_verbosity() > 0:
        report.sections.append(("idemfuzz: certificate", last["certificate_text"]))


def _saved(
    finding: Finding, item: pytest.Item, example: Example | None, described: Mapping[str, str] | None
) -> Finding:
    path = corpus.save(
        finding,
        item.nodeid,
        item.config.rootpath,
        example,
        described=described,
        is_test=isinstance(item, pytest.Function),
    )
    shown = replace(finding.counterexample, saved=path)
    if example is not None and path is not None:
        # The plan alone would not do: it shows the finding with this example.
        shown = replace(shown, command=corpus.read(item.config.rootpath / path).command)
    return replace(finding, counterexample=shown)


def command_for(nodeid: str, plan: Plan) -> str:
    return f"idemfuzz run {shlex.quote(nodeid)} --plan {shlex.quote(str(plan))}"


class failures:  # Reads as a statement: with failures(item).
    """Shows what a person needs: the report, the refusal, or the test's own failure as if it had run plainly."""

    def __init__(self, item: pytest.Item) -> None:
        self._item = item

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, Violated):
            notes = "\n".join(getattr(error, "__notes__", ()))
            text = f"{error}\n{notes}".rstrip()
            if self._item.config.option.tbstyle == "line":
                _, _, text = self._item.stash[CRASH]
            raise pytest.fail.Exception(text, pytrace=False) from None
        if isinstance(error, Unusable):
            self._item.ihook.pytest_idemfuzz_unusable(nodeid=self._item.nodeid, message=str(error))
            file, line, _ = self._item.location
            refusal = clean(f"idemfuzz cannot search this test: {error}")
            self._item.stash[CRASH] = (file, (line or 0) + 1, refusal)
            raise pytest.fail.Exception(f"idemfuzz cannot search this test: {error}", pytrace=False) from None
        if isinstance(error, ScenarioFailed):
            own = error.error
            own.add_note(
                "idemfuzz: this is the test with every job delivered once, without any fault."
                + (f" {error.hint}" if error.hint else "")
            )
            raise own.with_traceback(_own_frames(own)) from own.__cause__


def _own_frames(error: BaseException) -> Any:
    """The traceback from the test's own frame on."""
    traceback = error.__traceback__
    while (
        traceback is not None
        and "idemfuzz" in traceback.tb_frame.f_globals.get("__name__", "").partition(".")[0]
    ):
        traceback = traceback.tb_next
    return traceback or error.__traceback__


def skip_reason(report: pytest.TestReport) -> str:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
    return reason.removeprefix("Skipped: ").strip() or "no reason given"


def summarise(terminalreporter: Any, config: pytest.Config, reports: Sequence[Any]) -> None:
    """What does not hold, a line each; what holds, a line each while they are few; with -v every certificate, too."""
    if getattr(config, "idemfuzz_quiet", False):
        return
    found = worst_per_search([one for report in reports for one in report.idemfuzz])
    verbosity = config.get_verbosity()
    holding = [one for one in found if one["verdict"] == Verdict.HOLDS]
    terminalreporter.section("idemfuzz", sep="=")
    few = verbosity > 0 or (verbosity == 0 and len(holding) <= _HOLDING_MAX)
    for one in [*holding, *(one for one in found if one not in holding)] if few else found:
        if one in holding and not few and not one["proof_text"]:
            continue
        line = f"{mark_of(Verdict(one['verdict']))} {clean(one['name'])}  {clean(one['headline'])}"
        terminalreporter.write_line(line, **_MARKUP[Verdict(one["verdict"])])
        for text in one["proof_text"].splitlines():
            terminalreporter.write_line(f"    {text}")
        if verbosity > 0:
            for text in one["certificate_text"].splitlines():
                terminalreporter.write_line(f"    {text}")
    if holding and not few:
        trials = sum(one["certificate"]["trials"] for one in holding)
        seconds = sum(one["certificate"]["seconds"] for one in holding)
        amount = f"{counted(len(holding), 'search holds', 'searches hold')}: {counted(trials, 'trial')} ({seconds:.1f} s)"
        terminalreporter.write_line(f"{mark_of(Verdict.HOLDS)} {amount}", green=True)
