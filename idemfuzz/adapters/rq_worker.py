"""RQ's own workers and queues for a stress run: what starts them, and what is watched in them.

The worker classes change nothing of how RQ takes, runs, acknowledges and recovers jobs. They report, they let
an Execution be struck, and they make a lease shorter than RQ's minute where the run asks for it.
"""

from __future__ import annotations

import inspect
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from importlib.metadata import version
from typing import Any, Protocol

from rq import Queue
from rq import Worker as _Worker
from rq.intermediate_queue import IntermediateQueue
from rq.job import Job
from rq.worker import SimpleWorker as _SimpleWorker

from idemfuzz.abc import Gate, Unusable
from idemfuzz.adapters.rq import _detail, _fact, _function_name, _job_fact
from idemfuzz.model import Access, Effect, Fact

_SpawnWorker: Any
try:
    from rq.worker import SpawnWorker as _SpawnWorker
except ImportError:  # RQ before 2.2
    _SpawnWorker = None

__all__ = [
    "SPAWNS",
    "UNIQUE",
    "ForkingWorker",
    "SimpleWorker",
    "SpawnWorker",
    "check_rq",
    "watch",
    "watch_enqueues",
    "worker_command",
]

SPAWNS: bool = _SpawnWorker is not None
"""Whether the installed RQ has a SpawnWorker (from 2.2 on)."""
_SPAWNS_OWN_CLASS: bool = int(version("rq").partition(".")[0]) >= 3
UNIQUE: bool = "unique" in inspect.signature(Queue.enqueue_call).parameters
"""Whether the installed RQ can refuse a second message with the same id (from 2.8 on)."""

_PATHS = {
    ("registry.py", "cleanup"): "lease over",
    ("intermediate_queue.py", "cleanup"): "never started",
    ("worker_classes.py", "monitor_work_horse"): "horse died",
    ("worker.py", "monitor_work_horse"): "horse died",
    ("base.py", "perform_job"): "job failed",
    ("worker.py", "perform_job"): "job failed",
}
"""Who asks RQ to run a job again, by file and function: the paths of its redelivery."""


_RQ_LEASE_SECONDS = 60


class Witness(Gate, Protocol):
    def executing(self, job_id: str, worker: str, worker_pid: int) -> AbstractContextManager[None]: ...

    def tell(self, event: str, **fields: Any) -> None: ...


class Orders(Protocol):
    lease_seconds: float | None

    @property
    def worker_pid(self) -> int: ...

    def this_is_the_worker(self) -> None: ...

    def pops(self, job_id: str) -> bool: ...


class _Watched:
    """What a watched process knows; set once by `watch`."""

    gate: Witness
    orders: Orders
    worker: str = ""


def watch(gate: Witness, orders: Orders) -> None:
    """From now on this process reports the jobs that its worker runs, the jobs that they enqueue, and redeliveries."""
    _Watched.orders = orders
    _wrap(Job, "_execute", _execute)
    _wrap(Job, "retry", _retry)
    _wrap(IntermediateQueue, "get_first_seen", _first_seen)
    watch_enqueues(gate)


def watch_enqueues(gate: Witness) -> None:
    """From now on the jobs that a job enqueues are Effects, and count."""
    _Watched.gate = gate
    for name in ("enqueue_job", "_enqueue_job"):
        if name in vars(Queue):
            _wrap(Queue, name, _enqueue)
    _wrap(Queue, "schedule_job", _schedule)
    _wrap(Queue, "enqueue_many", _enqueue_many)


def _wrap(owner: type, name: str, watched: Callable[..., Any]) -> None:
    original = vars(owner)[name]

    def method(instance: Any, *args: Any, **kwargs: Any) -> Any:
        return watched(original, instance, *args, **kwargs)

    method.__name__ = name
    setattr(owner, name, method)


def _execute(original: Any, job: Any) -> Any:
    with _Watched.gate.executing(job.id, _Watched.worker, _Watched.orders.worker_pid):
        return original(job)


def _retry(original: Any, job: Any, *args: Any, **kwargs: Any) -> Any:
    _Watched.gate.tell("requeued", job=job.id, path=_path())
    return original(job, *args, **kwargs)


def _first_seen(original: Any, queue: Any, job_id: str) -> Any:
    """RQ gives a message that was taken and not begun a minute, as it does for a lease; the run says how much."""
    seen, lease = original(queue, job_id), _Watched.orders.lease_seconds
    return seen if seen is None or lease is None else seen - timedelta(seconds=_RQ_LEASE_SECONDS - lease)


def _path() -> str:
    frame = sys._getframe(2)
    while frame is not None:
        known = _PATHS.get((os.path.basename(frame.f_code.co_filename), frame.f_code.co_name))
        if known is not None:
            return known
        frame = frame.f_back  # type: ignore[assignment]
    return "asked"


def _enqueue(original: Any, queue: Any, job: Any, *args: Any, **kwargs: Any) -> Any:
    def action() -> Any:
        return original(queue, job, *args, **kwargs)

    return _enqueued([_job_fact(queue, job)], action)


def _schedule(original: Any, queue: Any, job: Any, when: Any, *args: Any, **kwargs: Any) -> Any:
    return _enqueued([_job_fact(queue, job, when)], lambda: original(queue, job, when, *args, **kwargs))


def _enqueue_many(original: Any, queue: Any, job_datas: Iterable[Any], *args: Any, **kwargs: Any) -> Any:
    datas = list(job_datas)
    facts = [_fact(queue, _function_name(d.func), d.args, d.kwargs, d.job_id) for d in datas]
    return _enqueued(facts, lambda: original(queue, datas, *args, **kwargs))


