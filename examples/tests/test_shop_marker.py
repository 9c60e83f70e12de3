"""The right jobs' own tests, with one line each that makes them claims about every delivery.

A test's body is an ordinary test: it calls the job once and says what must be true then. The marker
has it run again under duplicates, crashes and overlaps, and its assertions hold in each. The
servers start empty in each run of the body.
"""

from pathlib import Path

import pytest
from redis import Redis
from shop.context import Shop
from shop.jobs import (
    create_user_right,
    generate_report_right,
    process_payment_right,
    send_email_right,
    update_status_right,
)
from shop.mail_server import Mailbox
from shop.models import Order, Payment, Report, User
from shop.payments_api import PaymentsAPI
from sqlalchemy import Engine, select

pytestmark = pytest.mark.slow


@pytest.mark.idempotent(job=create_user_right)
def test_create_user(shop: Shop, engine: Engine) -> None:
    create_user_right("ada@example.org", "Ada")
    with shop.session() as session:
        assert session.scalars(select(User).filter_by(email="ada@example.org")).one().name == "Ada"


@pytest.mark.idempotent(job=send_email_right)
def test_send_email(shop: Shop, engine: Engine, mailbox: Mailbox) -> None:
    mailbox.reset()
    send_email_right(1, "welcome")
    assert len(mailbox.inbox) == 1


@pytest.mark.idempotent(job=process_payment_right)
def test_process_payment(shop: Shop, engine: Engine, payments: PaymentsAPI) -> None:
    payments.reset()
    process_payment_right(1)
    with shop.session() as session:
        assert session.scalars(select(Payment)).one().amount_cents == 1250
        assert session.get_one(User, 1).points == 12
    assert len(payments.charges) == 1


@pytest.mark.idempotent(job=generate_report_right)
def test_generate_report(shop: Shop, engine: Engine, reports: Path) -> None:
    generate_report_right("2025-03")
    with shop.session() as session:
        assert (reports / session.scalars(select(Report)).one().filename).exists()


@pytest.mark.idempotent(job=update_status_right)
def test_update_status(shop: Shop, engine: Engine, redis: Redis) -> None:
    update_status_right(2, "shipped")
    with shop.session() as session:
        assert session.get_one(Order, 2).status == "shipped"
    assert shop.queue("notifications").count == 1
