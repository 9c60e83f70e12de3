"""Celery as a Queue: every execution of a task's body is a delivery, a task's own enqueues are effects.

What is caught: ``task(...)``, ``task.run(...)`` of a task that is named as a job, ``apply``, ``delay`` and
``apply_async`` with task_always_eager, and what a worker in this process runs on its solo or threads pool, in whichever
thread. Celery's own choice of what a trace calls is used for this: it calls the task itself, and not its ``run``, where
``Task.__call__`` was replaced.

What is simulated: a redelivery has the same id, fresh arguments and ``delivery_info["redelivered"]``; a retry that the
body asks for runs within the same delivery (see `idemfuzz_celery.delivery`). What is not: signals, ``before_start``, the
callbacks of a task, the rest of its chain and its result are the worker's, and happen once, after the last delivery.

A worker in another process cannot be seen: its tasks are no deliveries, and a search says that none ran.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePath
from types import FunctionType
from typing import Any
from weakref import WeakSet

from idemfuzz.abc import Gate, JobCall, Unusable, named_arguments
from idemfuzz.model import Fact, FaultKind

from idemfuzz_celery import children
from idemfuzz_celery.delivery import Ended, Local, Message, fresh, is_sendable
from idemfuzz_celery.facts import REASONS, redelivery_window_seconds

__all__ = ["CeleryQueue"]

_UNWATCHED_POOLS = frozenset({"prefork", "processes", "eventlet", "gevent"})
_IDLE_WAIT_SECONDS_MAX = 5.0


class CeleryQueue:
    """Knows Celery's tasks, and its workers in this process."""

    name = "celery"

    def __init__(self) -> None:
        self._gate: Gate | None = None
        self._dispatch: Callable[[JobCall], Any] | None = None
        self._originals: list[tuple[Any, str, Any]] = []
        self._traces: list[tuple[Any, Any]] = []
        self._local = Local()
        self._apps: WeakSet[Any] = WeakSet()
        self._protects = False
        self._escaped: BaseException | None = None
        # The engine delivers one call at a time; the threads of a pool take turns.
        self._turn = threading.Lock()
        self._published: dict[str, str] = {}
        self._served: set[str] = set()

    def functions(self, value: object) -> Iterable[Callable[..., Any]]:
        """The function behind a task, also behind the proxies that decorators return; else nothing."""
        task = _task_behind(value)
        function = None if task is None else _function_of(task)
        return () if function is None else (function,)

    def attach(self, gate: Gate, dispatch: Callable[[JobCall], Any], values: Mapping[str, object]) -> None:
        """Catch the tasks that run in this process, and the tasks that they enqueue.

        Nothing is done where nobody has imported Celery.

        Raises:
            Unusable: a worker among ``values`` runs tasks where they cannot be watched.
        """
        if "celery" not in sys.modules:
            return
        for name, value in values.items():
            if _is_worker(value):
                _refuse_unwatched(value, name)
            elif _is_app(value):
                self._apps.add(value)
        self._gate, self._dispatch, self._escaped = gate, dispatch, None
        self._published.clear()
        self._served.clear()
        self._patch()

    def detach(self) -> None:
        if self._gate is None:
            return
        from celery import signals
        from celery.app import trace
        from celery.app.task import Task

        signals.task_postrun.disconnect(self._finished)
        for owner, name, original in reversed(self._originals):
            setattr(owner, name, original)
        self._originals.clear()
        self._gate = self._dispatch = None
        if self._protects and not trace._localized:
            # No worker was started meanwhile, which would rely on it.
            Task.__call__ = trace._patched.pop("BaseTask.__call__")
            del Task._stackprotected
        self._protects = False
        known = {id(task): tracer for task, tracer in self._traces}
        self._traces.clear()
        for task in _tasks():
            if task.__trace__ is not None:
                # A worker that was started meanwhile must not go on with a trace that calls us.
                task.__trace__ = known.get(id(task)) or _traced_anew(task)

    def interruption(self, kind: FaultKind) -> Callable[[], BaseException] | None:
        """SoftTimeLimitExceeded for TIMEOUT; None for SHUTDOWN, which in Celery is a kill.

        A warm shutdown waits for tasks; a cold one ends the prefork pool's processes by a signal, and raises nothing in
        the threads of a threads pool. The one exception that can come up in a task is WorkerTerminate: in a solo pool,
        when a third signal in a row asks for a hard shutdown.
        """
        if kind is not FaultKind.TIMEOUT or "celery" not in sys.modules:
            return None
        from celery.exceptions import SoftTimeLimitExceeded

        return lambda: SoftTimeLimitExceeded()

    @property
    def redelivery_window_seconds(self) -> float:
        """visibility_timeout of the apps' broker_transport_options; 3600 s, that of the Redis broker, if it is not set."""
        return redelivery_window_seconds(list(self._apps))

    def reason(self, kind: str) -> str:
        """The real event behind a fault; an empty text for a kind that Celery does not know."""
        return REASONS.get(kind, "")

    # -- patching ----------------------------------------------------------------------------------------

    def _patch(self) -> None:
        from celery import Celery, canvas, signals
        from celery.app import trace
        from celery.app.task import Task
        from celery.result import AsyncResult, ResultSet
        from celery.worker import WorkController

        if not getattr(Task, "_stackprotected", False):
            # What the first worker of a process does for good; afterwards it would keep our wrapper.
            trace._install_stack_protection()
            self._protects = True
        for owner in dict.fromkeys([Task, *(base for task in _tasks() for base in type(task).__mro__)]):
            if "__call__" in vars(owner) and isinstance(vars(owner)["__call__"], FunctionType):
                self._replace(owner, "__call__", self._call)
        self._replace(Task, "apply", self._apply)
        self._replace(Task, "apply_async", self._apply_async)
        self._replace(Task, "retry", self._retry)
        self._replace(Celery, "send_task", self._send_task)
        for kind in (canvas._chain, canvas.group, canvas._chord):
            self._replace(kind, "apply_async", self._apply_canvas)
        self._replace(AsyncResult, "get", self._get)
        self._replace(ResultSet, "join", self._get)
        self._replace(ResultSet, "join_native", self._get)
        self._replace(WorkController, "__init__", self._start_worker)
        signals.task_postrun.connect(self._finished, weak=False)
        self._traces = [(task, task.__trace__) for task in _tasks() if task.__trace__ is not None]
        for task, _ in self._traces:
            # A worker that runs already has chosen what to call.
            task.__trace__ = _traced_anew(task)

    def _replace(self, owner: Any, name: str, tapped: Callable[..., Any]) -> None:
        original = vars(owner)[name]
        self._originals.append((owner, name, original))

        # It keeps this module's name: a trace calls a task whose __call__ is not Celery's own.
        def method(instance: Any, *args: Any, **kwargs: Any) -> Any:
            return tapped(original, instance, *args, **kwargs)

        method.__name__ = name
        method.__wrapped__ = original  # type: ignore[attr-defined]
        setattr(owner, name, method)

    # -- tasks -------------------------------------------------------------------------------------------

    def _call(self, original: Any, task: Any, *args: Any, **kwargs: Any) -> Any:
        """A task is called: by a trace (a worker's, an eager one), or directly."""
        request = task.request_stack.top
        traced = (
            request is not None and not request.called_directly and not hasattr(request, "_idemfuzz_taken")
        )
        body = original
        if traced:
            request._idemfuzz_taken = True
            if _is_celerys(original):
                body = _run_only
        gate, dispatch = self._gate, self._dispatch
        if gate is None or dispatch is None or gate.scope() is not None:
            return body(task, *args, **kwargs)
        function = _function_of(task)
        if function is None or not (traced or (is_sendable(args) and is_sendable(kwargs))):
            # What no message could carry (a session) has a twin in an overlapping delivery if the task is named as a job.
            return body(task, *args, **kwargs)
        self._apps.add(task.app)
        name = f"{function.__module__}.{function.__qualname__}"
        named = named_arguments(function, args, kwargs)
        if traced:
            if not request.is_eager:
                self._served.add(str((request.delivery_info or {}).get("routing_key")))
            message = Message(gate, self._local, task, request, args, kwargs, body)
            call = JobCall(name, message.perform, self, identified=True, arguments=named)
        else:
            call = JobCall(
                name, lambda _, __: original(task, *fresh(args), **fresh(kwargs)), self, arguments=named
            )
        return self._deliver(dispatch, call)

    def _deliver(self, dispatch: Callable[[JobCall], Any], call: JobCall) -> Any:
        with self._turn:
            try:
                result = dispatch(call)
            except (KeyboardInterrupt, Unusable) as error:
                # A trace would take it for the task's failure and go on.
                self._escaped = error
                raise
        if isinstance(result, Ended):
            raise result.error
        return result

    def _apply(self, original: Any, task: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(task, *args, **kwargs)
        self._raise_escaped()
        return result

    def _raise_escaped(self) -> None:
        if self._outside():
            escaped, self._escaped = self._escaped, None
            if escaped is not None:
                raise escaped

    def _retry(self, original: Any, task: Any, *args: Any, **kwargs: Any) -> Any:
        """A retry of the delivery itself is not sent: the delivery goes on with it, see `Message`."""
        from celery.exceptions import Retry

        local = self._local
        if local.request is None or task.request is not local.request:
            return original(task, *args, **kwargs)
        local.retrying = True
        try:
            asked = original(task, *args, **kwargs)
            local.again = asked.sig
            return asked
        except Retry as asked:
            local.again = asked.sig
            raise
        finally:
            local.retrying = False

    # -- child tasks -------------------------------------------------------------------------------------

    def _outside(self) -> bool:
        return self._gate is None or self._gate.scope() is None

    def _send_task(
        self,
        original: Any,
        app: Any,
        name: str,
        args: Any = None,
        kwargs: Any = None,
        *more: Any,
        **options: Any,
    ) -> Any:
        if self._local.retrying:
            return app.AsyncResult(options.get("task_id"))
        if len(more) < 3 and options.get("task_id") is None:
            from kombu.utils.uuid import uuid

            # Here and not in Celery, so that a message that is sent again has the same.
            options["task_id"], given = uuid(), {**options, "task_id": None}
        else:
            given = options

        def send() -> Any:
            # Noted before it is sent: a worker may be done with it before this returns.
            number = str(options.get("task_id"))
            if not options.get("eta") and not options.get("countdown"):
                self._published[number] = _routing_key(app, options)
            try:
                return original(app, name, args, kwargs, *more, **options)
            except BaseException:
                self._published.pop(number, None)
                raise

        if self._outside():
            return send()
        fact = children.task_fact(app, name, args, kwargs, given)
        return self._enqueue(fact, children.SENT_FAULTS, send)

    def _apply_async(
        self, original: Any, task: Any, args: Any = None, kwargs: Any = None, *more: Any, **options: Any
    ) -> Any:
        """In eager mode a child runs at once: the enqueue is an effect, and then those of its body."""
        if not self._outside() and not self._local.retrying and task.app.conf.task_always_eager:
            fact = children.task_fact(task.app, task.name, args, kwargs, options)
            self._enqueue(fact, children.EAGER_FAULTS, lambda: None)
        return original(task, args, kwargs, *more, **options)

    def _apply_canvas(self, original: Any, canvas: Any, *args: Any, **options: Any) -> Any:
        """In eager mode a chain, group or chord applies its tasks without enqueuing them one by one."""
        if not self._outside() and canvas.app.conf.task_always_eager:
            self._enqueue(children.canvas_fact(canvas), children.EAGER_FAULTS, lambda: None)
        return original(canvas, *args, **options)

    def _enqueue(self, fact: Fact, faults: tuple[FaultKind, ...], send: Callable[[], Any]) -> Any:
        gate = self._gate
        assert gate is not None  # Invariant: `_outside` was asked before.
        effect = children.effect_of(fact, faults, gate.source())
        return gate.perform(effect, send, errors=children.errors(), describe=_describe, call=fact)

    # -- workers -----------------------------------------------------------------------------------------

    def _start_worker(self, original: Any, worker: Any, *args: Any, **kwargs: Any) -> None:
        original(worker, *args, **kwargs)
        _refuse_unwatched(worker, "a worker")

    def _get(self, original: Any, result: Any, *args: Any, **kwargs: Any) -> Any:
        """A scenario that waits for a result also waits for the tasks that the worker here has still to run."""
        if not self._outside():
            return original(result, *args, **kwargs)
        try:
            return original(result, *args, **kwargs)
        finally:
            self._wait_until_idle()
            self._raise_escaped()

    def _wait_until_idle(self) -> None:
        deadline = time.monotonic() + _IDLE_WAIT_SECONDS_MAX
        while waiting := [number for number, queue in list(self._published.items()) if queue in self._served]:
            if time.monotonic() > deadline:
                # Revoked, expired, or in a queue that nobody serves any more.
                for number in waiting:
                    self._published.pop(number, None)
                return
            time.sleep(0.001)

    def _finished(self, task_id: str = "", **details: Any) -> None:
        self._published.pop(task_id, None)


def _run_only(task: Any, *args: Any, **kwargs: Any) -> Any:
    """What a trace does with a task that has no __call__ of its own."""
    return task.run(*args, **kwargs)


def _is_celerys(call: Any) -> bool:
    return getattr(call, "__module__", "").partition(".")[0] == "celery"


def _task_behind(value: Any) -> Any:
    """The task that ``value`` is or stands for, or None. By type: a mock may say that it is a task."""
    if "celery.app.task" not in sys.modules:
        return None
    from celery.app.task import Task
    from celery.local import Proxy

    if issubclass(type(value), Proxy):
        try:
            value = value._get_current_object()
        except Exception:
            # It stands for a task that no app has, or there is no app yet.
            return None
    return value if issubclass(type(value), Task) else None


def _function_of(task: Any) -> FunctionType | None:
    """The user's own function behind a task: below autoretry_for and pydantic=True, which wrap it."""
    function: Any = getattr(task, "_orig_run", None) or task.run
    function = getattr(function, "__func__", function)
    while isinstance(function, FunctionType) and "celery" in PurePath(function.__code__.co_filename).parts:
        inner = getattr(function, "__wrapped__", None)
        if inner is None:
            break
        function = getattr(inner, "__func__", inner)
    return function if isinstance(function, FunctionType) else None


def _tasks() -> Iterator[Any]:
    """Every task of every app, none of them finalised for this."""
    from celery import _state

    for app in list(_state._get_active_apps()):
        yield from list(app._tasks.values())


def _traced_anew(task: Any) -> Any:
    from celery.app import trace

    return trace.build_tracer(task.name, task, task.app.loader, app=task.app)


def _routing_key(app: Any, options: Mapping[str, Any]) -> str:
    routing_key = options.get("routing_key")
    queue = options.get("queue")
    return str(routing_key or getattr(queue, "name", queue) or app.conf.task_default_queue)


def _is_worker(value: object) -> bool:
    return any(base.__module__.startswith("celery.worker") for base in type(value).__mro__) and hasattr(
        value, "pool_cls"
    )


def _is_app(value: object) -> bool:
    return any(
        f"{base.__module__}.{base.__qualname__}" == "celery.app.base.Celery" for base in type(value).__mro__
    )


def _refuse_unwatched(worker: Any, name: str) -> None:
    pool = worker.pool_cls
    kind = (pool if isinstance(pool, str) else pool.__module__).rpartition(".")[2]
    if kind in _UNWATCHED_POOLS:
        raise Unusable(
            f"{name} is a Celery worker with the {kind} pool, whose tasks run where idemfuzz cannot watch them. Use "
            "start_worker(app, pool='solo') or pool='threads' in this test, or task_always_eager"
        )


def _describe(result: Any) -> str:
    number = getattr(result, "id", None)
    return f"task {number}" if number is not None else ""
