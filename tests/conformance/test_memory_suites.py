"""The store and the queue in memory pass the suites: the smallest examples of adapters."""

from __future__ import annotations

from typing import Any

import pytest

from idemfuzz.abc import Options
from idemfuzz.testing import QueueConformance, QueueSubject, StoreConformance, StoreSubject, run_delivery
from idemfuzz.testing.memory import Line, LineQueue, Shelf, ShelfAdapter, ShelfError, Task

SEEN: list[tuple[int, Any]] = []
LINE, CHILDREN = Line(), Line()


class TestShelf(StoreConformance):
    @pytest.fixture
    def subject(self) -> StoreSubject:
        return shelf_subject()


def shelf_subject() -> StoreSubject:
    shelf = Shelf()

    def begin(item: int) -> object:
        draft = shelf.draft()
        draft.put(f"item {item}", item)
        return draft

    return StoreSubject(
        adapter=ShelfAdapter(),
        value=shelf,
        write=lambda item: shelf.put(f"item {item}", item),
        look=lambda: set(shelf.items.values()),
        remove=lambda item: shelf.drop(f"item {item}"),
        read=lambda: shelf.get("item 0"),
        begin=begin,
        generate=lambda: shelf.add("x"),
        same=[shelf],
        other=[Shelf()],
        errors=(ShelfError,),
        patches=[shelf, Shelf],
    )


class TestDraft(StoreConformance):
    """Writes of several effects: what is pending, and then what is durable."""

    @pytest.fixture
    def subject(self) -> StoreSubject:
        shelf = Shelf()

        def write(item: int) -> None:
            draft = shelf.draft()
            draft.put(f"item {item}", item)
            draft.put(f"again {item}", item)
            draft.commit()

        return StoreSubject(
            adapter=ShelfAdapter(),
            value=shelf,
            write=write,
            look=lambda: set(shelf.items.values()),
            errors=(ShelfError,),
            patches=[shelf, Shelf],
        )


def record(item: int) -> None:
    SEEN.append((item, Task.current.id))


def enqueue(item: int) -> None:
    CHILDREN.enqueue(RECORD, item)


def fail() -> None:
    raise ValueError("no")


RECORD, ENQUEUE, FAIL = Task(record), Task(enqueue), Task(fail)


def line_subject() -> QueueSubject:
    LINE.__init__()  # type: ignore[misc]

    CHILDREN.__init__()  # type: ignore[misc]

    def run(task: Task, *args: Any) -> None:
        LINE.enqueue(task, *args)
        LINE.work()

    return QueueSubject(
        queue=LineQueue,
        job=RECORD,
        run=lambda item: run(RECORD, item),
        seen=SEEN,
        parent=lambda item: run(ENQUEUE, item),
        enqueued=lambda: len(CHILDREN.waiting),
        fail=lambda: run(FAIL),
        strangers=[record, LINE, Line],
        errors=(ShelfError,),
        patches=[Line],
    )


class TestLine(QueueConformance):
    @pytest.fixture
    def subject(self) -> QueueSubject:
        return line_subject()


def test_one_delivery_can_be_run_by_itself() -> None:
    """Goal: the helper for tests of one's own tells what happened and leaves everything as it was."""
    shelf = Shelf()
    store = ShelfAdapter().adopt("shelf", shelf, Options())
    assert store is not None
    delivered = run_delivery(lambda: shelf.put("a", 1), stores=[store])
    assert delivered.labels == ("shelf.put",)
    assert [dict(fact.fields) for fact in delivered.delta.added] == [{"name": "a", "value": 1}]
    assert shelf.items == {}
    assert "put" not in vars(shelf)
