"""From what a search came upon to findings: made small, run again, told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from idemfuzz.abc import Options
from idemfuzz.checkers import Problem
from idemfuzz.checkers.causes import Candidate, Causes
from idemfuzz.diagnose import CODES, cause_of, source_of, summary_of
from idemfuzz.diagnose.mechanism import Diagnosis, diagnosed
from idemfuzz.diagnose.remedies import snippet
from idemfuzz.engine.shrink import shrink
from idemfuzz.model import Counterexample, Finding, Note, Plan, Verdict
from idemfuzz.session.oracle import Oracle
from idemfuzz.session.progress import Listener, Progress
from idemfuzz.stage import Run, Stage

CONFIRMATIONS = 3
_SHRINK_TRIALS_MAX = 30


@dataclass(frozen=True, slots=True)
class Confirmation:
    """Doubts itself before the job: what does not show again is no finding, or a doubtful one."""

    stage: Stage
    oracle: Oracle
    options: Options
    listener: Listener
    command: Callable[[Plan], str] | None

    def confirm(self, reference: Run, causes: Causes[Run]) -> list[Finding]:
        """Doubt ourselves first: learn noise afresh, run each plan again, k of k times."""
        if not len(causes):
            return []
        self.listener(Progress("confirm", 0, len(causes), len(causes)))
        again = self.oracle.reference_run()
        if again.error is not None or not self.oracle.agrees(reference, again):
            note = Note(
                "IDM901", "a clean delivery, run again, differs from the first one: the findings are doubtful"
            )
            self.stage.tally.notes[(note.code, note.text)] = note
        findings: list[Finding] = []
        for number, candidate in enumerate(causes):
            self.listener(Progress("confirm", number, len(causes), len(causes)))
            finding = self._finding(reference, candidate)
            # Two candidates may shrink to one.
            if finding is not None and all(_told(finding) != _told(f) for f in findings):
                findings.append(finding)
        return findings

    def _finding(self, reference: Run, candidate: Candidate[Run]) -> Finding | None:
        if not self.oracle.still_shown(reference, candidate.run, candidate.problems):
            return None
        plan, run = self._shrunk(reference, candidate)
        runs = [self.stage.run(plan, traced=True) for _ in range(CONFIRMATIONS)]
        # What differs between two runs of one plan is noise that two References happened not to show.
        self.oracle.learn_from([run, *runs])
        loci = self.oracle.still_shown(reference, run, candidate.problems)
        if not loci:
            return None
        showing = [one for one in runs if self.oracle.still_shown(reference, one, candidate.problems)]
        shown, run = len(showing), showing[-1] if showing else run
        problems = [
            p for p in self.oracle.judge(reference, run).problems if p.locus in loci
        ] or candidate.problems
        problems = _distinct(problems)
        problem = min(problems, key=severity)
        queue = next((q for q in self.stage.delivered.values() if q is not None), None)
        sure = shown == CONFIRMATIONS
        history = run.result.history
        told = diagnosed(problem, plan, history, self.oracle.noise.makes_up(problem.store))
        return Finding(
            code=problem.code,
            title=CODES[problem.code].title,
            summary=summary_of(problem),
            differences=tuple(p.difference for p in problems if p.difference is not None),
            counterexample=Counterexample(
                plan,
                history,
                shown,
                CONFIRMATIONS,
                command=self.command(plan) if self.command else None,
                reference=reference.state.delta,
                changes=run.state.delta,
            ),
            cause=cause_of(plan, history, queue),
            remedy=CODES[problem.code].remedy,
            source=source_of(problem, history),
            trials=candidate.trials,
            also=tuple(f"{p.code} {summary_of(p)}" for p in problems if p is not problem),
            verdict=Verdict.VIOLATED if sure else Verdict.UNKNOWN,
            mechanism=str(told.mechanism) if told is not None else "",
            because=told.text if told is not None else "",
            snippet=self._snippet(told, problem, problems, reference) if told is not None else "",
        )

    def _snippet(self, told: Diagnosis, problem: Problem, problems: Iterable[Problem], reference: Run) -> str:
        """The remedy in the job's own terms; called when the trial that it is about was the last one."""
        assert problem.difference is not None
        calls = self.stage.calls
        return snippet(
            told,
            problem.difference,
            self.oracle.noise.never_same(problem.store),
            among=[p.difference for p in problems if p.difference is not None],
            call=calls[told.call - 1] if 0 < told.call <= len(calls) else None,
            reference=reference.state.delta,
            wording=next(
                (getattr(s, "wording", None) for s in self.stage.stores if s.name == problem.store), None
            ),
        )

    def _shrunk(self, reference: Run, candidate: Candidate[Run]) -> tuple[Plan, Run]:
        """The fewest faults, deliveries and preemptions, the earliest ones, that still show it."""

        def attempt(smaller: Plan) -> Run | None:
            tried = self.stage.run(smaller)
            if tried.result.missed or not self.oracle.still_shown(reference, tried, candidate.problems):
                return None
            return tried

        if self.options.plan is not None:
            return candidate.plan, candidate.run
        return shrink(
            candidate.plan, candidate.run, attempt, lambda run: run.result.steps, _SHRINK_TRIALS_MAX
        )


def _told(finding: Finding) -> tuple[str, Plan]:
    return finding.code, finding.counterexample.plan


def _distinct(problems: Iterable[Problem]) -> list[Problem]:
    seen: dict[tuple[str, str, str], Problem] = {}
    for problem in problems:
        seen.setdefault(problem.locus, problem)
    return list(seen.values())


def severity(problem: Problem) -> tuple[int, str]:
    """The most telling first: the outside world before rows, rows before keys."""
    order = ("IDM302", "IDM301", "IDM304", "IDM105", "IDM104", "IDM108", "IDM101", "IDM102")
    return (order.index(problem.code) if problem.code in order else len(order), problem.code)
