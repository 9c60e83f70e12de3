"""What has become of a saved finding: fixed, still failing, or the job has changed so that its plan does not fit any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from idemfuzz.abc import Options
from idemfuzz.corpus import Entry, differing_step, steps_of
from idemfuzz.fuzz.pursuit import Search, faults_of
from idemfuzz.model import Plan, Report, Segment, Verdict
from idemfuzz.session import ScenarioFailed
from idemfuzz.stage import Sight

__all__ = ["Fate", "Replayed", "replayed"]

_TRIALS_MAX = 120


class Fate(StrEnum):
    """What a replay says of a finding."""

    FIXED = "FIXED"
    STILL_FAILING = "STILL FAILING"
    CHANGED = "CHANGED"


@dataclass(frozen=True, slots=True)
class Replayed:
    """The fate of one finding, in a word and in a sentence."""

    entry: Entry
    fate: Fate
    why: str = ""
    step: int | None = None
    """The first step (from 1) that is not as it was, where that is told."""
    report: Report | None = None

    @property
    def headline(self) -> str:
        return (
            f"{self.fate} at step {self.step}" if self.fate is Fate.CHANGED and self.step else str(self.fate)
        )


_HIDDEN = (
    "values of its example were hidden when it was kept, and with what stands in their place it does not show, so that nothing can "
    "be claimed; `idemfuzz export` writes a test to put them into"
)


def replayed(entry: Entry, search: Search, options: Options) -> Replayed:
    """Run a finding's plan; where that does not fit any more, search by the same means.

    Raises:
        Unusable: the set-up is refused.
    """
    found = _replayed(entry, search, options)
    if entry.is_redacted and found.fate is Fate.FIXED:
        return replace(found, fate=Fate.CHANGED, why=_HIDDEN, step=None)
    return found


def _replayed(entry: Entry, search: Search, options: Options) -> Replayed:
    sights: list[Sight] = []
    try:
        report = search(replace(options, plan=entry.plan, seed=entry.seed), observer=sights.append)
    except ScenarioFailed as failure:
        return Replayed(entry, Fate.CHANGED, f"it fails without any duplicate now: {failure}", 1)
    sight = next((sight for sight in reversed(sights) if sight.plan == entry.plan), None)
    found = steps_of(sight.result.history) if sight is not None else ()
    step = differing_step(entry.steps, found) if entry.steps else None
    if any(finding.code == entry.code for finding in report.findings):
        why = (
            f"by the same plan, though it goes another way from step {step} on"
            if step
            else "by the same plan"
        )
        return Replayed(entry, Fate.STILL_FAILING, why, step, report)
    if report.findings:
        told = "; ".join(f"{finding.code} {finding.summary}" for finding in report.findings)
        return Replayed(entry, Fate.CHANGED, f"the same plan shows something else: {told}", step, report)
    if sight is not None and report.verdict is Verdict.HOLDS and _was_carried_out(entry.plan, sight):
        return Replayed(entry, Fate.FIXED, "the same plan leaves the right state", step, report)
    return _searched(entry, search, options, step, report)


def _searched(entry: Entry, search: Search, options: Options, step: int | None, report: Report) -> Replayed:
    narrowed = replace(options, plan=None, faults=faults_of(entry.plan), max_trials=_TRIALS_MAX)
    again = search(narrowed)
    same = [finding for finding in again.findings if finding.code == entry.code]
    if same:
        plan = same[0].counterexample.plan
        return Replayed(entry, Fate.STILL_FAILING, f"by another plan: {plan}", step, again)
    if again.verdict is Verdict.HOLDS:
        trials = again.certificate.trials
        why = f"its plan does not fit any more, and a search of {trials} trials by the same means holds"
        return Replayed(entry, Fate.FIXED, why, step, again)
    notes = "; ".join(f"{note.code} {note.text}" for note in (*again.notes, *report.notes))
    shown = "; ".join(f"{finding.code} {finding.summary}" for finding in again.findings)
    return Replayed(entry, Fate.CHANGED, shown or notes or "its plan does not fit any more", step, again)


def _was_carried_out(plan: Plan, sight: Sight) -> bool:
    """Whether each fault struck, and each delivery came by where it was to pause."""
    if sight.result.unreached:
        return False
    passed = {(step.delivery, (step.label, step.occurrence)) for step in sight.result.steps}
    segments: Sequence[Segment] = [part for part in plan.overlap if isinstance(part, Segment)]
    return all(part.through is None or (part.delivery, part.through) in passed for part in segments)
