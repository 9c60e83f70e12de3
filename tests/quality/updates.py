"""Rows that a second execution changes, or takes away, again."""

from __future__ import annotations

import secrets
import uuid
from datetime import timedelta
from typing import Any

from sqlalchemy import Engine, delete, func, insert, not_, select, update

from quality.schema import accounts, counters, invoices, order_invoices, orders, products, profiles, tasks


def upsert_one_more(connection: Any, name: str) -> None:
    if connection.dialect.name in ("mysql", "mariadb"):
        from sqlalchemy.dialects.mysql import insert as mysql_insert

        adding = mysql_insert(counters).values(name=name, value=1)
        connection.execute(adding.on_duplicate_key_update(value=counters.c.value + 1))
        return
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as upserting
    else:
        from sqlalchemy.dialects.sqlite import insert as upserting  # type: ignore[assignment]
    statement = upserting(counters).values(name=name, value=1)
    connection.execute(
        statement.on_conflict_do_update(index_elements=["name"], set_={"value": counters.c.value + 1})
    )


def count_visit(engine: Engine, name: str) -> None:
    """Read, add one, write."""
    with engine.begin() as connection:
        value = connection.execute(select(counters.c.value).where(counters.c.name == name)).scalar_one()
        connection.execute(update(counters).where(counters.c.name == name).values(value=value + 1))


def count_upserting(engine: Engine, name: str) -> None:
    """An upsert is not yet idempotent: ON CONFLICT DO UPDATE SET value = value + 1."""
    with engine.begin() as connection:
        upsert_one_more(connection, name)


def credit(engine: Engine, account: str, amount: int) -> None:
    """UPDATE balance = balance + amount."""
    with engine.begin() as connection:
        connection.execute(
            update(accounts).where(accounts.c.name == account).values(balance=accounts.c.balance + amount)
        )


def transfer(engine: Engine, payer: str, payee: str, amount: int) -> None:
    """Both sides in one transaction, if there is enough: atomic, and applied as often as delivered."""
    with engine.begin() as connection:
        row = connection.execute(
            update(accounts)
            .where(accounts.c.name == payer, accounts.c.balance >= amount)
            .values(balance=accounts.c.balance - amount)
        )
        if row.rowcount:
            connection.execute(
                update(accounts).where(accounts.c.name == payee).values(balance=accounts.c.balance + amount)
            )


def append_event(engine: Engine, name: str, event: str) -> None:
    """A list in a JSON column."""
    with engine.begin() as connection:
        events = connection.execute(select(profiles.c.events).where(profiles.c.name == name)).scalar_one()
        connection.execute(update(profiles).where(profiles.c.name == name).values(events=[*events, event]))


def add_note(engine: Engine, name: str, note: str) -> None:
    """Text put behind text."""
    with engine.begin() as connection:
        connection.execute(
            update(profiles).where(profiles.c.name == name).values(notes=profiles.c.notes + note)
        )


def log_visit(engine: Engine, name: str) -> None:
    """A line put behind text, with a short code that is another one each time."""
    with engine.begin() as connection:
        line = f"{secrets.token_hex(3)} came by; "
        connection.execute(
            update(profiles).where(profiles.c.name == name).values(notes=profiles.c.notes + line)
        )


def spend_from_note(engine: Engine, name: str) -> None:
    """A balance in a text, beside a revision that is made up."""
    with engine.begin() as connection:
        notes = connection.execute(select(profiles.c.notes).where(profiles.c.name == name)).scalar_one()
        left = int(notes.partition("balance=")[2].partition(" ")[0] or 100) - 30
        notes = f"balance={left} rev={secrets.token_urlsafe(5)}"
        connection.execute(update(profiles).where(profiles.c.name == name).values(notes=notes))


def count_beside_made_up_key(engine: Engine, name: str) -> None:
    """A counter in JSON, beside a key that is a UUID."""
    with engine.begin() as connection:
        events = connection.execute(select(profiles.c.events).where(profiles.c.name == name)).scalar_one()
        count = events["count"] + 1 if isinstance(events, dict) else 1
        events = {"count": count, str(uuid.uuid4()): "last"}
        connection.execute(update(profiles).where(profiles.c.name == name).values(events=events))


def toggle(engine: Engine, name: str) -> None:
    """Twice is never; three times looks like once."""
    with engine.begin() as connection:
        connection.execute(
            update(profiles).where(profiles.c.name == name).values(active=not_(profiles.c.active))
        )


def extend_subscription(engine: Engine, name: str) -> None:
    """Thirty days more than whatever is there."""
    with engine.begin() as connection:
        until = connection.execute(select(profiles.c.paid_until).where(profiles.c.name == name)).scalar_one()
        connection.execute(
            update(profiles).where(profiles.c.name == name).values(paid_until=until + timedelta(days=30))
        )


def raise_prices(engine: Engine) -> None:
    """Ten per cent on everything."""
    with engine.begin() as connection:
        connection.execute(update(products).values(price=products.c.price * 1.1))


def advance_order(engine: Engine, order_id: int) -> None:
    """To the next state, whichever the order is in."""
    following = {"new": "paid", "paid": "packed", "packed": "shipped", "shipped": "shipped"}
    with engine.begin() as connection:
        status = connection.execute(select(orders.c.status).where(orders.c.id == order_id)).scalar_one()
        connection.execute(update(orders).where(orders.c.id == order_id).values(status=following[status]))


def bump_version(engine: Engine, order_id: int) -> None:
    """The optimistic version is counted, but not asked for."""
    with engine.begin() as connection:
        connection.execute(
            update(orders).where(orders.c.id == order_id).values(status="paid", version=orders.c.version + 1)
        )


def take_oldest_task(engine: Engine) -> None:
    """DELETE of whatever is oldest now."""
    with engine.begin() as connection:
        oldest = connection.execute(select(func.min(tasks.c.id))).scalar()
        connection.execute(delete(tasks).where(tasks.c.id == oldest))


def number_invoice(engine: Engine, order_id: int) -> None:
    """Takes the next number before it looks whether the order has one: numbers are burnt, which auditors ask about."""
    with engine.begin() as connection:
        connection.execute(
            update(counters).where(counters.c.name == "invoice").values(value=counters.c.value + 1)
        )
        number = connection.execute(select(counters.c.value).where(counters.c.name == "invoice")).scalar_one()
        known = connection.execute(
            select(order_invoices).where(order_invoices.c.order_id == order_id)
        ).first()
        if known is None:
            connection.execute(insert(order_invoices).values(order_id=order_id, number=number))


def renumber_invoices(engine: Engine, step: int) -> None:
    """A migration that moves every number, and the next time moves it on."""
    with engine.begin() as connection:
        connection.execute(update(invoices).values(number=invoices.c.number + step))


def rotate_duties(engine: Engine) -> None:
    """Each task goes on to the next one's title: the same titles twice over, on other rows."""
    with engine.begin() as connection:
        rows = connection.execute(select(tasks.c.id, tasks.c.title).order_by(tasks.c.id)).all()
        for row, following in zip(rows, [*rows[1:], rows[0]], strict=True):
            connection.execute(update(tasks).where(tasks.c.id == row.id).values(title=following.title))
