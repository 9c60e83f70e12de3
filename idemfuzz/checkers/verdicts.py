"""What is wrong with a Trial, as stable codes: duplicated, lost or torn, stuck, noise."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from idemfuzz.checkers.sameness import Comparison
from idemfuzz.model import (
    Delta,
    Difference,
    DifferenceKind,
    Ending,
    EventKind,
    Fact,
    FactKind,
    FaultKind,
    History,
    Note,
    Plan,
)

_DUPLICATED = {
    FactKind.ROW: "IDM101",
    FactKind.KEY: "IDM103",
    FactKind.MAIL: "IDM104",
    FactKind.HTTP: "IDM105",
    FactKind.JOB: "IDM106",
    FactKind.FILE: "IDM107",
    FactKind.CALL: "IDM108",
}
# The last: a directory that `tempfile` has made, and what lies in it.
_TEMPORARY = re.compile(
    r"(^|/)(tmp|\.)[^/]*$|\.(tmp|temp|part|partial|lock|swp)$|~$|(^|/)tmp[a-z0-9_]{8}/", re.IGNORECASE
)
_INTERRUPTIONS = (FaultKind.TIMEOUT, FaultKind.SHUTDOWN, FaultKind.REFUSED, FaultKind.LOST)


@dataclass(frozen=True, slots=True)
class Observed:
    """What a Trial showed apart from its state."""

    plan: Plan
    history: History
    stuck: str | None = None
    hung: bool = False
    raised: tuple[str, ...] = ()
    assertion: str | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: its code, where, and the difference that shows it."""

    code: str
    store: str
    group: str
    difference: Difference | None = None
    text: str = ""

    @property
    def locus(self) -> tuple[str, str, str]:
        """Equal for the same thing gone wrong in different Trials."""
        return (self.code, self.store, self.group)


@dataclass(frozen=True, slots=True)
class Judgement:
    problems: tuple[Problem, ...]
    notes: tuple[Note, ...]


def judge(
    comparison: Comparison, observed: Observed, *, ignore: Iterable[str] = (), strict: bool = False
) -> Judgement:
    """Name what is wrong with a Trial; no problems means that its state is the Reference's."""
    notes: list[Note] = []
    kept: list[Difference] = []
    for difference in comparison.differences:
        note = _tolerated(difference, observed)
        if note is None:
            kept.append(difference)
        else:
            notes.append(note)
    problems = [_problem(d, kept, comparison, observed) for d in kept]
    problems += _behaviour(kept, observed)
    noise = _noise(kept, problems, observed)
    if strict:
        problems += [Problem(note.code, "job", "job", text=note.text) for note in noise]
    else:
        notes += noise
    ignored = tuple(ignore)
    problems = [p for p in problems if not any(fnmatchcase(p.code, pattern) for pattern in ignored)]
    return Judgement(tuple(problems), tuple(notes))


def _problem(
    difference: Difference, all_: list[Difference], comparison: Comparison, observed: Observed
) -> Problem:
    fact = difference.fact
    return Problem(_code(difference, all_, comparison, observed), difference.store, fact.group, difference)


def _code(difference: Difference, all_: list[Difference], comparison: Comparison, observed: Observed) -> str:
    kind = difference.fact.kind
    if difference.kind is DifferenceKind.EXTRA:
        # A key that one clean delivery takes away again, or never makes.
        passing = not difference.expected_count and not difference.fact.expires and not difference.removal
        if kind is FactKind.KEY and passing and observed.plan.faults:
            if not holds_work(difference.fact):
                return "IDM302"
            resent = all(fault.kind is FaultKind.RESENT for fault in observed.plan.faults)
            if not resent or any(d.kind is not DifferenceKind.EXTRA for d in all_):
                return "IDM202"
        return duplicated(difference)
    if difference.kind is DifferenceKind.CHANGED and difference.twice:
        return duplicated(difference)
    if observed.hung or observed.stuck:
        return "IDM304" if observed.hung else "IDM301"
    if difference.kind is DifferenceKind.MISLINKED:
        return "IDM203"
    if difference.kind is DifferenceKind.CHANGED:
        return "IDM202" if observed.plan.faults else duplicated(difference)
    if not observed.plan.faults and not observed.plan.overlap:
        # Nothing was cut short: the repetition has undone it (a status toggled back, a row taken away again).
        return "IDM102" if kind is FactKind.ROW else _DUPLICATED[kind]
    return "IDM201" if _nothing_done(all_, comparison) else "IDM202"


def holds_work(fact: Fact) -> bool:
    """Whether a key is a queue of things to do, and no lock: an expiry would throw them away."""
    return fact.fields.get("type") in ("list", "stream")


def duplicated(difference: Difference) -> str:
    """The code for something that was done once more than in one clean delivery."""
    kind = difference.fact.kind
    again = difference.removal or difference.kind is not DifferenceKind.EXTRA
    return "IDM102" if again and kind is FactKind.ROW else _DUPLICATED[kind]


