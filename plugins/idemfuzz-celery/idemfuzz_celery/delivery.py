"""One message of a task, delivered again and again: every delivery is a request and arguments of its own."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from idemfuzz.abc import Gate
from idemfuzz.model import Identity

__all__ = ["Ended", "Local", "Message", "fresh", "is_sendable"]

# A task may retry for ever (max_retries=None); a search does not.
_RUNS_MAX = 25
# The engine ends an Execution that sleeps for more than an hour; a back-off has no need of that.
_WAIT_SECONDS_MAX = 300.0


class Local(threading.local):
    """What this thread is in the middle of."""

    request: Any = None
    """The request of the delivery that runs here, outermost."""
    again: Any = None
    """The signature that it has asked to be retried with."""
    retrying: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """A body that ended by an exception which is no failure: Ignore, Reject without requeue."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class _Try:
    args: Any
    kwargs: Any
    retries: int
    wait_seconds: float = 0.0
    redelivered: bool = False


class Message:
    """A task's message as a worker (or an eager call) has taken it: `perform` runs the body for one delivery of it.

    A body that raises Retry is run again within the same delivery, as the message of its retry would be, its
    countdown having passed: asking for a retry is no failure. A delivery that is cut in such a further run is
    redelivered from there, with its number of retries.
    """

    def __init__(
        self,
        gate: Gate,
        local: Local,
        task: Any,
        request: Any,
        args: Any,
        kwargs: Any,
        body: Callable[..., Any],
    ) -> None:
        self._gate = gate
        self._local = local
        self._task = task
        self._request = request
        self._body = body
        self._sent = _Try(fresh(args), fresh(kwargs), request.retries or 0)
        self._left: _Try | None = None

    def perform(self, identity: Identity, delivery: int) -> Any:
        current = self._sent
        if identity is Identity.SAME:
            current = replace(self._left or self._sent, wait_seconds=0.0, redelivered=delivery > 1)
        number = str(uuid.uuid4()) if identity is Identity.NEW else self._request.id
        for _ in range(_RUNS_MAX):
            try:
                result, again = self._run(current, number)
            except BaseException:
                most = self._task.max_retries
                self._left = current if current.retries and (most is None or current.retries < most) else None
                raise
            if again is None:
                self._left = None
                return result
            current = again
            if current.wait_seconds and self._gate.scope() is not None:
                # The engine turns a sleep into passing time, or into another delivery's steps.
                time.sleep(current.wait_seconds)
        raise RuntimeError(f"{self._task.name} asked to be run again for the {_RUNS_MAX}th time")

    def _run(self, current: _Try, number: str) -> tuple[Any, _Try | None]:
        """The body once; what it returned, or how it wants to be run again."""
        from celery.exceptions import Ignore, Reject, Retry

        request = self._own_request(current, number)
        with self._as_current(request):
            result: Any = None
            try:
                result = self._body(self._task, *fresh(current.args), **fresh(current.kwargs))
            except Retry as retry:
                if self._local.again is None:
                    result = Ended(retry)
            except Reject as reject:
                if reject.requeue:
                    return None, replace(current, redelivered=True, wait_seconds=0.0)
                result = Ended(reject)
            except Ignore as ignore:
                result = Ended(ignore)
            asked = self._local.again
        # What the trace looks at when the body is done: result.children.
        self._request._children = request._children
        return result, None if asked is None else _try_of(asked, current)

    def _own_request(self, current: _Try, number: str) -> Any:
        from celery.app.task import Context

        known = self._request
        values = dict(vars(known))
        values.update(
            id=number,
            args=current.args,
            kwargs=current.kwargs,
            retries=current.retries,
            delivery_info={**(known.delivery_info or {}), "redelivered": current.redelivered},
            called_directly=False,
            _children=None,
            _protected=0,
            _idemfuzz_taken=True,
        )
        if known.root_id == known.id:
            values["root_id"] = number
        return Context(values)

    @contextmanager
    def _as_current(self, request: Any) -> Iterator[None]:
        """Make this thread the one that works on ``request``, as a worker's is."""
        from celery import _state

        task, local = self._task, self._local
        app, outer = _state._tls.current_app, (local.request, local.again)
        local.request, local.again = request, None
        _state._set_current_app(task.app)
        _state._task_stack.push(task)
        task.request_stack.push(request)
        try:
            yield
        finally:
            task.request_stack.pop()
            _state._task_stack.pop()
            _state._set_current_app(app)
            local.request, local.again = outer


def _try_of(signature: Any, before: _Try) -> _Try:
    options = signature.options
    wait_seconds = options.get("countdown")
    eta = options.get("eta")
    if not wait_seconds and isinstance(eta, datetime):
        now = datetime.now(UTC) if eta.tzinfo is not None else datetime.now()
        wait_seconds = (eta - now).total_seconds()
    return _Try(
        args=signature.args,
        kwargs=signature.kwargs,
        retries=options.get("retries", before.retries + 1),
        wait_seconds=min(max(float(wait_seconds or 0.0), 0.0), _WAIT_SECONDS_MAX),
    )


def fresh(value: Any) -> Any:
    """Containers anew, as from another message; what else there is, is shared."""
    if type(value) is dict:
        return {key: fresh(item) for key, item in value.items()}
    if type(value) in (list, tuple, set):
        return type(value)(fresh(item) for item in value)
    return value


def is_sendable(value: Any) -> bool:
    """Whether a message could carry it: no sessions, engines or other live objects."""
    if isinstance(value, dict):
        return all(is_sendable(key) and is_sendable(item) for key, item in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return all(is_sendable(item) for item in value)
    return value is None or type(value).__module__ in ("builtins", "datetime", "decimal", "uuid")
