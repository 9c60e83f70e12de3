"""Jobs that reach outside: HTTP, mail, files, child jobs, and mocks of services."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import hmac
import io
import json
import os
import smtplib
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx
import requests
from rq import Queue
from sinks import cloud
from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, insert, select, update

from safe.sql import add_if_new

metadata = MetaData()
sent_orders = Table(
    "sent_orders",
    metadata,
    Column("number", String(40), primary_key=True),
    Column("receipt", String(80)),
    Column("cents", Integer),
)


# -- HTTP --------------------------------------------------------------------------------------------------------

API = "https://api.example.org"


def put_profile(user: int, name: str) -> None:
    """PUT is idempotent by its definition."""
    requests.put(f"{API}/users/{user}", json={"name": name}, timeout=5).raise_for_status()


def put_report(user: int) -> None:
    """What it says of when and how it was made is noise, also in gzip, which stamps itself."""
    report = gzip.compress(json.dumps({"user": user, "made_at": time.time()}).encode())
    answer = requests.put(f"{API}/users/{user}", data=report, headers={"Content-Encoding": "gzip"}, timeout=5)
    answer.raise_for_status()


def delete_profile(user: int) -> None:
    """So is DELETE, if a 404 is taken for what it means."""
    answer = requests.delete(f"{API}/users/{user}", timeout=5)
    if answer.status_code != 404:
        answer.raise_for_status()


def charge(db: Engine, number: str, cents: int) -> None:
    """POST under a key made of the arguments; the receipt is stored when it comes."""
    answer = requests.post(
        f"{API}/charges",
        json={"order": number, "cents": cents},
        headers={"Idempotency-Key": f"charge-{number}"},
        timeout=5,
    )
    answer.raise_for_status()
    with db.begin() as connection:
        add_if_new(connection, sent_orders, number=number, receipt=answer.json()["receipt"], cents=cents)


def deliver_webhook(event: str) -> None:
    """Signed anew each time, over the time; the receiver knows the message by its Webhook-Id (Standard Webhooks)."""
    body = json.dumps({"event": event})
    stamp = int(time.time())
    signature = hmac.new(b"secret", f"{event}.{stamp}.{body}".encode(), "sha256").hexdigest()
    headers = {"webhook-id": event, "webhook-timestamp": str(stamp), "webhook-signature": f"v1,{signature}"}
    requests.post(f"{API}/hooks", data=body, headers=headers, timeout=5).raise_for_status()


def put_with_token(user: int, name: str) -> None:
    """A token for what the client is may be asked for again."""
    form = {"grant_type": "client_credentials", "client_id": "shop", "client_secret": "s"}
    token = requests.post(f"{API}/token", data=form, timeout=5).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    requests.put(f"{API}/users/{user}", json={"name": name}, headers=headers, timeout=5).raise_for_status()


def charge_with_httpx(client: httpx.Client, number: str, cents: int) -> str:
    """The key is a digest of what is asked for."""
    key = hashlib.sha256(f"{number}:{cents}".encode()).hexdigest()
    answer = client.post(
        f"{API}/charges", json={"order": number, "cents": cents}, headers={"Idempotency-Key": key}
    )
    answer.raise_for_status()
    return str(answer.json()["receipt"])


@contextmanager
def api(world: Any) -> Iterator[None]:
    """The other side: answers each key once and for all, as such services do."""
    import responses

    with responses.RequestsMock(assert_all_requests_are_fired=False) as stub:
        stub.put(f"{API}/users/7", json={})
        gone: set[str] = set()

        def delete(request: Any) -> tuple[int, dict[str, str], str]:
            first = request.url not in gone
            gone.add(request.url)
            return (204 if first else 404), {}, ""

        world.extra["gone"] = gone
        stub.add_callback("DELETE", f"{API}/users/7", callback=delete)
        stub.post(f"{API}/charges", json={"receipt": "r-1"})
        stub.post(f"{API}/hooks", json={})
        stub.post(f"{API}/token", json={"access_token": "t-1"})
        yield


def httpx_client(world: Any) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"receipt": "r-1"})

    world.extra["client"] = httpx.Client(transport=httpx.MockTransport(answer))


# -- AWS ---------------------------------------------------------------------------------------------------------

_ORDERS = "https://sqs.us-east-1.amazonaws.com/123456789012/orders"


@contextmanager
def aws(world: Any) -> Iterator[None]:
    with cloud() as client:
        world.extra["client"] = client
        yield


def announce_in_fifo(aws: Any, number: str) -> None:
    """A FIFO queue drops what has the same deduplication id."""
    aws("sqs").send_message(
        QueueUrl=f"{_ORDERS}.fifo",
        MessageBody=json.dumps({"order": number, "at": time.time()}),
        MessageGroupId="orders",
        MessageDeduplicationId=number,
    )


def store_pdf(aws: Any, number: str) -> None:
    """One object under one key, from a stream."""
    content = io.BytesIO(f"invoice {number}".encode())
    aws("s3").put_object(Bucket="invoices", Key=f"{number}.pdf", Body=content)


def upload_pdf(aws: Any, folder: Path, number: str) -> None:
    """The same by a transfer, which has threads of its own."""
    aws("s3").upload_file(str(folder / "invoice.pdf"), "invoices", f"{number}.pdf")


def seed_pdf(world: Any) -> None:
    (world.folder / "invoice.pdf").write_bytes(b"%PDF")


def add_user_item(aws: Any, user: str) -> None:
    """A look before the put, and a put that would do no harm without it."""
    key = {"pk": {"S": user}}
    if "Item" not in aws("dynamodb").get_item(TableName="users", Key=key):
        made_at = {"N": str(time.time())}
        aws("dynamodb").put_item(TableName="users", Item={**key, "made_at": made_at})


def claim_user(aws: Any, user: str) -> None:
    """The table refuses the second one."""
    client = aws("dynamodb")
    with contextlib.suppress(client.exceptions.ConditionalCheckFailedException):
        client.put_item(
            TableName="users", Item={"pk": {"S": user}}, ConditionExpression="attribute_not_exists(pk)"
        )


def name_user(aws: Any, user: str, name: str) -> None:
    """Sets what it is given, whatever was there."""
    aws("dynamodb").update_item(
        TableName="users",
        Key={"pk": {"S": user}},
        UpdateExpression="SET full_name = :name",
        ExpressionAttributeValues={":name": {"S": name}},
    )


def survey_cloud(aws: Any, db: Engine) -> None:
    """Reads in several ways, and keeps what it has found."""
    listed = aws("s3").get_paginator("list_objects_v2").paginate(Bucket="invoices")
    objects = sum(page["KeyCount"] for page in listed)
    users = aws("dynamodb").scan(TableName="users")["Count"]
    aws("sqs").receive_message(QueueUrl=_ORDERS, WaitTimeSeconds=0)
    with db.begin() as connection:
        add_if_new(connection, sent_orders, number="stock", receipt="", cents=objects + users)


# -- mail --------------------------------------------------------------------------------------------------------


def send_receipt(port: int, number: str, address: str) -> None:
    """Mail has no transaction; the Message-ID, made of the arguments, lets the receiving side drop the second."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "shop@example.org", address, f"Receipt {number}"
    mail["Message-ID"] = f"<receipt-{number}@shop.example.org>"
    mail.set_content(f"Thank you for order {number}.")
    with smtplib.SMTP("127.0.0.1", port, timeout=5) as smtp:
        smtp.send_message(mail)


