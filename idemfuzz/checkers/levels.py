"""One report of several: the same search, repeated at each of the isolation levels that were asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from idemfuzz.model import Certificate, Coverage, Finding, Report, Verdict

__all__ = ["combined"]


def combined(reports: Mapping[str, Report]) -> Report:
    """The worst verdict, every finding with the levels at which it shows, and what was covered in all."""
    some = next(iter(reports.values()))
    notes = {(note.code, note.text): note for report in reports.values() for note in report.notes}
    return replace(
        some,
        verdict=Verdict.worst(*(report.verdict for report in reports.values())),
        findings=tuple(_findings(reports)),
        notes=tuple(notes.values()),
        certificate=_certificate(reports),
    )


def _findings(reports: Mapping[str, Report]) -> list[Finding]:
    found: dict[tuple[str, str, str], tuple[Finding, list[str]]] = {}
    for level, report in reports.items():
        for finding in report.findings:
            key = (finding.code, finding.cause, str(finding.source))
            found.setdefault(key, (finding, []))[1].append(level)
    return [replace(finding, title=f"{finding.title} at {', '.join(at)}") for finding, at in found.values()]


def _certificate(reports: Mapping[str, Report]) -> Certificate:
    done = [report.certificate for report in reports.values()]
    return replace(
        done[0],
        references=sum(c.references for c in done),
        trials=sum(c.trials for c in done),
        executions=sum(c.executions for c in done),
        redeliveries=sum(c.redeliveries for c in done),
        coverage=_coverage([c.coverage for c in done]),
        exhaustive=all(c.exhaustive for c in done),
        levels=tuple((level, report.verdict) for level, report in reports.items()),
        seconds=sum(c.seconds for c in done),
    )


def _coverage(tables: Sequence[tuple[Coverage, ...]]) -> tuple[Coverage, ...]:
    rows: dict[str, Coverage] = {}
    for coverage in tables:
        for row in coverage:
            known = rows.get(row.explorer)
            rows[row.explorer] = row if known is None else _sum(known, row)
    return tuple(rows.values())


def _sum(one: Coverage, other: Coverage) -> Coverage:
    classes = None if one.classes is None or other.classes is None else one.classes + other.classes
    exhaustive = (
        None if one.exhaustive is None or other.exhaustive is None else one.exhaustive and other.exhaustive
    )
    return Coverage(
        one.explorer,
        one.planned + other.planned,
        one.ran + other.ran,
        one.fired + other.fired,
        one.pruned + other.pruned,
        one.unreached + other.unreached,
        one.over_budget + other.over_budget,
        one.skipped or other.skipped,
        classes,
        exhaustive,
        one.why or other.why,
    )
