"""One report for the searches of several examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from idemfuzz.model import Certificate, Coverage, Report, Verdict

__all__ = ["is_idle", "together"]

_NO_EFFECT = ("IDM902", "IDM903")


def together(reports: Sequence[Report], *, refused: Counter[str] | None = None) -> Report:
    """All examples of one job in one report that holds only if each of them does.

    An example with which the job did nothing claims nothing and spoils nothing, if another one had an effect.
    """
    told = [report for report in reports if not is_idle(report)] or list(reports[-1:])
    verdict = Verdict.worst(*(report.verdict for report in told))
    worst = next(report for report in told if report.verdict is verdict)
    idle = len(reports) - len(told)
    examples = f"{len(reports)} example{'' if len(reports) == 1 else 's'}"
    if idle:
        examples += f", with {idle} of which the job did nothing"
    bounds = [examples]
    for text, times in (refused or Counter()).most_common(3):
        bounds.append(f"{times} more with which it fails without any duplicate ({text})")
    done = [report.certificate for report in told]
    certificate = replace(
        done[-1],
        references=sum(one.references for one in done),
        trials=sum(one.trials for one in done),
        executions=sum(one.executions for one in done),
        redeliveries=sum(one.redeliveries for one in done),
        effects=max(one.effects for one in done),
        coverage=_coverage(done),
        exhaustive=all(one.exhaustive for one in done),
        bounds=(*bounds, *dict.fromkeys(bound for one in done for bound in one.bounds)),
        noise=tuple(dict.fromkeys(noise for one in done for noise in one.noise)),
        seconds=sum(one.seconds for one in done),
    )
    notes = tuple({(note.code, note.text): note for report in told for note in report.notes}.values())
    accepted = tuple(dict.fromkeys(code for report in told for code in report.accepted))
    return replace(worst, notes=notes, certificate=certificate, accepted=accepted)


def _coverage(done: Sequence[Certificate]) -> tuple[Coverage, ...]:
    rows: dict[str, list[Coverage]] = {}
    for one in done:
        for covered in one.coverage:
            rows.setdefault(covered.explorer, []).append(covered)
    return tuple(_summed(row) for row in rows.values())


def _summed(row: Sequence[Coverage]) -> Coverage:
    classes = [covered.classes for covered in row]
    whys = dict.fromkeys(covered.why for covered in row if covered.why)
    return replace(
        row[-1],
        planned=sum(covered.planned for covered in row),
        ran=sum(covered.ran for covered in row),
        fired=sum(covered.fired for covered in row),
        pruned=sum(covered.pruned for covered in row),
        unreached=sum(covered.unreached for covered in row),
        over_budget=sum(covered.over_budget for covered in row),
        skipped=next((covered.skipped for covered in row if covered.skipped), None),
        classes=sum(number for number in classes if number is not None) if any(classes) else classes[-1],
        exhaustive=None
        if all(covered.exhaustive is None for covered in row)
        else all(covered.exhaustive is not False for covered in row),
        why="; ".join(list(whys)[:2]) or None,
    )


def is_idle(report: Report) -> bool:
    """Whether the job did nothing with this example, so that nothing was claimed."""
    return report.verdict is Verdict.UNKNOWN and any(note.code in _NO_EFFECT for note in report.notes)
