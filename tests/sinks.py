"""Servers that take what a job sends and keep nothing, and moto, which keeps it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from socketserver import StreamRequestHandler
from typing import Any


@contextmanager
def serving(server: Any) -> Iterator[tuple[str, int]]:
    """The address of a server that is served in a thread."""
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.server_address[:2]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def cloud() -> Iterator[Callable[[str], Any]]:
    """Clients of AWS by service, which moto answers: with two queues, a bucket, a table and a sender of mails."""
    import boto3
    from moto import mock_aws

    made: dict[str, Any] = {}

    def client(service: str) -> Any:
        if service not in made:
            made[service] = boto3.client(
                service, aws_access_key_id="id", aws_secret_access_key="secret", region_name="us-east-1"
            )
        return made[service]

    with mock_aws():
        client("sqs").create_queue(QueueName="orders")
        client("sqs").create_queue(QueueName="orders.fifo", Attributes={"FifoQueue": "true"})
        client("s3").create_bucket(Bucket="invoices")
        client("ses").verify_email_identity(EmailAddress="shop@example.org")
        client("dynamodb").create_table(
            TableName="users",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        yield client


class Mails(StreamRequestHandler):
    """As much SMTP as smtplib needs."""

    def handle(self) -> None:
        self.wfile.write(b"220 sink\r\n")
        in_data = False
        for line in self.rfile:
            if in_data:
                in_data = line != b".\r\n"
                answer = b"" if in_data else b"250 OK\r\n"
            else:
                verb = line[:4].upper()
                in_data = verb == b"DATA"
                answer = {b"DATA": b"354 go on\r\n", b"QUIT": b"221 bye\r\n"}.get(verb, b"250 OK\r\n")
            if answer:
                self.wfile.write(answer)
            if answer.startswith(b"221"):
                return


class Yes(BaseHTTPRequestHandler):
    """Answers 201 to every POST."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""
