"""What a task enqueues: each way counts once, with the task's name, its arguments and its queue.

No worker runs in these tests, so that a child stays where it was sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import shop
from idemfuzz.model import Ending
from idemfuzz.testing import Bench

from idemfuzz_celery import CeleryQueue


@pytest.fixture
def bench() -> Iterator[Bench]:
    with Bench(queues=[CeleryQueue()]) as bench:
        yield bench


def facts_of(bench: Bench, kind: str) -> list[dict[str, Any]]:
    delivered = bench.run(lambda: shop.family.apply((kind,)))
    assert delivered.error is None
    assert [event.ending for event in delivered.endings()] == [Ending.OK]
    assert len(delivered.calls) == len(delivered.effects)
    return [dict(fact.fields) for fact in delivered.calls]


def test_each_way_of_enqueuing_counts(bench: Bench) -> None:
    child = {"function": "shop.record", "args": [1], "kwargs": {}, "queue": "shop"}
    for kind in ("delay", "signature"):
        assert facts_of(bench, kind) == [child]
    assert facts_of(bench, "send_task") == [
        {"function": "shop.elsewhere", "args": [1], "kwargs": {"key": [2]}, "queue": "other"}
    ]
    assert facts_of(bench, "chain") == [
        {**child, "then": [{"task": "shop.record", "args": [2], "kwargs": {}}]}
    ]
    assert facts_of(bench, "group") == [child, {**child, "args": [2]}]
    assert facts_of(bench, "named") == [{**child, "task_id": "order-1", "scheduled": True, "countdown": 60}]


def test_a_child_that_is_applied_is_part_of_the_task(bench: Bench) -> None:
    assert facts_of(bench, "apply") == []
    assert [item for item, _ in shop.SEEN] == [1]


@pytest.mark.parametrize(("kind", "bodies"), [("delay", 1), ("chain", 2), ("group", 2), ("chord", 3)])
def test_an_eager_child_counts_once_and_its_body_is_seen(
    bench: Bench, eager: None, kind: str, bodies: int
) -> None:
    facts = facts_of(bench, kind)
    assert len(facts) == 1
    assert len(shop.SEEN) == bodies
