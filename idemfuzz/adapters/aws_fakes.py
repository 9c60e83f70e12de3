"""What stands in AWS's place in this process goes back to how it was, at each trial: moto's state, a Stubber's answers.

No Store: it is not compared. But a job that looks whether its item is there finds in each trial what it found in the first
one. State that cannot be copied stays as it is.
"""

from __future__ import annotations

import gc
import io
import pickle
import sys
import threading
from collections.abc import Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from idemfuzz.abc import Gate

__all__ = ["AwsFakesTap"]

_SHARED = (
    *(
        type(threading.Lock()),
        type(threading.RLock()),
        threading.Condition,
        threading.Event,
        threading.Thread,
    ),
    *(FunctionType, BuiltinFunctionType, MethodType, ModuleType, type),
)
"""What is no state: the copies have the same one."""


class AwsFakesTap:
    """Remembers moto's backends and botocore's Stubbers from attach to detach; imports nothing of them by itself."""

    name = "aws_fakes"

    def __init__(self) -> None:
        self._answers: list[tuple[Any, tuple[Any, ...]]] = []
        self._kept: list[tuple[Any, _Picture | None]] = []

    def attach(self, gate: Gate, values: Mapping[str, object]) -> None:
        self._kept = [(backend, _Picture.of(backend)) for backend in _backends()]
        self._answers = [(queue, tuple(queue)) for queue in _stubbers()]

    def reset(self) -> None:
        known = {id(backend) for backend, _ in self._kept}
        for backend in _backends():
            if id(backend) not in known:
                backend.reset()
        for backend, picture in self._kept:
            if picture is not None:
                picture.restore(backend)
        for queue, answers in self._answers:
            queue.clear()
            queue.extend(answers)

    def detach(self) -> None:
        self._kept, self._answers = [], []


class _Picture:
    """The attributes of one backend, without what they share with it and with each other's backends."""

    def __init__(self, data: bytes, shared: list[Any]) -> None:
        self._data = data
        self._shared = shared

    @classmethod
    def of(cls, backend: Any) -> _Picture | None:
        file = io.BytesIO()
        pickler = _Pickler(file)
        try:
            pickler.dump(vars(backend))
        except Exception:
            # Whatever is in there: a client, a container, a generator.
            return None
        return cls(file.getvalue(), pickler.shared)

    def restore(self, backend: Any) -> None:
        state = _Unpickler(io.BytesIO(self._data), self._shared).load()
        vars(backend).clear()
        vars(backend).update(state)


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.shared: list[Any] = []
        library: Any = sys.modules["moto.core.base_backend"]
        self._kinds = (
            *_SHARED,
            *(library.BaseBackend, library.BackendDict, library.AccountSpecificBackend),
        )

    def persistent_id(self, value: Any) -> int | None:
        if not isinstance(value, self._kinds):
            return None
        self.shared.append(value)
        return len(self.shared) - 1


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, shared: list[Any]) -> None:
        super().__init__(file)
        self._shared = shared

    def persistent_load(self, number: Any) -> Any:
        return self._shared[number]


def _backends() -> Iterator[Any]:
    """Each service's backend per account and region, as far as one was used."""
    library: Any = sys.modules.get("moto.core.base_backend")
    if library is None:
        return
    for service in list(library.BackendDict._instances):
        for account in list(service.values()):
            yield from list(account.values())


def _stubbers() -> Iterator[Any]:
    """The answers that each `botocore.stub.Stubber` has still to give."""
    library: Any = sys.modules.get("botocore.stub")
    if library is None:
        return
    for each in gc.get_objects():
        if issubclass(type(each), library.Stubber):
            yield each._queue
