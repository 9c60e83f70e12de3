"""The shop's tables, and its two schemas.

There is one set of ORM classes and there are two sets of tables to create from it:

* `KEYED` is the schema as declared here, unique constraints included;
* `BARE` is the same schema before anybody thought of duplicates: no unique constraint but the primary keys.

An INSERT or a SELECT looks the same on both, so a job need not know on which it runs. What differs
is what the database refuses.
"""

from __future__ import annotations

from datetime import UTC, date, datetime

from sqlalchemy import ForeignKey, MetaData, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


def now() -> datetime:
    """The time in UTC, without the zone that MariaDB and SQLite would drop anyway."""
    return datetime.now(UTC).replace(tzinfo=None)


class Base(DeclarativeBase):
    type_annotation_map = {str: String(200)}  # noqa: RUF012 - SQLAlchemy's own spelling


class User(Base):
    __tablename__ = "users"
    __table_args__ = (UniqueConstraint("email"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    name: Mapped[str]
    points: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(default=now)


class Order(Base):
    """One order. Its status only ever moves forward: pending, paid, shipped, delivered."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    total_cents: Mapped[int]
    status: Mapped[str] = mapped_column(default="pending")
    ordered_on: Mapped[date]


class Payment(Base):
    """Money taken for an order. `charge_id` is the payment provider's name for it."""

    __tablename__ = "payments"
    __table_args__ = (UniqueConstraint("order_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    charge_id: Mapped[str]
    amount_cents: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Report(Base):
    """A month's sales: where the file is (below the report folder) and what its bytes hash to."""

    __tablename__ = "reports"
    __table_args__ = (UniqueConstraint("month"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    month: Mapped[str]
    filename: Mapped[str]
    sha256: Mapped[str]


class SentEmail(Base):
    """A note that a mail was handed over. It saves work; it is not what prevents a second mail."""

    __tablename__ = "sent_emails"
    __table_args__ = (UniqueConstraint("user_id", "kind"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    kind: Mapped[str]


class Outbox(Base):
    """A notification that is owed: written in the transaction that changes the status, enqueued after it."""

    __tablename__ = "outbox"
    __table_args__ = (UniqueConstraint("order_id", "status"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    status: Mapped[str]
    enqueued: Mapped[bool] = mapped_column(default=False)


def without_unique_keys(metadata: MetaData) -> MetaData:
    """Copy every table, leaving its unique constraints behind."""
    bare = MetaData()
    for table in metadata.sorted_tables:
        copy = table.to_metadata(bare)
        copy.constraints -= {each for each in copy.constraints if isinstance(each, UniqueConstraint)}
    return bare


KEYED = Base.metadata
BARE = without_unique_keys(KEYED)
