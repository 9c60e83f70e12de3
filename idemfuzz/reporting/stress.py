"""A stress run for people and for programs: the live line, the summary, JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.text import Text

from idemfuzz.reporting.certificate import counted
from idemfuzz.reporting.json_report import difference_to_json, plain
from idemfuzz.reporting.redaction import redact
from idemfuzz.reporting.text import mark_of, style_of

if TYPE_CHECKING:
    from idemfuzz.stress.report import Story, StressFinding, StressReport

__all__ = ["STRESS_VERSION", "lines_of", "stress_to_json"]

STRESS_VERSION = 1
_LABEL = 12


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
    for entry in story.timeline:
        lane = lanes.get(entry.worker, "")
        text = f"{entry.at:9.3f} s  {lane:<3} {entry.what}"
        detail = f"  {redact(entry.detail)}" if entry.detail else ""
        line = text + detail
        style = (
            "red" if entry.what in ("struck", "ended: killed") else "dim" if entry.what == "enqueued" else ""
        )
        yield Text("  " + (line if len(line) <= width - 2 else line[: width - 3] + "…"), style=style)
    if lanes:
        yield Text("  " + ", ".join(f"{lane}: worker {name}" for name, lane in lanes.items()), style="dim")


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
