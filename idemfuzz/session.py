"""One search: what explorers propose is run on the stage, judged, made small, confirmed and told; every front end uses it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from idemfuzz.abc import (
    Explorer,
    Extent,
    Irremovable,
    Options,
    Outcome,
    Proposal,
    Queue,
    Reference,
    SearchingExplorer,
    Store,
    Unusable,
)
from idemfuzz.checkers import (
    Comparison,
    Judgement,
    Noise,
    Observed,
    Problem,
    compare,
    judge,
)
from idemfuzz.checkers.causes import Candidate, Causes, Fallen
from idemfuzz.checkers.levels import combined
from idemfuzz.diagnose import CODES, cause_of, source_of, summary_of
from idemfuzz.diagnose.mechanism import Diagnosis, diagnosed
from idemfuzz.diagnose.prover import Attempt, mended, proven
from idemfuzz.diagnose.remedies import snippet
from idemfuzz.engine.shrink import shrink
from idemfuzz.explorers import EXPLORERS
from idemfuzz.explorers.budget import SEARCH_TRIALS_MIN, divided, is_wanted, thinned
from idemfuzz.model import (
    Access,
    Certificate,
    Counterexample,
    Coverage,
    FaultKind,
    Finding,
    Guard,
    GuardKind,
    Mend,
    Note,
    Plan,
    Proof,
    Report,
    Verdict,
)
from idemfuzz.reporting.redaction import redacted
from idemfuzz.stage import Run, Sight, Stage, Tally

_CLOCK_STEPS_SECONDS = (90_063.7, 3.7)
"""A day, an hour, a minute and some: every part of a written time moves. Less, where the job minds."""
_CONFIRMATIONS = 3
_HUNG_MAX = 2
_EFFECTS_IN_ALL_MAX = 400_000
_SHRINK_TRIALS_MAX = 30
_WINDOW_SECONDS = 1095.0
"""How late a redelivery may come where no queue says otherwise: that of stock RQ."""

Search = Generator[Proposal, Outcome, Extent | None]


class ScenarioFailed(Exception):
    """The scenario fails already when its jobs are delivered once; ``error`` is its own exception."""

    def __init__(self, error: BaseException, hint: str = "") -> None:
        super().__init__(hint or str(error))
        self.error = error
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Progress:
    """For live displays: which explorer is at work, how far it is, and what was found so far."""

    phase: str
    done: int = 0
    total: int = 0
    findings: int = 0


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
        listener: Callable[[Progress], None] | None = None,
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
        self._noise = Noise()

    # -- life --------------------------------------------------------------------------------------------

    def run(self) -> Report:
        """Search and report. The stores are left at their baseline, whatever happens.

        Raises:
            Unusable: the set-up is refused; nothing was changed.
            ScenarioFailed: the scenario fails when its jobs are delivered once.
        """
        started = time.perf_counter()
        with self._stage:
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
            self._stage.tally, self._noise = Tally(), Noise()
            reports[level] = self._search(time.perf_counter())
        return combined(reports)

    # -- trials ------------------------------------------------------------------------------------------

    def _reference_run(
        self, *, perturb: bool = False, shift_seconds: float = 0.0, traced: bool = False
    ) -> Run:
        self._stage.tally.references += 1
        return self._stage.run(Plan(), perturb=perturb, shift_seconds=shift_seconds, traced=traced)

    def _learn(self) -> tuple[Run, Verdict | None, list[Note]]:
        """The Reference, twice: the clock moved and the generated ids shifted the second time."""
        self._listener(Progress("reference"))
        first = self._reference_run(traced=True)
        if isinstance(first.error, Unusable):
            raise first.error
        if first.error is not None:
            raise ScenarioFailed(first.error)
        if not first.result.deliveries:
            return (
                first,
                Verdict.UNKNOWN,
                [Note("IDM902", CODES["IDM902"].meaning + " " + CODES["IDM902"].remedy)],
            )
        if not first.state.delta:
            return (
                first,
                Verdict.UNKNOWN,
                [Note("IDM903", CODES["IDM903"].meaning + " " + CODES["IDM903"].remedy)],
            )
        for step in _CLOCK_STEPS_SECONDS:
            second = self._reference_run(perturb=True, shift_seconds=step)
            if second.error is None and self._agrees(first, second):
                for store in self._stage.stores:
                    loosen = getattr(store, "loosen", None)
                    if loosen is not None:
                        loosen()
                break
        else:
            # The test or the job may depend on the very ids or on the time: look once more without moving them.
            second = self._reference_run()
            if second.error is not None or not self._agrees(first, second):
                what = f": {second.error!r}" if second.error is not None else self._why(first, second)
                return (
                    first,
                    Verdict.UNKNOWN,
                    [Note("IDM901", f"two clean deliveries from the same state differ{what}")],
                )
        return first, None, []

    def _agrees(self, first: Run, second: Run) -> bool:
        # What two runs that do not agree seem to teach is forgotten: it would hide real differences.
        noise = self._noise.copy()
        learned = noise.learn(
            first.state.delta.added, second.state.delta.added, first.state.span, second.state.span
        )
        if not learned or compare(first.state, second.state, noise).differences:
            return False
        self._noise = noise
        return True

    def _learn_from(self, runs: Sequence[Run]) -> bool:
        """What differs between runs of one plan is noise; whether any of it was not known."""
        known = self._noise.copy()
        for earlier, later in pairwise(runs):
            self._noise.learn(
                earlier.state.delta.added, later.state.delta.added, earlier.state.span, later.state.span
            )
        return (known.places, known.ragged) != (self._noise.places, self._noise.ragged)

    def _why(self, first: Run, second: Run) -> str:
        differences = compare(first.state, second.state, self._noise).differences
        return "".join(f": {summary_of(Problem('IDM901', d.store, d.group, d))}" for d in differences[:1])

    # -- the search --------------------------------------------------------------------------------------

    def _search(self, started: float) -> Report:
        reference, verdict, notes = self._learn()
        if verdict is not None:
            notes += self._disagreements()
            return self._report(started, reference, verdict, [], notes, [], exhaustive=False)
        model = self._model(reference)
        causes = Causes(self._alike)
        coverage: list[Coverage] = []
        if self._options.plan is not None:
            coverage.append(self._explore("plan", _proposed([self._options.plan]), 1, reference, causes))
        else:
            coverage += self._cover(model, reference, causes)
        findings = self._confirm(reference, causes)
        disagreements = self._disagreements()
        if disagreements:
            # What was found may come of a state that was not the baseline.
            findings = [replace(finding, verdict=Verdict.UNKNOWN) for finding in findings]
        notes += self._doubts(coverage) + disagreements
        doubted = any(note.code.startswith("IDM9") for note in notes) or any(
            f.verdict is Verdict.UNKNOWN for f in findings
        )
        verdict = Verdict.worst(
            Verdict.HOLDS, *(f.verdict for f in findings), *([Verdict.UNKNOWN] if doubted else [])
        )
        report = self._report(started, reference, verdict, findings, notes, coverage, exhaustive=True)
        if not self._options.prove or self._options.plan is not None:
            return report
        if verdict is Verdict.HOLDS:
            return replace(report, proof=self._prove(reference))
        return replace(report, mends=self._mend(reference, findings)) if findings else report

    def _model(self, reference: Run) -> Reference:
        queue = next((q for q in self._stage.delivered.values() if q is not None), None)
        interruptions = {
            kind: (queue.interruption(kind) is not None) if queue is not None else kind is FaultKind.TIMEOUT
            for kind in (FaultKind.TIMEOUT, FaultKind.SHUTDOWN)
        }
        return Reference(
            events=tuple(e for e in reference.result.history.effects if e.point is not None),
            calls=max((e.call for e in reference.result.history.endings()), default=0),
            identified=self._stage.identified,
            interruptions=interruptions,
            window_seconds=self._window(queue),
        )

    def _window(self, queue: Queue | None) -> float:
        """How late a redelivery may come: as was said, or by the queue's own settings, or by those of stock RQ."""
        if self._options.redelivery_window is not None:
            return self._options.redelivery_window
        return queue.redelivery_window_seconds if queue is not None else _WINDOW_SECONDS

    def _cover(self, model: Reference, reference: Run, causes: Causes[Run] | Fallen[Run]) -> list[Coverage]:
        """All wanted explorers, in their order."""
        wanted = self._options.faults
        chosen = [e for e in self._explorers if is_wanted(e, wanted)]
        budget = min(self._options.max_trials, max(20, _EFFECTS_IN_ALL_MAX // max(1, 2 * len(model.events))))
        lists = {e.name: list(e.plans(model, self._options)) for e in chosen if isinstance(e, Explorer)}
        weights = {e.name: e.weight for e in chosen if isinstance(e, SearchingExplorer)}
        shares = divided({name: len(plans) for name, plans in lists.items()}, budget, searched=bool(weights))
        left = budget - sum(shares.values())
        coverage = []
        for explorer in chosen:
            if isinstance(explorer, SearchingExplorer):
                share = max(left * explorer.weight // sum(weights.values()), min(left, SEARCH_TRIALS_MIN))
                del weights[explorer.name]
                search = explorer.search(model, self._options, share)
                done = self._explore(explorer.name, search, share, reference, causes)
                # What one search does not use is left to the others.
                left = max(0, left - done.ran)
                coverage.append(done)
                continue
            plans = lists[explorer.name]
            chosen_plans = thinned(plans, shares[explorer.name])
            done = self._explore(explorer.name, _proposed(chosen_plans), len(chosen_plans), reference, causes)
            over = len(plans) - len(chosen_plans)
            coverage.append(
                replace(done, planned=len(plans), over_budget=over, pruned=explorer.pruned(model))
            )
        return coverage

    def _explore(
        self,
        phase: str,
        search: Search,
        expected: int,
        reference: Run,
        causes: Causes[Run] | Fallen[Run],
    ) -> Coverage:
        """Run what a search asks for, and tell it what came of it."""
        ran = fired = unreached = 0
        skipped = None
        extent: Extent | None = None
        outcome: Outcome | None = None
        try:
            while True:
                proposal = search.send(outcome)  # type: ignore[arg-type]
                self._listener(Progress(phase, ran, max(expected, ran + 1), len(causes)))
                run = self._stage.run(proposal.plan, scheduler=proposal.scheduler)
                plan = run.result.plan
                ran += 1
                if plan.faults or run.result.absent:
                    fired += not run.result.missed
                    unreached += run.result.missed
                if plan.overlap and any(getattr(s, "shared_connection", False) for s in self._stage.stores):
                    skipped = "two deliveries used one connection"
                    break
                judgement = self._judge(reference, run)
                for note in judgement.notes:
                    self._stage.tally.notes.setdefault((note.code, note.text), note)
                if judgement.problems:
                    causes.add(plan, run, judgement.problems)
                if self._stage.tally.hung > _HUNG_MAX:
                    skipped = "too many deliveries did not end within the time limit"
                    break
                result = run.result
                outcome = Outcome(result.history, result.steps, bool(judgement.problems), result.hung)
        except StopIteration as end:
            extent = end.value
        self._listener(Progress(phase, ran, ran, len(causes)))
        if extent is None:
            return Coverage(phase, ran, ran, fired, 0, unreached, 0, skipped)
        if extent.diverged:
            self._stage.tally.notes.setdefault(("IDM901", phase), Note("IDM901", f"{phase}: {extent.why}"))
        return Coverage(
            phase,
            ran,
            ran,
            fired,
            extent.pruned,
            unreached,
            0,
            skipped,
            extent.classes,
            extent.exhaustive,
            extent.why,
        )

    def _judge(self, reference: Run, run: Run) -> Judgement:
        comparison: Comparison = compare(reference.state, run.state, self._noise)
        result = run.result
        stuck = next((f"{type(s.stuck).__name__}: {s.stuck}" for s in result.stuck), None)
        raised = tuple(
            f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
            for settled in result.settled
            for _, error in settled.duplicates_raised
        )
        assertion = None
        if run.error is not None and not any(run.error is e for e in result.job_errors):
            lines = str(run.error).strip().splitlines()
            assertion = f"{type(run.error).__name__}: {lines[0] if lines else ''}"
        observed = Observed(result.plan, result.history, stuck, result.hung, raised, assertion)
        return judge(comparison, observed, ignore=self._options.ignore, strict=self._options.strict)

    def _alike(self, one: Run, other: Run) -> bool:
        return not compare(one.state, other.state, self._noise).differences

    # -- from candidates to findings ---------------------------------------------------------------------

    def _confirm(self, reference: Run, causes: Causes[Run]) -> list[Finding]:
        """Doubt ourselves first: learn noise afresh, run each plan again, k of k times."""
        if not len(causes):
            return []
        self._listener(Progress("confirm", 0, len(causes), len(causes)))
        again = self._reference_run()
        if again.error is not None or not self._agrees(reference, again):
            note = Note(
                "IDM901", "a clean delivery, run again, differs from the first one: the findings are doubtful"
            )
            self._stage.tally.notes[(note.code, note.text)] = note
        findings: list[Finding] = []
        for number, candidate in enumerate(causes):
            self._listener(Progress("confirm", number, len(causes), len(causes)))
            finding = self._finding(reference, candidate)
            # Two candidates may shrink to one.
            if finding is not None and all(_told(finding) != _told(f) for f in findings):
                findings.append(finding)
        return findings

    def _finding(self, reference: Run, candidate: Candidate[Run]) -> Finding | None:
        if not self._still_shown(reference, candidate.run, candidate.problems):
            return None
        plan, run = self._shrunk(reference, candidate)
        runs = [self._stage.run(plan, traced=True) for _ in range(_CONFIRMATIONS)]
        # What differs between two runs of one plan is noise that two References happened not to show.
        self._learn_from([run, *runs])
        loci = self._still_shown(reference, run, candidate.problems)
        if not loci:
            return None
        showing = [one for one in runs if self._still_shown(reference, one, candidate.problems)]
        shown, run = len(showing), showing[-1] if showing else run
        problems = [p for p in self._judge(reference, run).problems if p.locus in loci] or candidate.problems
        problems = _distinct(problems)
        problem = min(problems, key=_severity)
        queue = next((q for q in self._stage.delivered.values() if q is not None), None)
        sure = shown == _CONFIRMATIONS
        history = run.result.history
        told = diagnosed(problem, plan, history, self._noise.makes_up(problem.store))
        return Finding(
            code=problem.code,
            title=CODES[problem.code].title,
            summary=summary_of(problem),
            differences=tuple(p.difference for p in problems if p.difference is not None),
            counterexample=Counterexample(
                plan,
                history,
                shown,
                _CONFIRMATIONS,
                command=self._command(plan) if self._command else None,
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
        calls = self._stage.calls
        return snippet(
            told,
            problem.difference,
            self._noise.makes_up(problem.store),
            among=[p.difference for p in problems if p.difference is not None],
            call=calls[told.call - 1] if 0 < told.call <= len(calls) else None,
            reference=reference.state.delta,
            wording=next(
                (getattr(s, "wording", None) for s in self._stage.stores if s.name == problem.store), None
            ),
        )

    def _still_shown(
        self, reference: Run, run: Run, problems: Iterable[Problem]
    ) -> set[tuple[str, str, str]]:
        """Of some problems, those that a run shows by all that is known of noise now."""
        return {p.locus for p in problems} & {p.locus for p in self._judge(reference, run).problems}

    def _shrunk(self, reference: Run, candidate: Candidate[Run]) -> tuple[Plan, Run]:
        """The fewest faults, deliveries and preemptions, the earliest ones, that still show it."""

        def attempt(smaller: Plan) -> Run | None:
            tried = self._stage.run(smaller)
            if tried.result.missed or not self._still_shown(reference, tried, candidate.problems):
                return None
            return tried

        if self._options.plan is not None:
            return candidate.plan, candidate.run
        return shrink(
            candidate.plan, candidate.run, attempt, lambda run: run.result.steps, _SHRINK_TRIALS_MAX
        )

    # -- proofs ------------------------------------------------------------------------------------------

    def _prove(self, reference: Run) -> Proof:
        """Search again without each guard that deliveries were seen to use."""
        started, trials = time.perf_counter(), 0

        def attempt(without: tuple[Guard, ...]) -> Attempt:
            nonlocal trials
            tried = self._attempt(reference, without=without)
            trials += tried.plans
            return tried

        guards = [guard for store in self._stage.guarded() for guard in store.guards()]
        removals = proven(guards, attempt)
        return Proof(removals, trials, time.perf_counter() - started)

    def _mend(self, reference: Run, findings: Sequence[Finding]) -> tuple[Mend, ...]:
        """Search again with what a database or a client can do for a job whose source stays as it is."""
        differences = [difference for finding in findings for difference in finding.differences]
        plans = [finding.counterexample.plan for finding in findings]
        at_once = any(plan.overlap for plan in plans)
        # The body of a coroutine ends after the call: the stores would be told too early.
        halfway = not self._stage.awaited and (at_once or any(plan.faults for plan in plans))
        candidates: dict[Guard, str] = {}
        for store in self._stage.guarded():
            for guard in store.mends(differences, self._noise.makes_up(store.name)):
                wanted = {GuardKind.ISOLATION: at_once, GuardKind.COMMIT: halfway}
                if wanted.get(guard.kind, True):
                    candidates[guard] = store.remedy(guard)
        return mended(candidates, lambda with_: self._attempt(reference, with_=with_))

    def _attempt(
        self, original: Run, *, without: Collection[Guard] = (), with_: Collection[Guard] = ()
    ) -> Attempt:
        """The same search without some guards and with others, judged by the reference of the job as it is."""
        tally, noise, listener = self._stage.tally, self._noise, self._listener
        what = " and ".join(map(str, without or with_))
        phase = f"{'without' if without else 'with'} {what}"
        self._stage.tally, self._noise = Tally(), noise.copy()
        self._listener = lambda progress: listener(replace(progress, phase=f"{phase}: {progress.phase}"))
        try:
            self._alter(without, with_)
            return self._search_altered(original, removed=bool(without))
        except Irremovable as error:
            return Attempt(obstacle=str(error))
        finally:
            self._alter((), ())
            self._stage.tally, self._noise, self._listener = tally, noise, listener

    def _alter(self, without: Collection[Guard], with_: Collection[Guard]) -> None:
        self._stage.mending = bool(with_)
        for store in self._stage.guarded():
            store.alter(
                [guard for guard in without if guard.store == store.name],
                [guard for guard in with_ if guard.store == store.name],
            )

    def _search_altered(self, original: Run, *, removed: bool) -> Attempt:
        reference = self._reference_run()
        it = "it" if removed else "this"
        side = "without" if removed else "with"
        if reference.error is not None:
            said = str(reference.error).strip().partition("\n")[0]
            return Attempt(
                obstacle=f"a clean delivery fails {side} {it}: {type(reference.error).__name__}: {said}"
            )
        differences = compare(original.state, reference.state, self._noise).differences
        if differences:
            shown = summary_of(Problem("IDM901", differences[0].store, differences[0].group, differences[0]))
            return Attempt(obstacle=f"a clean delivery leaves another state {side} {it}: {shown}")
        # By its key, a row that was added beside one of the baseline looks like that one, changed.
        before, now = (_taken_from(run) for run in (original, reference))
        if before != now:
            group = next(iter((before - now) + (now - before)))
            return Attempt(
                obstacle=f"a clean delivery leaves another state {side} {it}: in {group} it adds what it else changes"
            )
        fallen: Fallen[Run] = Fallen()
        coverage = self._cover(self._model(reference), original, fallen)
        plans = sum(covered.ran for covered in coverage)
        if removed and not sum(store.uses for store in self._stage.guarded()):
            return Attempt(plans, obstacle="no delivery of the search came to use it")
        broken = [f"{c.explorer} was cut short: {c.skipped}" for c in coverage if c.skipped]
        broken += [note.text for note in self._stage.tally.notes.values() if note.code == "IDM901"]
        if not fallen.count and broken:
            return Attempt(plans, obstacle=f"the search {side} {it} broke off: {broken[0]}")
        if fallen.first is None:
            raised = next(
                (note.text for note in self._stage.tally.notes.values() if note.code == "IDM401"), ""
            )
            return Attempt(plans, shown=raised.partition("\n")[0])
        plan, problems = fallen.first
        runs = [self._stage.run(plan) for _ in range(_CONFIRMATIONS)]
        if self._learn_from(runs) and not all(self._still_shown(original, run, problems) for run in runs):
            # It was noise that no run had shown so far: what is known now is enough for the same search.
            return self._search_altered(original, removed=removed)
        shows = [self._still_shown(original, run, problems) for run in runs]
        if not all(shows):
            return Attempt(plans, obstacle=f"what plan {plan} showed {side} {it} does not show every time")
        return Attempt(
            plans, fallen.count, tuple(fallen.codes.items()), summary_of(min(problems, key=_severity)), plan
        )

    # -- the report --------------------------------------------------------------------------------------

    def _doubts(self, coverage: Sequence[Coverage]) -> list[Note]:
        notes = list(self._stage.tally.notes.values())
        strangers = self._stage.strangers()
        if strangers:
            notes.append(Note("IDM904", f"the job touched {', '.join(strangers)}. {CODES['IDM904'].remedy}"))
        for covered in coverage:
            if covered.skipped is not None and "connection" in covered.skipped:
                notes.append(Note("IDM905", f"{covered.skipped}. {CODES['IDM905'].remedy}"))
            elif covered.ran and not covered.fired and covered.unreached:
                notes.append(Note("IDM906", _unreached(covered.explorer)))
        return notes

    def _disagreements(self) -> list[Note]:
        """Stores that learn what changed without reading everything read everything now, once."""
        verifying = (
            verify for store in self._stage.stores if (verify := getattr(store, "verify", None)) is not None
        )
        found = [doubt for verify in verifying if (doubt := verify()) is not None]
        return [Note("IDM907", f"{doubt}. {CODES['IDM907'].remedy}") for doubt in found]

    def _report(
        self,
        started: float,
        reference: Run,
        verdict: Verdict,
        findings: Sequence[Finding],
        notes: Sequence[Note],
        coverage: Sequence[Coverage],
        *,
        exhaustive: bool,
    ) -> Report:
        options = self._options
        bounds = (
            [f"the one plan {options.plan}"]
            if options.plan is not None
            else [
                f"{options.deliveries} deliveries in sequence",
                f"{options.overlapping} overlapping deliveries",
                "1 fault, or 2 kills one after the other",
            ]
        )
        if options.plan is None:
            bounds += [bound for e in self._explorers if (bound := getattr(e, "bound", None)) is not None]
        if options.faults is not None:
            bounds.append("faults: " + ", ".join(sorted(options.faults)))
        certificate = Certificate(
            jobs=tuple(self._stage.delivered),
            stores=tuple(f"{s.name} ({_described(s)})" for s in self._stage.stores),
            references=self._stage.tally.references,
            effects=len(reference.result.history.effects),
            calls=reference.result.history.endings()[-1].call if reference.result.history.endings() else 0,
            trials=self._stage.tally.trials,
            executions=self._stage.tally.executions,
            redeliveries=self._stage.tally.redeliveries,
            coverage=tuple(coverage),
            exhaustive=exhaustive
            and options.plan is None
            and not any(c.over_budget or c.skipped or c.exhaustive is False for c in coverage),
            bounds=tuple(bounds),
            ignored=options.ignore,
            noise=self._noise.described(),
            seed=options.seed,
            seconds=time.perf_counter() - started,
            writes=_writes(reference),
        )
        return Report(
            self.name,
            verdict,
            tuple(findings),
            tuple(notes),
            certificate,
            reference=reference.result.history,
        )


def _writes(reference: Run) -> tuple[str, ...]:
    effects = (event.effect for event in reference.result.history.effects)
    labels = (e.label for e in effects if e is not None and e.access is not Access.READ)
    return tuple(dict.fromkeys(labels))


def _taken_from(run: Run) -> Counter[str]:
    """How many facts of the baseline were changed or taken away, by where."""
    return Counter(f"{fact.store}: {fact.group}" for fact in run.state.delta.removed)


def _unreached(explorer: str) -> str:
    if explorer == "plan":
        return (
            "the plan's fault, or the call that it is for, was not reached: the job no longer passes this point. "
            "Search again without the plan"
        )
    return f"no fault of {explorer} was reached. {CODES['IDM906'].remedy}"


def _described(store: Store) -> str:
    return str(getattr(store, "description", store.kind))


def _told(finding: Finding) -> tuple[str, Plan]:
    return finding.code, finding.counterexample.plan


def _distinct(problems: Iterable[Problem]) -> list[Problem]:
    seen: dict[tuple[str, str, str], Problem] = {}
    for problem in problems:
        seen.setdefault(problem.locus, problem)
    return list(seen.values())


def _severity(problem: Problem) -> tuple[int, str]:
    """The most telling first: the outside world before rows, rows before keys."""
    order = ("IDM302", "IDM301", "IDM304", "IDM105", "IDM104", "IDM108", "IDM101", "IDM102")
    return (order.index(problem.code) if problem.code in order else len(order), problem.code)


def _proposed(plans: Iterable[Plan]) -> Search:
    """A list of plans as a search that learns nothing."""
    for plan in plans:
        yield Proposal(plan)
    return None
