"""A store and a queue in memory: the smallest possible example of adapters, and what the engine's own tests run on.

`Shelf` and `Line` are the library that is adapted; `ShelfStore` and `LineQueue` are the adapters, and know
their library as little from inside as any adapter does: they replace methods between open and close.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

from idemfuzz.abc import Errors, Gate, JobCall, Options, Unusable
from idemfuzz.model import Access, Delta, Effect, Fact, FactKind, FaultKind, Identity

__all__ = [
    "Draft",
    "Line",
    "LineQueue",
    "OverTime",
    "Shelf",
    "ShelfAdapter",
    "ShelfError",
    "ShelfStore",
    "Task",
]

_FAULTS = (FaultKind.REFUSED, FaultKind.LOST)


# -- the store -----------------------------------------------------------------------------------------------


class ShelfError(ConnectionError):
    """The way to the shelf is broken."""


class Shelf:
    """Values under names, numbers that it makes up, and drafts: several puts that become visible together."""

    def __init__(self) -> None:
        self.items: dict[Any, Any] = {}
        self.number = 0

    def get(self, name: Any) -> Any:
        return self.items.get(name)

    def put(self, name: Any, value: Any) -> None:
        self.items[name] = value

    def drop(self, name: Any) -> None:
        self.items.pop(name, None)

    def add(self, value: Any) -> int:
        """Put under the next number."""
        self.number += 1
        self.items[self.number] = value
        return self.number

    def draft(self) -> Draft:
        return Draft(self)


class Draft:
    """Puts that nobody sees before `commit`."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.items: dict[Any, Any] = {}

    def put(self, name: Any, value: Any) -> None:
        self.items[name] = value

    def commit(self) -> None:
        self.shelf.items |= self.items


class ShelfAdapter:
    name = "shelf"

    def adopt(self, name: str, value: object, options: Options) -> ShelfStore | None:
        return ShelfStore(name, value) if type(value) is Shelf else None


class ShelfStore:
    kind = "shelf"

    def __init__(self, name: str, shelf: Shelf) -> None:
        self.name = name
        self._shelf = shelf
        self._baseline: tuple[dict[Any, Any], int] = ({}, 0)

    @property
    def identity(self) -> Hashable:
        return ("shelf", id(self._shelf))

    def open(self, gate: Gate) -> None:
        self._baseline = (dict(self._shelf.items), self._shelf.number)
        for method, access in (
            ("get", Access.READ),
            ("put", Access.DURABLE),
            ("drop", Access.DURABLE),
            ("add", Access.DURABLE),
        ):
            setattr(self._shelf, method, self._tapped(gate, method, access, getattr(self._shelf, method)))
        self._shelf.draft = functools.partial(self._draft, gate)  # type: ignore[method-assign]

    def _draft(self, gate: Gate) -> Draft:
        draft: Any = Draft(self._shelf)
        draft.put = self._tapped(gate, "draft", Access.PENDING, draft.put)
        draft.commit = self._tapped(gate, "commit", Access.DURABLE, draft.commit)
        return draft  # type: ignore[no-any-return]

    def _tapped(
        self, gate: Gate, label: str, access: Access, original: Callable[..., Any]
    ) -> Callable[..., Any]:
        def tapped(*args: Any) -> Any:
            effect = Effect(
                label=f"{self.name}.{label}",
                store=self.name,
                access=access,
                detail=f"{label} {', '.join(map(repr, args))}".rstrip(),
                faults=_FAULTS if access is Access.DURABLE else (FaultKind.REFUSED,),
                source=gate.source(),
            )
            errors = Errors(refused=lambda: ShelfError("refused"), lost=lambda: ShelfError("no reply"))
            return gate.perform(effect, lambda: original(*args), errors=errors)

        return tapped

    def changes(self) -> Delta:
        before, now = self._baseline[0], self._shelf.items
        differing = [name for name in {**before, **now} if before.get(name, self) != now.get(name, self)]
        return Delta(
            added=tuple(self._fact(name, now[name]) for name in differing if name in now),
            removed=tuple(self._fact(name, before[name]) for name in differing if name in before),
        )

    def _fact(self, name: Any, value: Any) -> Fact:
        generated = {"name": "shelf"} if isinstance(name, int) else {}
        return Fact(self.name, FactKind.KEY, "shelf", {"name": name, "value": value}, ("name",), generated)

    def restore(self) -> None:
        self._shelf.items, self._shelf.number = dict(self._baseline[0]), self._baseline[1]

    def perturb(self) -> bool:
        self._shelf.number += 100
        return True

    def advance(self, seconds: float) -> None:
        """Nothing on a shelf expires."""

    def sever(self, scope: Hashable) -> None:
        """A draft dies with whoever holds it."""

    def settle(self, scope: Hashable, *, failed: bool) -> None:
        """There is no connection to give back."""

    def close(self) -> None:
        for method in ("get", "put", "drop", "add", "draft"):
            vars(self._shelf).pop(method, None)


