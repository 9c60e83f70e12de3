"""The cause of a finding by name, read from the history of its counterexample.

It looks at who read, wrote and committed what, in which order, and where the fault struck. Where several names fit, the first
of `Mechanism` that is certain is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from idemfuzz.checkers import Problem
from idemfuzz.model import (
    Access,
    DifferenceKind,
    Effect,
    Ending,
    Event,
    EventKind,
    FactKind,
    FaultKind,
    History,
    Lapse,
    Plan,
)

__all__ = ["Diagnosis", "Mechanism", "diagnosed"]


class Mechanism(StrEnum):
    """What is wrong with the job, in the words of the field."""

    RELEASE_WITHOUT_OWNER = "release without owner"
    GUARD_EXPIRES = "guard expires"
    CHECK_THEN_ACT = "check-then-act"
    LOST_UPDATE = "lost update"
    TWO_COMMITS = "two commits that should be one"
    GUARD_BEFORE_EFFECT = "guard before effect"
    EFFECT_BEFORE_GUARD = "effect before guard"
    SWALLOWED = "error swallowed"
    LOST_REPLY = "lost reply taken for a failure"
    NO_EXPIRY = "claim without expiry"
    LOST_WRITE = "guard lost with Redis' last writes"
    NEW_ID = "new id per run"
    CALL_WITHOUT_KEY = "outside call without key"
    MISSING_CONSTRAINT = "missing constraint"
    UNCONDITIONAL = "unconditional write"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    mechanism: Mechanism
    text: str
    """One sentence, with the lines."""
    call: int = 0
    """The number of the call of a job that it is about."""
    guard: Event | None = None
    """What was meant to keep the job from being done twice, or was taken for its end."""
    write: Event | None = None
    """What writes the thing that differs."""
    parts: tuple[str, ...] = ()
    """Statements and commands that belong together, in their order."""


_OUTSIDE = (FactKind.MAIL, FactKind.HTTP, FactKind.JOB, FactKind.CALL)
_STATEMENT = re.compile(r"(?:select|insert|update|delete|replace|with|merge)\b", re.I)
_VALUES = re.compile(r"\s(?:\[.*\]?|\{.*\}?)\Z")
_MADE_UP_LENGTH_MIN = 8
"""Shorter values stand in other texts by chance."""
_AFTERTHOUGHTS = (".EXPIRE", ".PEXPIRE", ".EXPIREAT", ".PEXPIREAT", ".PERSIST", ".LTRIM", ".EVAL", ".EVALSHA")
"""Commands that seldom make a key what it is: another write of it says more."""
_BLOWS = {
    FaultKind.KILL: "crash",
    FaultKind.TIMEOUT: "time limit",
    FaultKind.SHUTDOWN: "shutdown",
    FaultKind.REFUSED: "broken connection",
    FaultKind.LOST: "lost reply",
    FaultKind.RESENT: "lost reply",
}
_ENDS = (".commit", ".rollback", ".savepoint", ".release")
_RELEASES = re.compile(r"\b(?:DEL|UNLINK|EVAL|EVALSHA)\b", re.I)
Fits = Callable[[str, str], bool]


def diagnosed(problem: Problem, plan: Plan, history: History, makes_up: Fits) -> Diagnosis | None:
    """The cause of a problem. ``makes_up`` says of a group and a field whether its values are made up.

    None where the history does not tell.
    """
    if problem.difference is None:
        return None
    view = _View(problem, plan, history, makes_up)
    mechanism = view.mechanism()
    if mechanism is None:
        return None
    return view.diagnosis(mechanism)


class _View:
    """One problem's history, as the questions of a diagnosis need it."""

    def __init__(self, problem: Problem, plan: Plan, history: History, makes_up: Fits) -> None:
        assert problem.difference is not None
        self.problem = problem
        self.difference = problem.difference
        self.fact = problem.difference.fact
        self.plan = plan
        self.history = history
        self.makes_up = makes_up
        self.effects = [event for event in history.effects if event.effect is not None]
        self.writes = [event for event in self.effects if self._is_target(event)]
        self.struck = next((e for e in history if e.kind is EventKind.FAULT and e.fault is not None), None)
        self.read: Event | None = None
        self.guard: Event | None = None

    # -- which one it is -----------------------------------------------------------------------------------

    def mechanism(self) -> Mechanism | None:
        if self._is_released_by_another():
            return Mechanism.RELEASE_WITHOUT_OWNER
        stalls = any(isinstance(part, Lapse) for part in self.plan.overlap)
        self.guard = next((e for e in self.effects if _of(e).lease_seconds is not None), None)
        if (stalls and self.guard is not None) or (self.plan.late_seconds and not self.plan.faults):
            return Mechanism.GUARD_EXPIRES
        if self.plan.overlap:
            return self._of_overlap()
        if self.struck is not None:
            return self._of_fault(self.struck)
        return self._of_duplicate()

    def _of_overlap(self) -> Mechanism | None:
        """Both looked before either had written; or nobody looked at all."""
        for write in self.writes:
            looks = [e for e in self._before(write) if _is_look(e) and e.delivery == write.delivery]
            told = {name for e in (write, *self.writes) for name in _names(e, writing=True)}
            fitting = [e for e in looks if _names(e, writing=False) & told]
            # Another look comes second: a flag elsewhere that was asked, and not the thing itself.
            for look in (*reversed(fitting), *(e for e in reversed(looks) if e not in fitting)):
                between = self.effects[self._at(look) : self._at(self._visible(write))]
                others = [e for e in between if e.delivery != write.delivery]
                if any(_is_write(e) for e in others):
                    self.read, self.guard = look, write
                    overtaken = any(_names(e, writing=True) & _names(look, writing=False) for e in others)
                    overwrites = overtaken and self._overwrites(write)
                    return Mechanism.LOST_UPDATE if overwrites else Mechanism.CHECK_THEN_ACT
        return self._of_duplicate() if self.writes else None

    def _visible(self, write: Event) -> Event:
        """When others see a write: where its transaction is committed."""
        if _of(write).access is not Access.PENDING:
            return write
        after = self.effects[self._at(write) + 1 :]
        own = (e for e in after if e.delivery == write.delivery and _of(e).store == _of(write).store)
        return next((e for e in own if _of(e).label.endswith((".commit", ".rollback"))), write)

    def _overwrites(self, write: Event) -> bool:
        """Whether what this write puts there is older than what it finds: no other delivery has written the same."""
        if self.difference.kind is not DifferenceKind.CHANGED or self.difference.twice:
            return False
        others = [e for e in self.writes if e.delivery != write.delivery]
        return bool(others) and all(_of(e).detail != _of(write).detail for e in others)

    def _of_fault(self, struck: Event) -> Mechanism:
        assert struck.fault is not None
        kind = struck.fault.kind
        if kind is FaultKind.FAILOVER:
            return Mechanism.LOST_WRITE
        if self.problem.code == "IDM302":
            return Mechanism.NO_EXPIRY
        if kind is FaultKind.RESENT:
            if self.problem.code.startswith("IDM2") or (
                _asks_first(struck) and not self.problem.code.startswith("IDM1")
            ):
                self.guard = struck
                return Mechanism.GUARD_BEFORE_EFFECT
            self.writes = [struck]
            return Mechanism.UNCONDITIONAL
        earlier = [e for e in self._until(struck) if e.delivery == struck.delivery]
        durable = [e for e in earlier if _of(e).access is Access.DURABLE]
        if not self.problem.code.startswith("IDM1"):
            return self._of_loss(struck, durable)
        own = [write for write in self.writes if self._is_own(struck, write)]
        if kind is FaultKind.LOST and own:
            self.writes = own
            return Mechanism.LOST_REPLY
        # A further delivery did it again: did it look for a mark that is only written afterwards?
        for write in reversed(self.writes):
            later = [e for e in self.effects[self._at(write) + 1 :] if e.delivery == write.delivery]
            looks = [e for e in self._before(write) if _is_look(e) and e.delivery == write.delivery]
            seen = {name for look in looks for name in _names(look, writing=False)}
            marks = (e for e in later if _of(e).access is not Access.READ and e not in self.writes)
            self.guard = next((e for e in marks if _names(e, writing=True) & seen), None)
            if self.guard is not None:
                self.read = write
                return Mechanism.EFFECT_BEFORE_GUARD
        self.guard = next((e for e in earlier if _of(e).lease_seconds is not None), None)
        # The redelivery comes when the claim has run out, and gets it for itself.
        return (
            Mechanism.GUARD_EXPIRES
            if self.guard is not None and self._is_got_again(self.guard)
            else self._of_duplicate()
        )

    def _is_own(self, struck: Event, write: Event) -> bool:
        """Whether the delivery that a fault struck does this after it."""
        place = next(number for number, event in enumerate(self.history) if event is struck)
        later = [event for number, event in enumerate(self.history) if number > place]
        return write.delivery == struck.delivery and any(event is write for event in later)

    def _is_got_again(self, claim: Event) -> bool:
        later = [e for e in self.effects[self._at(claim) + 1 :] if e.delivery != claim.delivery]
        return any(
            _of(e).label == _of(claim).label and _of(e).source == _of(claim).source and e.outcome != "None"
            for e in later
        )

    def _of_loss(self, struck: Event, durable: Sequence[Event]) -> Mechanism:
        survivors = [e for e in durable if e not in self.writes]
        if survivors:
            self.guard = survivors[-1]
            ends = _of(self.guard).label.endswith((".commit", ".savepoint", ".release"))
            if ends and _of(self.guard).store == self.problem.store:
                return Mechanism.TWO_COMMITS
            return self._of_claim()
        if durable:
            self.guard = durable[-1]
            is_key = self.fact.kind is FactKind.KEY
            return Mechanism.TWO_COMMITS if is_key else self._of_claim()
        ended = [e for e in self.history.endings() if e.delivery == struck.delivery]
        if any(e.ending is Ending.OK for e in ended):
            return Mechanism.SWALLOWED
        later = [e for e in self.effects if self._is_own(struck, e) and _of(e).access is Access.DURABLE]
        if later:
            # A finally, or an except, says that it is done.
            self.guard = later[-1]
        return Mechanism.GUARD_BEFORE_EFFECT

    def _of_claim(self) -> Mechanism:
        """What outlives the crash is a mark that work is done; or, where nobody gets past it, one that it is under way."""
        assert self.guard is not None
        in_sql = _of(self.guard).label.endswith(".commit")
        stuck = self.problem.code.startswith("IDM3") and not in_sql
        return Mechanism.NO_EXPIRY if stuck else Mechanism.GUARD_BEFORE_EFFECT

    def _of_duplicate(self) -> Mechanism:
        fact = self.fact
        keyed = fact.once is not None or any(
            name not in fact.generated and self.makes_up(fact.group, name) for name in fact.identity
        )
        if keyed or self._asks_anew() or self._asks_for_its_own():
            return Mechanism.NEW_ID
        if fact.kind in _OUTSIDE:
            return Mechanism.CALL_WITHOUT_KEY
        if (
            fact.kind is FactKind.ROW
            and self.difference.kind is DifferenceKind.EXTRA
            and not self.difference.removal
        ):
            return Mechanism.MISSING_CONSTRAINT
        return Mechanism.UNCONDITIONAL

    def _asks_anew(self) -> bool:
        """Whether a key that a delivery looks up before it acts has another name in each delivery."""
        asked: dict[object, dict[int, frozenset[tuple[str, str]]]] = {}
        for event in self.effects:
            effect = _of(event)
            if _is_look(event) and effect.source is not None and ".select" not in effect.label:
                by_delivery = asked.setdefault((effect.label, effect.source), {})
                by_delivery.setdefault(event.delivery, _names(event, writing=False))
        return any(len(seen) > 1 and len(set(seen.values())) == len(seen) for seen in asked.values())

    def _asks_for_its_own(self) -> bool:
        """Whether a delivery looks for the very value that it has made up: nobody else can have written it."""
        own = [
            str(value)
            for name, value in self.fact.fields.items()
            if name not in self.fact.generated and self.makes_up(self.fact.group, name)
        ]
        details = [_of(event).detail for event in self.effects if _is_look(event)]
        return any(
            len(value) >= _MADE_UP_LENGTH_MIN and value in detail for value in own for detail in details
        )

    def _is_released_by_another(self) -> bool:
        """Whether a delivery takes a key away that another one has set after it."""
        owner: dict[tuple[str, str], int] = {}
        for event in self.effects:
            effect = _of(event)
            for name in _names(event, writing=True):
                if (
                    effect.label.endswith(".SET")
                    and "NX" in effect.detail
                    and event.outcome not in ("None", "")
                ):
                    owner[name] = event.delivery
                elif (
                    _RELEASES.search(effect.label)
                    and owner.get(name, event.delivery) != event.delivery
                    and event.outcome not in ("0", "None")
                ):
                    self.guard = event
                    return True
        return False

    def diagnosis(self, mechanism: Mechanism) -> Diagnosis:
        write = self.writes[-1] if self.writes else None
        about = write or self.struck or (self.effects[-1] if self.effects else None)
        return Diagnosis(
            mechanism,
            self.told(mechanism),
            about.call if about is not None else 0,
            self.guard or self._claim(),
            write,
            self._parts(mechanism),
        )

    def _claim(self) -> Event | None:
        """A key that the struck delivery took for itself."""
        return next((e for e in self.effects if _asks_first(e) and _is_write(e)), None)

    def _parts(self, mechanism: Mechanism) -> tuple[str, ...]:
        """Of two commits that should be one: what the first one commits, and what a clean delivery does after it."""
        if mechanism is not Mechanism.TWO_COMMITS or self.guard is None or self.struck is None:
            return ()
        own = [e for e in self._until(self.struck) if e.delivery == self.struck.delivery]
        first = [e for e in own if _is_write(e) and not _of(e).label.endswith(_ENDS) and e not in self.writes]
        first = [e for e in first if _of(e).store == self.problem.store]
        last = self.struck if self._is_target(self.struck) else None
        named = [_statement(e) for e in (*first[-1:], *([last] if last else []))]
        return tuple(named)

    # -- in words ------------------------------------------------------------------------------------------

    def told(self, mechanism: Mechanism) -> str:
        telling = [e for e in self.writes if not _of(e).label.endswith(_AFTERTHOUGHTS)] or self.writes
        what = _named(telling[-1]) if telling else "the effect"
        guard = self._named_guard()
        read = _named(self.read) if self.read is not None else "the look"
        struck = _named(self.struck) if self.struck is not None else "the fault"
        side = (
            str(self.struck.fault.side) if self.struck is not None and self.struck.fault is not None else "at"
        )
        fault = self.struck.fault.kind if self.struck is not None and self.struck.fault is not None else None
        blow = _BLOWS.get(fault, "crash") if fault is not None else "crash"
        side = "to" if fault in (FaultKind.LOST, FaultKind.RESENT) else side
        table = self.fact.group
        if fault is FaultKind.RESENT and mechanism is Mechanism.GUARD_BEFORE_EFFECT:
            return f"{struck} takes effect, its reply is lost, and the client sends it again: it finds what it has done itself, and the job takes itself for a duplicate"
        if mechanism is Mechanism.GUARD_BEFORE_EFFECT and self._is_afterwards():
            return f"{guard} says that it is done, though the {blow} {side} {struck} has kept it from being done: the redelivery stops at the guard"
        if mechanism is Mechanism.NO_EXPIRY and self.problem.code != "IDM302":
            return f"{guard} claims it, and the {blow} {side} {struck} leaves the claim behind: nobody takes it away, and no retry gets past it"
        return {
            Mechanism.RELEASE_WITHOUT_OWNER: f"{guard} releases what another delivery holds by now: it does not ask whose it is",
            Mechanism.GUARD_EXPIRES: f"{guard} is gone after {self._lease()}; a delivery that is later or slower than that meets no guard",
            Mechanism.CHECK_THEN_ACT: f"the window between {read} and {guard}: both deliveries look before either has written",
            Mechanism.LOST_UPDATE: f"{read} is what {guard} is computed from; what another delivery writes in between is overwritten",
            Mechanism.TWO_COMMITS: f"{guard} stands, and what comes after it is lost with the {blow} {side} {struck}; the redelivery takes the first part for the whole",
            Mechanism.GUARD_BEFORE_EFFECT: f"{guard} says that it is done before it is done: the {blow} comes {side} {struck}, and the redelivery stops at the guard",
            Mechanism.EFFECT_BEFORE_GUARD: f"{read} comes before {guard.rstrip(',')}, which says that it is done: the {blow} comes in between, and the redelivery does it again",
            Mechanism.SWALLOWED: f"{struck} fails, the job catches the error and ends as if all were well: nobody comes again",
            Mechanism.NO_EXPIRY: f"the {blow} {side} {struck} leaves {table} behind, which has no expiry: nobody takes it away",
            Mechanism.LOST_REPLY: f"{struck} has taken effect, only its reply is lost; the job takes that for a failure, and goes on to {what}",
            Mechanism.LOST_WRITE: "Redis goes on from an older state: a guard that lives in Redis alone is gone with its last writes",
            Mechanism.NEW_ID: "what should say that it is the same job is made up anew in each run, so no delivery recognises the other",
            Mechanism.CALL_WITHOUT_KEY: f"{what} carries nothing by which the other side could tell a repetition from a second order",
            Mechanism.MISSING_CONSTRAINT: f"nothing in {table} says that this row may be there once only",
            Mechanism.UNCONDITIONAL: f"{what} does the same again whatever is there already: it asks for no state that it starts from",
        }[mechanism]

    def _is_afterwards(self) -> bool:
        """Whether the delivery sets the guard after the fault has struck it."""
        return self.struck is not None and self.guard is not None and self._is_own(self.struck, self.guard)

    def _named_guard(self) -> str:
        """A COMMIT says little: what it commits is named."""
        if self.guard is None:
            return "the guard"
        if not _of(self.guard).label.endswith(".commit"):
            return _named(self.guard)
        pending = [
            e
            for e in self._before(self.guard)
            if e.delivery == self.guard.delivery
            and _of(e).access is Access.PENDING
            and _of(e).store == _of(self.guard).store
        ]
        return f"{_named(pending[-1])}, once committed," if pending else _named(self.guard)

    def _lease(self) -> str:
        seconds = _of(self.guard).lease_seconds if self.guard is not None else None
        return f"{seconds:g} s" if seconds is not None else "its time"

    # -- parts ---------------------------------------------------------------------------------------------

    def _is_target(self, event: Event) -> bool:
        """Whether an effect writes the thing that differs."""
        effect = _of(event)
        if not _is_write(event) or effect.store != self.problem.store or effect.label.endswith(".commit"):
            return False
        if self.fact.kind is FactKind.ROW:
            return effect.label.endswith(f".{self.fact.group}")
        if self.fact.kind is FactKind.KEY:
            key = str(self.fact.fields.get("key"))
            names = _names(event, writing=True)
            return (effect.store, key) in names if names else key in effect.detail
        return True

    def _at(self, event: Event) -> int:
        return next(number for number, one in enumerate(self.effects) if one is event)

    def _before(self, event: Event) -> list[Event]:
        return self.effects[: self._at(event)]

    def _until(self, struck: Event) -> Iterator[Event]:
        for event in self.history:
            if event is struck:
                return
            if event.kind is EventKind.EFFECT and event.effect is not None:
                yield event


