"""Every built-in queue passes the suite, over each way in which it runs jobs in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from idemfuzz.adapters.rq import RqQueue
from idemfuzz.testing import QueueConformance, QueueSubject

redis = pytest.importorskip("redis")
fakeredis = pytest.importorskip("fakeredis")
rq = pytest.importorskip("rq")

from rq.decorators import job as rq_job  # noqa: E402
from rq.job import Job  # noqa: E402
from rq.timeouts import TimerDeathPenalty  # noqa: E402

SEEN: list[tuple[int, Any]] = []
WORLD: dict[str, Any] = {}


def record(item: int) -> None:
    SEEN.append((item, rq.get_current_job().id))


def enqueue(item: int) -> None:
    WORLD["children"].enqueue(record, item)


def fail() -> None:
    raise ValueError("no")


def rq_subject(client: Any, run: Callable[..., Any]) -> QueueSubject:
    children = WORLD["children"] = rq.Queue("children", connection=client)
    return QueueSubject(
        queue=RqQueue,
        job=rq_job("default", connection=client)(record),
        run=lambda item: run(record, item),
        seen=SEEN,
        parent=lambda item: run(enqueue, item),
        enqueued=lambda: len(children),
        fail=lambda: run(fail),
        refused={"worker": rq.Worker(["default"], connection=fakeredis.FakeRedis())},
        strangers=[children, enqueue, rq.Queue],
        errors=(redis.exceptions.ConnectionError,),
        patches=[Job, rq.Queue, rq.Worker, *rq.Worker.__mro__[1:-1], rq.SimpleWorker, TimerDeathPenalty],
    )


class TestSynchronousQueue(QueueConformance):
    """``Queue(is_async=False)``."""

    @pytest.fixture
    def subject(self, redis_client: Any) -> QueueSubject:
        queue = rq.Queue("sync", is_async=False, connection=redis_client)
        return rq_subject(redis_client, queue.enqueue)


class TestSimpleWorker(QueueConformance):
    """``SimpleWorker.work(burst=True)``."""

    @pytest.fixture
    def subject(self, redis_client: Any) -> QueueSubject:
        queue = rq.Queue("burst", connection=redis_client)

        def run(function: Callable[..., Any], *args: Any) -> None:
            queue.enqueue(function, *args)
            rq.SimpleWorker([queue], connection=redis_client).work(burst=True)

        return rq_subject(redis_client, run)
