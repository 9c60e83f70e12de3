"""An SMTP server on a loopback port that keeps what it is given.

`received` is every mail that was handed over. `inbox` is what the customer sees: a mail whose
Message-ID came before is dropped, as some large mail providers do, and as any receiver may be built to.
"""

from __future__ import annotations

import socket
from asyncio import AbstractServer
from collections.abc import Awaitable
from email import message_from_bytes, policy
from email.message import EmailMessage

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session


class Mailbox:
    """The mails. aiosmtpd calls `handle_DATA` on the server's own thread."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget every mail."""
        self.received: list[EmailMessage] = []

    @property
    def inbox(self) -> list[EmailMessage]:
        """The mails received, one for each Message-ID; a mail without one is always new."""
        return list({mail["Message-ID"] or id(mail): mail for mail in reversed(self.received)}.values())[::-1]

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        mail = message_from_bytes(envelope.original_content or b"", policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.received.append(mail)
        return "250 Thank you"


class MailServer(Controller):
    """The server around a `Mailbox`, as a context manager; it listens at `hostname` and `port`."""

    def __init__(self, mailbox: Mailbox) -> None:
        # Bound here and handed on, so that no other process can take the port in between.
        self._socket = socket.create_server(("127.0.0.1", 0))
        # Without this, the lines of one reply wait 40 ms for each other (Nagle's algorithm).
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        port: int = self._socket.getsockname()[1]
        super().__init__(mailbox, hostname="127.0.0.1", port=port, server_hostname="mail.example.org")

    def _create_server(self) -> Awaitable[AbstractServer]:
        return self.loop.create_server(self._factory_invoker, sock=self._socket)

    def __enter__(self) -> MailServer:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
