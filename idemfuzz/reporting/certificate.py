"""The certificate: exactly what a search covered, and the one line that sums it up. Plain text, no markup."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from idemfuzz.model import Certificate, Coverage, Report, Verdict

__all__ = ["certificate", "headline"]

_LABEL = 10
_HEADINGS = ("planned", "ran", "fired", "same as another", "over budget")


def headline(report: Report) -> str:
    """One line: the verdict, and for a pass what it rests on."""
    done = report.certificate
    if done.levels:
        told = ", ".join(f"{verdict} at {level}" for level, verdict in done.levels)
        return f"{told}: {counted(done.trials, 'trial')} ({done.seconds:.1f} s)"
    if report.verdict is Verdict.HOLDS:
        fired = sum(covered.fired for covered in done.coverage)
        parts = [
            counted(done.trials, "trial"),
            counted(done.executions, "execution"),
            counted(done.redeliveries, "redelivery", "redeliveries"),
            f"{counted(fired, 'fault')} fired",
        ]
        for covered in done.coverage:
            if covered.explorer == "interleave" and covered.classes:
                some = "all" if covered.exhaustive else "not all"
                parts.append(f"{counted(covered.classes, 'interleaving')} ({some})")
        if done.exhaustive:
            parts.append("every planned trial ran")
        elif left := sum(covered.over_budget for covered in done.coverage):
            parts.append(f"{counted(left, 'planned trial')} over budget")
        but = f", but for what is accepted ({', '.join(report.accepted)})" if report.accepted else ""
        return f"holds{but}: {', '.join(parts)} ({done.seconds:.1f} s)"
    found = [f"{finding.code} {finding.title}" for finding in report.findings]
    found = found or [f"{note.code} {_first_sentence(note.text)}" for note in report.notes]
    return f"{report.verdict}: {'; '.join(dict.fromkeys(found)) or 'nothing can be claimed'}"


def certificate(report: Report, *, width: int = 96) -> str:
    """What was delivered how often, what was reached and what was left out.

    It does not say more than was done: a part of the plans that did not run is named, and so are the bounds.
    """
    done = report.certificate
    lines = [
        *_entry("jobs", [", ".join(done.jobs) or "none was delivered", *_extent(done)], width),
        *_entry("stores", [", ".join(done.stores) or "none was given"], width),
        *_entry("ran", [*_amounts(done), f"seed {done.seed}", f"{done.seconds:.1f} s"], width),
        *_table(done.coverage),
        *_entry("search", [_claim(done)], width),
        *_entry("isolation", [f"{verdict} at {level}" for level, verdict in done.levels], width),
        *_entry("within", done.bounds, width),
        *_entry("ignored", done.ignored, width),
        *_entry("noise", [f"learned: {', '.join(done.noise)}"] if done.noise else [], width),
    ]
    return "\n".join(lines)


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """``1 trial``, ``1,024 trials``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def _extent(done: Certificate) -> list[str]:
    if not done.calls:
        return []
    return [counted(done.calls, "call"), f"{counted(done.effects, 'effect')} in one clean delivery"]


def _amounts(done: Certificate) -> list[str]:
    return [
        f"{counted(done.trials, 'trial')} ({done.references} for the reference)",
        counted(done.executions, "execution"),
        counted(done.redeliveries, "redelivery", "redeliveries"),
    ]


def _claim(done: Certificate) -> str:
    if not done.coverage:
        return "none"
    searched = [covered for covered in done.coverage if covered.classes is not None]
    if done.exhaustive:
        return "complete: every planned trial ran" + (", and every interleaving" if searched else "")
    left = sum(covered.over_budget for covered in done.coverage)
    reasons = [f"{left:,} planned trials were over budget"] if left else []
    reasons += [f"{c.explorer} is not at its end" for c in done.coverage if c.exhaustive is False]
    reasons += [f"{covered.explorer} was cut short" for covered in done.coverage if covered.skipped]
    reasons += ["one given plan, no search"] if any(c.explorer == "plan" for c in done.coverage) else []
    return "not exhaustive" + (f": {'; '.join(reasons)}" if reasons else "")


def _table(coverage: Sequence[Coverage]) -> list[str]:
    if not coverage:
        return []
    first = max(len(covered.explorer) for covered in coverage)
    lines = [" " * (_LABEL + first) + "".join(f"  {heading:>7}" for heading in _HEADINGS)]
    for covered in coverage:
        # Explorers without faults have nothing to fire, and say so by a dash.
        fired = str(covered.fired) if covered.fired or covered.unreached else "-"
        if covered.unreached:
            fired = f"{covered.fired}/{covered.fired + covered.unreached}"
        cells = (str(covered.planned), str(covered.ran), fired, str(covered.pruned), str(covered.over_budget))
        line = " " * _LABEL + covered.explorer.ljust(first)
        widths = (max(7, len(heading)) for heading in _HEADINGS)
        line += "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        lines.append(line)
        if covered.skipped:
            lines.append(" " * (_LABEL + 2) + f"cut short: {covered.skipped}")
        if covered.classes is not None:
            whole = "all of them" if covered.exhaustive else covered.why or "not all of them"
            lines.append(" " * (_LABEL + 2) + f"{counted(covered.classes, 'inequivalent schedule')}: {whole}")
        elif covered.why:
            lines.append(" " * (_LABEL + 2) + covered.why)
    return lines


def _entry(label: str, parts: Iterable[str], width: int) -> list[str]:
    text = "; ".join(" ".join(part.split()) for part in parts)
    if not text:
        return []
    return textwrap.wrap(
        text,
        max(40, width),
        initial_indent=label.ljust(_LABEL),
        subsequent_indent=" " * _LABEL,
        break_on_hyphens=False,
    )


def _first_sentence(text: str) -> str:
    sentence = text.partition(". ")[0].strip().rstrip(".")
    return sentence if len(sentence) <= 120 else sentence[:119] + "…"
