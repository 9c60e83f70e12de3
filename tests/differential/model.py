"""The acts of a program on a few dictionaries. It knows what each act does, and nothing of idemfuzz: transactions are copies, and there is a clock."""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Protocol

from differential.programs import CALLS, FILES, NAMES, STEPS, STOCK, Act, Busy, Leave, Watched


@dataclass(slots=True)
class Database:
    lines: list[str] = field(default_factory=list)
    marks: set[str] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NAMES, 0))
    orders: dict[str, str] = field(default_factory=lambda: dict.fromkeys(NAMES, "new"))


@dataclass(slots=True)
class File:
    """What lies in a file, whatever it is called meanwhile."""

    text: str = ""


def _stock() -> dict[str, Any]:
    return {f"stock:{name}": [str(number) for number in range(STOCK)] for name in NAMES}


@dataclass(slots=True)
class State:
    """All that a job can leave behind."""

    db: Database = field(default_factory=Database)
    keys: dict[str, Any] = field(default_factory=_stock)
    writes: Counter[str] = field(default_factory=Counter)
    """How often a flag was written."""
    ends: dict[str, float] = field(default_factory=dict)
    """When a key runs out."""
    calls: list[str] = field(default_factory=list)
    files: dict[str, File] = field(default_factory=dict)
    now: float = 0.0

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
        for key in [key for key, end in self.ends.items() if end <= self.now]:
            del self.keys[key], self.ends[key]
            self.writes[key] += 1

    @property
    def lasting(self) -> Any:
        """What of it a person would miss, in a form that can be compared: what runs out is none of it."""
        keys = {key: value for key, value in self.keys.items() if key not in self.ends}
        db = (sorted(self.db.lines), self.db.marks, self.db.counts, self.db.orders)
        files = {name: file.text for name, file in self.files.items()}
        return deepcopy((db, keys, sorted(self.calls), files))


class Step(Protocol):
    """What surrounds each thing that a run does."""

    def __call__(self) -> AbstractContextManager[None]: ...

    def certain(self) -> AbstractContextManager[None]:
        """The same for what does not go over a connection: it neither fails nor loses its answer."""

    @property
    def is_resent(self) -> bool:
        """Whether a client sends what is under way to Redis twice."""


class Model:
    """One run in a `State` that others may share. Each thing that it does is done within a ``step``."""

    def __init__(self, state: State, step: Step) -> None:
        self._state, self._step = state, step
        self._read = dict.fromkeys(NAMES, 0)
        self._number = dict.fromkeys(NAMES, 0)

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

    async def watched(self, part: Watched) -> None:
        flag = f"flag:{part.name}"
        with self._step():
            seen = self._state.writes[flag]
        with self._step():
            if flag in self._state.keys:
                raise part.otherwise
        with self._step():
            if self._state.writes[flag] != seen:
                raise Busy
            for act in part.acts:
                self._command(act)

    async def act(self, act: Act) -> None:
        if act.verb in FILES:
            self._file(act)
        elif act.verb in CALLS:
            with self._step():
                self._call(act)
        else:
            with self._step():
                if self._step.is_resent:
                    with suppress(Leave, Busy):
                        self._command(act)  # Its reply is lost: the job sees that to the second one.
                self._command(act)

    def _call(self, act: Act) -> None:
        call = f"{act.verb}:{act.name}"
        if act.verb not in ("mail named", "post keyed", "put") or call not in self._state.calls:
            self._state.calls.append(call)

    def _file(self, act: Act) -> None:
        """What is written lands when the file is closed."""
        files, target = self._state.files, act.name
        name = f"{target}.tmp" if act.verb == "replace file" else target
        with self._step.certain():
            file = files.setdefault(name, File())
            if act.verb != "append to file":
                file.text = ""
        with self._step.certain():
            file.text = f"{file.text}done" if act.verb == "append to file" else f"done{file.text[4:]}"
        if act.verb == "replace file":
            with self._step.certain():
                if name not in files:
                    raise Busy
                files[target] = files.pop(name)

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
            case "HSET":
                keys[key] = {"done": 1}
            case "HINCRBY":
                keys.setdefault(key, {}).setdefault("done", 0)
                keys[key]["done"] += 1
            case "ZADD":
                keys[key] = {"done": 1}
            case "DEL list":
                keys.pop(f"rpush:{act.name}", None)
            case "LPOP" | "LMOVE":
                taken = keys[f"stock:{act.name}"].pop(0)
                if act.verb == "LMOVE":
                    keys.setdefault(f"taken:{act.name}", []).append(taken)
            case "read number":
                self._number[act.name] = keys.get(f"number:{act.name}", 0)
            case "write number":
                keys[f"number:{act.name}"] = self._number[act.name] + 1
            case "enqueue":
                self._state.calls.append(key)
            case "enqueue once":
                if key not in self._state.calls:
                    self._state.calls.append(key)
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
                if keys.pop(flag, None) is not None:
                    self._state.ends.pop(flag, None)
                    self._state.writes[flag] += 1

    def _flag(self, flag: str, seconds: int | None) -> None:
        self._state.keys[flag] = "1"
        self._state.writes[flag] += 1
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
            case "mark if missing":
                db.marks.add(act.name)
            case "cancel":
                db.orders.pop(act.name, None)
            case "set status":
                if act.name in db.orders:
                    db.orders[act.name] = "done"
            case "move status" | "begin status" | "end status":
                before, after = STEPS[act.verb]
                if db.orders.get(act.name) != before:
                    raise act.otherwise
                db.orders[act.name] = after
            case "unless done":
                if db.orders.get(act.name) == "done":
                    raise act.otherwise
            case "unless marked":
                if act.name in db.marks:
                    raise act.otherwise
            case "mark":
                if act.name in db.marks:
                    raise act.otherwise
                db.marks.add(act.name)
