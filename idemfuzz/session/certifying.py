"""What a search may claim: its doubts, and the certificate of what it covered."""

from __future__ import annotations

import time
from collections.abc import Sequence

from idemfuzz.abc import Explorer, Options, SearchingExplorer, Store
from idemfuzz.checkers import Noise
from idemfuzz.diagnose import CODES, notes_of_strangers
from idemfuzz.model import Access, Certificate, Coverage, FactKind, Note
from idemfuzz.stage import Run, Stage

_ENDS = frozenset({"commit", "rollback"})
_THROUGH_SQLALCHEMY = (
    "Let the job's statements go through a Connection or a Session: a cursor of the driver's own is not watched, so that no fault "
    "strikes there and no other delivery comes between"
)


def doubts(stage: Stage, coverage: Sequence[Coverage]) -> list[Note]:
    notes = [*stage.tally.notes.values(), *notes_of_strangers(stage.strangers())]
    for covered in coverage:
        if covered.skipped is not None and "connection" in covered.skipped:
            notes.append(Note("IDM905", f"{covered.skipped}. {CODES['IDM905'].remedy}"))
        elif covered.ran and not covered.fired and covered.unreached:
            notes.append(Note("IDM906", _unreached(covered.explorer)))
    return notes


def unseen(reference: Run) -> list[Note]:
    """Stores whose rows changed though none of the job's statements was seen: a cursor of the driver's own wrote them.

    Duplicates are judged there as ever, but no fault can strike at such a statement, and no other delivery come between two.
    """
    delta = reference.state.delta
    changed = {fact.store for fact in (*delta.added, *delta.removed) if fact.kind is FactKind.ROW}
    labels: dict[str, set[str]] = {}
    for event in reference.result.history.effects:
        if event.effect is not None:
            labels.setdefault(event.effect.store, set()).add(event.effect.label.rpartition(".")[2])
    # Rows that the test's own body writes, where the job does something else, are no doubt.
    blind = [n for n in sorted(changed) if (n in labels and labels[n] <= _ENDS) or not labels]
    return [
        Note("IDM903", f"{name}: rows changed, and no statement was seen to do it. {_THROUGH_SQLALCHEMY}")
        for name in blind
    ]


def disagreements(stage: Stage) -> list[Note]:
    """Stores that learn what changed without reading everything read everything now, once."""
    verifying = (verify for store in stage.stores if (verify := getattr(store, "verify", None)) is not None)
    found = [doubt for verify in verifying if (doubt := verify()) is not None]
    return [Note("IDM907", f"{doubt}. {CODES['IDM907'].remedy}") for doubt in found]


def certified(
    stage: Stage,
    options: Options,
    noise: Noise,
    explorers: Sequence[Explorer | SearchingExplorer],
    reference: Run,
    coverage: Sequence[Coverage],
    started: float,
    *,
    exhaustive: bool,
) -> Certificate:
    """What was covered of which jobs and stores, within which bounds, since ``started`` (of ``time.perf_counter``)."""
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
        bounds += [bound for e in explorers if (bound := getattr(e, "bound", None)) is not None]
    if options.faults is not None:
        bounds.append("faults: " + ", ".join(sorted(options.faults)))
    return Certificate(
        jobs=tuple(stage.delivered),
        stores=tuple(f"{s.name} ({_described(s)})" for s in stage.stores),
        references=stage.tally.references,
        effects=len(reference.result.history.effects),
        calls=reference.result.history.endings()[-1].call if reference.result.history.endings() else 0,
        trials=stage.tally.trials,
        executions=stage.tally.executions,
        redeliveries=stage.tally.redeliveries,
        coverage=tuple(coverage),
        exhaustive=exhaustive
        and options.plan is None
        and not any(c.over_budget or c.skipped or c.exhaustive is False for c in coverage),
        bounds=tuple(bounds),
        ignored=options.ignore,
        noise=noise.described(),
        seed=options.seed,
        seconds=time.perf_counter() - started,
        writes=_writes(reference),
    )


def _writes(reference: Run) -> tuple[str, ...]:
    effects = (event.effect for event in reference.result.history.effects)
    labels = (e.label for e in effects if e is not None and e.access is not Access.READ)
    return tuple(dict.fromkeys(labels))


def _unreached(explorer: str) -> str:
    if explorer == "plan":
        return (
            "the plan's fault, or the call that it is for, was not reached: the job no longer passes this point. "
            "Search again without the plan"
        )
    return f"no fault of {explorer} was reached. {CODES['IDM906'].remedy}"


def _described(store: Store) -> str:
    return str(getattr(store, "description", store.kind))
