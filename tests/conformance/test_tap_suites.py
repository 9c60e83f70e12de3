"""Every built-in tap passes the suite, over each library that it watches."""

from __future__ import annotations

import contextlib
import json
import smtplib
import threading
import unittest.mock
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.message import EmailMessage
from http.client import RemoteDisconnected
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest.mock import Mock

import pytest
from sinks import cloud

from idemfuzz.adapters.aws import AwsTap
from idemfuzz.adapters.http import HttpTap
from idemfuzz.adapters.mail import MailTap
from idemfuzz.adapters.mock import MockTap
from idemfuzz.model import FactKind
from idemfuzz.testing import TapConformance, TapSubject

# How a library sends: method, URL, JSON text, headers.
Send = Callable[[str, str, bytes | None, dict[str, str]], Any]


class Server(ThreadingHTTPServer):
    """Does what it is asked for, but declines what is sent to ``/declined``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.items: list[int] = []


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.answer(200)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/declined":
            self.answer(409)
        else:
            self.server.items.append(body["item"])  # type: ignore[attr-defined]
            self.answer(201)

    def answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def http_subject(
    server: Server, send: Send, errors: tuple[type[BaseException], ...], *patches: object
) -> TapSubject:
    server.items.clear()
    address = f"http://127.0.0.1:{server.server_port}"

    def post(path: str, item: int, **headers: str) -> None:
        headers["Content-Type"] = "application/json"
        send("POST", address + path, json.dumps({"item": item}).encode(), headers)

    return TapSubject(
        tap=HttpTap,
        kind=FactKind.HTTP,
        call=lambda item: post("/charges", item),
        arrived=lambda: server.items,
        look=lambda: send("GET", address + "/charges", None, {}),
        declined=lambda: post("/declined", 1),
        once=lambda item, key: post("/charges", item, **{"Idempotency-Key": key}),
        errors=errors,
        patches=patches,
    )


class TestRequests(TapConformance):
    @pytest.fixture
    def subject(self, server: Server) -> TapSubject:
        requests = pytest.importorskip("requests")
        return http_subject(
            server,
            lambda method, url, body, headers: requests.request(method, url, data=body, headers=headers),
            (requests.exceptions.ConnectionError,),
            requests.sessions,
            requests.api,
        )


class TestHttpx(TapConformance):
    @pytest.fixture
    def subject(self, server: Server) -> TapSubject:
        httpx = pytest.importorskip("httpx")
        return http_subject(
            server,
            lambda method, url, body, headers: httpx.request(method, url, content=body, headers=headers),
            (httpx.ConnectError, httpx.RemoteProtocolError),
            httpx.Client,
            httpx,
        )


class TestUrllib3(TapConformance):
    @pytest.fixture
    def subject(self, server: Server) -> TapSubject:
        urllib3 = pytest.importorskip("urllib3")
        pool = urllib3.PoolManager()
        return http_subject(
            server,
            lambda method, url, body, headers: pool.request(method, url, body=body, headers=headers),
            (urllib3.exceptions.HTTPError,),
            urllib3.PoolManager,
            urllib3.HTTPConnectionPool,
        )


class TestUrllib(TapConformance):
    @pytest.fixture
    def subject(self, server: Server) -> TapSubject:
        def send(method: str, url: str, body: bytes | None, headers: dict[str, str]) -> None:
            request = urllib.request.Request(url, body, headers, method=method)
            try:
                urllib.request.urlopen(request).close()
            except urllib.error.HTTPError as error:
                error.close()

        return http_subject(server, send, (urllib.error.URLError, RemoteDisconnected), urllib.request)


class TestBotocore(TapConformance):
    @pytest.fixture
    def subject(self) -> Iterator[TapSubject]:
        client_module = pytest.importorskip("botocore.client")
        exceptions = pytest.importorskip("botocore.exceptions")
        pytest.importorskip("moto")
        queue = "https://sqs.us-east-1.amazonaws.com/123456789012/orders"
        arrived: list[int] = []
        with cloud() as client:
            sqs = client("sqs")
            sqs.meta.events.register(
                "after-call.sqs.SendMessage", lambda parsed, **rest: arrived.append(sent.pop())
            )
            sent: list[int] = []

            def send(item: int, **more: str) -> None:
                sent.append(item)
                fifo = ".fifo" if more else ""
                sqs.send_message(QueueUrl=queue + fifo, MessageBody=str(item), **more)

            def declined() -> None:
                with contextlib.suppress(exceptions.ClientError):
                    client("s3").put_object(Bucket="nowhere", Key="a", Body=b"x")

            yield TapSubject(
                tap=AwsTap,
                kind=FactKind.HTTP,
                call=send,
                arrived=lambda: arrived,
                look=lambda: sqs.receive_message(QueueUrl=queue),
                declined=declined,
                once=lambda item, key: send(item, MessageGroupId="g", MessageDeduplicationId=key),
                errors=(exceptions.EndpointConnectionError, exceptions.ConnectionClosedError),
                patches=[client_module.BaseClient],
            )


class Mailbox:
    def __init__(self) -> None:
        self.items: list[int] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.items.append(int(message_from_bytes(envelope.content)["Subject"]))
        return "250 OK"


class TestMail(TapConformance):
    @pytest.fixture
    def subject(self) -> Iterator[TapSubject]:
        controllers = pytest.importorskip("aiosmtpd.controller")

        class AnyPort(controllers.Controller):  # type: ignore[misc, name-defined]
            def _trigger_server(self) -> None:
                self.port = self.server.sockets[0].getsockname()[1]
                super()._trigger_server()

        mailbox = Mailbox()
        controller = AnyPort(mailbox, hostname="127.0.0.1", port=0)
        controller.start()

        def send(item: int, key: str | None = None) -> None:
            message = EmailMessage()
            message["From"], message["To"], message["Subject"] = "a@example.org", "b@example.org", str(item)
            if key is not None:
                message["Message-ID"] = f"<{key}@example.org>"
            message.set_content("hello")
            with smtplib.SMTP("127.0.0.1", controller.port) as smtp:
                smtp.send_message(message)

        yield TapSubject(
            tap=MailTap,
            kind=FactKind.MAIL,
            call=send,
            arrived=lambda: mailbox.items,
            once=send,
            errors=(smtplib.SMTPServerDisconnected,),
            patches=[smtplib],
        )
        controller.stop()


class TestMock(TapConformance):
    """A mock that a fixture hands in stands for the outside."""

    @pytest.fixture
    def subject(self) -> TapSubject:
        gateway = Mock()
        return TapSubject(
            tap=MockTap,
            kind=FactKind.CALL,
            call=lambda item: gateway.charges.create(item),
            arrived=lambda: [call.args[0] for call in gateway.charges.create.call_args_list],
            look=lambda: gateway.charges.get(1),
            once=lambda item, key: gateway.charges.create(item, idempotency_key=key),
            remembered=lambda: gateway.charges.create.call_count,
            values={"gateway": gateway},
            errors=(ConnectionError,),
            patches=[unittest.mock],
        )