@contextmanager
def mail_server(world: Any) -> Iterator[None]:
    from aiosmtpd.controller import Controller

    class AnyPort(Controller):
        def _trigger_server(self) -> None:
            self.port = self.server.sockets[0].getsockname()[1]
            super()._trigger_server()

    class Box:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            return "250 OK"

    controller: Any = AnyPort(Box(), hostname="127.0.0.1", port=0)
    controller.start()
    world.extra["port"] = controller.port
    yield
    controller.stop()


# -- files -------------------------------------------------------------------------------------------------------


def write_report(db: Engine, folder: Path, month: str) -> None:
    """A temporary file, then os.replace to a name made of the arguments; the row comes last."""
    body = f"report of {month}\ntotal: 17\n"
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".report-", suffix=".tmp")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(body)
        os.replace(temporary, folder / f"report-{month}.txt")
    except Exception:
        Path(temporary).unlink(missing_ok=True)
        raise
    with db.begin() as connection:
        add_if_new(connection, sent_orders, number=month, receipt=f"report-{month}.txt", cents=0)


def build_aside(folder: Path, name: str) -> None:
    """Made in a directory for the time being, which a crash leaves, and put in its place whole."""
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        part = Path(aside) / name
        part.write_text("total: 17")
        part.replace(folder / name)


