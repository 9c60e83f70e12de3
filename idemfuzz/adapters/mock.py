"""Mocks stand in the outside's place: a delivery's calls of `unittest.mock` objects, and of what hangs below them.

A call of ``mailer.send(...)`` or ``gateway.charges.create(...)``, where a fixture named ``mailer`` or
``gateway`` returns the mock, is an Effect "mailer.send", and counts as a call when the mock has answered it
(a configured exception means that it was not done). So is a call of a mock that nobody hands in: one that
`patch` (as a decorator, in a fixture, in the body) or ``mocker`` has put into the job's module, or one that the
body makes. It is called by its own name, which `patch` takes from what it stands for. The protocol methods of a
`MagicMock` (``len(mock)``, ``with mock:``) are left alone. A call of an `AsyncMock` is an Effect when it is awaited.

*What counts as a call.* Not what only looks or only keeps a connection: a last name that begins with a
reading word ("get", "is", "find"), unless a writing word follows ("get_or_create"), and "connect", "close"
and their like are Effects that read. And not what asks nobody: a patched `uuid4`, clock or `sleep`, a
logger, a metric, and a patched class that is called to make an instance are no Effects at all.

*When two calls are one.* When they carry the same idempotency key: a keyword argument ``idempotency_key``,
``ClientToken`` or the like (`adapters/idempotency.py`), or such a field in a dict that is passed (a body, headers, options).
When they put the same into an object of S3, or take it away (``put_object``, ``upload_file``, ``delete_object``): that is a PUT or a DELETE.

*Reset.* At each trial the mocks go back to how they were at attach: calls that fixtures made are there
again, calls of the trial before are gone, ``return_value`` and ``side_effect`` are as configured, and a
``side_effect`` given as a list or iterator begins anew. What a trial configured on a child that did not
exist at attach stays. A mock that nobody hands in is met at its first call in a trial, and goes back to how it was then.
"""

from __future__ import annotations

import functools
import itertools
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from types import FunctionType
from typing import Any
from uuid import UUID

from idemfuzz.abc import Errors, Gate
from idemfuzz.adapters.aws import asks, same_as
from idemfuzz.adapters.idempotency import key_in
from idemfuzz.model import Access, Effect, Fact, FactKind, FaultKind

__all__ = ["MockTap", "asks_nobody", "reads", "shown"]

_READING = frozenset(
    {
        *("get", "fetch", "find", "list", "read", "load", "lookup", "look", "search", "select", "query"),
        *("is", "has", "can", "should", "exists", "contains", "count", "len", "describe", "show", "view"),
        *("check", "ping", "head", "status", "peek", "retrieve", "resolve", "validate"),
    }
)
_QUESTIONS = frozenset({"is", "has", "can", "should"})
_LIFECYCLE = frozenset(
    {
        *("connect", "disconnect", "close", "aclose", "login", "logout", "quit", "ehlo", "helo", "starttls"),
    }
)
_WRITING = frozenset(
    {
        *("create", "insert", "add", "set", "update", "upsert", "save", "store", "put", "write", "append"),
        *("delete", "remove", "pop", "increment", "incr", "decrement", "send", "claim", "reset"),
    }
)
_OBJECTS = {"put_object": 0, "copy_object": 0, "delete_object": 0, "upload_file": 1, "upload_fileobj": 1}
"""What boto3 does to an object under a name, with the place of that among the arguments: once more is the same."""
_ASKS_NOBODY = frozenset(
    {
        *("uuid1", "uuid3", "uuid4", "uuid5", "uuid7", "time", "time_ns", "now", "utcnow", "today", "sleep"),
        *("monotonic", "perf_counter", "random", "randint", "randrange", "choice", "token_hex"),
        *("token_urlsafe", "token_bytes", "urandom", "getrandbits", "getenv", "getLogger"),
    }
)
_LOGGING = frozenset({"debug", "info", "warning", "warn", "error", "exception", "critical", "log"})
_LOGGERS = frozenset({"log", "logger", "logging", "_log", "_logger"})
_METRICS = frozenset({"statsd", "metrics", "metric", "telemetry", "tracer", "tracing", "sentry_sdk"})
_UNNAMED = "mock"
_PROTOCOL = re.compile(r"__\w+__\Z")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_DEPTH_MAX = 6


