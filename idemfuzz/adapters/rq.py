"""RQ 2.0 to 3.0 as a Queue: its workers' jobs are deliveries, a job's own enqueues are effects.

What is simulated: a redelivery with the same id has the arguments as they were enqueued and the ``meta`` as
it is saved. What is not: RQ's success and failure callbacks run once, after the last delivery, as the worker
calls them; ``Retry`` is not consulted (``attempts`` says how often a search redelivers).
"""

from __future__ import annotations

import copy
import importlib.util
import signal
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePath
from typing import Any
from weakref import WeakKeyDictionary

from idemfuzz.abc import Errors, Gate, JobCall, Unusable, named_arguments
from idemfuzz.model import Access, Effect, Fact, FactKind, FaultKind, Identity
from idemfuzz.model.footprint import Footprint

__all__ = ["RqQueue"]

_PLAIN = (str, bytes, int, float, bool, type(None), datetime, date, time, timedelta, Decimal, uuid.UUID)
_DEPTH_MAX = 6

# RQ 3.0 with its default settings: the lease of a started job (90 s), the interval of the clean-up that looks
# for expired leases (600 s), and the time that a worker may sit in its dequeue before it gets to it (405 s).
_REDELIVERY_WINDOW_SECONDS = 90.0 + 600.0 + 405.0

_REASONS = {
    "duplicate": (
        "RQ runs a job twice when the reply to the producer's enqueue is lost and redis-py sends it "
        "again (the default of Redis(host, port) in redis-py 6 to 8), when two producers use one job_id "
        "without unique=True, and when its on_success callback raises, or its result cannot be stored, "
        "and Retry is set."
    ),
    "overlap": (
        "RQ's worker process is killed or paused while its work horse lives on: when the lease of 60 to "
        "90 s is over, StartedJobRegistry.cleanup takes the job for abandoned and, with Retry set, "
        "another worker starts it beside the first."
    ),
    "kill": (
        "RQ's worker is killed (out of memory, a deploy, a lost node) after the effect and before the "
        "job is acknowledged: with Retry set, the parent re-queues it at once, or "
        "StartedJobRegistry.cleanup does when the lease of 60 to 90 s is over (every "
        "maintenance_interval, 600 s)."
    ),
    "timeout": (
        "RQ raises JobTimeoutException in the job when job_timeout (180 s by default) is over; with "
        "Retry set, the job runs again. It is an Exception, so that 'except Exception' swallows it."
    ),
    "shutdown": (
        "RQ's work horse dies of SIGTERM, without an exception, when a supervisor signals every process "
        "of the service (systemd, Kubernetes): that is a kill; with Retry set, the parent re-queues the "
        "job at once."
    ),
}