# -- the queue -----------------------------------------------------------------------------------------------


class OverTime(Exception):
    """The queue's own time limit."""


class Task:
    """A function that a line knows as a job; ``current`` is the id of the job that this thread runs."""

    current = threading.local()

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function


class Line:
    """Jobs that wait; `work` runs them in order, and keeps the errors of those that failed."""

    def __init__(self) -> None:
        self.waiting: list[tuple[int, Task, tuple[Any, ...]]] = []
        self.failed: list[Exception] = []
        self.sent = 0

    def enqueue(self, task: Task, *args: Any) -> int:
        self.sent += 1
        self.waiting.append((self.sent, task, args))
        return self.sent

    def work(self) -> None:
        while self.waiting:
            try:
                self.run(*self.waiting.pop(0))
            except Exception as error:
                self.failed.append(error)

    def run(self, number: int, task: Task, args: tuple[Any, ...]) -> Any:
        Task.current.id = number
        return task.function(*args)


class LineQueue:
    name = "line"

    def __init__(self) -> None:
        self._originals: dict[str, Any] = {}

    def functions(self, value: object) -> Iterable[Callable[..., Any]]:
        return (value.function,) if type(value) is Task else ()

    def attach(self, gate: Gate, dispatch: Callable[[JobCall], Any], values: Mapping[str, object]) -> None:
        run, enqueue, work = Line.run, Line.enqueue, Line.work
        self._originals = {"run": run, "enqueue": enqueue, "work": work}
        escaped: list[Exception] = []

        def dispatching(line: Line, number: int, task: Task, args: tuple[Any, ...]) -> Any:
            def perform(identity: Identity, delivery: int) -> Any:
                return run(line, number if identity is Identity.SAME else number + 1000, task, args)

            function = task.function
            call = JobCall(f"{function.__module__}.{function.__qualname__}", perform, self, identified=True)
            try:
                return dispatch(call)
            except Unusable as error:
                escaped.append(error)
                raise

        def enqueuing(line: Line, task: Task, *args: Any) -> int:
            name = task.function.__qualname__
            fields = {"function": name, "args": list(args)}
            return gate.perform(
                Effect(
                    f"{self.name}.enqueue.{name}",
                    self.name,
                    Access.DURABLE,
                    f"enqueue {name}{args!r}",
                    _FAULTS,
                ),
                lambda: enqueue(line, task, *args),
                errors=Errors(refused=lambda: ShelfError("refused"), lost=lambda: ShelfError("no reply")),
                call=Fact(self.name, FactKind.JOB, name, fields),
            )

        def working(line: Line) -> None:
            work(line)
            if escaped:
                raise escaped.pop()

        for name, method in (("run", dispatching), ("enqueue", enqueuing), ("work", working)):
            setattr(Line, name, method)

    def interruption(self, kind: FaultKind) -> Callable[[], BaseException] | None:
        return (lambda: OverTime("over time")) if kind is FaultKind.TIMEOUT else None

    @property
    def redelivery_window_seconds(self) -> float:
        return 60.0

    def reason(self, kind: str) -> str:
        return f"The line says that there was a {kind}."

    def detach(self) -> None:
        for name, original in self._originals.items():
            setattr(Line, name, original)
        self._originals = {}
