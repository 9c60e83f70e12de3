"""The adapter passes the suite that idemfuzz ships, over each way in which a task is run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import celery.app.trace
import celery.canvas
import celery.result
import celery.worker.worker
import pytest
import shop
from celery import Celery, Task
from celery.worker import WorkController
from idemfuzz.testing import QueueConformance, QueueSubject
from kombu.exceptions import OperationalError

from idemfuzz_celery import CeleryQueue


def subject_of(run: Callable[..., Any], app: Celery = shop.app, **options: Any) -> QueueSubject:
    record, enqueue, fail = (app.tasks[task.name] for task in (shop.record, shop.enqueue, shop.fail))

    def waiting() -> int:
        queue = app.amqp.queues[shop.WORLD.get("children", "children")]
        with app.connection_for_read() as connection:
            # Declared as Celery declares it, which tells how many messages it holds.
            return int(
                queue.bind(connection.default_channel)
                .channel.queue_declare(queue.name, durable=True, auto_delete=False)
                .message_count
            )

    worker = WorkController.__new__(WorkController)
    worker.pool_cls, worker.hostname, worker.blueprint = "prefork", "somewhere", None
    return QueueSubject(
        **{
            "queue": CeleryQueue,
            "job": record,
            "run": lambda item: run(record, item),
            "seen": shop.SEEN,
            "parent": lambda item: run(enqueue, item),
            "enqueued": waiting,
            "fail": lambda: run(fail),
            "refused": {"celery_worker": worker},
            "strangers": [app, record.s(1), Task, Task.run, shop.Ledger, app.conf],
            "errors": (OperationalError,),
            "patches": [
                Task,
                shop.Ledger,
                shop.Flask,
                record,
                type(record),
                type(app),
                celery.app.trace,
                celery.canvas,
                celery.result,
                celery.worker.worker,
            ],
            **options,
        }
    )


def call(task: Any, *args: Any) -> Any:
    return task(*args)


def apply(task: Any, *args: Any) -> Any:
    return task.apply(args)


def delay(task: Any, *args: Any) -> Any:
    return task.delay(*args)


def delay_and_wait(task: Any, *args: Any) -> Any:
    return task.delay(*args).get(timeout=10, interval=0.002, propagate=False)


class TestCalled(QueueConformance):
    @pytest.fixture
    def subject(self) -> QueueSubject:
        return subject_of(call)


class TestApplied(QueueConformance):
    @pytest.fixture
    def subject(self) -> QueueSubject:
        return subject_of(apply)


class TestEager(QueueConformance):
    """task_always_eager: a child's body runs at once, so none lies in a queue."""

    @pytest.fixture
    def subject(self, eager: None) -> QueueSubject:
        return subject_of(delay, enqueued=None)


class TestWorker(QueueConformance):
    """A worker in another thread of this process, on the memory broker."""

    @pytest.fixture
    def subject(self, worker: Any) -> QueueSubject:
        return subject_of(delay_and_wait)


class TestBroker(QueueConformance):
    """The same, on a real broker."""

    @pytest.fixture
    def subject(self, elsewhere: Celery) -> QueueSubject:
        shop.WORLD["children"] = f"{elsewhere.conf.task_default_queue}-children"
        return subject_of(delay_and_wait, elsewhere)
