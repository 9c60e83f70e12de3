"""Mails, HTTP calls, child jobs, files and mocks: what no transaction takes back."""

from __future__ import annotations

import contextlib
import csv
import secrets
import smtplib
import urllib.request
import uuid
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx
import requests
from rq import Queue
from sqlalchemy import Engine, insert, select, update
from sqlalchemy.exc import IntegrityError

from quality.schema import orders, outbox, unique_users, users


def _mail(smtp: tuple[str, int], to: str, subject: str) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "shop@example.org", to, subject
    message.set_content(f"Dear {to}, {subject}.")
    with smtplib.SMTP(*smtp) as server:
        server.send_message(message)


# -- mail ----------------------------------------------------------------------------------------------------


def welcome(smtp: tuple[str, int], to: str) -> None:
    """Nothing remembers that it was sent."""
    _mail(smtp, to, "Welcome")


def welcome_with_flag_after(smtp: tuple[str, int], redis: Any, to: str) -> None:
    """GET the flag, send, SET the flag: between the last two, the worker dies."""
    if redis.get(f"email_sent:{to}"):
        return
    _mail(smtp, to, "Welcome")
    redis.set(f"email_sent:{to}", "true", ex=7 * 86400)


def drain_outbox(smtp: tuple[str, int], engine: Engine) -> None:
    """Marks each mail as sent once it is: a crash in between sends that one again."""
    with engine.connect() as connection:
        waiting = connection.execute(
            select(outbox).where(outbox.c.sent.is_(False)).order_by(outbox.c.id)
        ).all()
    for mail in waiting:
        _mail(smtp, mail.to_address, "Your invoice")
        with engine.begin() as connection:
            connection.execute(update(outbox).where(outbox.c.id == mail.id).values(sent=True))


def ship(smtp: tuple[str, int], engine: Engine, order_id: int) -> None:
    """The status may be set twice; the mail that goes with it may not."""
    with engine.begin() as connection:
        connection.execute(update(orders).where(orders.c.id == order_id).values(status="shipped"))
    _mail(smtp, "ada@example.org", f"Order {order_id} is on its way")


# -- HTTP ----------------------------------------------------------------------------------------------------


def charge(url: str, amount: int) -> None:
    """POST without a key."""
    requests.post(f"{url}/charges", json={"amount": amount}, timeout=5).raise_for_status()


def charge_with_new_key(url: str, amount: int) -> None:
    """A key that is made anew in each run says nothing."""
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    httpx.post(f"{url}/charges", json={"amount": amount}, headers=headers, timeout=5).raise_for_status()


def charge_rest_under_one_key(url: str, engine: Engine, order_id: int) -> None:
    """The key is the order's, but what it stands for is another amount the next time: the API refuses that, or worse."""
    with engine.begin() as connection:
        left = connection.execute(select(orders.c.version).where(orders.c.id == order_id)).scalar_one()
        connection.execute(update(orders).where(orders.c.id == order_id).values(version=2))
    headers = {"Idempotency-Key": f"order-{order_id}"}
    requests.post(f"{url}/charges", json={"amount": left}, headers=headers, timeout=5).raise_for_status()


def deliver_webhook_anew(url: str, event: str) -> None:
    """The id of the message is the attempt's."""
    headers = {"Webhook-Id": f"msg_{uuid.uuid4().hex}"}
    requests.post(f"{url}/hooks", json={"event": event}, headers=headers, timeout=5).raise_for_status()


def use_up_refresh_token(url: str) -> None:
    """Asks for a token by one that is good for once."""
    form = {"grant_type": "refresh_token", "refresh_token": "r-1"}
    requests.post(f"{url}/token", data=form, timeout=5).raise_for_status()


def charge_with_new_token_in_body(url: str, amount: int) -> None:
    """As a cloud's SDK does it where nobody gives it a token."""
    body = {"amount": amount, "client_request_token": str(uuid.uuid4())}
    requests.post(f"{url}/charges", json=body, timeout=5).raise_for_status()


def charge_and_record(url: str, engine: Engine, order_id: int) -> None:
    """Charged only if the order is not yet paid, which is written down afterwards."""
    with engine.connect() as connection:
        if connection.execute(select(orders.c.status).where(orders.c.id == order_id)).scalar() == "paid":
            return
    requests.post(f"{url}/charges", json={"order": order_id}, timeout=5).raise_for_status()
    with engine.begin() as connection:
        connection.execute(update(orders).where(orders.c.id == order_id).values(status="paid"))


def call_webhook(url: str, event: str) -> None:
    request = urllib.request.Request(f"{url}/hooks", data=event.encode(), method="POST")
    with urllib.request.urlopen(request, timeout=5) as answer:
        answer.read()


# -- AWS -----------------------------------------------------------------------------------------------------

_ORDERS = "https://sqs.us-east-1.amazonaws.com/123456789012/orders"


