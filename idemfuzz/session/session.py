"""One search from its set-up to its report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from idemfuzz.abc import Explorer, Options, SearchingExplorer, Unusable
from idemfuzz.checkers.causes import Causes
from idemfuzz.checkers.levels import combined
from idemfuzz.diagnose import notes_of_strangers
from idemfuzz.explorers import EXPLORERS
from idemfuzz.model import Coverage, Finding, Note, Plan, Report, Verdict
from idemfuzz.reporting.redaction import redacted
from idemfuzz.session.certifying import certified, disagreements, doubts, unseen
from idemfuzz.session.confirming import Confirmation
from idemfuzz.session.ending import termination_interrupts
from idemfuzz.session.exploring import Exploration
from idemfuzz.session.oracle import Oracle
from idemfuzz.session.progress import Listener, Progress
from idemfuzz.session.proving import Proving
from idemfuzz.stage import Run, Sight, Stage, Tally


class Session:
    """Searches one scenario.

    Args:
        name: what the report calls it.
        scenario: runs once per Trial; the calls of jobs in it are delivered as each Plan says.
        values: name -> value of everything handed in; stores, mocks and queues are found among them.
        jobs: functions, or job objects of a queue, whose direct calls in the scenario are deliveries.
        only: deliver only ``jobs``, even if a queue's worker runs others in the scenario.
        explorers: who proposes Plans; all of them by default.
        observer: is shown every Trial.
    """

    def __init__(
        self,
        name: str,
        scenario: Callable[[], Any],
        values: Mapping[str, object],
        jobs: Sequence[object] = (),
        options: Options | None = None,
        *,
        only: bool = False,
        listener: Listener | None = None,
        command: Callable[[Plan], str] | None = None,
        explorers: Sequence[Explorer | SearchingExplorer] = EXPLORERS,
        observer: Callable[[Sight], None] | None = None,
    ) -> None:
        self.name = name
        self._options = options or Options()
        self._stage = Stage(scenario, values, jobs, self._options, only=only, observer=observer)
        self._listener = listener or (lambda _: None)
        self._command = command
        self._explorers = explorers

    def run(self) -> Report:
        """Search and report. The stores are left at their baseline, whatever happens.

        Raises:
            Unusable: the set-up is refused; nothing was changed.
            ScenarioFailed: the scenario fails when its jobs are delivered once.
        """
        started = time.perf_counter()
        with termination_interrupts(), self._stage:
            report = self._search_levels() if self._options.isolation else self._search(started)
        return redacted(report, self._options.redact) if self._options.redact else report

    def deliver(self, job: object, /, *args: Any, **kwargs: Any) -> Any:
        """Call a job as a delivery, whether it is registered or not."""
        return self._stage.deliver(job, *args, **kwargs)

    def _search_levels(self) -> Report:
        """The same search at each isolation level, one after the other."""
        if self._options.prove:
            raise Unusable(
                f"prove=True and isolation={list(self._options.isolation)!r} are asked for together: a proof is one of a single "
                "isolation level. Leave one of them out"
            )
        isolated = [store for store in self._stage.stores if hasattr(store, "isolate")]
        if not isolated:
            raise Unusable(
                f"isolation={list(self._options.isolation)!r} is asked for, but none of the stores "
                f"({', '.join(s.name for s in self._stage.stores) or 'there are none'}) is an SQL database"
            )
        reports = {}
        for level in self._options.isolation:
            for store in isolated:
                store.isolate(level)
            self._stage.tally = Tally()
            reports[level] = self._search(time.perf_counter())
        return combined(reports)

    def _search(self, started: float) -> Report:
        stage, options = self._stage, self._options
        oracle = Oracle(stage, options)
        self._listener(Progress("reference"))
        reference, obstacle = oracle.learn()
        if obstacle is not None:
            notes = [obstacle, *notes_of_strangers(stage.strangers()), *disagreements(stage)]
            return self._report(started, oracle, reference, Verdict.UNKNOWN, [], notes, [], exhaustive=False)
        causes = Causes(oracle.alike)
        exploration = Exploration(stage, oracle, options, self._explorers, self._listener)
        coverage = exploration.cover(reference, reference, causes)
        confirmation = Confirmation(stage, oracle, options, self._listener, self._command)
        findings = confirmation.confirm(reference, causes)
        unlike = disagreements(stage)
        if unlike:
            # What was found may come of a state that was not the baseline.
            findings = [replace(finding, verdict=Verdict.UNKNOWN) for finding in findings]
        notes = doubts(stage, coverage) + unseen(reference) + unlike
        doubted = any(note.code.startswith("IDM9") for note in notes) or any(
            f.verdict is Verdict.UNKNOWN for f in findings
        )
        verdict = Verdict.worst(
            Verdict.HOLDS, *(f.verdict for f in findings), *([Verdict.UNKNOWN] if doubted else [])
        )
        report = self._report(started, oracle, reference, verdict, findings, notes, coverage, exhaustive=True)
        if not options.prove or options.plan is not None:
            return report
        proving = Proving(exploration)
        if verdict is Verdict.HOLDS:
            return replace(report, proof=proving.prove(reference))
        return replace(report, mends=proving.mend(reference, findings)) if findings else report

    def _report(
        self,
        started: float,
        oracle: Oracle,
        reference: Run,
        verdict: Verdict,
        findings: Sequence[Finding],
        notes: Sequence[Note],
        coverage: Sequence[Coverage],
        *,
        exhaustive: bool,
    ) -> Report:
        certificate = certified(
            self._stage,
            self._options,
            oracle.noise,
            self._explorers,
            reference,
            coverage,
            started,
            exhaustive=exhaustive,
        )
        return Report(
            self.name,
            verdict,
            tuple(findings),
            tuple(notes),
            certificate,
            reference=reference.result.history,
        )
