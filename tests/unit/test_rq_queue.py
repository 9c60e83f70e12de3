"""RQ as a queue: deliveries of its jobs, effects of its enqueues, and what cannot be watched.

The jobs are module-level functions because RQ finds them by name.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from idemfuzz.abc import JobCall, Options, Unusable
from idemfuzz.adapters.redis import RedisAdapter, RedisStore
from idemfuzz.adapters.rq import RqQueue
from idemfuzz.engine import Trial, TrialGate
from idemfuzz.engine.clock import Clock
from idemfuzz.model import Fault, FaultKind, Identity, Plan, Point, Side

rq = pytest.importorskip("rq")
fakeredis = pytest.importorskip("fakeredis")

from rq.decorators import job as rq_job  # noqa: E402
from rq.exceptions import NoSuchJobError  # noqa: E402
from rq.timeouts import JobTimeoutException  # noqa: E402

VERSION = tuple(map(int, rq.VERSION.split(".")[:2]))
SEEN: list[Any] = []
WORLD: dict[str, Any] = {}


def record(*args: Any, **kwargs: Any) -> str:
    job = rq.get_current_job()
    SEEN.append((job.id if job else None, args, kwargs))
    return "done"


def mutate(items: list[int]) -> None:
    SEEN.append(list(items))
    items.append(len(items))


def remember() -> None:
    job = rq.get_current_job()
    SEEN.append(dict(job.meta))
    job.meta["runs"] = job.meta.get("runs", 0) + 1
    job.save_meta()


def write(key: str) -> None:
    WORLD["redis"].incr(key)


def enqueue_child(*args: Any, **options: Any) -> None:
    WORLD["queue"].enqueue(record, *args, **options)


def enqueue_named(options: dict[str, Any]) -> None:
    WORLD["queue"].enqueue(record, **options)


def enqueue_write() -> None:
    WORLD["redis"].incr("before")
    WORLD["queue"].enqueue(write, "child")
    WORLD["redis"].incr("after")


def enqueue_later() -> None:
    WORLD["queue"].enqueue_in(timedelta(seconds=60), record, 1)


def enqueue_several() -> None:
    queue = WORLD["queue"]
    queue.enqueue_many([queue.prepare_data(record, (1,)), queue.prepare_data(write, ("k",), job_id="w")])


def enqueue_in_pipeline() -> None:
    queue = WORLD["queue"]
    with queue.connection.pipeline() as pipe:
        queue.enqueue(record, 1, pipeline=pipe)
        pipe.rpush("log", "enqueued")
        pipe.execute()


def enqueue_two_in_pipeline() -> None:
    queue = WORLD["queue"]
    with queue.connection.pipeline() as pipe:
        queue.enqueue(record, 1, pipeline=pipe)
        queue.enqueue(record, 2, pipeline=pipe)
        pipe.execute()


def fail() -> None:
    raise ValueError("no")


def interrupt() -> None:
    raise KeyboardInterrupt


class Harness:
    """A search's worth of adapters around one Plan."""

    def __init__(self, store: RedisStore) -> None:
        self.store = store
        self.gate = TrialGate()
        self.queue = RqQueue()
        self.plan = Plan()
        self.trials: list[Trial] = []
        self.raises: BaseException | None = None

    def dispatch(self, call: JobCall) -> Any:
        if self.raises is not None:
            raise self.raises
        assert call.queue is self.queue
        assert call.identified
        self.calls.append(call.name)
        clock = Clock(lambda: None, lambda seconds, polls: None)
        trial = Trial(self.plan, Options(timeout=5, redelivery_window=1), [self.store], clock)
        self.trials.append(trial)
        try:
            return trial.deliver(call)
        finally:
            clock.reset()

    def attach(self, **values: object) -> None:
        self.calls: list[str] = []
        self.queue.attach(self.gate, self.dispatch, values)

    @property
    def last(self) -> Any:
        return self.trials[-1].result()

    def labels(self) -> list[str]:
        return [event.effect.label for event in self.last.history.effects]


@pytest.fixture
def client() -> Any:
    return fakeredis.FakeRedis(server=fakeredis.FakeServer())


@pytest.fixture
def harness(client: Any) -> Iterator[Harness]:
    SEEN.clear()
    store = RedisAdapter().adopt("redis", client, Options())
    assert store is not None
    harness = Harness(store)
    store.open(harness.gate)
    WORLD.update(redis=client, queue=rq.Queue(connection=client))
    yield harness
    harness.queue.detach()
    store.close()