def _nothing_done(all_: list[Difference], comparison: Comparison) -> bool:
    """Whether nothing but keys (guards, locks) is left of the work."""
    lost = [d for d in all_ if d.kind is DifferenceKind.MISSING]
    if comparison.matched == 0:
        return True
    work = [d for d in lost if d.fact.kind is not FactKind.KEY]
    return bool(work) and comparison.matched_work == 0


def _behaviour(kept: list[Difference], observed: Observed) -> list[Problem]:
    """What is wrong although no difference says so."""
    if observed.hung and not any(d.kind is not DifferenceKind.EXTRA for d in kept):
        return [Problem("IDM304", "job", "job", text="a delivery did not end within the time limit")]
    if observed.assertion is not None and not kept:
        return [Problem("IDM109", "test", "assertion", text=observed.assertion)]
    return []


def _noise(kept: list[Difference], problems: list[Problem], observed: Observed) -> list[Note]:
    if kept or problems:
        return []
    if observed.stuck:
        return [
            Note("IDM401", f"the state is right, but the redelivered job keeps failing: {observed.stuck}")
        ]
    if observed.raised:
        return [Note("IDM401", f"the state is right, but a duplicate raises: {observed.raised[0]}")]
    return []


def _tolerated(difference: Difference, observed: Observed) -> Note | None:
    """What a crash or a duplicate may leave behind without harm, or a job leaves out by its own choice."""
    fact = difference.fact
    if not observed.plan.faults:
        if difference.kind is DifferenceKind.EXTRA and _is_lease_of_all(difference, observed.history):
            return Note("IDM402", f"a duplicate leaves {fact.group} behind until it expires")
        return None
    if difference.kind is DifferenceKind.EXTRA and not difference.removal:
        if fact.kind is FactKind.KEY and fact.expires:
            return Note("IDM402", f"a crash leaves {fact.group} behind until it expires")
        if fact.kind is FactKind.FILE and _TEMPORARY.search(str(fact.fields.get("path", ""))):
            return Note("IDM402", f"a crash leaves the temporary file {fact.group} behind")
    if (
        difference.kind is DifferenceKind.MISSING
        and fact.kind is FactKind.KEY
        and fact.expires
        and _swallowed(observed)
    ):
        return Note(
            "IDM403", f"{fact.group} is left out when its store is refused: the job swallows the error"
        )
    return None


def _is_lease_of_all(difference: Difference, history: History) -> bool:
    """Whether it is a lease that one clean delivery gives back, and another one, which left early, did not."""
    fact = difference.fact
    if fact.kind is not FactKind.KEY or not fact.expires or difference.expected_count or difference.removal:
        return False
    takers = {
        (event.call, event.delivery)
        for event in history
        if event.effect is not None
        and event.effect.lease_seconds is not None
        and event.effect.footprint is not None
        and any(
            region.store == fact.store and region.name == fact.fields.get("key")
            for region in event.effect.footprint.writes
        )
    }
    return len(takers) > 1


def _swallowed(observed: Observed) -> bool:
    """Whether an Execution met an error and ended well all the same."""
    struck = {
        event.delivery
        for event in observed.history
        if event.kind is EventKind.FAULT and event.fault is not None and event.fault.kind in _INTERRUPTIONS
    }
    return any(event.delivery in struck and event.ending is Ending.OK for event in observed.history.endings())


def strip(delta: Delta, ignore: Iterable[str]) -> Delta:
    """Leave out what the user told us to: ``users.updated_at``, ``db.audit``, ``redis:cache:*``, ``mail``."""
    patterns = tuple(pattern for pattern in ignore if not pattern.startswith("IDM"))
    if not patterns:
        return delta
    return Delta(*(_stripped(facts, patterns) for facts in (delta.added, delta.removed, delta.lapsed)))


def _stripped(facts: Iterable[Fact], patterns: tuple[str, ...]) -> tuple[Fact, ...]:
    kept = []
    for fact in facts:
        names = [fact.group, f"{fact.store}.{fact.group}", fact.store, str(fact.kind)]
        if "key" in fact.identity:
            names += [str(fact.fields.get("key")), f"{fact.store}:{fact.fields.get('key')}"]
        if "path" in fact.identity:
            names.append(str(fact.fields.get("path")))
        if any(fnmatchcase(name, pattern) for name in names for pattern in patterns):
            continue
        fields = {
            field: value
            for field, value in fact.fields.items()
            if not any(
                fnmatchcase(name, pattern)
                for name in (f"{fact.group}.{field}", f"{fact.store}.{fact.group}.{field}")
                for pattern in patterns
            )
        }
        kept.append(
            fact
            if len(fields) == len(fact.fields)
            else Fact(
                fact.store,
                fact.kind,
                fact.group,
                fields,
                fact.identity,
                fact.generated,
                fact.expires,
                fact.once,
            )
        )
    return tuple(kept)
