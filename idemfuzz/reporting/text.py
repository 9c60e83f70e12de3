"""The text report: what a person reads when a job does not hold, and what a pass rests on."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from idemfuzz.model import Finding, Plan, Report, Source, Verdict
from idemfuzz.reporting.certificate import certificate, headline
from idemfuzz.reporting.differences import Row, rows_of
from idemfuzz.reporting.proof import mend_lines, proof_lines
from idemfuzz.reporting.redaction import redacted
from idemfuzz.reporting.sources import line_at
from idemfuzz.reporting.steps import clean, cut, drawn

__all__ = ["certificate", "headline", "mark_of", "render", "render_finding", "style_of"]

_LABEL = 14
_INDENT = 2
_STYLES = {Verdict.HOLDS: "bold green", Verdict.UNKNOWN: "bold yellow", Verdict.VIOLATED: "bold red"}
_MARKS = {Verdict.HOLDS: "✓", Verdict.UNKNOWN: "?", Verdict.VIOLATED: "✗"}
_VALUE_MIN = 12
_ARGUMENT_MAX = 400
_DIFFERS, _EXPECTED, _ACTUAL = "What differs", "one delivery", "this trial"


def render(report: Report, *, colour: bool = False, width: int = 100, with_certificate: bool = True) -> str:
    """The whole report: findings, notes, certificate. It reads the same without colour.

    Only what must be copied whole (a plan, a command) may be wider than ``width``.
    """
    report = redacted(report)
    lines = list(_title(report, width))
    if report.arguments and report.findings:
        lines += _prose("  Found with", _arguments(report), width)
    for finding in report.findings:
        lines += [Text(), *_finding(finding, width)]
    if report.notes:
        lines += [Text(), _bold("Notes")]
        for note in report.notes:
            lines += _prose(f"  {note.code}", note.text, width)
    for title, told in (
        ("Proof", proof_lines(report.proof) if report.proof is not None else ()),
        ("Mends", mend_lines(report.mends)),
    ):
        said = [line for label, text in told for line in _prose(f"  {label}", text, width)]
        lines += [Text(), _bold(title), *said] if said else []
    if with_certificate:
        lines += [Text(), _bold("Certificate")]
        block = certificate(report, width=width - _INDENT)
        lines += [Text(" " * _INDENT + line, style="dim") for line in block.splitlines()]
    return _printed(lines, colour=colour, width=width)


def render_finding(finding: Finding, *, colour: bool = False, width: int = 100) -> str:
    """One finding alone, with all its evidence."""
    report = redacted(Report("", Verdict.VIOLATED, (finding,)))
    return _printed(_finding(report.findings[0], width), colour=colour, width=width)


def mark_of(verdict: Verdict) -> str:
    """One character that tells verdicts apart without colour."""
    return _MARKS[verdict]


def style_of(verdict: Verdict) -> str:
    """The rich style of a verdict."""
    return _STYLES[verdict]


def _title(report: Report, width: int) -> Iterator[Text]:
    line = Text().append(f"{_MARKS[report.verdict]} ", style=_STYLES[report.verdict])
    line.append(clean(report.name), style="bold")
    claim = str(report.verdict) if report.findings else clean(headline(report))
    if line.cell_len + 2 + cell_len(claim) > width:
        yield line
        line = Text()
    yield line.append("  ").append(claim, style=_STYLES[report.verdict])


def _arguments(report: Report) -> str:
    """The example that was drawn, as it would be written in a call."""
    told = [f"{name}={value}" for name, value in (report.arguments or {}).items()]
    return ", ".join(text if len(text) <= _ARGUMENT_MAX else f"{text[:_ARGUMENT_MAX]}..." for text in told)


def _finding(finding: Finding, width: int) -> Iterator[Text]:
    example = finding.counterexample
    head = Text().append(finding.code, style=_STYLES[finding.verdict])
    head.append(f"  {clean(finding.title)}", style="bold")
    if finding.verdict is Verdict.UNKNOWN:
        head.append("  (in doubt: it does not show every time)", style="yellow")
    yield head
    yield from _wrapped(clean(finding.summary), width, indent=_INDENT)
    yield from _where(finding.source)
    rows = rows_of(finding.differences)
    if rows:
        yield Text()
        yield from _table(rows, width)
    yield Text()
    yield _bold("  What happened").append(f"  {_deliveries(finding)}", style="dim")
    for line in drawn(example.history, example.plan, width - 2 * _INDENT):
        yield Text(" " * 2 * _INDENT).append_text(line)
    yield Text()
    if finding.mechanism:
        yield from _prose("  Cause", f"{finding.mechanism}: {finding.because}", width)
    yield from _prose("  Happens when", finding.cause, width)
    yield from _prose("  Remedy", finding.remedy, width)
    for text in finding.snippet.splitlines():
        yield _snippet(text)
    for index, other in enumerate(finding.also):
        yield from _prose("  Also" if index == 0 else "", other, width)
    trials = f", seen in {finding.trials} trials" if finding.trials > 1 else ""
    yield from _prose("  Reproduced", f"{example.shown} of {example.tried} times{trials}", width)
    yield _whole("  Plan", str(example.plan))
    if example.saved:
        yield _whole("  Saved as", example.saved)
    if example.command:
        yield _whole("  Replay", example.command)


def _where(source: Source | None) -> Iterator[Text]:
    """The line that did it, with its text where the file is still here."""
    if source is None:
        return
    yield Text(f"  at {clean(source.file)}:{source.line} in {clean(source.function)}", style="dim")
    code = clean(line_at(source.file, source.line))
    if code:
        yield Text().append(f"  {source.line:>6} │ ", style="dim").append(code, style="cyan")


def _deliveries(finding: Finding) -> str:
    """In a few words, what the plan did."""
    plan: Plan = finding.counterexample.plan
    deliveries = {(event.call, event.delivery) for event in finding.counterexample.history}
    together = plan.overlapping
    count = len({delivery for call, delivery in deliveries if plan.call in (None, call)}) or plan.deliveries
    if together:
        later = f", {count - together} more after them" if count > together else ""
        return f"{together} deliveries at once{later}"
    faults = ", ".join(f"{fault.kind} {fault.side} {fault.point.label}" for fault in plan.faults)
    amount = "1 delivery" if count == 1 else f"{count} deliveries, one after another"
    return f"{amount}; {clean(faults)}" if faults else amount


def _table(rows: Sequence[Row], width: int) -> Iterator[Text]:
    """Where, what, expected, actual: each as wide as needed, the values sharing what room is left."""
    where = min(max(cell_len(row.where) for row in rows), max(14, width // 3))
    where = max(where, len(_DIFFERS))
    what = min(max(cell_len(row.what) for row in rows), max(12, width // 4))
    room = max(2 * _VALUE_MIN, width - 2 * _INDENT - where - what - 6)
    expected = max(len(_EXPECTED), *(cell_len(row.expected) for row in rows))
    actual = max(len(_ACTUAL), *(cell_len(row.actual) for row in rows))
    if expected + actual > room:
        # Whoever needs less than half gets it all; the rest is the other's.
        expected = min(expected, max(room // 2, room - actual))
        actual = room - expected
    head = " " * _INDENT + _padded(_DIFFERS, where + _INDENT) + " " * (what + 4)
    yield _bold(head + _padded(_EXPECTED, expected) + f"  {_ACTUAL}")
    for row in rows:
        # A field of an extra row is set in by two blanks; `clean` would take them away.
        blanks = row.what[: len(row.what) - len(row.what.lstrip())]
        line = Text(" " * 2 * _INDENT + _padded(clean(row.where), where))
        line.append("  " + _padded(blanks + clean(row.what), what))
        line.append("  " + _padded(clean(row.expected), expected), style="dim" if row.key else "green")
        line.append("  " + cut(clean(row.actual), actual), style="dim" if row.key else "red")
        yield line


def _padded(text: str, width: int) -> str:
    text = cut(text, width)
    return text + " " * (width - cell_len(text))


def _prose(label: str, text: str, width: int) -> Iterator[Text]:
    """A label, and the text beside it with a hanging indent."""
    wrapped = textwrap.wrap(clean(text), max(40, width - _LABEL - _INDENT), break_on_hyphens=False)
    for index, part in enumerate(wrapped or [""]):
        yield _bold((label if index == 0 else "").ljust(_LABEL + _INDENT)).append(part)


def _wrapped(text: str, width: int, *, indent: int) -> Iterator[Text]:
    for part in textwrap.wrap(text, max(40, width - indent), break_on_hyphens=False):
        yield Text(" " * indent + part)


def _whole(label: str, text: str) -> Text:
    """For the clipboard: never wrapped."""
    return _bold(label.ljust(_LABEL + _INDENT)).append(clean(text), style="cyan")


def _snippet(line: str) -> Text:
    """For the clipboard, too: its own blanks stay."""
    shown = "".join(blank + clean(words) for blank, words in re.findall(r"( *)([^ ]+)", line))
    return Text(" " * (_LABEL + _INDENT)).append(shown, style="cyan")


def _bold(text: str) -> Text:
    """A bold beginning; what is appended is not bold, as it would be with a style of the whole."""
    return Text().append(text, style="bold")


def _printed(lines: Iterable[Text], *, colour: bool, width: int) -> str:
    file = StringIO()
    console = Console(
        file=file,
        force_terminal=colour,
        color_system="standard" if colour else None,
        no_color=not colour,
        width=width,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )
    for line in lines:
        console.print(line, soft_wrap=True)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())
