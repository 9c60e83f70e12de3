"""The two outside services, as the jobs call them."""

from __future__ import annotations

import smtplib
from email.message import EmailMessage

import requests

from shop.context import Shop

SENDER = "shop@example.org"


def charge(shop: Shop, order_id: int, amount_cents: int, *, idempotency_key: str | None = None) -> str:
    """Take the money for an order and return the charge's id.

    With an idempotency key the API takes it once, however often the same key comes. Without, each
    call is a charge.
    """
    headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
    body = {"order_id": order_id, "amount_cents": amount_cents}
    response = requests.post(f"{shop.payments_url}/charges", json=body, headers=headers, timeout=5)
    response.raise_for_status()
    charge_id: str = response.json()["id"]
    return charge_id


def send_mail(shop: Shop, to: str, subject: str, text: str, *, message_id: str | None = None) -> None:
    """Hand a mail to the shop's SMTP server.

    Mails with the same Message-ID are one mail: our server drops an id that it has seen. Without an
    id, each is new. There is no Date header: the server stamps it, so that two hand-overs of one
    mail are the same bytes.
    """
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = SENDER, to, subject
    if message_id:
        mail["Message-ID"] = f"<{message_id}@shop.example.org>"
    mail.set_content(text)
    with smtplib.SMTP(shop.smtp_host, shop.smtp_port, local_hostname="shop.example.org", timeout=5) as smtp:
        smtp.send_message(mail)