def _enqueued(facts: Sequence[Fact], action: Callable[[], Any]) -> Any:
    if _Watched.gate.scope() is None or not facts:
        return action()
    names = dict.fromkeys(str(fact.fields["function"]).rpartition(".")[2] for fact in facts)
    effect = Effect(f"rq.enqueue.{'+'.join(names)}", "rq", Access.DURABLE, "; ".join(map(_detail, facts)))
    # Several at once are each counted: the first with the Effect, the others beside it.
    result = _Watched.gate.perform(effect, action, call=facts[0])
    for fact in facts[1:]:
        _Watched.gate.perform(
            Effect(effect.label, "rq", Access.DURABLE, _detail(fact)), lambda: None, call=fact
        )
    return result


# -- workers -----------------------------------------------------------------------------------------------


class _WorkerMixin:
    def work(self, *args: Any, **kwargs: Any) -> Any:
        _Watched.worker = self.name  # type: ignore[attr-defined]
        _Watched.orders.this_is_the_worker()
        return super().work(*args, **kwargs)  # type: ignore[misc]

    def register_birth(self, *args: Any, **kwargs: Any) -> Any:
        known = super().register_birth(*args, **kwargs)  # type: ignore[misc]
        _Watched.gate.tell("born", worker=_Watched.worker)
        return known

    def execute_job(self, job: Any, *args: Any) -> Any:
        if _Watched.orders.pops(job.id):
            _Watched.gate.tell(
                "struck", execution=None, job=job.id, kind="kill-popped", where="between queue and job"
            )
            os.kill(os.getpid(), signal.SIGKILL)
        return super().execute_job(job, *args)  # type: ignore[misc]


class _ForkingMixin(_WorkerMixin):
    job_monitoring_interval: int

    def main_work_horse(self, *args: Any) -> Any:
        # In a horse that was spawned, nobody has said so yet.
        _Watched.worker = self.name  # type: ignore[attr-defined]
        return super().main_work_horse(*args)  # type: ignore[misc]

    def get_heartbeat_ttl(self, *args: Any, **kwargs: Any) -> int:
        return _hastened(super().get_heartbeat_ttl(*args, **kwargs))  # type: ignore[misc]


def _hastened(ttl: int) -> int:
    """RQ gives a lease a minute more than its monitoring interval, or than the job's timeout; the run says how much."""
    lease = _Watched.orders.lease_seconds
    return int(ttl) if lease is None else max(1, int(ttl - _RQ_LEASE_SECONDS + lease))


class ForkingWorker(_ForkingMixin, _Worker):
    """RQ's standard worker: a horse is forked for each job."""


class SimpleWorker(_WorkerMixin, _SimpleWorker):
    """RQ's worker that runs jobs in its own process; its lease is the job's timeout and a little more."""

    def get_heartbeat_ttl(self, *args: Any, **kwargs: Any) -> int:
        return _hastened(super().get_heartbeat_ttl(*args, **kwargs))


class SpawnWorker(_ForkingMixin, _SpawnWorker or _Worker):  # type: ignore[misc]
    """RQ's worker that starts a new Python process for each job."""

    def fork_work_horse(self, *args: Any) -> Any:
        if _SPAWNS_OWN_CLASS:
            return super().fork_work_horse(*args)
        with _spawned_as(type(self)):
            return super().fork_work_horse(*args)


@contextmanager
def _spawned_as(worker_class: type) -> Iterator[None]:
    """Before RQ 3, a spawned horse makes a plain Worker, and cannot reach Redis by a socket's path: here it can do both."""
    own = f"from {worker_class.__module__} import {worker_class.__qualname__} as Worker"
    changes = {
        "from rq import Worker, Queue": f"from rq import Queue\n{own}",
        "from redis import Redis": f"from {__name__} import redis_of as Redis",
    }
    spawn = os.spawnv

    def spawn_own(mode: int, file: str, arguments: Sequence[str]) -> int:
        *words, source = arguments
        for theirs, ours in changes.items():
            if theirs not in source:
                raise RuntimeError(f"RQ's spawned horse has no line {theirs!r}: this version is not known")
            source = source.replace(theirs, ours)
        return spawn(mode, file, [*words, source])

    os.spawnv = spawn_own  # type: ignore[assignment]
    try:
        yield
    finally:
        os.spawnv = spawn


def redis_of(**settings: Any) -> Any:
    """A client by the settings of a connection, as a spawned horse gets them: a socket's path has another name there."""
    from redis import Redis

    if "path" in settings:
        settings["unix_socket_path"] = settings.pop("path")
    return Redis(**settings)


def worker_command(
    worker_class: str,
    url: str,
    queues: Sequence[str],
    name: str,
    *,
    quick: bool,
) -> list[str]:
    """The command line of one `rq worker`; ``quick`` has it look for expired leases each second, not each 10 minutes."""
    command = [
        *(sys.executable, "-m", "rq.cli", "worker"),
        *("--url", url, "--worker-class", worker_class, "--name", name, "--quiet"),
    ]
    if quick:
        command += ["--job-monitoring-interval", "1", "--maintenance-interval", "1", "--worker-ttl", "16"]
    return [*command, *queues]


def check_rq(worker_class: str, sending: Sequence[str]) -> None:
    """Whether the installed RQ has what a run asks for.

    Raises:
        Unusable: it is too old.
    """
    if worker_class == "spawn" and not SPAWNS:
        raise Unusable(
            f"--worker-class spawn needs RQ 2.2 or later, and {version('rq')} is installed: pip install 'rq>=2.2', or choose fork"
        )
    if "unique" in sending and not UNIQUE:
        raise Unusable(
            f"--sending unique needs RQ 2.8 or later, and {version('rq')} is installed: pip install 'rq>=2.8', or leave it out"
        )
