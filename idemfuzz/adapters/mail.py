"""Mails become Effects: everything that goes out through `smtplib`.

``smtplib.SMTP.sendmail`` is tapped, which ``send_message``, ``SMTP_SSL`` and ``LMTP`` go through. A mail
counts when the server has accepted it for at least one recipient.

*When two mails are one.* When they carry the same Message-ID and go to the same recipients. An id that is
made up anew in each run (`email.utils.make_msgid`) never unites two mails, which is right: nobody
downstream could.

It does not see mails that go out in another way (an HTTP API, a local ``sendmail``), nor a class that a
test has put in place of ``smtplib.SMTP``.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from email import message_from_bytes, policy
from email.errors import MessageError
from email.message import EmailMessage
from typing import Any

from idemfuzz.abc import Errors, Gate
from idemfuzz.adapters.libraries import unwrapped
from idemfuzz.model import Access, Effect, Fact, FactKind, FaultKind

__all__ = ["MailTap"]

# What a transport stamps, what only encodes the body, and what `from`, `to` and `subject` say already.
_NOT_CONTENT = frozenset(
    {
        *("date", "message-id", "received", "return-path", "resent-date", "resent-message-id"),
        *("mime-version", "content-type", "content-transfer-encoding", "content-disposition"),
        *("from", "to", "cc", "subject", "dkim-signature", "x-mailer", "user-agent"),
    }
)


class MailTap:
    """Taps `smtplib` from attach to detach."""

    name = "mail"

    def __init__(self) -> None:
        self._gate: Gate | None = None
        self._original: Callable[..., Any] | None = None
        self._wrapper: Callable[..., Any] | None = None

    def attach(self, gate: Gate, values: Mapping[str, object]) -> None:
        import smtplib

        self._gate = gate
        original = unwrapped(vars(smtplib.SMTP)["sendmail"])
        if original is None:
            return
        self._original, self._wrapper = original, self._wrap(original)
        smtplib.SMTP.sendmail = self._wrapper  # type: ignore[method-assign]

    def reset(self) -> None:
        """Nothing of a mail stays in this process."""

    def detach(self) -> None:
        import smtplib

        self._gate = None
        if self._original is not None and vars(smtplib.SMTP).get("sendmail") is self._wrapper:
            smtplib.SMTP.sendmail = self._original  # type: ignore[method-assign]
        self._original = self._wrapper = None

    def _wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def sendmail(smtp: Any, from_addr: Any, to_addrs: Any, msg: Any, *args: Any, **kwargs: Any) -> Any:
            send = functools.partial(original, smtp, from_addr, to_addrs, msg, *args, **kwargs)
            gate = self._gate
            if gate is None or gate.scope() is None:
                return send()
            call = _fact(str(from_addr), _recipients(to_addrs), _octets(msg))
            effect = Effect(
                label="mail.send",
                store="mail",
                access=Access.DURABLE,
                detail=f"mail to {', '.join(call.fields['to'])}: {call.fields['subject']!r}",
                faults=(FaultKind.REFUSED, FaultKind.LOST),
            )
            return gate.perform(effect, send, errors=_errors(smtp), describe=_outcome, call=call)

        sendmail._idemfuzz_wrapped = original  # type: ignore[attr-defined]
        return sendmail


def _errors(smtp: Any) -> Errors:
    """Either way the connection is gone afterwards, so that the session's QUIT fails, too, as it would."""

    def disconnected() -> BaseException:
        from smtplib import SMTPServerDisconnected

        smtp.close()
        return SMTPServerDisconnected("Connection unexpectedly closed")

    return Errors(refused=disconnected, lost=disconnected)


def _outcome(refused: object) -> str:
    if isinstance(refused, dict) and refused:
        return f"accepted, but not for {', '.join(map(str, refused))}"
    return "accepted"


def _recipients(to_addrs: Any) -> tuple[str, ...]:
    return (to_addrs,) if isinstance(to_addrs, str) else tuple(sorted(map(str, to_addrs)))


def _octets(msg: Any) -> bytes:
    return msg.encode("utf-8", "surrogateescape") if isinstance(msg, str) else bytes(msg)


def _fact(sender: str, recipients: Sequence[str], octets: bytes) -> Fact:
    message = message_from_bytes(octets, policy=policy.default)
    fields: dict[str, Any] = {
        "from": sender,
        "to": tuple(recipients),
        "subject": _header(message, "subject") or "",
        "body": _body(message),
    }
    if attachments := _attachments(message):
        fields["attachments"] = attachments
    names = {name.lower() for name in message} - _NOT_CONTENT
    if names:
        fields["headers"] = {name: _header(message, name) for name in sorted(names)}
    message_id = _header(message, "message-id")
    return Fact(
        store="mail",
        kind=FactKind.MAIL,
        group=f"mail to {', '.join(recipients)}",
        fields=fields,
        once=f"Message-ID {message_id} to {', '.join(recipients)}" if message_id else None,
    )


def _header(message: EmailMessage, name: str) -> str | None:
    try:
        value = message[name]
    except (MessageError, ValueError, IndexError, AttributeError):
        # The parser of structured headers gives up on some malformed ones; the raw text will do.
        value = next((raw for key, raw in message.raw_items() if key.lower() == name), None)
    return None if value is None else " ".join(str(value).split())


def _body(message: EmailMessage) -> str:
    """The readable text of all parts that are not attachments."""
    texts = [
        _text(part)
        for part in message.walk()
        if not part.is_multipart() and not _is_attachment(part) and part.get_content_maintype() == "text"
    ]
    return "\n".join(texts).replace("\r\n", "\n").rstrip("\n")


def _text(part: Any) -> str:
    data = part.get_payload(decode=True) or b""
    try:
        return str(data.decode(part.get_content_charset() or "utf-8", "replace"))
    except LookupError:
        return str(data.decode("latin-1"))


def _attachments(message: EmailMessage) -> tuple[str, ...]:
    """Name, type and digest of each part that is not body text."""
    found = []
    for part in message.walk():
        if part.is_multipart() or (part.get_content_maintype() == "text" and not _is_attachment(part)):
            continue
        data = part.get_payload(decode=True) or b""
        digest = hashlib.sha256(data if isinstance(data, bytes) else b"").hexdigest()[:16]
        found.append(f"{part.get_filename() or 'unnamed'} ({part.get_content_type()}, {digest})")
    return tuple(found)


def _is_attachment(part: Any) -> bool:
    return bool(part.get_content_disposition() == "attachment" or part.get_filename())
