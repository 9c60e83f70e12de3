"""SendEmailJob: a user gets a mail of a given kind, such as "welcome".

Not idempotent: sending. A mail cannot be rolled back, and the mail server and the note that "it was
sent" can never change in one step.

Strategy: so the sender alone has only two choices. Note first, then send: a crash in between loses
the mail. Send first, then note: a crash in between sends it twice. The right variant sends first,
as often as it is told to, and gives the mail a name that does not depend on the run (its
Message-ID), by which the receiver drops the second copy. Exactly once is a thing that sender and
receiver do together.

Constraints and keys: mended: Redis `email_sent:{user_id}:{kind}`, for a week. Right: `UNIQUE
(user_id, kind)` on `sent_emails`, which merely saves a pointless hand-over.

Test notes: two in sequence never show the mended job's fault. It takes a crash (or a lost reply)
after the sending, or two workers between the GET and the SET.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select

from shop.clients import send_mail
from shop.context import Shop, current_shop
from shop.insert_once import insert_once
from shop.models import SentEmail, User


def _send(shop: Shop, user_id: int, kind: str, *, message_id: str | None = None) -> None:
    with shop.session() as session:
        user = session.get_one(User, user_id)
    send_mail(shop, user.email, f"Your {kind} mail", f"Dear {user.name},\n...", message_id=message_id)


def send_email_naive(user_id: int, kind: str) -> None:
    """Each delivery is a mail."""
    _send(current_shop(), user_id, kind)


def send_email_mended(user_id: int, kind: str) -> None:
    """Look for a flag, send, set the flag: three steps, and the world may change or end between any two."""
    shop = current_shop()
    flag = f"email_sent:{user_id}:{kind}"
    if shop.redis.get(flag) == b"true":
        return
    _send(shop, user_id, kind)
    shop.redis.set(flag, "true", ex=timedelta(weeks=1))


def send_email_right(user_id: int, kind: str) -> None:
    """At least once from here, at most once over there: every copy carries the same Message-ID."""
    shop = current_shop()
    with shop.session() as session:
        if session.scalar(select(SentEmail).filter_by(user_id=user_id, kind=kind)):
            return  # Only to spare the mail server: the guard is the Message-ID below.
    _send(shop, user_id, kind, message_id=f"{kind}.{user_id}")
    with shop.session() as session:
        insert_once(session, SentEmail, key=("user_id", "kind"), user_id=user_id, kind=kind)
        session.commit()