def run_sync(client: Any, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return rq.Queue("sync", is_async=False, connection=client).enqueue(function, *args, **kwargs)


def run_burst(client: Any, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    queue = rq.Queue("burst", connection=client)
    job = queue.enqueue(function, *args, **kwargs)
    rq.SimpleWorker([queue], connection=client).work(burst=True)
    return job


@pytest.mark.parametrize("run", [run_sync, run_burst])
def test_a_job_is_delivered_with_the_same_id(harness: Harness, client: Any, run: Any) -> None:
    harness.plan = Plan(deliveries=3)
    harness.attach()
    job = run(client, record, 1, key="value")
    assert [*SEEN] == [(job.id, (1,), {"key": "value"})] * 3
    assert harness.calls == [f"{__name__}.record"]
    assert job.get_status() == "finished"
    assert job.return_value() == "done"


@pytest.mark.parametrize("run", [run_sync, run_burst])
def test_a_duplicate_may_have_an_id_of_its_own(harness: Harness, client: Any, run: Any) -> None:
    harness.plan = Plan(deliveries=2, identity=Identity.NEW)
    harness.attach()
    job = run(client, record)
    assert SEEN[0][0] == job.id
    assert SEEN[1][0] not in (job.id, None)
    with pytest.raises(NoSuchJobError):
        rq.job.Job.fetch(SEEN[1][0], connection=client)


def test_a_decorated_function_is_a_job(harness: Harness, client: Any) -> None:
    decorated = rq_job("burst", connection=client)(record)
    assert tuple(harness.queue.functions(decorated)) == (record,)
    harness.plan = Plan(deliveries=2)
    harness.attach()
    decorated.delay(7)
    rq.SimpleWorker(["burst"], connection=client).work(burst=True)
    assert [args for _, args, _ in SEEN] == [(7,), (7,)]


def test_what_is_no_job_is_none(harness: Harness, client: Any) -> None:
    class Lookalike:
        def __call__(self) -> None: ...
        def delay(self) -> None: ...

    for value in (len, test_what_is_no_job_is_none, Lookalike(), rq.Queue(connection=client), 1, "x", None):
        assert tuple(harness.queue.functions(value)) == ()


def test_every_delivery_has_fresh_arguments(harness: Harness, client: Any) -> None:
    harness.plan = Plan(deliveries=3)
    harness.attach()
    run_burst(client, mutate, [1])
    assert SEEN == [[1], [1], [1]]


def test_a_redelivery_sees_the_saved_meta_and_a_new_job_does_not(harness: Harness, client: Any) -> None:
    harness.plan = Plan(deliveries=2)
    harness.attach()
    run_burst(client, remember)
    assert SEEN == [{}, {"runs": 1}]
    SEEN.clear()
    harness.plan = Plan(deliveries=2, identity=Identity.NEW)
    run_burst(client, remember)
    assert SEEN == [{}, {}]


def test_a_failing_job_fails_in_rq(harness: Harness, client: Any) -> None:
    harness.attach()
    assert run_burst(client, fail).get_status() == "failed"
    assert run_sync(client, fail).get_status() == "failed"
    assert len(harness.last.stuck) == 1


def test_effects_within_the_job_are_seen(harness: Harness, client: Any) -> None:
    harness.attach()
    run_burst(client, write, "n")
    assert harness.labels() == ["redis.INCRBY"]


def test_a_kill_is_answered_by_a_redelivery(harness: Harness, client: Any) -> None:
    harness.plan = Plan(faults=(Fault(FaultKind.KILL, Point(1, 1, "redis.INCRBY", 1), Side.AFTER),))
    harness.attach()
    job = run_burst(client, write, "n")
    assert client.get("n") == b"2"
    assert job.get_status() == "finished"


def test_a_timeout_is_rqs_own(harness: Harness, client: Any) -> None:
    harness.plan = Plan(faults=(Fault(FaultKind.TIMEOUT, Point(1, 1, "redis.INCRBY", 1), Side.BEFORE),))
    harness.attach()
    run_burst(client, write, "n")
    endings = [event.text for event in harness.last.history.endings()]
    assert endings == ["JobTimeoutException: Task exceeded maximum timeout value (180 seconds)", ""]
    make = harness.queue.interruption(FaultKind.TIMEOUT)
    assert make is not None
    assert isinstance(make(), JobTimeoutException)
    assert harness.queue.interruption(FaultKind.SHUTDOWN) is None


# -- child jobs ----------------------------------------------------------------------------------------------


def test_a_child_job_is_one_counted_effect(harness: Harness, client: Any) -> None:
    harness.plan = Plan(deliveries=2)
    harness.attach()
    run_burst(client, enqueue_child, 1, [2], when=None)
    assert harness.labels() == ["rq.enqueue.record"] * 2
    [first, second] = harness.last.calls
    assert first == second
    assert first.group == f"default: {__name__}.record"
    assert dict(first.fields) == {
        "function": f"{__name__}.record",
        "args": [1, [2]],
        "kwargs": {"when": None},
        "queue": "default",
    }
    assert len(WORLD["queue"]) == 2
    detail = harness.last.history.effects[0].effect.detail
    assert detail == f"enqueue {__name__}.record(1, [2], when=None) on default"


def test_an_id_that_was_given_counts_twice_unless_unique(harness: Harness, client: Any) -> None:
    """Goal: RQ does not check ids: the same id lies in the list twice, and its job runs twice."""
    harness.plan = Plan(deliveries=2)
    harness.attach()
    run_burst(client, enqueue_named, {"job_id": "child"})
    assert [fact.fields["job_id"] for fact in harness.last.calls] == ["child", "child"]
    assert WORLD["queue"].job_ids == ["child", "child"]


@pytest.mark.skipif(VERSION < (2, 8), reason="unique= came with RQ 2.8")
def test_a_unique_child_counts_once(harness: Harness, client: Any) -> None:
    harness.plan = Plan(deliveries=2)
    harness.attach()
    run_burst(client, enqueue_named, {"job_id": "child", "unique": True})
    assert len(harness.last.calls) == 1
    assert [event.failed for event in harness.last.history.effects] == [False, True]
    assert WORLD["queue"].job_ids == ["child"]


def test_several_and_later_children(harness: Harness, client: Any) -> None:
    harness.attach()
    run_burst(client, enqueue_later)
    [fact] = harness.last.calls
    assert fact.fields["scheduled"] is True
    assert harness.labels() == ["rq.enqueue.record"]
    run_burst(client, enqueue_several)
    assert harness.labels() == ["rq.enqueue.record+write"]
    [fact] = harness.last.calls
    assert [job["args"] for job in fact.fields["jobs"]] == [[1], ["k"]]
    assert fact.fields["jobs"][1]["job_id"] == "w"
    assert len(WORLD["queue"]) == 2


def test_a_child_in_a_pipeline_is_enqueued_when_it_is_executed(harness: Harness, client: Any) -> None:
    harness.attach()
    run_burst(client, enqueue_in_pipeline)
    assert harness.labels()[-1] == "rq.enqueue.record"
    assert harness.labels().count("rq.enqueue.record") == 1
    [fact] = harness.last.calls
    assert fact.fields["args"] == [1]
    assert len(WORLD["queue"]) == client.llen("log") == 1


@pytest.mark.skipif(VERSION < (2, 6), reason="RQ 2.0 takes one job per pipeline")
def test_children_in_one_pipeline_are_one_effect(harness: Harness, client: Any) -> None:
    harness.attach()
    run_burst(client, enqueue_two_in_pipeline)
    assert harness.labels().count("rq.enqueue.record") == 1
    [fact] = harness.last.calls
    assert [job["args"] for job in fact.fields["jobs"]] == [[1], [2]]
    assert len(WORLD["queue"]) == 2


@pytest.mark.parametrize(
    ("kind", "side", "queued", "counted"),
    [
        (FaultKind.REFUSED, Side.BEFORE, 1, 1),
        (FaultKind.LOST, Side.AFTER, 2, 2),
        (FaultKind.RESENT, Side.AFTER, 2, 2),
    ],
)
@pytest.mark.parametrize("job", [enqueue_child, enqueue_in_pipeline])
def test_an_enqueue_is_refused_lost_and_resent(
    harness: Harness, client: Any, job: Any, kind: FaultKind, side: Side, queued: int, counted: int
) -> None:
    """Goal: what is counted is what lies in the queue, after the redelivery that answers the error."""
    harness.plan = Plan(faults=(Fault(kind, Point(1, 1, "rq.enqueue.record", 1), side),))
    harness.attach()
    run_burst(client, job)
    assert harness.last.fired == 1
    assert len(WORLD["queue"]) == queued
    assert len(harness.last.calls) == counted


@pytest.mark.parametrize("run", [run_sync, run_burst])
def test_the_body_of_a_synchronous_child_is_seen(harness: Harness, client: Any, run: Any) -> None:
    """Goal: enqueued on an is_async=False queue, a child's effects are effects, after that of the enqueue."""
    WORLD["queue"] = rq.Queue("inner", is_async=False, connection=client)
    harness.attach()
    run(client, enqueue_write)
    labels = [label for label in harness.labels() if label in ("redis.INCRBY", "rq.enqueue.write")]
    assert labels == ["redis.INCRBY", "rq.enqueue.write", "redis.INCRBY", "redis.INCRBY"]
    assert [client.get(key) for key in ("before", "child", "after")] == [b"1", b"1", b"1"]
    assert len(harness.last.calls) == 1
    assert harness.calls == [f"{__name__}.enqueue_write"]


def test_a_kill_within_a_synchronous_child_ends_the_whole_delivery(harness: Harness, client: Any) -> None:
    WORLD["queue"] = rq.Queue("inner", is_async=False, connection=client)
    harness.plan = Plan(faults=(Fault(FaultKind.KILL, Point(1, 1, "redis.INCRBY", 2), Side.AFTER),))
    harness.attach()
    run_burst(client, enqueue_write)
    assert [client.get(key) for key in ("before", "child", "after")] == [b"2", b"2", b"1"]


def test_nothing_is_counted_outside_deliveries(harness: Harness, client: Any) -> None:
    harness.attach()
    WORLD["queue"].enqueue(record)
    assert harness.trials == []
    harness.queue.detach()
    rq.SimpleWorker([WORLD["queue"]], connection=client).work(burst=True)
    assert harness.trials == []
    assert not hasattr(rq.job.Job._execute, "__wrapped__")


# -- workers -------------------------------------------------------------------------------------------------


def test_a_forking_worker_on_a_fake_is_refused(harness: Harness, client: Any) -> None:
    """Goal: among the values at once, and when one is made in the test's body before it takes a job."""
    with pytest.raises(Unusable, match="SimpleWorker"):
        harness.attach(worker=rq.Worker(["default"], connection=client))
    harness.attach(worker=rq.SimpleWorker(["default"], connection=client))
    WORLD["queue"].enqueue(record)
    with pytest.raises(Unusable, match="leaves the job queued"):
        rq.Worker([WORLD["queue"]], connection=client).work(burst=True)
    assert len(WORLD["queue"]) == 1
    assert SEEN == []


def test_a_forking_worker_on_a_server_runs_in_this_process(harness: Harness, lend: Any) -> None:
    """Goal: a job of an ordinary worker can be watched, if its Redis is a real one."""
    import redis

    from idemfuzz import servers

    try:
        client = redis.Redis.from_url(lend("redis"))
    except servers.Unavailable as error:
        pytest.skip(str(error))
    worker = rq.Worker(["burst"], connection=client)
    harness.plan = Plan(deliveries=2)
    harness.attach(worker=worker)
    try:
        job = rq.Queue("burst", connection=client).enqueue(record)
        worker.work(burst=True)
        assert [number for number, _, _ in SEEN] == [job.id, job.id]
        assert job.get_status() == "finished"
    finally:
        client.flushdb()
        client.close()


@pytest.mark.parametrize("run", [run_sync, run_burst])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), Unusable("not so")])
def test_an_interruption_is_not_the_jobs_failure(
    harness: Harness, client: Any, run: Any, error: BaseException
) -> None:
    """Goal: RQ swallows every exception of a job; Ctrl-C and a refusal come out nevertheless."""
    harness.raises = error
    harness.attach()
    with pytest.raises(type(error)):
        run(client, record)


def test_signal_handlers_stay_as_they_are(harness: Harness, client: Any) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    harness.attach()
    run_burst(client, record)
    after = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert after == before


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGALRM")
@pytest.mark.slow
def test_rqs_alarm_does_not_ring_while_the_job_is_delivered(harness: Harness, client: Any) -> None:
    """Goal: a job with a time limit of 1 s that is delivered for longer than that is not failed by RQ."""
    harness.attach()
    deliver = harness.dispatch

    def slowly(call: JobCall) -> Any:
        time.sleep(1.2)
        return deliver(call)

    harness.queue._dispatch = slowly
    job = run_burst(client, record, job_timeout=1)
    assert job.get_status() == "finished"


def test_the_facts_about_rq_are_told(harness: Harness) -> None:
    assert harness.queue.redelivery_window_seconds == 1095
    for kind in ("duplicate", "overlap", "kill", "timeout", "shutdown"):
        assert "RQ" in harness.queue.reason(kind)
    assert harness.queue.reason("weather") == ""
