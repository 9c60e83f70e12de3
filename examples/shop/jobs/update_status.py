"""UpdateStatusJob: an order gets its next status, and a child job, `notify_customer`, tells its customer.

Not idempotent: enqueueing the child. (The UPDATE alone would be: "shipped" twice is "shipped".) And
a redelivery that comes days late would take a delivered order back to "shipped".

Strategy: an outbox. The UPDATE names the status that the order must come from, so it happens once;
the transaction that does it also writes down that a notification is owed. What is owed is then
enqueued, by whichever delivery comes by, under a job id that is the same in each, and only then
crossed out.

Constraints and keys: right: `UNIQUE (order_id, status)` on `outbox`; the RQ job id
`notify-{order_id}-{status}` with `unique=True` (RQ 2.8 or newer), which RQ refuses as long as it
knows the job: until a week after it succeeded.

Test notes: two in sequence never show the mended job's faults. Killed between commit and enqueue,
it never notifies; run by two workers at once, it notifies twice.
"""

from __future__ import annotations

from datetime import timedelta

from rq.exceptions import DuplicateJobError
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from shop.clients import send_mail
from shop.context import Shop, current_shop
from shop.models import Order, Outbox, User

STATUSES = ("pending", "paid", "shipped", "delivered")
WEEK = int(timedelta(weeks=1).total_seconds())


def notify_customer(order_id: int, status: str) -> None:
    """The child job: one mail for each status, named after it (see `shop.jobs.send_email`)."""
    shop = current_shop()
    with shop.session() as session:
        order = session.get_one(Order, order_id)
        user = session.get_one(User, order.user_id)
    subject = f"Your order {order_id} is {status}"
    send_mail(shop, user.email, subject, f"Dear {user.name},\n...", message_id=f"order.{order_id}.{status}")


def update_status_naive(order_id: int, status: str) -> None:
    """Each delivery enqueues a notification."""
    shop = current_shop()
    with shop.session() as session:
        session.get_one(Order, order_id).status = status
        session.commit()
    shop.queue("notifications").enqueue(notify_customer, order_id, status)


def update_status_mended(order_id: int, status: str) -> None:
    """Look at the status first. But it says that the order was updated, not that the customer knows."""
    shop = current_shop()
    with shop.session() as session:
        order = session.get_one(Order, order_id)
        if order.status == status:
            return
        order.status = status
        session.commit()
    shop.queue("notifications").enqueue(notify_customer, order_id, status)


def update_status_right(order_id: int, status: str) -> None:
    """Status and debt in one transaction; then settle the debt, whoever incurred it.

    A delivery that comes after a crash finds nothing to update, and goes on to what is still owed.
    """
    shop = current_shop()
    with shop.session() as session:
        if _step(session, order_id, status):
            session.add(Outbox(order_id=order_id, status=status))
        session.commit()
    _settle(shop, order_id)


def _step(session: Session, order_id: int, status: str) -> bool:
    """Move the order on to `status`; False if it is there or further. Not so far yet is an error."""
    before = STATUSES[STATUSES.index(status) - 1]
    step = update(Order).where(Order.id == order_id, Order.status == before).values(status=status)
    if session.execute(step).rowcount:
        return True
    current = session.get_one(Order, order_id).status
    if STATUSES.index(current) < STATUSES.index(status):
        raise ValueError(f"order {order_id} cannot be {status}: it is {current}, not yet {before}")
    return False


def _settle(shop: Shop, order_id: int) -> None:
    """Enqueue what the outbox owes for this order, then cross it out.

    Dying in between is harmless: the next delivery enqueues the same job id, and RQ says that it
    has it.
    """
    with shop.session() as session:
        owed = session.scalars(select(Outbox).filter_by(order_id=order_id, enqueued=False)).all()
    for each in owed:
        job_id = f"notify-{order_id}-{each.status}"
        try:
            shop.queue("notifications").enqueue(
                notify_customer, order_id, each.status, job_id=job_id, unique=True, result_ttl=WEEK
            )
        except DuplicateJobError:
            pass
        with shop.session() as session:
            session.execute(update(Outbox).where(Outbox.id == each.id).values(enqueued=True))
            session.commit()
