"""Rows that a second execution inserts again."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from sqlalchemy import (
    DDL,
    Column,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    event,
    func,
    insert,
    select,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from quality.schema import (
    article_tags,
    audit,
    contacts,
    documents,
    invoices,
    lines,
    logins,
    members,
    orders,
    payments,
    statements,
    story,
    unique_users,
    users,
)

entries = Table(
    "entries",
    MetaData(schema="ledger"),
    Column("id", Integer, primary_key=True),
    Column("reference", String(40)),
)
event.listen(entries, "before_create", DDL("CREATE SCHEMA IF NOT EXISTS ledger"))


def book_beside_order(engine: Engine, reference: str) -> None:
    """The order is guarded; its entry, in another schema, is not."""
    with engine.begin() as connection:
        connection.execute(insert(entries).values(reference=reference))
        known = connection.scalar(select(users.c.id).where(users.c.email == reference))
        if known is None:
            connection.execute(insert(users).values(email=reference))


def import_on_threads(engine: Engine, emails: Sequence[str]) -> None:
    """Each row by a thread of a pool, in a transaction of its own."""

    def store(email: str) -> None:
        with engine.begin() as connection:
            connection.execute(insert(contacts).values(email=email))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(store, emails))


def sign_up(engine: Engine, email: str) -> None:
    """A bare insert."""
    with engine.begin() as connection:
        connection.execute(insert(users).values(email=email))


def sign_up_member(engine: Engine, email: str) -> None:
    """The key is made by the application, anew in each run: it guards nothing."""
    with engine.begin() as connection:
        connection.execute(insert(members).values(id=str(uuid.uuid4()), email=email))


def import_contacts(engine: Engine, emails: Sequence[str]) -> None:
    """All of a file in one statement and one transaction, and nothing that says that the file was read."""
    with engine.begin() as connection:
        connection.execute(insert(contacts), [{"email": email} for email in emails])


def tag_article(engine: Engine, article_id: int, tags: Sequence[int]) -> None:
    """A link table without a key over its two columns."""
    with engine.begin() as connection:
        for tag in tags:
            connection.execute(insert(article_tags).values(article_id=article_id, tag_id=tag))


class Base(DeclarativeBase):
    pass


class Basket(Base):
    __tablename__ = "baskets"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str] = mapped_column(String(80))
    items: Mapped[list[Item]] = relationship(back_populates="basket")


class Item(Base):
    __tablename__ = "basket_items"
    id: Mapped[int] = mapped_column(primary_key=True)
    basket_id: Mapped[int] = mapped_column(ForeignKey("baskets.id"))
    sku: Mapped[str] = mapped_column(String(20))
    basket: Mapped[Basket] = relationship(back_populates="items")


def place_order(engine: Engine, customer: str, skus: Sequence[str]) -> None:
    """A parent with its children by the ORM."""
    with Session(engine) as session:
        session.add(Basket(customer=customer, items=[Item(sku=sku) for sku in skus]))
        session.commit()


def charge_with_new_transaction_id(engine: Engine, order_id: int, amount: int) -> None:
    """The unique column is there, but what goes into it is new in each run."""
    transaction_id = str(uuid.uuid4())
    with engine.begin() as connection:
        known = connection.execute(
            select(payments.c.id).where(payments.c.transaction_id == transaction_id)
        ).first()
        if known is None:
            connection.execute(
                insert(payments).values(order_id=order_id, amount=amount, transaction_id=transaction_id)
            )


def make_statement(engine: Engine, customer: str) -> None:
    """Unique together with the time of day, which is never the same."""
    now = datetime.now(UTC).replace(tzinfo=None)
    with engine.begin() as connection:
        connection.execute(insert(statements).values(customer=customer, made_at=now))


def issue_invoice(engine: Engine, order_id: int) -> None:
    """The next number is always free, so its unique constraint never objects."""
    with engine.begin() as connection:
        last = connection.execute(select(func.max(invoices.c.number))).scalar() or 1000
        connection.execute(insert(invoices).values(order_id=order_id, number=last + 1))


def save_document(engine: Engine, name: str) -> None:
    """Each run is a new version."""
    with engine.begin() as connection:
        version = connection.execute(
            select(func.max(documents.c.version)).where(documents.c.name == name)
        ).scalar()
        connection.execute(insert(documents).values(name=name, version=(version or 0) + 1))


def note_login(engine: Engine, email: str) -> None:
    """Two times stand beside the address: the job's own and the server's."""
    with engine.begin() as connection:
        connection.execute(insert(logins).values(email=email, at=datetime.now(UTC).replace(tzinfo=None)))


def continue_story(engine: Engine) -> None:
    """Event sourcing: the key asks for the next version, and there is always a next one."""
    with engine.begin() as connection:
        order = connection.scalar(select(func.max(orders.c.id)))
        last = connection.scalar(select(func.max(story.c.version)).where(story.c.order_id == order))
        connection.execute(insert(story).values(order_id=order, version=(last or 0) + 1, what="paid"))


def pack_order(engine: Engine, order: int) -> None:
    """Lines of an order that was there before, and whose id they bear."""
    with engine.begin() as connection:
        connection.execute(
            insert(lines), [{"order_id": order, "sku": "pen"}, {"order_id": order, "sku": "ink"}]
        )


def register_with_audit(engine: Engine, email: str) -> None:
    """The row is guarded, the log entry beside it is not."""
    with engine.begin() as connection:
        if connection.execute(select(unique_users.c.id).where(unique_users.c.email == email)).first() is None:
            connection.execute(insert(unique_users).values(email=email))
        connection.execute(insert(audit).values(what=f"{email} signed up"))


def copy_to_newsletter(engine: Engine) -> None:
    """INSERT ... SELECT without a look at what the last run has copied."""
    with engine.begin() as connection:
        connection.execute(insert(contacts).from_select(["email"], select(users.c.email)))


def sign_up_once(engine: Engine, email: str) -> None:
    """Right but noisy: the constraint holds, and the violation is nobody's business to catch."""
    with engine.begin() as connection:
        connection.execute(insert(unique_users).values(email=email))