def _of(event: Event) -> Effect:
    assert event.effect is not None
    return event.effect


def _is_look(event: Event) -> bool:
    """A SELECT ... FOR UPDATE is one: that it also takes a lock is another matter."""
    effect = _of(event)
    if ".select" in effect.label:
        return True
    return effect.access is Access.READ and not effect.label.endswith((".commit", ".rollback", ".WATCH"))


def _is_write(event: Event) -> bool:
    return _of(event).access is not Access.READ and not _is_look(event)


def _asks_first(event: Event) -> bool:
    """Whether a command takes effect only where nothing is there yet, and says so."""
    effect = _of(event)
    return "NX" in effect.label.rpartition(".")[2] or " NX" in effect.detail


def _names(event: Event, *, writing: bool) -> frozenset[tuple[str, str]]:
    """The tables and keys that an effect reads or writes, as far as that is known."""
    footprint = _of(event).footprint
    if footprint is None:
        return frozenset()
    regions = footprint.writes if writing else footprint.reads
    return frozenset((r.store, r.name) for r in regions if r.name is not None and not r.name.startswith("!"))


def _statement(event: Event) -> str:
    effect = _of(event)
    text = " ".join(effect.detail.split()) or effect.label
    if _STATEMENT.match(text):
        # The steps show its values, and know which of them are nobody's business.
        text = _VALUES.sub("", text)
    return text if len(text) <= 60 else text[:59] + "…"


def _named(event: Event) -> str:
    effect = _of(event)
    text = _statement(event)
    where = (
        f" ({effect.source.file.rpartition('/')[2]}:{effect.source.line})"
        if effect.source is not None
        else ""
    )
    return f"`{text}`{where}"
