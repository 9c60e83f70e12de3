"""Explorers at work: what they propose within their shares of the budget is run, judged, and told to them."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace

from idemfuzz.abc import Explorer, Extent, Options, Outcome, Proposal, Queue, Reference, SearchingExplorer
from idemfuzz.checkers.causes import Causes, Fallen
from idemfuzz.explorers.budget import SEARCH_TRIALS_MIN, divided, is_wanted, thinned
from idemfuzz.model import Coverage, FaultKind, Note, Plan
from idemfuzz.session.oracle import Oracle
from idemfuzz.session.progress import Listener, Progress
from idemfuzz.stage import Run, Stage

_HUNG_MAX = 2
_EFFECTS_IN_ALL_MAX = 400_000
_WINDOW_SECONDS = 1095.0
"""How late a redelivery may come where no queue says otherwise: that of stock RQ."""

Search = Generator[Proposal, Outcome, Extent | None]


@dataclass(frozen=True, slots=True)
class Exploration:
    """All wanted explorers, one after the other, on ``stage``; ``oracle`` judges what they run."""

    stage: Stage
    oracle: Oracle
    options: Options
    explorers: Sequence[Explorer | SearchingExplorer]
    listener: Listener

    def cover(self, reference: Run, baseline: Run, causes: Causes[Run] | Fallen[Run]) -> list[Coverage]:
        """All wanted explorers, in their order, or the one Plan that is asked for.

        Args:
            reference: the run whose Effects the explorers plan by.
            baseline: the run that theirs are judged by; another one where guards are altered.
            causes: takes what they come upon.
        """
        if self.options.plan is not None:
            return [self._explore("plan", _proposed([self.options.plan]), 1, baseline, causes)]
        model = self._model(reference)
        wanted = self.options.faults
        chosen = [e for e in self.explorers if is_wanted(e, wanted)]
        budget = min(self.options.max_trials, max(20, _EFFECTS_IN_ALL_MAX // max(1, 2 * len(model.events))))
        lists = {e.name: list(e.plans(model, self.options)) for e in chosen if isinstance(e, Explorer)}
        weights = {e.name: e.weight for e in chosen if isinstance(e, SearchingExplorer)}
        shares = divided({name: len(plans) for name, plans in lists.items()}, budget, searched=bool(weights))
        left = budget - sum(shares.values())
        coverage = []
        for explorer in chosen:
            if isinstance(explorer, SearchingExplorer):
                share = max(left * explorer.weight // sum(weights.values()), min(left, SEARCH_TRIALS_MIN))
                del weights[explorer.name]
                search = explorer.search(model, self.options, share)
                done = self._explore(explorer.name, search, share, baseline, causes)
                # What one search does not use is left to the others.
                left = max(0, left - done.ran)
                coverage.append(done)
                continue
            plans = lists[explorer.name]
            chosen_plans = thinned(plans, shares[explorer.name])
            done = self._explore(explorer.name, _proposed(chosen_plans), len(chosen_plans), baseline, causes)
            over = len(plans) - len(chosen_plans)
            coverage.append(
                replace(done, planned=len(plans), over_budget=over, pruned=explorer.pruned(model))
            )
        return coverage

    def _model(self, reference: Run) -> Reference:
        queue = next((q for q in self.stage.delivered.values() if q is not None), None)
        interruptions = {
            kind: (queue.interruption(kind) is not None) if queue is not None else kind is FaultKind.TIMEOUT
            for kind in (FaultKind.TIMEOUT, FaultKind.SHUTDOWN)
        }
        return Reference(
            events=tuple(e for e in reference.result.history.effects if e.point is not None),
            calls=max((e.call for e in reference.result.history.endings()), default=0),
            identified=self.stage.identified,
            interruptions=interruptions,
            window_seconds=self._window(queue),
        )

    def _window(self, queue: Queue | None) -> float:
        """How late a redelivery may come: as was said, or by the queue's own settings, or by those of stock RQ."""
        if self.options.redelivery_window is not None:
            return self.options.redelivery_window
        return queue.redelivery_window_seconds if queue is not None else _WINDOW_SECONDS

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
                self.listener(Progress(phase, ran, max(expected, ran + 1), len(causes)))
                run = self.stage.run(proposal.plan, scheduler=proposal.scheduler)
                plan = run.result.plan
                ran += 1
                if plan.faults or run.result.absent:
                    fired += not run.result.missed
                    unreached += run.result.missed
                if plan.overlap and any(getattr(s, "shared_connection", False) for s in self.stage.stores):
                    skipped = "two deliveries used one connection"
                    break
                judgement = self.oracle.judge(reference, run)
                for note in judgement.notes:
                    self.stage.tally.notes.setdefault((note.code, note.text), note)
                if judgement.problems:
                    causes.add(plan, run, judgement.problems)
                if self.stage.tally.hung > _HUNG_MAX:
                    skipped = "too many deliveries did not end within the time limit"
                    break
                result = run.result
                outcome = Outcome(result.history, result.steps, bool(judgement.problems), result.hung)
        except StopIteration as end:
            extent = end.value
        self.listener(Progress(phase, ran, ran, len(causes)))
        if extent is None:
            return Coverage(phase, ran, ran, fired, 0, unreached, 0, skipped)
        if extent.diverged:
            self.stage.tally.notes.setdefault(("IDM901", phase), Note("IDM901", f"{phase}: {extent.why}"))
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


def _proposed(plans: Iterable[Plan]) -> Search:
    """A list of plans as a search that learns nothing."""
    for plan in plans:
        yield Proposal(plan)
    return None
