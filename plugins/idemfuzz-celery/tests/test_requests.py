"""What a task sees of its deliveries, and what becomes of retries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import shop
from celery.exceptions import SoftTimeLimitExceeded
from idemfuzz.abc import Options
from idemfuzz.model import Ending, Fault, FaultKind, Identity, Plan, Point, Side
from idemfuzz.testing import Bench
from idemfuzz.testing.memory import Shelf, ShelfAdapter

from idemfuzz_celery import CeleryQueue


@pytest.fixture
def queue() -> CeleryQueue:
    return CeleryQueue()


@pytest.fixture
def bench(queue: CeleryQueue) -> Iterator[Bench]:
    shelf = shop.WORLD["shelf"] = Shelf()
    store = ShelfAdapter().adopt("shelf", shelf, Options())
    assert store is not None
    with Bench(stores=[store], queues=[queue]) as bench:
        yield bench


# -- identity and arguments ----------------------------------------------------------------------------------


def test_a_redelivery_says_so(bench: Bench) -> None:
    bench.run(shop.look.apply, Plan(deliveries=3))
    [first, *others] = shop.SEEN
    assert first[1:] == (0, False, False)
    assert others == [(first[0], 0, True, False)] * 2


def test_a_producers_duplicate_is_another_message(bench: Bench) -> None:
    bench.run(shop.look.apply, Plan(deliveries=2, identity=Identity.NEW))
    [first, second] = shop.SEEN
    assert second[0] != first[0]
    assert second[1:] == (0, False, False)


def test_a_direct_call_has_no_id(bench: Bench) -> None:
    bench.run(shop.look, Plan(deliveries=2))
    assert [each[0] for each in shop.SEEN] == [None, None]
    assert all(each[3] for each in shop.SEEN)


def test_every_delivery_has_fresh_arguments(bench: Bench) -> None:
    for run in (shop.mutate, lambda items: shop.mutate.apply((items,))):
        shop.SEEN.clear()
        bench.run(lambda run=run: run([7]), Plan(deliveries=3))  # type: ignore[misc]
        assert shop.SEEN == [[7], [7], [7]]


@pytest.mark.parametrize(
    "run",
    [
        lambda: shop.ledger(1),
        lambda: shop.ledger.apply((1,)),
        lambda: shop.in_context.apply((1,)),
    ],
    ids=["called", "applied", "base class that calls run"],
)
def test_a_class_with_a_call_of_its_own_is_delivered_whole(bench: Bench, run: Callable[[], Any]) -> None:
    delivered = bench.run(run, Plan(deliveries=2))
    assert delivered.error is None
    assert len(delivered.jobs) == 1
    assert [each[0] for each in shop.SEEN if each != "before"] == [1, 1]
    assert shop.SEEN.count("before") in (0, 2)


def test_a_shared_task_is_known_behind_its_proxy(bench: Bench, queue: CeleryQueue) -> None:
    [function] = queue.functions(shop.shared)
    assert function.__qualname__ == "shared"
    delivered = bench.run(lambda: shop.shared.apply((1,)), Plan(deliveries=2))
    assert [call.name for call in delivered.jobs] == ["shop.shared"]
    assert len(shop.SEEN) == 2


def test_the_function_is_the_users_own(queue: CeleryQueue) -> None:
    """Goal: what autoretry_for wraps around it is not what is watched."""
    for task in (shop.automatic, shop.flaky, shop.ledger, shop.create_user):
        [function] = queue.functions(task)
        assert function.__module__ == "shop"


def test_run_is_a_delivery_if_the_task_is_named(bench: Bench, queue: CeleryQueue) -> None:
    [function] = queue.functions(shop.mutate)
    bench.watch(function, queue)
    delivered = bench.run(lambda: shop.mutate.run([1]), Plan(deliveries=2))
    assert len(delivered.jobs) == 1
    assert len(shop.SEEN) == 2


# -- retries -------------------------------------------------------------------------------------------------


def test_a_retry_is_no_failure(bench: Bench) -> None:
    delivered = bench.run(lambda: shop.flaky.apply((2,)))
    assert shop.SEEN == [0, 1, 2]
    [ending] = delivered.endings()
    assert ending.ending is Ending.OK
    assert delivered.value.get() == "done"
    assert [event.text for event in delivered.history if event.kind == "sleep"] == ["sleeps 30 s"] * 2


def test_a_duplicate_of_a_task_that_retries_begins_anew(bench: Bench) -> None:
    bench.run(lambda: shop.flaky.apply((1,)), Plan(deliveries=2))
    assert shop.SEEN == [0, 1, 0, 1]


def test_a_kill_in_a_retry_is_redelivered_as_that_retry(bench: Bench) -> None:
    plan = Plan(faults=(Fault(FaultKind.KILL, Point(1, 1, "shelf.put", 2), Side.BEFORE),))
    delivered = bench.run(lambda: shop.flaky.apply((1,)), plan, attempts=2)
    assert shop.SEEN == [0, 1, 1]
    assert [event.ending for event in delivered.endings()] == [Ending.KILLED, Ending.OK]


def test_retries_end(bench: Bench) -> None:
    delivered = bench.run(lambda: shop.flaky.apply((9,)))
    assert shop.SEEN == [0, 1, 2]
    [ending] = delivered.endings()
    assert ending.ending is Ending.FAILED
    assert ending.text == "ConnectionError: not yet"


def test_autoretry_is_no_failure_either(bench: Bench) -> None:
    delivered = bench.run(lambda: shop.automatic.apply((2,)))
    assert shop.SEEN == [0, 1, 2]
    assert [event.ending for event in delivered.endings()] == [Ending.OK]


def test_a_retry_that_does_not_raise_is_run_as_well(bench: Bench) -> None:
    bench.run(shop.silently.apply)
    assert shop.SEEN == [0, 1]


def test_called_directly_a_task_raises_its_own_error(bench: Bench) -> None:
    delivered = bench.run(lambda: shop.automatic(1))
    assert isinstance(delivered.error, ConnectionError)
    assert shop.SEEN == [0]


def test_a_worker_retries_without_another_message(bench: Bench, worker: Any) -> None:
    """Goal: the retry is not sent to the broker, where it would be a job of its own, minutes later."""
    delivered = bench.run(lambda: shop.flaky.delay(2).get(timeout=10, interval=0.002))
    assert delivered.value == "done"
    assert shop.SEEN == [0, 1, 2]
    assert not delivered.calls
    assert len(delivered.jobs) == 1


def test_a_task_that_replaces_itself_has_not_failed(bench: Bench, worker: Any) -> None:
    delivered = bench.run(lambda: shop.replaced.delay(5).get(timeout=10, interval=0.002))
    assert delivered.error is None
    assert all(event.ending is Ending.OK for event in delivered.endings())
    assert "celery.enqueue.shop.record" in delivered.labels


def test_the_time_limit_is_celerys_own(bench: Bench, queue: CeleryQueue) -> None:
    plan = Plan(faults=(Fault(FaultKind.TIMEOUT, Point(1, 1, "shelf.put", 1), Side.AFTER),))
    delivered = bench.run(lambda: shop.flaky.apply((0,)), plan, attempts=2)
    assert [event.ending for event in delivered.endings()] == [Ending.FAILED, Ending.OK]
    make = queue.interruption(FaultKind.TIMEOUT)
    assert make is not None
    assert isinstance(make(), SoftTimeLimitExceeded)
    assert queue.interruption(FaultKind.SHUTDOWN) is None


def test_the_window_is_the_brokers(queue: CeleryQueue) -> None:
    assert queue.redelivery_window_seconds == 3600
    options = shop.app.conf.broker_transport_options
    shop.app.conf.broker_transport_options = {**options, "visibility_timeout": 7200}
    try:
        with Bench(queues=[queue], values={"celery_app": shop.app}):
            assert queue.redelivery_window_seconds == 7200
    finally:
        shop.app.conf.broker_transport_options = options