class RqQueue:
    """Knows RQ's jobs, in-process workers and synchronous queues.

    It does not watch workers in other processes.
    """

    name = "rq"

    def __init__(self) -> None:
        self._gate: Gate | None = None
        self._dispatch: Callable[[JobCall], Any] | None = None
        self._originals: list[tuple[Any, str, Any]] = []
        self._local = _Local()
        self._dispatching = 0
        self._escaped: BaseException | None = None
        self._buffered: WeakKeyDictionary[Any, list[Fact]] = WeakKeyDictionary()

    def functions(self, value: object) -> Iterable[Callable[..., Any]]:
        """The function itself if ``rq.decorators.job`` has decorated it, else nothing."""
        for name in ("enqueue", "delay"):
            method = getattr(value, name, None) if callable(value) else None
            code = getattr(method, "__code__", None)
            if code is not None and PurePath(code.co_filename).parts[-2:] == ("rq", "decorators.py"):
                # The decorator returns the function that it was given.
                return (value,)  # type: ignore[return-value]
        return ()

    def attach(self, gate: Gate, dispatch: Callable[[JobCall], Any], values: Mapping[str, object]) -> None:
        """Catch the jobs that RQ runs in this process, and the jobs that they enqueue.

        Raises:
            Unusable: a forking worker among ``values`` has an in-process fake for its connection.
        """
        if importlib.util.find_spec("rq") is None:
            return
        for name, value in values.items():
            if _is_worker(value):
                _refuse_fork(value, name)
        self._gate, self._dispatch, self._escaped = gate, dispatch, None
        self._patch()

    def detach(self) -> None:
        for owner, name, original in reversed(self._originals):
            setattr(owner, name, original)
        self._originals.clear()
        self._buffered.clear()
        self._gate = self._dispatch = None

    def interruption(self, kind: FaultKind) -> Callable[[], BaseException] | None:
        """JobTimeoutException for TIMEOUT; None for SHUTDOWN, which in RQ is a kill."""
        if kind is not FaultKind.TIMEOUT or importlib.util.find_spec("rq") is None:
            return None
        from rq.timeouts import JobTimeoutException

        return lambda: JobTimeoutException("Task exceeded maximum timeout value (180 seconds)")

    @property
    def redelivery_window_seconds(self) -> float:
        """1095 s: lease, clean-up interval and blocking dequeue of stock RQ, one after the other."""
        return _REDELIVERY_WINDOW_SECONDS

    def reason(self, kind: str) -> str:
        """The real event behind a fault; an empty text for a kind that RQ does not know."""
        return _REASONS.get(kind, "")

    # -- patching ----------------------------------------------------------------------------------------

    def _patch(self) -> None:
        from rq import Queue
        from rq.job import Job
        from rq.timeouts import TimerDeathPenalty
        from rq.worker import SimpleWorker, Worker

        self._replace(Job, "_execute", self._execute)
        self._replace(Queue, "enqueue_job", self._enqueue_job)
        self._replace(Queue, "_enqueue_job", self._enqueue_job)
        self._replace(Queue, "schedule_job", self._schedule_job)
        self._replace(Queue, "enqueue_many", self._enqueue_many)
        self._replace(Queue, "run_sync", self._run_sync)
        # The class that defines it: Worker itself in RQ 2.0, BaseWorker later.
        base = next(kind for kind in Worker.__mro__ if "work" in vars(kind))
        self._replace(base, "work", self._work)
        # RQ would turn Ctrl-C into a polite request to its worker, and leave its handlers behind.
        self._replace(base, "_install_signal_handlers", lambda original, worker: None)
        execute_simply = SimpleWorker.execute_job

        def execute_job(original: Any, worker: Any, *args: Any) -> Any:
            # In this process, so that it can be watched.
            return execute_simply(worker, *args)

        self._replace(Worker, "execute_job", execute_job)

        def handle_death_penalty(original: Any, penalty: Any) -> None:
            if not self._dispatching:
                original(penalty)

        self._replace(TimerDeathPenalty, "handle_death_penalty", handle_death_penalty)

    def _replace(self, owner: Any, name: str, tapped: Callable[..., Any]) -> None:
        original = vars(owner)[name]
        self._originals.append((owner, name, original))

        def method(instance: Any, *args: Any, **kwargs: Any) -> Any:
            return tapped(original, instance, *args, **kwargs)

        method.__name__ = name
        method.__wrapped__ = original  # type: ignore[attr-defined]
        setattr(owner, name, method)

    # -- jobs --------------------------------------------------------------------------------------------

    def _execute(self, original: Any, job: Any) -> Any:
        gate, dispatch = self._gate, self._dispatch
        if gate is None or dispatch is None or gate.scope() is not None:
            return original(job)
        enqueued = _Enqueued(job, original)
        call = JobCall(
            name=job.func_name,
            perform=enqueued.perform,
            queue=self,
            identified=True,
            arguments=named_arguments(job.func, job.args, job.kwargs) if callable(job.func) else {},
        )
        self._dispatching += 1
        try:
            with _death_penalty_suspended():
                result = dispatch(call)
        except (KeyboardInterrupt, Unusable) as error:
            # RQ would take it for the job's failure and go on.
            self._escaped = error
            raise
        finally:
            self._dispatching -= 1
        job.meta = enqueued.meta
        return result

    def _work(self, original: Any, worker: Any, *args: Any, **kwargs: Any) -> Any:
        _refuse_fork(worker, "a worker")
        result = original(worker, *args, **kwargs)
        self._raise_escaped()
        return result

    def _run_sync(self, original: Any, queue: Any, job: Any) -> Any:
        later = self._local.later
        if later is not None:
            # Within the enqueue effect of a synchronous queue: the body's own effects come after it.
            later.append((queue, job))
            return job
        result = original(queue, job)
        if self._gate is not None and self._gate.scope() is None:
            self._raise_escaped()
        return result

    def _raise_escaped(self) -> None:
        escaped, self._escaped = self._escaped, None
        if escaped is not None:
            raise escaped

    # -- child jobs --------------------------------------------------------------------------------------

    def _enqueue_job(self, original: Any, queue: Any, job: Any, *args: Any, **kwargs: Any) -> Any:
        if self._outside():
            return original(queue, job, *args, **kwargs)
        pipeline = kwargs.get("pipeline", args[0] if args else None)
        facts = [_job_fact(queue, job)]
        return self._enqueue(queue, facts, pipeline, lambda: original(queue, job, *args, **kwargs))

    def _schedule_job(self, original: Any, queue: Any, job: Any, when: Any, *args: Any, **kwargs: Any) -> Any:
        if self._outside():
            return original(queue, job, when, *args, **kwargs)
        pipeline = kwargs.get("pipeline", args[0] if args else None)
        facts = [_job_fact(queue, job, when)]
        return self._enqueue(queue, facts, pipeline, lambda: original(queue, job, when, *args, **kwargs))

    def _enqueue_many(
        self, original: Any, queue: Any, job_datas: Iterable[Any], *args: Any, **kwargs: Any
    ) -> Any:
        if self._outside():
            return original(queue, job_datas, *args, **kwargs)
        datas = list(job_datas)
        pipeline = kwargs.get("pipeline", args[0] if args else None)
        facts = [_fact(queue, _function_name(d.func), d.args, d.kwargs, d.job_id) for d in datas]
        if not facts:
            return original(queue, datas, *args, **kwargs)
        return self._enqueue(queue, facts, pipeline, lambda: original(queue, datas, *args, **kwargs))

    def _outside(self) -> bool:
        return self._gate is None or self._gate.scope() is None

    def _enqueue(self, queue: Any, facts: list[Fact], pipeline: Any, action: Callable[[], Any]) -> Any:
        """One enqueue as one Effect; into the caller's pipeline, it is one when the pipeline is executed."""
        if self._local.buffering:
            return action()
        if not queue.is_async:
            return self._enqueue_and_run(facts, action, queue.connection)
        if pipeline is not None:
            self._local.buffering = True
            try:
                result = action()
            finally:
                self._local.buffering = False
            self._buffer(pipeline, facts)
            return result
        faults = (FaultKind.REFUSED, FaultKind.LOST, FaultKind.RESENT)
        return self._perform(facts, action, faults, queue.connection)

    def _enqueue_and_run(self, facts: list[Fact], action: Callable[[], Any], connection: Any) -> Any:
        outer, self._local.later = self._local.later, []
        later = self._local.later
        try:
            # Sent twice, it would still run once: nothing is queued.
            result = self._perform(facts, action, (FaultKind.REFUSED, FaultKind.LOST), connection)
        finally:
            self._local.later = outer
        for queue, job in later:
            queue.run_sync(job)
        return result

    def _buffer(self, pipeline: Any, facts: list[Fact]) -> None:
        waiting = self._buffered.setdefault(pipeline, [])
        waiting += facts
        if "execute" in vars(pipeline):
            return

        def execute(*args: Any, **kwargs: Any) -> Any:
            del pipeline.execute
            facts = self._buffered.pop(pipeline, [])
            if not facts or not pipeline.command_stack or self._outside():
                return pipeline.execute(*args, **kwargs)
            commands = list(pipeline.command_stack)

            def send() -> Any:
                pipeline.command_stack = [(words, dict(options)) for words, options in commands]
                return pipeline.execute(*args, **kwargs)

            faults: tuple[FaultKind, ...] = (FaultKind.REFUSED, FaultKind.LOST)
            if not pipeline.watching:
                faults = (*faults, FaultKind.RESENT)
            return self._perform(facts, send, faults, pipeline)

        pipeline.execute = execute

    def _perform(
        self, facts: Sequence[Fact], action: Callable[[], Any], faults: tuple[FaultKind, ...], client: Any
    ) -> Any:
        from redis.exceptions import ConnectionError

        from idemfuzz.adapters.redis.tap import TAP

        assert self._gate is not None  # Invariant: `_outside` was asked before.
        names = dict.fromkeys(str(fact.fields["function"]).rpartition(".")[2] for fact in facts)
        effect = Effect(
            label=f"rq.enqueue.{'+'.join(names)}",
            store=self.name,
            access=Access.DURABLE,
            detail="; ".join(_detail(fact) for fact in facts),
            faults=faults,
            # Which keys it writes is RQ's own affair.
            footprint=Footprint.whole(TAP.name_of(client)),
        )
        errors = Errors(
            refused=lambda: ConnectionError("Error 111 connecting to Redis. Connection refused."),
            lost=lambda: ConnectionError("Connection closed by server."),
        )
        call = facts[0] if len(facts) == 1 else _batch(facts)
        return self._gate.perform(effect, action, errors=errors, describe=_describe, call=call)


