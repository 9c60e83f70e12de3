"""The mail tap: what goes out through `smtplib`, to a real server on a loopback port."""

from __future__ import annotations

import smtplib
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from email.utils import make_msgid
from typing import Any

import pytest

from idemfuzz.abc import JobCall, Options
from idemfuzz.adapters.mail import MailTap
from idemfuzz.engine import Trial, TrialGate, TrialResult
from idemfuzz.engine.clock import Clock
from idemfuzz.model import Access, EventKind, Fault, FaultKind, Plan, Point, Side

pytest.importorskip("aiosmtpd")


class Mailbox:
    """Keeps what the server accepts; refuses recipients at ``nowhere.example``."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.port = 0

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address.endswith("@nowhere.example"):
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.received.append(envelope.content)
        return "250 OK"


@pytest.fixture(scope="module")
def running() -> Iterator[Mailbox]:
    from aiosmtpd.controller import Controller

    class AnyPort(Controller):
        def _trigger_server(self) -> None:
            self.port = self.server.sockets[0].getsockname()[1]
            super()._trigger_server()

    mailbox = Mailbox()
    controller: Any = AnyPort(mailbox, hostname="127.0.0.1", port=0)
    controller.start()
    mailbox.port = controller.port
    yield mailbox
    controller.stop()


@pytest.fixture
def mailbox(running: Mailbox) -> Mailbox:
    running.received.clear()
    return running


@pytest.fixture
def tap() -> Iterator[MailTap]:
    tap = MailTap()
    tap.attach(TrialGate(), {})
    yield tap
    tap.detach()


def deliver(job: Callable[[], object], *faults: Fault) -> TrialResult:
    trial = Trial(
        Plan(faults=faults), Options(attempts=1), (), Clock(lambda: None, lambda seconds, polls: None)
    )
    try:
        trial.deliver(JobCall("job", lambda identity, delivery: job()))
    except Exception:
        pass
    return trial.result()


def send(mailbox: Mailbox, to: str = "ada@example.org", **headers: str) -> None:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "shop@example.org", to, "Grüße"
    for name, value in headers.items():
        mail[name.replace("_", "-")] = value
    mail.set_content("Your order is on its way.")
    with smtplib.SMTP("127.0.0.1", mailbox.port, local_hostname="localhost", timeout=5) as smtp:
        smtp.send_message(mail)


def test_a_mail_is_one_effect_and_one_call(tap: MailTap, mailbox: Mailbox) -> None:
    result = deliver(lambda: send(mailbox, Date="Mon, 1 Jan 2024 00:00:00 +0000", X_Order="7"))
    (event,) = [event for event in result.history if event.kind is EventKind.EFFECT]
    (call,) = result.calls
    assert event.effect is not None
    assert (event.effect.label, event.effect.access) == ("mail.send", Access.DURABLE)
    assert event.effect.detail == "mail to ada@example.org: 'Grüße'"
    assert event.outcome == "accepted"
    assert call.group == "mail to ada@example.org"
    assert dict(call.fields) == {
        "from": "shop@example.org",
        "to": ("ada@example.org",),
        "subject": "Grüße",
        "body": "Your order is on its way.",
        "headers": {"x-order": "7"},
    }
    assert call.once is None
    assert len(mailbox.received) == 1


def test_the_same_message_id_unites_and_a_made_up_one_does_not(tap: MailTap, mailbox: Mailbox) -> None:
    def job() -> None:
        send(mailbox, Message_ID="<order-7@shop.example>")
        send(mailbox, Message_ID="<order-7@shop.example>")
        send(mailbox, to="bob@example.org", Message_ID="<order-7@shop.example>")
        send(mailbox, Message_ID=make_msgid())
        send(mailbox, Message_ID=make_msgid())

    first, second, *others = (call.once for call in deliver(job).calls)
    assert first is not None
    assert first == second
    assert len({first, *others}) == 4


@pytest.mark.parametrize(("kind", "side", "arrives"), [("refused", "before", 0), ("lost", "after", 1)])
def test_faults_are_smtplibs_own(kind: str, side: str, arrives: int, tap: MailTap, mailbox: Mailbox) -> None:
    """The connection is gone afterwards, and leaving the ``with`` block does not hide the error."""
    caught: list[BaseException] = []

    def job() -> None:
        try:
            send(mailbox)
        except smtplib.SMTPServerDisconnected as error:
            caught.append(error)

    result = deliver(job, Fault(FaultKind(kind), Point(1, 1, "mail.send", 1), Side(side)))
    assert len(caught) == 1
    assert len(mailbox.received) == len(result.calls) == arrives


def test_a_mail_that_every_recipient_refuses_does_not_count(tap: MailTap, mailbox: Mailbox) -> None:
    result = deliver(lambda: send(mailbox, to="eve@nowhere.example"))
    assert result.calls == ()
    assert isinstance(result.job_errors[0], smtplib.SMTPRecipientsRefused)


def test_parts_and_raw_text_are_understood(tap: MailTap, mailbox: Mailbox) -> None:
    mail = EmailMessage()
    mail["Subject"] = "Report"
    mail.set_content("See below.")
    mail.add_alternative("<p>See below.</p>", subtype="html")
    mail.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="may.pdf")

    def job() -> None:
        with smtplib.SMTP("127.0.0.1", mailbox.port, timeout=5) as smtp:
            smtp.sendmail("a@example.org", ["b@example.org", "a@example.org"], mail.as_bytes())
            smtp.sendmail("a@example.org", "b@example.org", "no headers at all")
            smtp.sendmail("a@example.org", "b@example.org", "Subject: hi\nMessage-ID: [odd\n\nbody")

    report, bare, odd = deliver(job).calls
    assert report.fields["to"] == ("a@example.org", "b@example.org")
    assert report.fields["body"] == "See below.\n\n<p>See below.</p>"
    assert report.fields["attachments"][0].startswith("may.pdf (application/pdf, ")
    assert bare.fields["subject"] == ""
    assert (odd.fields["subject"], odd.fields["body"]) == ("hi", "body")
    assert odd.once == "Message-ID [odd to b@example.org"


def test_detach_puts_everything_back(mailbox: Mailbox) -> None:
    before = vars(smtplib.SMTP)["sendmail"]
    tap = MailTap()
    for _ in range(2):
        tap.attach(TrialGate(), {})
        assert vars(smtplib.SMTP)["sendmail"] is not before
        send(mailbox)
        tap.reset()
        tap.detach()
        assert vars(smtplib.SMTP)["sendmail"] is before
    assert len(mailbox.received) == 2
