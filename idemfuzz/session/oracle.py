"""What is right, and what a trial shows against it: the reference, what is known of noise, the judgement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from idemfuzz.abc import Options, Unusable
from idemfuzz.checkers import Judgement, Noise, Observed, Problem, compare, judge
from idemfuzz.diagnose import CODES, summary_of
from idemfuzz.model import Note, Plan
from idemfuzz.session.progress import ScenarioFailed
from idemfuzz.stage import Run, Stage

_CLOCK_STEPS_SECONDS = (90_063.7, 3.7)
"""A day, an hour, a minute and some: every part of a written time moves. Less, where the job minds."""


class Oracle:
    """Judges what ran on ``stage``; ``noise`` is what it has learned so far of what differs by nature."""

    def __init__(self, stage: Stage, options: Options, noise: Noise | None = None) -> None:
        self.noise = Noise() if noise is None else noise
        self._stage = stage
        self._options = options

    def copy(self) -> Oracle:
        """One that knows the same, and learns on its own from here on."""
        return Oracle(self._stage, self._options, self.noise.copy())

    def reference_run(
        self, *, perturb: bool = False, shift_seconds: float = 0.0, traced: bool = False
    ) -> Run:
        self._stage.tally.references += 1
        return self._stage.run(Plan(), perturb=perturb, shift_seconds=shift_seconds, traced=traced)

    def learn(self) -> tuple[Run, Note | None]:
        """The Reference, twice: the clock moved and the generated ids shifted the second time.

        Returns:
            The first of the two, and why nothing can be claimed with it, if that is so.

        Raises:
            Unusable: a job was given what cannot be delivered.
            ScenarioFailed: it fails when its jobs are delivered once.
        """
        first = self.reference_run(traced=True)
        if isinstance(first.error, Unusable):
            raise first.error
        if first.error is not None:
            raise ScenarioFailed(first.error)
        if not first.result.deliveries:
            return first, _note("IDM902")
        if not first.state.delta:
            return first, _note("IDM903")
        for step in _CLOCK_STEPS_SECONDS:
            second = self.reference_run(perturb=True, shift_seconds=step)
            if second.error is None and self.agrees(first, second):
                for store in self._stage.stores:
                    loosen = getattr(store, "loosen", None)
                    if loosen is not None:
                        loosen()
                break
        else:
            # The test or the job may depend on the very ids or on the time: look once more without moving them.
            second = self.reference_run()
            if second.error is not None or not self.agrees(first, second):
                what = f": {second.error!r}" if second.error is not None else self._why(first, second)
                return first, Note("IDM901", f"two clean deliveries from the same state differ{what}")
        return first, None

    def agrees(self, first: Run, second: Run) -> bool:
        # What two runs that do not agree seem to teach is forgotten: it would hide real differences.
        noise = self.noise.copy()
        learned = noise.learn(
            first.state.delta.added, second.state.delta.added, first.state.span, second.state.span
        )
        if not learned or compare(first.state, second.state, noise).differences:
            return False
        self.noise = noise
        return True

    def learn_from(self, runs: Sequence[Run]) -> bool:
        """What differs between runs of one plan is noise; whether any of it was not known."""
        known = self.noise.copy()
        for earlier, later in pairwise(runs):
            self.noise.learn(
                earlier.state.delta.added, later.state.delta.added, earlier.state.span, later.state.span
            )
        return (known.places, known.ragged, known.families) != (
            self.noise.places,
            self.noise.ragged,
            self.noise.families,
        )

    def _why(self, first: Run, second: Run) -> str:
        differences = compare(first.state, second.state, self.noise).differences
        return "".join(f": {summary_of(Problem('IDM901', d.store, d.group, d))}" for d in differences[:1])

    def judge(self, reference: Run, run: Run) -> Judgement:
        comparison = compare(reference.state, run.state, self.noise)
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

    def alike(self, one: Run, other: Run) -> bool:
        return not compare(one.state, other.state, self.noise).differences

    def still_shown(self, reference: Run, run: Run, problems: Iterable[Problem]) -> set[tuple[str, str, str]]:
        """Of some problems, those that a run shows by all that is known of noise now."""
        return {p.locus for p in problems} & {p.locus for p in self.judge(reference, run).problems}


def _note(code: str) -> Note:
    return Note(code, f"{CODES[code].meaning} {CODES[code].remedy}")