class _Local(threading.local):
    """What this thread is in the middle of."""

    buffering = False
    later: list[tuple[Any, Any]] | None = None


class _Enqueued:
    """A job as it lies in the queue: every delivery gets a copy of its own, with fresh arguments."""

    def __init__(self, job: Any, execute: Callable[[Any], Any]) -> None:
        self._job = job
        self._execute = execute
        self.meta = job.meta
        try:
            self._data = job.data
        except Exception:
            # Arguments that cannot be serialised (a synchronous queue that never had to): they are shared.
            self._data = None

    def perform(self, identity: Identity, delivery: int) -> Any:
        """Run the body once in this thread, as the current job."""
        job = copy.copy(self._job)
        if self._data is not None:
            job.data = self._data
        if identity is Identity.NEW:
            # It is not saved: a job that reads its own hash by its id finds none.
            job._id = str(uuid.uuid4())
        elif delivery > 1:
            job.meta = self._saved_meta()
        job.meta = copy.deepcopy(job.meta)
        with _current(job):
            result = self._execute(job)
        self.meta = job.meta
        return result

    def _saved_meta(self) -> Any:
        """What earlier deliveries have saved, read below the tap: the worker reads it, not the job."""
        job = self._job
        pool = job.connection.connection_pool
        try:
            connection = pool.get_connection()
        except TypeError:
            connection = pool.get_connection("HGET")  # redis-py 5
        try:
            connection.send_command("HGET", job.key, "meta")
            saved = connection.read_response()
        finally:
            pool.release(connection)
        return job.serializer.loads(saved) if saved else job.meta


