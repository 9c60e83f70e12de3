"""Workers and brokers for the tests: a worker runs in a thread of this process, as in a user's own tests."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest
import shop
from celery import Celery
from celery.contrib.testing.worker import start_worker
from kombu import Connection

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Every test finds the application as it was imported."""
    shop.SEEN.clear()
    shop.WORLD.clear()
    yield
    shop.app.conf.task_always_eager = False
    # Nobody serves these, so what was sent there would stay.
    with shop.app.connection_for_write() as connection:
        for name in ("children", "mails", "other"):
            connection.default_channel.queue_delete(name)


@pytest.fixture
def eager() -> None:
    shop.app.conf.task_always_eager = True


# A worker takes seconds to stop, so it serves all tests of a module.
@pytest.fixture(params=["solo", "threads"], scope="module")
def worker(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A worker on the memory broker that serves the queue ``shop``, where other tests may have left something."""
    with shop.app.connection_for_write() as connection:
        connection.default_channel.queue_delete("shop")
    with start_worker(shop.app, pool=request.param, perform_ping_check=False, queues=["shop"]) as worker:
        yield worker


@pytest.fixture(params=["rabbitmq", "redis"], scope="module")
def elsewhere(request: pytest.FixtureRequest) -> Iterator[Celery]:
    """The application on a real broker, on queues of these tests alone, with a worker that serves one of them."""
    url = _url(request.param)
    name = f"idemfuzz-test-{uuid.uuid4().hex[:12]}"
    # So that what was sent is in the queue for all to see when the sending returns.
    options = {"global_keyprefix": f"{name}:"} if request.param == "redis" else {"confirm_publish": True}
    app = shop.on_broker(url, name, options)
    try:
        with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=30, queues=[name]):
            yield app
    finally:
        # A worker makes its app the default of the process.
        shop.app.set_default()
        shop.app.set_current()
        with app.connection_for_write() as connection:
            for queue in (name, f"{name}-children"):
                connection.default_channel.queue_delete(queue)
        if request.param == "redis":
            _forget(url, name)
        app.close()


def _forget(url: str, prefix: str) -> None:
    """kombu leaves its bindings behind."""
    import redis

    with redis.Redis.from_url(url) as client:
        for key in client.scan_iter(f"{prefix}:*"):
            client.delete(key)


def _url(kind: str) -> str:
    if kind == "redis":
        pytest.importorskip("redis")
        url = os.environ.get("IDEMFUZZ_REDIS_URL", "redis://127.0.0.1:6379/0")
    else:
        url = os.environ.get("IDEMFUZZ_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//")
    try:
        with Connection(url, connect_timeout=2) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0)
    except Exception as error:
        _missing(
            f"no {kind} at {url.rpartition('@')[2]}: {error}; start one, or set IDEMFUZZ_{kind.upper()}_URL"
        )
    return url


def _missing(reason: str) -> NoReturn:
    if os.environ.get("IDEMFUZZ_REQUIRE_SERVERS", "") not in {"", "0"}:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
