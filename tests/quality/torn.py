"""Work of which one half is there."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from quality.schema import (
    accounts,
    addresses,
    catalogue,
    homes,
    lines,
    listings,
    order_payments,
    orders,
    receipts,
    users,
)


def pay_then_receipt(engine: Engine, order_id: int) -> None:
    """Two transactions, and the first one's row guards both."""
    with engine.begin() as connection:
        if connection.execute(select(order_payments).where(order_payments.c.order_id == order_id)).first():
            return
        connection.execute(insert(order_payments).values(order_id=order_id, amount=100))
    with engine.begin() as connection:
        connection.execute(insert(receipts).values(order_id=order_id, text="thank you"))


def header_then_lines(engine: Engine, customer: str, skus: list[str]) -> None:
    """The order is committed before its lines."""
    with engine.begin() as connection:
        if connection.execute(select(orders.c.id).where(orders.c.customer == customer)).first():
            return
        order_id = connection.execute(
            insert(orders).values(customer=customer, status="new")
        ).inserted_primary_key[0]
    for sku in skus:
        with engine.begin() as connection:
            connection.execute(insert(lines).values(order_id=order_id, sku=sku))


def debit_then_credit(engine: Engine, order_id: int, payer: str, payee: str) -> None:
    """The status goes with the debit; the credit comes in a second transaction."""
    with engine.begin() as connection:
        claimed = connection.execute(
            update(orders).where(orders.c.id == order_id, orders.c.status == "new").values(status="paid")
        )
        if not claimed.rowcount:
            return
        connection.execute(
            update(accounts).where(accounts.c.name == payer).values(balance=accounts.c.balance - 5)
        )
    with engine.begin() as connection:
        connection.execute(
            update(accounts).where(accounts.c.name == payee).values(balance=accounts.c.balance + 5)
        )


def row_then_key(engine: Engine, redis: Any, email: str) -> None:
    """Two stores: the row is there, so the index in Redis is never written."""
    with engine.begin() as connection:
        if connection.execute(select(users.c.id).where(users.c.email == email)).first():
            return
        connection.execute(insert(users).values(email=email))
    redis.sadd("emails", email)


def mark_then_push(redis: Any, event: str) -> None:
    """HSET done, RPUSH not: the mark blocks for ever."""
    if not redis.hsetnx("seen", event, "1"):
        return
    redis.rpush("events", event)


def mark_and_push_in_pipeline(redis: Any, event: str) -> None:
    """A pipeline without MULTI is no transaction: it can be cut in half."""
    if redis.hexists("seen", event):
        return
    with redis.pipeline(transaction=False) as pipeline:
        pipeline.hset("seen", event, "1")
        pipeline.rpush("events", event)
        pipeline.execute()


def take_and_never_look_back(redis: Any) -> None:
    """Each thing to do waits in a second list until it is done; nobody asks for what a dead worker left there.

    An expiry would throw it away.
    """
    while (item := redis.lmove("todo", "doing", "LEFT", "RIGHT")) is not None:
        redis.hset("done", item, "yes")
        redis.lrem("doing", 1, item)


def counter_without_expiry(redis: Any, user: str) -> None:
    """INCR, then EXPIRE if it is the first: a crash in between leaves a limit that never ends."""
    if redis.exists(f"limit:{user}"):
        return
    redis.incr(f"limit:{user}")
    redis.expire(f"limit:{user}", 3600)


def link_to_latest(engine: Engine, email: str) -> None:
    """The home is the address just made, or else the latest: which, the second time, is the one for work."""
    with engine.begin() as connection:
        user = connection.execute(select(users.c.id).where(users.c.email == email)).scalar_one()
    address = _address(engine, user, "home")
    _address(engine, user, "work")
    with engine.begin() as connection:
        if connection.execute(select(homes.c.user_id).where(homes.c.user_id == user)).first() is None:
            connection.execute(insert(homes).values(user_id=user, address_id=address))
        else:
            connection.execute(update(homes).where(homes.c.user_id == user).values(address_id=address))


def _address(engine: Engine, user: int, kind: str) -> int:
    with engine.begin() as connection:
        known = connection.execute(
            select(addresses.c.id).where(addresses.c.user_id == user, addresses.c.kind == kind)
        ).first()
        if known is None:
            made = connection.execute(insert(addresses).values(user_id=user, kind=kind))
            return int(made.inserted_primary_key[0])
        latest = select(addresses.c.id).where(addresses.c.user_id == user).order_by(addresses.c.id.desc())
        return int(connection.execute(latest.limit(1)).scalar_one())


def replace_listed_product(engine: Engine, sku: str) -> None:
    """REPLACE deletes the row and inserts it anew, under a new id; the listing keeps the old one."""
    with engine.begin() as connection:
        connection.execute(text("REPLACE INTO catalogue (sku, price) VALUES (:sku, 4)"), {"sku": sku})
        product = connection.execute(select(catalogue.c.id).where(catalogue.c.sku == sku)).scalar_one()
        if connection.execute(select(listings).where(listings.c.sku == sku)).first() is None:
            connection.execute(insert(listings).values(sku=sku, catalogue_id=product))


def savepoint_is_the_transaction(engine: Engine, order_id: int) -> None:
    """sqlite3 begins no transaction before a SAVEPOINT, so that its RELEASE commits: the claim stands, the work does not.

    With the "begin" recipe of SQLAlchemy's documentation, and on a server, this is right.
    """
    with engine.begin() as connection:
        try:
            with connection.begin_nested():
                connection.execute(insert(order_payments).values(order_id=order_id, amount=100))
        except IntegrityError:
            return
        connection.execute(insert(receipts).values(order_id=order_id, text="thank you"))