@contextmanager
def _current(job: Any) -> Iterator[None]:
    """Make ``job`` what ``get_current_job`` returns in this thread.

    `Job.perform` does this, too, but in RQ 2 also sends a command, which is the worker's and not the job's.
    """
    import rq.job

    module: Any = rq.job
    variable = getattr(module, "_current_job", None)
    if variable is not None:
        token = variable.set(job)
        try:
            yield
        finally:
            variable.reset(token)
    else:
        module._job_stack.push(job)
        try:
            yield
        finally:
            module._job_stack.pop()


@contextmanager
def _death_penalty_suspended() -> Iterator[None]:
    """RQ's alarm stands still while a job is delivered: the engine has a limit of its own."""
    from rq.timeouts import BaseDeathPenalty

    # Without an alarm of RQ's (a synchronous queue, another thread) there is nothing to do.
    handler = signal.getsignal(signal.SIGALRM) if hasattr(signal, "SIGALRM") else None
    if not isinstance(getattr(handler, "__self__", None), BaseDeathPenalty):
        yield
        return
    left, interval = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield
    finally:
        if left:
            signal.setitimer(signal.ITIMER_REAL, left, interval)


def _is_worker(value: object) -> bool:
    return any(base.__module__.startswith("rq.worker") for base in type(value).__mro__) and hasattr(
        value, "work"
    )


