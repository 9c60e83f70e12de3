"""The two servers that the shop talks to, over their real protocols."""

from concurrent.futures import ThreadPoolExecutor

import requests
from shop.clients import charge, send_mail
from shop.context import Shop
from shop.mail_server import Mailbox
from shop.payments_api import PaymentsAPI


def test_a_key_is_charged_once(shop: Shop, payments: PaymentsAPI) -> None:
    first = charge(shop, 7, 1200, idempotency_key="order-7")
    assert charge(shop, 7, 1200, idempotency_key="order-7") == first
    assert (len(payments.charges), payments.calls) == (1, 2)


def test_without_a_key_each_call_is_a_charge(shop: Shop, payments: PaymentsAPI) -> None:
    assert charge(shop, 7, 1200) != charge(shop, 7, 1200)
    assert requests.get(f"{payments.url}/charges", timeout=5).json() == payments.charges


def test_simultaneous_calls_with_one_key_are_one_charge(shop: Shop, payments: PaymentsAPI) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: charge(shop, 7, 1200, idempotency_key="order-7"), range(16)))
    assert ids == {"ch_0001"}
    assert payments.calls == 16


def test_a_key_names_one_charge_only(shop: Shop, payments: PaymentsAPI) -> None:
    charge(shop, 7, 1200, idempotency_key="order-7")
    other = requests.post(
        f"{payments.url}/charges",
        json={"order_id": 7, "amount_cents": 9900},
        headers={"Idempotency-Key": "order-7"},
        timeout=5,
    )
    assert other.status_code == 422


def test_reset_forgets_charges_and_keys(shop: Shop, payments: PaymentsAPI) -> None:
    charge(shop, 7, 1200, idempotency_key="order-7")
    payments.reset()
    assert (payments.charges, payments.calls) == ([], 0)
    assert charge(shop, 8, 100, idempotency_key="order-7") == "ch_0001"


def test_a_message_id_is_delivered_once(shop: Shop, mailbox: Mailbox) -> None:
    for message_id in ("a", "a", None, None):
        send_mail(shop, "ada@example.org", "Hello", "...", message_id=message_id)
    assert [mail["Message-ID"] for mail in mailbox.inbox] == ["<a@shop.example.org>", None, None]
    assert len(mailbox.received) == 4


def test_a_mail_arrives_as_it_was_written(shop: Shop, mailbox: Mailbox) -> None:
    send_mail(shop, "ada@example.org", "Grüße", "Liebe Ada")
    [mail] = mailbox.inbox
    assert (mail["To"], mail["Subject"], mail.get_content().strip()) == (
        "ada@example.org",
        "Grüße",
        "Liebe Ada",
    )
