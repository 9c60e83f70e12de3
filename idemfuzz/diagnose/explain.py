"""Words for findings: what differs, who caused it, where."""

from __future__ import annotations

from collections.abc import Sequence

from idemfuzz.abc import Queue
from idemfuzz.checkers import Problem
from idemfuzz.diagnose.codes import CODES
from idemfuzz.model import (
    Access,
    Difference,
    DifferenceKind,
    Ending,
    Event,
    EventKind,
    FactKind,
    FaultKind,
    History,
    Lapse,
    Note,
    Plan,
    Source,
)

_NOUN = {
    FactKind.ROW: "row",
    FactKind.KEY: "key",
    FactKind.FILE: "file",
    FactKind.MAIL: "mail",
    FactKind.HTTP: "call",
    FactKind.JOB: "child job",
    FactKind.CALL: "call",
}
_GENERIC = {
    "duplicate": "queues deliver at least once: the acknowledgement is lost, a producer retries, an operator requeues",
    "overlap": "a slow worker is taken for dead, or a producer enqueues twice: two workers run the job at once",
    "kill": "the worker's process is gone (deploy, out of memory, SIGKILL) and the queue delivers the job again",
    "timeout": "the worker's time limit strikes in the middle of the job",
    "shutdown": "the worker is told to stop in the middle of the job",
}
_NETWORK = {
    FaultKind.REFUSED: "the connection is refused or broken before the action takes effect",
    FaultKind.LOST: "the action takes effect, but the connection breaks before the answer comes (an ambiguous COMMIT)",
    FaultKind.RESENT: "the answer is lost and the client library sends the command again "
    "(redis-py's default for Redis(host, port) since version 6)",
    FaultKind.FAILOVER: "Redis goes on from an older state (a replica takes over, a restart from a snapshot), with the "
    "job in the queue again: it has lost what was written from here on",
}


def summary_of(problem: Problem) -> str:
    """One line: what is different from one clean delivery."""
    difference = problem.difference
    if difference is None:
        return problem.text
    noun, place = _NOUN[difference.fact.kind], f"{difference.store}: {difference.group}"
    match difference.kind:
        case DifferenceKind.EXTRA if difference.removal:
            return f"{place}: a {noun} is removed that one delivery leaves: {difference.actual}"
        case DifferenceKind.EXTRA:
            counts = _counts(difference, noun)
            return f"{place}: {counts}: {difference.actual}"
        case DifferenceKind.MISSING if difference.removal:
            return f"{place}: a {noun} is still there that one delivery removes: {difference.expected}"
        case DifferenceKind.MISSING if difference.actual is not None:
            return f"{place}: not updated: {difference.actual}, expected {difference.expected}"
        case DifferenceKind.MISSING:
            return f"{place}: missing: {difference.expected}"
        case DifferenceKind.MISLINKED:
            return f"{place}: refers to something else than after one delivery: {difference.actual}"
    changes = ", ".join(_change(difference, column) for column in difference.columns)
    return f"{place}: {changes}"


def _counts(difference: Difference, noun: str) -> str:
    if difference.actual_count > difference.expected_count:
        plural = "" if difference.actual_count == 1 else "s"
        return f"{difference.actual_count} {noun}{plural} instead of {difference.expected_count}"
    return f"unexpected {noun}"


def _change(difference: Difference, column: str) -> str:
    expected = difference.expected.fields.get(column) if difference.expected else None
    actual = difference.actual.fields.get(column) if difference.actual else None
    return f"{column} is {actual!r} instead of {expected!r}"


def cause_of(plan: Plan, history: History, queue: Queue | None) -> str:
    """The real event behind a plan, in the words of the queue at hand."""
    reason = queue.reason if queue is not None else _GENERIC.__getitem__
    stall = sum(part.seconds for part in plan.overlap if isinstance(part, Lapse))
    if not plan.faults:
        said = reason("overlap" if plan.overlap else "duplicate")
        if stall:
            return f"{said} Here the first delivery stalls for {stall:g} s, longer than its lease, and then goes on"
        if plan.late_seconds:
            return f"{said} Here the second delivery comes {plan.late_seconds:g} s after the first: what expires sooner is gone"
        return said
    fault = plan.faults[0]
    struck = next((e for e in history if e.kind is EventKind.FAULT and e.fault == fault), None)
    where = (
        f" ({fault.side} {struck.effect.detail or struck.effect.label})" if struck and struck.effect else ""
    )
    if fault.kind in _NETWORK:
        return _NETWORK[fault.kind] + where
    return reason(str(fault.kind)) + where


def source_of(problem: Problem, history: History) -> Source | None:
    """The user's line that did it: the last Effect of a further delivery on this thing, else where the fault struck."""
    writes = [
        e for e in history.effects if e.effect and e.effect.access is not Access.READ and e.effect.source
    ]
    touching = [e for e in writes if _touches(e, problem)]
    struck = [e for e in history if e.kind is EventKind.FAULT and e.effect is not None]
    if problem.code.startswith("IDM1") and touching:
        return touching[-1].source
    if problem.code.startswith("IDM2") and struck:
        return struck[0].source
    for events in (touching, struck, writes):
        if events:
            return events[-1].source
    return None


def _touches(event: Event, problem: Problem) -> bool:
    assert event.effect is not None
    if event.effect.store != problem.store:
        return False
    operation, _, rest = event.effect.label.removeprefix(f"{problem.store}.").partition(".")
    return (rest in ("", problem.group) and operation != "commit") or rest == problem.group


def endings_of(history: History) -> Sequence[Ending]:
    """How the deliveries ended, in order."""
    return [event.ending for event in history.endings() if event.ending is not None]


def notes_of_strangers(strangers: Sequence[str]) -> list[Note]:
    """What the job touched and nobody can look at, if there is anything."""
    if not strangers:
        return []
    return [Note("IDM904", f"the job touched {', '.join(strangers)}. {CODES['IDM904'].remedy}")]