def _refuse_fork(worker: Any, name: str) -> None:
    """A forking worker on a real server runs in this process; on a fake, its child would have its own."""
    from rq.worker import SimpleWorker

    if isinstance(worker, SimpleWorker) or not hasattr(worker, "fork_work_horse"):
        return
    pool = worker.connection.connection_pool
    if any(base.__module__.startswith("fakeredis") for base in pool.connection_class.__mro__):
        raise Unusable(
            f"{name} is an rq.{type(worker).__name__}, which forks, on an in-process fakeredis: it runs the "
            "effect in a child with a copy of the fake, and leaves the job queued here. Use rq.SimpleWorker "
            "in this test, or a real Redis server."
        )


def _job_fact(queue: Any, job: Any, when: datetime | None = None) -> Fact:
    # An id that RQ makes up is made when it is first asked for, which is later.
    return _fact(queue, job.func_name, job.args, job.kwargs, job._id, when)


def _fact(
    queue: Any, function: Any, args: Any, kwargs: Any, job_id: Any, when: datetime | None = None
) -> Fact:
    """A child job; ``when`` it is scheduled for.

    Scheduled again under its own id before it is due, it is put off, and runs once: if no redelivery comes later than that.
    """
    fields: dict[str, Any] = {
        "function": str(function),
        "args": [_plain(value) for value in args or ()],
        "kwargs": {key: _plain(value) for key, value in (kwargs or {}).items()},
        "queue": queue.name,
    }
    if job_id is not None:
        fields["job_id"] = str(job_id)
    once = None
    if when is not None:
        fields["scheduled"] = True
        left_seconds = when.timestamp() - datetime.now().timestamp()
        if job_id is not None and left_seconds > _REDELIVERY_WINDOW_SECONDS:
            once = f"{queue.name} {job_id}"
    return Fact(store="rq", kind=FactKind.JOB, group=f"{queue.name}: {function}", fields=fields, once=once)


def _batch(facts: Sequence[Fact]) -> Fact:
    """Several jobs that are enqueued in one go or not at all."""
    groups = "; ".join(dict.fromkeys(fact.group for fact in facts))
    fields = {"jobs": [dict(fact.fields) for fact in facts]}
    return Fact(store="rq", kind=FactKind.JOB, group=groups, fields=fields)


def _detail(fact: Fact) -> str:
    fields = fact.fields
    arguments = [repr(value) for value in fields["args"]]
    arguments += [f"{key}={value!r}" for key, value in fields["kwargs"].items()]
    text = ", ".join(arguments)
    text = text if len(text) <= 120 else text[:119] + "…"
    return f"enqueue {fields['function']}({text}) on {fields['queue']}"


def _describe(result: Any) -> str:
    jobs = result if isinstance(result, list) else [result]
    return ", ".join(f"job {job.id}" for job in jobs if hasattr(job, "id"))


def _function_name(function: Any) -> str:
    """As RQ names it."""
    if isinstance(function, str):
        return function
    if getattr(function, "__self__", None) is not None:
        return str(function.__name__)
    return f"{function.__module__}.{getattr(function, '__qualname__', type(function).__qualname__)}"


def _plain(value: Any, depth: int = 0) -> Any:
    """A value that can be compared and printed: objects by type and attributes, never by address."""
    if isinstance(value, _PLAIN):
        return value
    if depth > _DEPTH_MAX:
        return f"<{type(value).__qualname__}>"
    if isinstance(value, Mapping):
        return {_plain(key, depth + 1): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((_plain(item, depth + 1) for item in value), key=repr)
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    attributes = getattr(value, "__dict__", None)
    if attributes:
        return {"type": type(value).__qualname__, **_plain(attributes, depth + 1)}
    text = repr(value)
    return f"<{type(value).__qualname__}>" if " at 0x" in text else text
