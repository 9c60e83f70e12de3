"""A small application: its Celery app and its tasks, as a user would have them.

The tasks write to a database that the tests put into ``WORLD``; ``SEEN`` records what their bodies saw.
"""

from __future__ import annotations

from typing import Any

from celery import Celery, Task, chain, chord, group, shared_task

SEEN: list[Any] = []
WORLD: dict[str, Any] = {}

app = Celery("shop", broker="memory://", backend="cache+memory://")
app.conf.update(
    broker_transport_options={"polling_interval": 0.002},
    task_default_queue="shop",
    worker_hijack_root_logger=False,
)


@app.task(bind=True)
def record(self: Any, item: int) -> int:
    SEEN.append((item, self.request.id))
    return item


@app.task(bind=True)
def enqueue(self: Any, item: int) -> None:
    self.app.tasks[record.name].apply_async((item,), queue=WORLD.get("children", "children"))


@app.task(bind=True)
def look(self: Any, **_: Any) -> None:
    request = self.request
    SEEN.append(
        (
            request.id,
            request.retries,
            (request.delivery_info or {}).get("redelivered"),
            request.called_directly,
        )
    )


@app.task
def mutate(items: list[int]) -> None:
    SEEN.append(list(items))
    items.append(1)


@app.task
def fail() -> None:
    raise ValueError("no")


@shared_task
def shared(item: int) -> None:
    SEEN.append((item, None))


class Ledger(Task):  # type: ignore[misc]
    """A task as a class, with a __call__ of its own."""

    name = "shop.ledger"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        SEEN.append("before")
        return super().__call__(*args, **kwargs)

    def run(self, item: int) -> None:
        SEEN.append((item, self.request.id))


ledger = app.register_task(Ledger())


class Flask(Task):  # type: ignore[misc]
    """A base class as web frameworks have it: it calls ``run`` itself."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(*args, **kwargs)


@app.task(base=Flask, bind=True)
def in_context(self: Any, item: int) -> None:
    SEEN.append((item, self.request.id))


@app.task(bind=True, max_retries=2, default_retry_delay=30)
def flaky(self: Any, failures: int) -> str:
    SEEN.append(self.request.retries)
    WORLD["shelf"].put(f"try {self.request.retries}", 1)
    if self.request.retries < failures:
        raise self.retry(exc=ConnectionError("not yet"))
    return "done"


@app.task(bind=True, autoretry_for=(ConnectionError,), max_retries=2, retry_backoff=5)
def automatic(self: Any, failures: int) -> str:
    SEEN.append(self.request.retries)
    if self.request.retries < failures:
        raise ConnectionError("not yet")
    return "done"


@app.task(bind=True)
def silently(self: Any) -> str:
    SEEN.append(self.request.retries)
    if self.request.retries < 1:
        self.retry(throw=False, countdown=0)
    return "done"


@app.task(bind=True)
def replaced(self: Any, item: int) -> Any:
    WORLD["shelf"].put("replaced", item)
    raise self.replace(record.si(item))


@app.task
def family(kind: str) -> None:
    first, second = record.si(1), record.si(2)
    if kind == "delay":
        record.delay(1)
    elif kind == "signature":
        first.apply_async()
    elif kind == "send_task":
        app.send_task("shop.elsewhere", (1,), {"key": [2]}, queue="other")
    elif kind == "chain":
        chain(first, second).apply_async()
    elif kind == "group":
        group(first, second).apply_async()
    elif kind == "chord":
        chord([first, second], record.si(3)).apply_async()
    elif kind == "named":
        record.apply_async((1,), task_id="order-1", countdown=60)
    elif kind == "apply":
        record.apply((1,))


def on_broker(url: str, queue: str, options: dict[str, Any]) -> Celery:
    """An app of its own with the same tasks, on another broker."""
    other = Celery("shop-elsewhere", broker=url, backend="cache+memory://", set_as_current=False)
    other.conf.update(
        broker_transport_options=options, task_default_queue=queue, worker_hijack_root_logger=False
    )
    for task in (record, enqueue):
        other.task(bind=True, name=task.name)(task.run.__func__)
    other.task(name=fail.name)(fail.run)
    return other


# -- one task that is wrong and one that is right ------------------------------------------------------------


@app.task
def create_user(email: str) -> None:
    """Wrong: a second delivery adds a second row."""
    from sqlalchemy import text

    with WORLD["engine"].begin() as connection:
        connection.execute(text("insert into users (email) values (:email)"), {"email": email})


@app.task(bind=True, autoretry_for=(Exception,), max_retries=3, default_retry_delay=1)
def create_user_once(self: Any, email: str) -> None:
    """Right: the database refuses a second row, and the task takes that for done."""
    from sqlalchemy import text

    with WORLD["engine"].begin() as connection:
        connection.execute(text("insert or ignore into once (email) values (:email)"), {"email": email})


@app.task
def welcome(email: str) -> None:
    """Wrong: a second delivery enqueues a second mail."""
    record.apply_async((len(email),), queue="mails")
