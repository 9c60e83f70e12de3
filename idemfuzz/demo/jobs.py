"""Six background jobs of a small shop: three as they are often written, and the same three right.

They take what they need as arguments, so that they run on any database and on any Redis.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, String, UniqueConstraint, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

Sessions = sessionmaker[Session]


class Base(DeclarativeBase):
    """The shop's tables."""


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(80))


class Member(Base):
    """A user whose email the database keeps unique."""

    __tablename__ = "members"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(80), unique=True)


class Bonus(Base):
    __tablename__ = "bonuses"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[int]
    points: Mapped[int]


class BonusOnce(Base):
    """A bonus of which each customer has at most one."""

    __tablename__ = "bonuses_once"
    customer: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    points: Mapped[int]


class Payment(Base):
    __tablename__ = "payments"
    id: Mapped[int] = mapped_column(primary_key=True)
    order: Mapped[int] = mapped_column("order_number")
    cents: Mapped[int]
    __table_args__ = (UniqueConstraint("order_number"),)


class Receipt(Base):
    __tablename__ = "receipts"
    id: Mapped[int] = mapped_column(primary_key=True)
    payment_id: Mapped[int] = mapped_column(ForeignKey("payments.id"), unique=True)


# -- create a user -------------------------------------------------------------------------------------------


def create_user(sessions: Sessions, redis: Any, email: str) -> None:
    """An insert, and nothing that would stop a second one."""
    with sessions() as session:
        session.add(User(email=email))
        session.commit()


def create_user_right(sessions: Sessions, redis: Any, email: str) -> None:
    """The database decides: the email is unique, and "already there" means done."""
    with sessions() as session:
        session.add(Member(email=email))
        try:
            session.commit()
        except IntegrityError:
            session.rollback()


# -- grant a bonus -------------------------------------------------------------------------------------------


def grant_bonus(sessions: Sessions, redis: Any, customer: int) -> None:
    """The usual advice: look for a flag, work, set the flag. Two workers can both find none."""
    if redis.get(f"bonus:{customer}"):
        return
    with sessions() as session:
        session.add(Bonus(customer=customer, points=100))
        session.commit()
    redis.set(f"bonus:{customer}", "granted", ex=604800)


def grant_bonus_right(sessions: Sessions, redis: Any, customer: int) -> None:
    """The flag only saves work; that there is one bonus is the primary key's business."""
    if redis.get(f"bonus:{customer}"):
        return
    with sessions() as session:
        session.add(BonusOnce(customer=customer, points=100))
        try:
            session.commit()
        except IntegrityError:
            session.rollback()
    redis.set(f"bonus:{customer}", "granted", ex=604800)


# -- take a payment ------------------------------------------------------------------------------------------


def take_payment(sessions: Sessions, redis: Any, order: int) -> None:
    """Guarded by a unique key, and still: killed between its two commits, it never writes the receipt."""
    with sessions() as session:
        payment = Payment(order=order, cents=1250)
        session.add(payment)
        try:
            session.commit()
        except IntegrityError:
            return
        session.add(Receipt(payment_id=payment.id))
        session.commit()


def take_payment_right(sessions: Sessions, redis: Any, order: int) -> None:
    """Payment and receipt are one transaction: both are there, or neither is."""
    with sessions() as session:
        if session.scalar(select(Payment).filter_by(order=order)) is not None:
            return
        payment = Payment(order=order, cents=1250)
        session.add(payment)
        try:
            session.flush()
            session.add(Receipt(payment_id=payment.id))
            session.commit()
        except IntegrityError:
            session.rollback()