class MockTap:
    """Taps calls of the mocks among ``values`` from attach to detach."""

    name = "mock"

    def __init__(self) -> None:
        self._gate: Gate | None = None
        self._roots: dict[int, str] = {}
        self._kept: tuple[Any, ...] = ()
        self._states: tuple[_State, ...] = ()
        self._met: dict[int, tuple[Any, tuple[_State, ...]]] = {}
        """Mocks that nobody handed in, called since the last reset, and how they were then."""
        self._original: Callable[..., Any] | None = None
        self._wrapper: Callable[..., Any] | None = None

    def attach(self, gate: Gate, values: Mapping[str, object]) -> None:
        """Take the mocks among ``values`` under control.

        A mock under two names is known by the first. Nothing is patched where nobody has imported `unittest.mock`.
        """
        library = _library()
        if library is None:
            return
        roots: dict[int, tuple[str, Any]] = {}
        for name, value in values.items():
            handed = _mock_behind(value)
            if handed is not None:
                roots.setdefault(id(handed), (name, handed))
        self._gate = gate
        self._roots = {key: name for key, (name, _) in roots.items()}
        self._kept = tuple(handed for _, handed in roots.values())
        self._states = tuple(_State.of(each) for each in _reachable(self._kept))
        caller = library.CallableMixin
        self._original = vars(caller)["__call__"]
        self._wrapper = self._wrap(self._original)
        caller.__call__ = self._wrapper

    def reset(self) -> None:
        met, self._met = self._met, {}
        for each in _reachable((*self._kept, *(top for top, _ in met.values()))):
            _forget(each)
        for state in (*self._states, *(state for _, states in met.values() for state in states)):
            state.restore()

    def detach(self) -> None:
        if self._original is not None:
            caller = _library().CallableMixin
            if vars(caller)["__call__"] is self._wrapper:
                caller.__call__ = self._original
        self._gate = self._original = self._wrapper = None
        self._roots, self._kept, self._states, self._met = {}, (), (), {}

    def _wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def __call__(mock: Any, /, *args: Any, **kwargs: Any) -> Any:
            gate = self._gate
            if gate is None:
                return original(mock, *args, **kwargs)
            path = self._path(mock)
            if gate.scope() is None or _no_effect(mock, path):
                return original(mock, *args, **kwargs)
            call = functools.partial(original, mock, *args, **kwargs)
            if issubclass(type(mock), _library().AsyncMockMixin):
                return _awaited(gate, path, call, args, kwargs)
            return _perform(gate, path, call, args, kwargs)

        return __call__

    def _path(self, mock: Any) -> tuple[str, ...]:
        """The names from a handed mock, or from the topmost one, down to ``mock``."""
        names: list[str] = []
        seen: set[int] = set()
        while id(mock) not in self._roots:
            seen.add(id(mock))
            above = vars(mock).get("_mock_new_parent")
            if above is None or id(above) in seen:
                if id(mock) not in self._met:
                    self._met[id(mock)] = (mock, tuple(_State.of(each) for each in _reachable((mock,))))
                return (vars(mock).get("_mock_name") or _UNNAMED, *reversed(names))
            names.append(vars(mock).get("_mock_new_name") or "")
            mock = above
        return (self._roots[id(mock)], *reversed(names))