def store_invoice(bucket: Any, number: str) -> None:
    """An object is replaced whole; the draft of it goes."""
    bucket.put_object(Bucket="invoices", Key=f"{number}.pdf", Body=b"%PDF")
    bucket.delete_object(Bucket="drafts", Key=f"{number}.pdf")


def remind(number: str) -> None:
    """The follow-up."""


def remind_tomorrow(cache: Any, number: str) -> None:
    """Scheduled again under its own id before its time comes, it is put off, and runs once."""
    queue = Queue("later", connection=cache)
    queue.enqueue_in(timedelta(days=1), remind, number, job_id=f"remind-{number}")


def export_json(folder: Path, name: str, rows: list[int]) -> None:
    """Written whole, each time, under a name of its own, in a directory that may be there."""
    target = folder / "exports"
    target.mkdir(exist_ok=True)
    part = target / f"{name}.json.part"
    part.write_text(json.dumps({"rows": rows}))
    part.rename(target / f"{name}.json")


def seed_files(world: Any) -> None:
    (world.folder / "report-2025-12.txt").write_text("the one before\n")
    (world.folder / "exports").mkdir()
    (world.folder / "exports" / "old.json").write_text("[]")


def prune_exports(folder: Path) -> None:
    """Removing what is gone is no work."""
    for old in sorted((folder / "exports").glob("*.json")):
        old.unlink(missing_ok=True)


# -- child jobs ----------------------------------------------------------------------------------------------------


def notify(number: str) -> None:
    """The child; here it is only enqueued."""


def ship_and_notify(db: Engine, queue: Queue, number: str) -> None:
    """The child's id is made of the arguments, and one that is there is not enqueued again."""
    from rq.exceptions import DuplicateJobError

    with db.begin() as connection:
        add_if_new(connection, sent_orders, number=number, cents=1)
    try:
        queue.enqueue(notify, number, job_id=f"notify-{number}", unique=True)
    except DuplicateJobError:
        pass


def make_queue(world: Any) -> None:
    world.extra["queue"] = Queue("mail", connection=world.redis)


# -- mocks of services ----------------------------------------------------------------------------------------------


def refund(db: Engine, gateway: Any, number: str) -> None:
    """The gateway knows the repetition by its key; the row says that it is done."""
    with db.connect() as connection:
        done = connection.execute(
            select(sent_orders.c.receipt).where(sent_orders.c.number == number)
        ).scalar()
    if done is None:
        gateway.refunds.create(amount=900, idempotency_key=f"refund-{number}")
        with db.begin() as connection:
            connection.execute(
                update(sent_orders).where(sent_orders.c.number == number).values(receipt="refunded")
            )


def seed_sent_order(world: Any) -> None:
    with world.db.begin() as connection:
        connection.execute(
            insert(sent_orders), [{"number": "A-1", "cents": 900}, {"number": "A-2", "cents": 5}]
        )


def relay_outbox(db: Engine, gateway: Any) -> None:
    """An outbox: each message goes out under its own key, and is marked afterwards."""
    with db.connect() as connection:
        waiting = (
            connection.execute(
                select(sent_orders.c.number)
                .where(sent_orders.c.receipt.is_(None))
                .order_by(sent_orders.c.number)
            )
            .scalars()
            .all()
        )
    for number in waiting:
        gateway.publish(number, idempotency_key=f"outbox-{number}")
        with db.begin() as connection:
            connection.execute(
                update(sent_orders).where(sent_orders.c.number == number).values(receipt="published")
            )
