"""Work that nobody does: a guard stands where the work should be, or an error was swallowed."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from rq import Queue
from sqlalchemy import Engine, insert, select, update
from sqlalchemy.exc import IntegrityError

from quality.outside import send_invoice
from quality.schema import contacts, imports, order_payments, orders, receipts, unique_users


def flag_before_insert(engine: Engine, redis: Any, order_id: int) -> None:
    """SET NX first: after a crash, the flag says that it is done."""
    if not redis.set(f"done:{order_id}", "1", nx=True):
        return
    with engine.begin() as connection:
        connection.execute(insert(receipts).values(order_id=order_id, text="thank you"))


def flag_before_call(redis: Any, gateway: Any, order_id: int) -> None:
    """SET NX with an expiry of a day, then the call."""
    if not redis.set(f"charge:{order_id}", "1", nx=True, ex=86400):
        return
    gateway.charge(order_id)


def guard_row_first(engine: Engine, file: str, emails: list[str]) -> None:
    """The guard is committed before the work begins."""
    try:
        with engine.begin() as connection:
            connection.execute(insert(imports).values(file=file, state="done"))
    except IntegrityError:
        return
    with engine.begin() as connection:
        connection.execute(insert(contacts), [{"email": email} for email in emails])


def claim_and_forget(engine: Engine, order_id: int) -> None:
    """A conditional UPDATE claims the order, and only the claimer goes on, if it lives."""
    with engine.begin() as connection:
        claimed = connection.execute(
            update(orders).where(orders.c.id == order_id, orders.c.status == "new").values(status="working")
        )
    if not claimed.rowcount:
        return
    with engine.begin() as connection:
        connection.execute(insert(receipts).values(order_id=order_id, text="thank you"))
        connection.execute(update(orders).where(orders.c.id == order_id).values(status="done"))


def commit_then_enqueue(engine: Engine, redis: Any, email: str) -> None:
    """The user is there, so the redelivery leaves it at that; the follow-up was never enqueued."""
    try:
        with engine.begin() as connection:
            connection.execute(insert(unique_users).values(email=email))
    except IntegrityError:
        return
    Queue("mails", connection=redis).enqueue(send_invoice, email)


def swallow_and_mark_done(engine: Engine, gateway: Any, order_id: int) -> None:
    """Whatever goes wrong with the call, the order is marked as paid."""
    with engine.connect() as connection:
        if connection.execute(select(orders.c.status).where(orders.c.id == order_id)).scalar() == "paid":
            return
    with contextlib.suppress(Exception):
        gateway.charge(order_id, idempotency_key=f"order-{order_id}")
    with engine.begin() as connection:
        connection.execute(update(orders).where(orders.c.id == order_id).values(status="paid"))


def best_effort_write(redis: Any, user: str) -> None:
    """A consent is not a cache: an error here must not be the end of it."""
    with contextlib.suppress(Exception):
        redis.hset("consents", user, "yes")


def log_and_go_on(engine: Engine, order_id: int, log: list[str]) -> None:
    """`except Exception` around all of it."""
    try:
        with engine.begin() as connection:
            if (
                connection.execute(
                    select(order_payments).where(order_payments.c.order_id == order_id)
                ).first()
                is None
            ):
                connection.execute(insert(order_payments).values(order_id=order_id, amount=100))
    except Exception as error:
        log.append(repr(error))


def file_is_there(folder: Path, rows: list[str]) -> None:
    """An empty file is a file: the redelivery finds it and is content."""
    report = folder / "report.csv"
    if report.exists():
        return
    with report.open("w") as file:
        for row in rows:
            file.write(row + "\n")
            file.flush()