async def _awaited(
    gate: Gate, path: tuple[str, ...], call: Callable[[], Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    return _perform(gate, path, lambda: gate.wait(call()), args, kwargs)


def _perform(
    gate: Gate, path: tuple[str, ...], call: Callable[[], Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    label = _label(path)
    api = _api_call(path[-1], args)
    only_reads = reads(path[-1]) if api is None else asks(*api)
    given = [shown(a) for a in args] + [f"{name}={shown(value)}" for name, value in kwargs.items()]
    effect = Effect(
        label=label,
        store="mock",
        access=Access.READ if only_reads else Access.DURABLE,
        detail=f"{label}({', '.join(given)})",
        faults=(FaultKind.REFUSED,) if only_reads else (FaultKind.REFUSED, FaultKind.LOST),
    )
    errors = Errors(
        refused=lambda: ConnectionRefusedError(f"{label}: connection refused"),
        lost=lambda: ConnectionResetError(f"{label}: connection reset; the call had arrived"),
    )
    if only_reads:
        return gate.perform(effect, call, errors=errors, describe=shown)
    if api is not None:
        key = same_as(*api)
    else:
        key = key_in(kwargs) or key_in(args) or _object(path[-1], args, kwargs)
    fact = Fact(
        store="mock",
        kind=FactKind.CALL,
        group=label,
        fields={
            "args": tuple(_plain(a) for a in args),
            "kwargs": {name: _plain(value) for name, value in kwargs.items()},
        },
        once=f"{label} {key if api is None else f'{api[0]} {key}'}" if key else None,
    )
    return gate.perform(effect, call, errors=errors, describe=shown, call=fact)


# -- which mock, and what its call means ---------------------------------------------------------------------


def _library() -> Any:
    """`unittest.mock`, if anybody has imported it: it brings asyncio along, so we do not."""
    return sys.modules.get("unittest.mock")


def _mock_behind(value: object) -> Any:
    """``value`` if it is a mock, the mock behind a function that `create_autospec` made, or None."""
    library = _library()
    if library is None:
        return None
    # By type: a mock's `__class__` may say what its spec says.
    if issubclass(type(value), library.NonCallableMock):
        return value
    behind = vars(value).get("mock") if type(value) is FunctionType else None
    return behind if issubclass(type(behind), library.NonCallableMock) else None


def _no_effect(mock: Any, path: tuple[str, ...]) -> bool:
    last = path[-1]
    if _PROTOCOL.match(last) and last not in ("__setitem__", "__delitem__"):
        return True
    if len(path) == 1:
        # `patch` names its mocks after what they stand for; a class that is called only makes an instance.
        name = vars(mock).get("_mock_name") or path[0]
        return name in _ASKS_NOBODY or path[0] in _ASKS_NOBODY or name[:1].isupper()
    if last in _ASKS_NOBODY or path[0] in _METRICS:
        return True
    owner = vars(mock).get("_mock_new_parent")
    spec = vars(owner).get("_spec_class") if owner is not None else None
    logger = path[-2] in (*_LOGGERS, _UNNAMED) or (
        isinstance(spec, type) and issubclass(spec, logging.Logger)
    )
    return last in _LOGGING and logger


def _api_call(name: str, args: tuple[Any, ...]) -> tuple[str, Mapping[str, Any]] | None:
    """Operation and parameters, where a mock stands for botocore's ``BaseClient._make_api_call``."""
    if name != "_make_api_call" or len(args) < 2:
        return None
    operation, params = args[-2:]
    return (operation, params) if isinstance(operation, str) and isinstance(params, Mapping) else None


def _object(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
    """The bucket and the key of what a call replaces whole."""
    if name not in _OBJECTS:
        return None
    place = [*args[_OBJECTS[name] :], *(kwargs[each] for each in ("Bucket", "Key") if each in kwargs)]
    return (
        "/".join(place[:2]) if len(place) > 1 and all(isinstance(each, str) for each in place[:2]) else None
    )


def _label(path: tuple[str, ...]) -> str:
    """``gateway.charges.create``; what a context manager gives is named like the manager."""
    text = ".".join(path).replace(".()", "()").replace(".__enter__()", "")
    return text.replace(".__setitem__", "[]=").replace(".__delitem__", "[] del")


def asks_nobody(name: str) -> bool:
    """Whether a function of this name makes something up by itself: an id, a time, a token."""
    return name in _ASKS_NOBODY


def reads(name: str) -> bool:
    """Whether a call of this name only looks, or only keeps a connection."""
    words = [word.lower() for word in _WORDS.findall(name)]
    if name in _LIFECYCLE or _QUESTIONS.intersection(words[:1]):
        return True
    if words[:2] in (["check", "in"], ["check", "out"]):
        return False
    return bool(words) and words[0] in _READING and not _WRITING.intersection(words[1:])


# -- values, made plain --------------------------------------------------------------------------------------


def _plain(value: Any, depth: int = 0) -> Any:
    """``value`` as plain data that is the same in each run: no addresses, no mocks, no live objects."""
    if isinstance(value, Enum | PurePath):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    if isinstance(value, Decimal | UUID | date | time | timedelta):
        return value
    if _mock_behind(value) is not None:
        return "<mock>"
    if depth >= _DEPTH_MAX:
        return f"<{type(value).__qualname__}>"
    if isinstance(value, Mapping):
        return {_key(k): _plain(v, depth + 1) for k, v in value.items()}
    if isinstance(value, tuple):
        return tuple(_plain(each, depth + 1) for each in value)
    if isinstance(value, list):
        return [_plain(each, depth + 1) for each in value]
    if isinstance(value, set | frozenset):
        return sorted((_plain(each, depth + 1) for each in value), key=repr)
    if is_dataclass(value) and not isinstance(value, type):
        inner = {f.name: _plain(getattr(value, f.name, None), depth + 1) for f in fields(value)}
        return {"": type(value).__qualname__, **inner}
    return _described(value)


def _key(key: Any) -> Any:
    return key if isinstance(key, str | int | float | bool | None) else str(_plain(key))


def _described(value: Any) -> str:
    if isinstance(value, type | FunctionType):
        return f"<{value.__module__}.{value.__qualname__}>"
    if getattr(type(value), "__repr__", None) == object.__repr__:
        return f"<{type(value).__qualname__}>"
    try:
        return _ADDRESS.sub("", repr(value))
    except Exception:
        # A user's __repr__ may need what the object no longer has (a closed session).
        return f"<{type(value).__qualname__}>"


def shown(value: Any, characters_max: int = 60) -> str:
    """``value`` on a short line."""
    text = repr(_plain(value))
    return text if len(text) <= characters_max else text[: characters_max - 1] + "…"


# -- back to how it was --------------------------------------------------------------------------------------


def _reachable(roots: tuple[Any, ...]) -> list[Any]:
    """The mocks at and below ``roots``: children, and return values that are mocks; each once."""
    found: list[Any] = []
    seen: set[int] = set()
    waiting = list(roots)
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        found.append(each)
        inside = vars(each)
        delegate = inside.get("_mock_delegate")
        waiting += [
            _mock_behind(below)
            for below in (
                *inside.get("_mock_children", {}).values(),
                inside.get("_mock_return_value"),
                getattr(delegate, "return_value", None),
            )
        ]
    return found


def _forget(mock: Any) -> None:
    """As ``reset_mock()``, for this one mock."""
    mock.called = False
    mock.call_count = 0
    mock.call_args = None
    for name in ("call_args_list", "mock_calls", "method_calls"):
        setattr(mock, name, type(getattr(mock, name))())


@dataclass(frozen=True, slots=True)
class _State:
    """What one mock was at attach."""

    mock: Any
    called: bool
    call_count: int
    call_args: Any
    calls: Mapping[str, tuple[Any, ...]]
    return_value: Any
    side_effect: Any
    replays: bool

    @classmethod
    def of(cls, mock: Any) -> _State:
        inside = vars(mock)
        side_effect: Any = getattr(mock, "side_effect", None)
        if type(side_effect).__name__ == "_MockIter":
            # What a function by `create_autospec` wraps around the iterator; it cannot be iterated over itself.
            side_effect = side_effect.obj
        replays = isinstance(side_effect, Iterator) and not callable(side_effect)
        if replays:
            # One that is only ever forked from, and one for the calls before the first reset.
            side_effect, mock.side_effect = itertools.tee(side_effect)
        delegate = inside.get("_mock_delegate")
        return cls(
            mock=mock,
            called=mock.called,
            call_count=mock.call_count,
            call_args=mock.call_args,
            calls={n: tuple(getattr(mock, n)) for n in ("call_args_list", "mock_calls", "method_calls")},
            return_value=inside.get("_mock_return_value") if delegate is None else delegate.return_value,
            side_effect=side_effect,
            replays=replays,
        )

    def restore(self) -> None:
        mock = self.mock
        mock.called = self.called
        mock.call_count = self.call_count
        mock.call_args = self.call_args
        for name, calls in self.calls.items():
            setattr(mock, name, type(getattr(mock, name))(calls))
        delegate = vars(mock).get("_mock_delegate")
        if delegate is None:
            # Not through the property, which would make the value a child.
            vars(mock)["_mock_return_value"] = self.return_value
        else:
            delegate.return_value = self.return_value
        if hasattr(type(mock), "side_effect"):
            mock.side_effect = itertools.tee(self.side_effect)[1] if self.replays else self.side_effect
