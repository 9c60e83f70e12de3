"""A stress run for people and for programs: the live line, the summary, JSON."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.text import Text

from idemfuzz.reporting.certificate import counted
from idemfuzz.reporting.json_report import difference_to_json
from idemfuzz.reporting.plain import plain
from idemfuzz.reporting.redaction import redact
from idemfuzz.reporting.steps import cut
from idemfuzz.reporting.text import mark_of, style_of

if TYPE_CHECKING:
    from idemfuzz.stress.report import Story, StressFinding, StressReport, SweepReport, TimelineEntry

__all__ = ["STRESS_VERSION", "lines_of", "lines_of_sweep", "stress_to_json", "sweep_to_json"]

STRESS_VERSION = 1
_LABEL = 12
_SENDINGS_MAX = 3


def lines_of(report: StressReport, width: int = 100) -> Iterator[Text]:
    """The whole report, line by line; it reads the same without colour."""
    style = style_of(report.verdict)
    yield (
        Text()
        .append(f"{mark_of(report.verdict)} ", style=style)
        .append(report.name, style="bold")
        .append(f"  {_headline(report)}", style=style)
    )
    for finding in report.findings:
        yield Text()
        yield from _finding(finding, width)
    if report.behaviours:
        yield Text()
        yield Text("What the queue did", style="bold")
        for behaviour in report.behaviours:
            yield from _entry(
                behaviour.code, f"{behaviour.count} × {behaviour.title}. {behaviour.text}", width
            )
    if report.notes:
        yield Text()
        yield Text("Notes", style="bold")
        for note in report.notes:
            yield from _entry(note.code, note.text, width)
    yield Text()
    yield Text("What was done", style="bold")
    yield from _done(report, width)


def stress_to_json(report: StressReport) -> dict[str, Any]:
    """The report for programs, without passwords; ``"idemfuzz_stress"`` is the version of this format."""
    return {
        "idemfuzz_stress": STRESS_VERSION,
        "name": report.name,
        "verdict": str(report.verdict),
        "headline": _headline(report),
        "findings": [
            {
                "code": finding.code,
                "title": finding.title,
                "summary": redact(finding.summary),
                "count": finding.count,
                "jobs": finding.jobs,
                "cause": finding.cause,
                "remedy": finding.remedy,
                "differences": [difference_to_json(difference) for difference in finding.differences],
                "stories": [_story_to_json(story) for story in finding.stories],
            }
            for finding in report.findings
        ],
        "behaviours": [
            {
                "code": behaviour.code,
                "title": behaviour.title,
                "count": behaviour.count,
                "text": behaviour.text,
                "story": None if behaviour.story is None else _story_to_json(behaviour.story),
            }
            for behaviour in report.behaviours
        ],
        "notes": [{"code": note.code, "text": redact(note.text)} for note in report.notes],
        "counts": dict(report.counts),
        "strikes": dict(report.strikes),
        "stores": [redact(store) for store in report.stores],
        "bounds": list(report.bounds),
        "seed": report.seed,
        "seconds": round(report.seconds, 3),
        "storm_seconds": round(report.storm_seconds, 3),
        "executions_per_second": round(report.rate, 2),
        "seconds_from_enqueue_to_end": {name: round(value, 4) for name, value in report.percentiles.items()},
        "why_unknown": report.why_unknown or None,
    }


def lines_of_sweep(report: SweepReport, target: str, width: int = 100) -> Iterator[Text]:
    """A sweep, point by point; it reads the same without colour."""
    style = style_of(report.verdict)
    yield (
        Text()
        .append(f"{mark_of(report.verdict)} ", style=style)
        .append(report.name, style="bold")
        .append(f"  {_sweep_headline(report)}", style=style)
    )
    yield from _points(report, width)
    for finding in report.findings:
        yield Text()
        yield Text().append(finding.code, style="bold red").append(f"  {finding.title}", style="bold")
        points = ", ".join(map(str, finding.points))
        yield from _entry("What", redact(finding.summary), width)
        yield from _entry(
            "Killed at", f"point {points}" if len(finding.points) == 1 else f"points {points}", width
        )
        yield from _entry("Remedy", finding.remedy, width)
        # One line, to be copied.
        command = f"idemfuzz run {shlex.quote(target)} --plan {shlex.quote(finding.plan)}"
        yield Text().append(f"  {'Simulated':<{_LABEL}} ", style="dim").append(command)
    if report.notes:
        yield Text()
        yield Text("Notes", style="bold")
        for note in report.notes:
            yield from _entry(note.code, note.text, width)
    yield Text()
    yield Text("What was done", style="bold")
    executions = sum(point.executions for point in report.points)
    killed = sum(point.reached for point in report.points)
    if executions:
        text = f"{executions}: {killed} killed by SIGKILL, and run again until one ended well, or {report.attempts} times in all"
        yield from _entry("executions", text, width)
    yield from _entry("stores", ", ".join(redact(s) for s in report.stores), width)


def _points(report: SweepReport, width: int) -> Iterator[Text]:
    if not report.points:
        return
    yield Text()
    rows = [
        (
            str(number),
            point.where,
            point.line.rpartition("/")[2],
            str(point.executions),
            ", ".join(point.codes)
            or ("as after one clean delivery" if point.reached else "not reached again"),
        )
        for number, point in enumerate(report.points, 1)
    ]
    heads = ("", "killed", "line", "executions", "left behind")
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(4)]
    widths[1] = min(widths[1], max(20, width - 50))
    for row in (heads, *rows):
        cells = [cut(cell, widths[column]).ljust(widths[column]) for column, cell in enumerate(row[:4])]
        cells[0], cells[3] = row[0].rjust(widths[0]), row[3].rjust(widths[3])
        wrong = row[4].startswith("IDM")
        style = "bold" if row is heads else "red" if wrong else ""
        yield Text("  " + "  ".join(cells) + "  ").append(row[4], style=style)


def sweep_to_json(report: SweepReport) -> dict[str, Any]:
    """The report for programs, without passwords; ``"idemfuzz_sweep"`` is the version of this format."""
    return {
        "idemfuzz_sweep": STRESS_VERSION,
        "name": report.name,
        "verdict": str(report.verdict),
        "headline": _sweep_headline(report),
        "points_planned": report.planned,
        "points": [
            {
                "number": number,
                "where": point.where,
                "line": point.line or None,
                "detail": redact(point.detail),
                "executions": point.executions,
                "reached": point.reached,
                "codes": list(point.codes),
                "plan": point.plan,
            }
            for number, point in enumerate(report.points, 1)
        ],
        "findings": [
            {
                "code": finding.code,
                "title": finding.title,
                "summary": redact(finding.summary),
                "points": list(finding.points),
                "plan": finding.plan,
                "remedy": finding.remedy,
            }
            for finding in report.findings
        ],
        "notes": [{"code": note.code, "text": redact(note.text)} for note in report.notes],
        "stores": [redact(store) for store in report.stores],
        "attempts_max": report.attempts,
        "seconds": round(report.seconds, 3),
        "why_unknown": report.why_unknown or None,
    }


def _sweep_headline(report: SweepReport) -> str:
    if report.findings:
        names = dict.fromkeys(f"{finding.code} {finding.title}" for finding in report.findings)
        return f"{report.verdict}: {'; '.join(names)}"
    if report.why_unknown:
        return f"{report.verdict}: {report.why_unknown}"
    return (
        f"{report.verdict}: killed at each of its {counted(report.planned, 'point')} ({report.seconds:.1f} s)"
    )


def _story_to_json(story: Story) -> dict[str, Any]:
    return {
        "job": story.job,
        "arguments": redact(story.arguments),
        "executions": story.executions,
        "succeeded": story.succeeded,
        "cause": story.cause,
        "timeline": [
            {
                "at_seconds": round(entry.at, 4),
                "what": entry.what,
                "worker": entry.worker,
                "detail": plain(redact(entry.detail)),
            }
            for entry in story.timeline
        ],
    }


def _headline(report: StressReport) -> str:
    if report.findings:
        return f"{report.verdict}: " + "; ".join(
            dict.fromkeys(f"{f.code} {f.title}" for f in report.findings)
        )
    if report.why_unknown:
        return f"{report.verdict}: {report.why_unknown}"
    done = report.counts
    return (
        f"{report.verdict}: {counted(done['messages'], 'message')}, {counted(done['executions'], 'execution')}, "
        f"{counted(sum(report.strikes.values()), 'fault')} struck, "
        f"{counted(done['redelivered'], 'redelivery', 'redeliveries')} ({report.storm_seconds:.1f} s)"
    )


def _finding(finding: StressFinding, width: int) -> Iterator[Text]:
    yield Text().append(finding.code, style="bold red").append(f"  {finding.title}", style="bold")
    whose = f", of {counted(finding.jobs, 'job')}" if finding.jobs else ""
    yield from _entry("What", f"{redact(finding.summary)} ({finding.count} in all{whose})", width)
    if finding.cause:
        yield from _entry("Because", finding.cause, width)
    yield from _entry("Remedy", finding.remedy, width)
    if finding.stories:
        yield from _told(finding.stories[0], width)
        if len(finding.stories) > 1:
            more = ", ".join(f"({story.arguments})" for story in finding.stories[1:])
            yield from _entry("Also", redact(more), width)


def _told(story: Story, width: int) -> Iterator[Text]:
    yield from _entry("For instance", f"the job with ({redact(story.arguments)}):", width)
    lanes = {
        name: f"W{n}" for n, name in enumerate(dict.fromkeys(e.worker for e in story.timeline if e.worker), 1)
    }
    for entry in _shortened(story.timeline):
        lane = lanes.get(entry.worker, "")
        text = f"{entry.at:9.3f} s  {lane:<3} {entry.what}"
        detail = f"  {redact(entry.detail)}" if entry.detail else ""
        style = (
            "red"
            if entry.what in ("struck", "ended: killed")
            else "dim"
            if entry.what.startswith("enq")
            else ""
        )
        yield Text("  " + cut(text + detail, width - 2), style=style)
    if lanes:
        legend = ", ".join(f"{lane}: worker {name}" for name, lane in lanes.items())
        for line in textwrap.wrap(legend, max(20, width - 2)):
            yield Text("  " + line, style="dim")


def _shortened(timeline: Sequence[TimelineEntry]) -> Iterator[TimelineEntry]:
    """Of many sendings in a row the first are shown, and how many more there were."""
    for what, group in groupby(timeline, key=lambda entry: entry.what):
        entries = list(group)
        if what != "enqueued" or len(entries) <= _SENDINGS_MAX:
            yield from entries
            continue
        yield from entries[:_SENDINGS_MAX]
        left = len(entries) - _SENDINGS_MAX
        yield replace(
            entries[_SENDINGS_MAX], what=f"enqueued {left} time{'s' if left > 1 else ''} more", detail=""
        )


def _done(report: StressReport, width: int) -> Iterator[Text]:
    done = report.counts
    sent = f"{counted(done['jobs'], 'job')} in {counted(done['messages'], 'message')}"
    if done["refused"]:
        sent += f", {done['refused']} refused as duplicates"
    yield from _entry("sent", sent, width)
    parts = [f"{done['ok']} ended well"]
    parts += [
        f"{done[name]} {word}" for name, word in (("failed", "failed"), ("killed", "killed")) if done[name]
    ]
    parts += [f"{done['overlapping']} overlapped"] if done["overlapping"] else []
    yield from _entry(
        "executions", f"{done['executions']}: {', '.join(parts)}; {done['effects']} effects", width
    )
    strikes = ", ".join(f"{name} × {count}" for name, count in sorted(report.strikes.items()) if count)
    yield from _entry(
        "faults",
        f"{strikes or 'none'}; {counted(done['redelivered'], 'redelivery', 'redeliveries')} by RQ, "
        f"{counted(done['workers_replaced'], 'worker')} replaced",
        width,
    )
    if report.percentiles:
        times = ", ".join(f"{name} {value:.3f} s" for name, value in report.percentiles.items())
        yield from _entry(
            "speed",
            f"{report.rate:.1f} executions/s over {report.storm_seconds:.1f} s; from enqueue to end: {times}",
            width,
        )
    yield from _entry("stores", ", ".join(redact(s) for s in report.stores), width)
    yield from _entry("within", "; ".join(report.bounds), width)
    yield from _entry("seed", str(report.seed), width)


def _entry(label: str, text: str, width: int) -> Iterator[Text]:
    lines = textwrap.wrap(text, max(20, width - _LABEL - 3)) or [""]
    yield Text().append(f"  {label:<{_LABEL}} ", style="dim").append(lines[0])
    for line in lines[1:]:
        yield Text(" " * (_LABEL + 3) + line)
