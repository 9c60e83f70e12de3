"""The acts of a program on a few dictionaries. It knows what each act does, and nothing of idemfuzz: transactions are copies, and there is a clock."""

from __future__ import annotations

from contextlib import AbstractContextManager, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Protocol

from differential.programs import NAMES, STEPS, Act, Busy, Leave


@dataclass(slots=True)
class Database:
    lines: list[str] = field(default_factory=list)
    marks: set[str] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NAMES, 0))
    orders: dict[str, str] = field(default_factory=lambda: dict.fromkeys(NAMES, "new"))


@dataclass(slots=True)
class State:
    """All that a job can leave behind."""

    db: Database = field(default_factory=Database)
    keys: dict[str, Any] = field(default_factory=dict)
    ends: dict[str, float] = field(default_factory=dict)
    """When a key runs out."""
    calls: list[str] = field(default_factory=list)
    now: float = 0.0

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
        for key in [key for key, end in self.ends.items() if end <= self.now]:
            del self.keys[key], self.ends[key]

    @property
    def lasting(self) -> Any:
        """What of it a person would miss, in a form that can be compared: what runs out is none of it."""
        keys = {key: value for key, value in self.keys.items() if key not in self.ends}
        return deepcopy(
            (sorted(self.db.lines), self.db.marks, self.db.counts, self.db.orders, keys, sorted(self.calls))
        )


class Step(Protocol):
    """What surrounds each thing that a run does."""

    def __call__(self) -> AbstractContextManager[None]: ...

    @property
    def is_resent(self) -> bool:
        """Whether a client sends what is under way to Redis twice."""


class Model:
    """One run in a `State` that others may share. Each thing that it does is done within a ``step``."""

    def __init__(self, state: State, step: Step) -> None:
        self._state, self._step = state, step
        self._read = dict.fromkeys(NAMES, 0)

    async def transaction(self, acts: tuple[Act, ...]) -> None:
        """All of it takes place at once: exact for one statement, and for several where nobody else is there."""
        with self._step():
            db = deepcopy(self._state.db)
            for act in acts:
                self._statement(act, db)
            self._state.db = db

    async def multi(self, acts: tuple[Act, ...]) -> None:
        with self._step():
            for act in acts * (2 if self._step.is_resent else 1):
                self._command(act)

    async def act(self, act: Act) -> None:
        with self._step():
            if self._step.is_resent and act.verb != "call":
                with suppress(Leave, Busy):
                    self._command(act)  # Its reply is lost: the job sees that to the second one.
            self._command(act)

    def _command(self, act: Act) -> None:
        keys, key, flag = self._state.keys, f"{act.verb.lower()}:{act.name}", f"flag:{act.name}"
        match act.verb:
            case "INCR":
                keys[key] = keys.get(key, 0) + 1
            case "SET":
                keys[key] = "done"
            case "RPUSH":
                keys.setdefault(key, []).append("done")
            case "SET token":
                keys[key] = "a token"
            case "SADD token":
                keys.setdefault(key, []).append("a token")
            case "SADD":
                keys.setdefault(key, set()).add("done")
            case "push once":
                if f"pushed:{act.name}" not in keys:
                    keys[f"pushed:{act.name}"] = "1"
                    keys[key] = ["done"]
            case "call":
                self._state.calls.append(act.name)
            case "flag":
                self._flag(flag, act.seconds)
            case "unless flagged":
                if flag in keys:
                    raise act.otherwise
            case "take":
                if flag in keys:
                    raise act.otherwise
                self._flag(flag, act.seconds)
            case "release":
                keys.pop(flag, None)
                self._state.ends.pop(flag, None)

    def _flag(self, flag: str, seconds: int | None) -> None:
        self._state.keys[flag] = "1"
        self._state.ends.pop(flag, None)
        if seconds is not None:
            self._state.ends[flag] = self._state.now + seconds

    def _statement(self, act: Act, db: Database) -> None:
        match act.verb:
            case "add line":
                db.lines.append(act.name)
            case "add token":
                db.lines.append("a token")
            case "read count":
                self._read[act.name] = db.counts[act.name]
            case "write count":
                db.counts[act.name] = self._read[act.name] + 1
            case "add to count":
                db.counts[act.name] += 1
            case "set status":
                db.orders[act.name] = "done"
            case "move status" | "begin status" | "end status":
                before, after = STEPS[act.verb]
                if db.orders[act.name] != before:
                    raise act.otherwise
                db.orders[act.name] = after
            case "unless done":
                if db.orders[act.name] == "done":
                    raise act.otherwise
            case "unless marked":
                if act.name in db.marks:
                    raise act.otherwise
            case "mark":
                if act.name in db.marks:
                    raise act.otherwise
                db.marks.add(act.name)