def announce_order(aws: Any, redis: Any, number: str) -> None:
    """A message to a standard queue, and a flag after it."""
    if redis.exists(f"announced:{number}"):
        return
    aws("sqs").send_message(QueueUrl=_ORDERS, MessageBody=number)
    redis.set(f"announced:{number}", "1")


def mail_receipt(aws: Any, to: str) -> None:
    """SES has no idempotency key."""
    aws("ses").send_email(
        Source="shop@example.org",
        Destination={"ToAddresses": [to]},
        Message={"Subject": {"Data": "Receipt"}, "Body": {"Text": {"Data": "Thank you."}}},
    )


def count_visit(aws: Any, user: str) -> None:
    aws("dynamodb").update_item(
        TableName="users",
        Key={"pk": {"S": user}},
        UpdateExpression="ADD visits :one",
        ExpressionAttributeValues={":one": {"N": "1"}},
    )


def add_user_under_new_id(aws: Any, name: str) -> None:
    """A put is one with its repetition, if it has the same key."""
    aws("dynamodb").put_item(TableName="users", Item={"pk": {"S": str(uuid.uuid4())}, "name": {"S": name}})


# -- child jobs ----------------------------------------------------------------------------------------------


def send_invoice(order_id: int) -> None:
    """The follow-up. It lies in the queue; nobody runs it here."""


def finish_order(redis: Any, order_id: int) -> None:
    """Each run enqueues a follow-up of its own."""
    Queue("mails", connection=redis).enqueue(send_invoice, order_id)


def remind_soon(redis: Any, order_id: int) -> None:
    """Scheduled again before its time it would run once; but a redelivery comes later than in a minute."""
    queue = Queue("mails", connection=redis)
    queue.enqueue_in(timedelta(minutes=1), send_invoice, order_id, job_id=f"remind-{order_id}")


def enqueue_before_commit(engine: Engine, redis: Any, email: str) -> None:
    """The user is unique and the duplicate is caught; the job was enqueued before anybody knew."""
    with engine.connect() as connection:
        if connection.execute(select(unique_users.c.id).where(unique_users.c.email == email)).first():
            return
        connection.execute(insert(unique_users).values(email=email))
        Queue("mails", connection=redis).enqueue(send_invoice, email)
        connection.commit()


def fan_out(redis: Any, orders: list[int]) -> None:
    """Several follow-ups, and a flag after the last of them."""
    if redis.exists("fanned-out"):
        return
    queue = Queue("mails", connection=redis)
    for order in orders:
        queue.enqueue(send_invoice, order)
    redis.set("fanned-out", "1")


def run_child_at_once(redis: Any, order_id: int) -> None:
    """A synchronous queue: the child runs inside the parent, and again with it."""
    Queue("mails", connection=redis, is_async=False).enqueue(send_invoice, order_id)


# -- files ---------------------------------------------------------------------------------------------------


def append_to_report(folder: Path, line: str) -> None:
    with (folder / "report.txt").open("a") as report:
        report.write(line + "\n")


def append_csv(folder: Path, rows: list[list[str]]) -> None:
    """With the header again, of course."""
    with (folder / "export.csv").open("a", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "name"])
        writer.writerows(rows)


def export_under_new_name(folder: Path, content: str) -> None:
    (folder / f"export-{uuid.uuid4().hex}.txt").write_text(content)


def export_under_token(folder: Path, content: str) -> None:
    """A name that nobody guesses."""
    (folder / f"{secrets.token_urlsafe(24)}.txt").write_text(content)


def export_next_number(folder: Path, content: str) -> None:
    """The next free number."""
    number = len(list(folder.glob("part-*.txt"))) + 1
    (folder / f"part-{number}.txt").write_text(content)


# -- mocks ---------------------------------------------------------------------------------------------------


def store_under_new_key(gateway: Any, content: bytes) -> None:
    """Each run leaves an object of its own."""
    gateway.put_object(Bucket="invoices", Key=f"{uuid.uuid4()}.pdf", Body=content)


def charge_by_gateway(gateway: Any, order_id: int) -> None:
    gateway.charges.create(order=order_id, amount=100)


SENT: list[str] = []
"""What a test's fake has put in the place of a mail provider."""


def greet(engine: Engine, email: str) -> None:
    """The row is unique and a second greeting is caught there; what the test's fake has seen is not."""
    SENT.append(email)
    with contextlib.suppress(IntegrityError), engine.begin() as connection:
        connection.execute(insert(unique_users).values(email=email))


def notify_recorded(engine: Engine, email: str) -> None:
    """The row is right under a second delivery, the notification is not."""
    with engine.begin() as connection:
        if connection.execute(select(users.c.id).where(users.c.email == email)).first() is None:
            connection.execute(insert(users).values(email=email))
    SENT.append(email)
