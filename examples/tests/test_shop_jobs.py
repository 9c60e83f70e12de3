"""What each right job does, once; and the jobs run by RQ's own worker. Ordinary tests, without idemfuzz."""

import csv
from pathlib import Path

import pytest
from redis import Redis
from rq import SimpleWorker
from shop.context import Shop
from shop.inventory import markdown
from shop.jobs import (
    create_user_mended,
    create_user_right,
    generate_report_right,
    process_payment_right,
    send_email_right,
    update_status_right,
)
from shop.mail_server import Mailbox
from shop.models import Order, Outbox, Payment, Report, User
from shop.payments_api import PaymentsAPI
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

README = Path(__file__).parents[1] / "README.md"


def test_create_user(shop: Shop) -> None:
    create_user_right(" Ada@Example.org", "Ada")
    with shop.session() as session:
        ada = session.scalars(select(User).filter_by(name="Ada")).one()
    assert (ada.email, ada.points) == ("ada@example.org", 0)


def test_a_user_without_a_name_is_an_error_that_the_mend_hides(shop: Shop) -> None:
    create_user_mended("ada@example.org", None)  # type: ignore[arg-type]
    with pytest.raises(IntegrityError):
        create_user_right("ada@example.org", None)  # type: ignore[arg-type]
    with shop.session() as session:
        assert session.scalar(select(func.count(User.id))) == 1, "only Grace"


def test_send_email(shop: Shop, mailbox: Mailbox) -> None:
    send_email_right(1, "welcome")
    [mail] = mailbox.inbox
    assert (mail["To"], mail["Subject"]) == ("grace@example.org", "Your welcome mail")


def test_process_payment(shop: Shop, payments: PaymentsAPI) -> None:
    process_payment_right(1)
    with shop.session() as session:
        order, payment, grace = (session.get_one(model, 1) for model in (Order, Payment, User))
    assert (order.status, payment.amount_cents, grace.points) == ("paid", 1250, 12)
    assert payments.charges == [{"id": payment.charge_id, "order_id": 1, "amount_cents": 1250}]


def test_generate_report(shop: Shop, reports: Path) -> None:
    generate_report_right("2025-03")
    with shop.session() as session:
        report = session.scalars(select(Report)).one()
    assert list(csv.reader((reports / report.filename).open())) == [
        ["order", "date", "cents"],
        ["2", "2025-03-14", "1250"],
    ]
    assert list(shop.staging.iterdir()) == []


def test_update_status(shop: Shop) -> None:
    update_status_right(2, "shipped")
    with shop.session() as session:
        assert session.get_one(Order, 2).status == "shipped"
        assert session.scalars(select(Outbox)).one().enqueued
    assert shop.queue("notifications").job_ids == ["notify-2-shipped"]


def test_a_late_delivery_does_not_turn_a_status_back(shop: Shop) -> None:
    for status in ("shipped", "delivered", "shipped"):
        update_status_right(2, status)
    with shop.session() as session:
        assert session.get_one(Order, 2).status == "delivered"


def test_a_status_cannot_be_skipped(shop: Shop) -> None:
    with pytest.raises(ValueError, match="it is pending, not yet paid"):
        update_status_right(1, "shipped")


def test_a_worker_runs_the_job_and_its_child(shop: Shop, redis: Redis, mailbox: Mailbox) -> None:
    shop.queue("orders").enqueue(update_status_right, 2, "shipped")
    queues = [shop.queue("orders"), shop.queue("notifications")]
    SimpleWorker(queues, connection=redis).work(burst=True)
    [mail] = mailbox.inbox
    assert mail["Subject"] == "Your order 2 is shipped"


def test_the_readme_shows_the_inventory() -> None:
    assert markdown() in README.read_text(encoding="utf-8")
