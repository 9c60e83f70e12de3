"""Proofs: the same search without some guards, or with others, and what that shows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

from idemfuzz.abc import Irremovable
from idemfuzz.checkers import Problem, compare
from idemfuzz.checkers.causes import Fallen
from idemfuzz.diagnose import summary_of
from idemfuzz.diagnose.prover import Attempt, mended, proven
from idemfuzz.model import Finding, Guard, GuardKind, Mend, Proof
from idemfuzz.session.confirming import CONFIRMATIONS, severity
from idemfuzz.session.exploring import Exploration
from idemfuzz.stage import Run, Tally


class Proving:
    """Repeats ``exploration`` with other guards on its stage, time after time; they are as they were afterwards."""

    def __init__(self, exploration: Exploration) -> None:
        self._exploration = exploration
        self._stage = exploration.stage

    def prove(self, reference: Run) -> Proof:
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

    def mend(self, reference: Run, findings: Sequence[Finding]) -> tuple[Mend, ...]:
        """Search again with what a database or a client can do for a job whose source stays as it is."""
        differences = [difference for finding in findings for difference in finding.differences]
        plans = [finding.counterexample.plan for finding in findings]
        at_once = any(plan.overlap for plan in plans)
        # The body of a coroutine ends after the call: the stores would be told too early.
        halfway = not self._stage.awaited and (at_once or any(plan.faults for plan in plans))
        candidates: dict[Guard, str] = {}
        for store in self._stage.guarded():
            for guard in store.mends(differences, self._exploration.oracle.noise.never_same(store.name)):
                wanted = {GuardKind.ISOLATION: at_once, GuardKind.COMMIT: halfway}
                if wanted.get(guard.kind, True):
                    candidates[guard] = store.remedy(guard)
        return mended(candidates, lambda with_: self._attempt(reference, with_=with_))

    def _attempt(
        self, original: Run, *, without: Collection[Guard] = (), with_: Collection[Guard] = ()
    ) -> Attempt:
        """The same search without some guards and with others, judged by the reference of the job as it is."""
        phase = f"{'without' if without else 'with'} {' and '.join(map(str, without or with_))}"
        listener = self._exploration.listener
        exploration = replace(
            self._exploration,
            oracle=self._exploration.oracle.copy(),
            listener=lambda progress: listener(replace(progress, phase=f"{phase}: {progress.phase}")),
        )
        tally, self._stage.tally = self._stage.tally, Tally()
        try:
            self._alter(without, with_)
            return self._search(exploration, original, removed=bool(without))
        except Irremovable as error:
            return Attempt(obstacle=str(error))
        finally:
            self._alter((), ())
            self._stage.tally = tally

    def _alter(self, without: Collection[Guard], with_: Collection[Guard]) -> None:
        self._stage.mending = bool(with_)
        for store in self._stage.guarded():
            store.alter(
                [guard for guard in without if guard.store == store.name],
                [guard for guard in with_ if guard.store == store.name],
            )

    def _search(self, exploration: Exploration, original: Run, *, removed: bool) -> Attempt:
        oracle = exploration.oracle
        reference = oracle.reference_run()
        it = "it" if removed else "this"
        side = "without" if removed else "with"
        if reference.error is not None:
            said = str(reference.error).strip().partition("\n")[0]
            return Attempt(
                obstacle=f"a clean delivery fails {side} {it}: {type(reference.error).__name__}: {said}"
            )
        differences = compare(original.state, reference.state, oracle.noise).differences
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
        coverage = exploration.cover(reference, original, fallen)
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
        runs = [self._stage.run(plan) for _ in range(CONFIRMATIONS)]
        if oracle.learn_from(runs) and not all(oracle.still_shown(original, run, problems) for run in runs):
            # It was noise that no run had shown so far: what is known now is enough for the same search.
            return self._search(exploration, original, removed=removed)
        shows = [oracle.still_shown(original, run, problems) for run in runs]
        if not all(shows):
            return Attempt(plans, obstacle=f"what plan {plan} showed {side} {it} does not show every time")
        return Attempt(
            plans, fallen.count, tuple(fallen.codes.items()), summary_of(min(problems, key=severity)), plan
        )


def _taken_from(run: Run) -> Counter[str]:
    """How many facts of the baseline were changed or taken away, by where."""
    return Counter(f"{fact.store}: {fact.group}" for fact in run.state.delta.removed)
