"""What the shop's web application hands to its queues: the right variant of each job.

The naive and the mended variants are enqueued by the tests alone, so `idemfuzz inventory shop` lists six jobs: these five,
and the notification that `update_status` enqueues itself.
"""

from __future__ import annotations

from shop import jobs
from shop.context import Shop


def sign_up(shop: Shop, email: str, name: str) -> None:
    shop.queue("users").enqueue(jobs.create_user_right, email, name)


def greet(shop: Shop, user_id: int) -> None:
    shop.queue("mails").enqueue(jobs.send_email_right, user_id, "welcome")


def check_out(shop: Shop, order_id: int) -> None:
    shop.queue("payments").enqueue(jobs.process_payment_right, order_id)


def close_month(shop: Shop, month: str) -> None:
    shop.queue("reports").enqueue(jobs.generate_report_right, month)


def hand_over_to_carrier(shop: Shop, order_id: int) -> None:
    shop.queue("orders").enqueue(jobs.update_status_right, order_id, "shipped")
