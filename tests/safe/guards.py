"""Jobs that a key or a condition in the database guards."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Column,
    DateTime,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from safe.sql import add_if_new, upsert

metadata = MetaData()


# -- unique keys -------------------------------------------------------------------------------------------------

subscribers = Table(
    "subscribers",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("email", String(120), unique=True, nullable=False),
    Column("source", String(40)),
)


def subscribe(db: Engine, email: str) -> bool:
    """Core: insert, and take the violation for "already there"."""
    try:
        with db.begin() as connection:
            connection.execute(insert(subscribers).values(email=email, source="landing page"))
    except IntegrityError:
        return False
    return True


def subscribe_after_a_look(db: Engine, email: str) -> bool:
    """The look saves the failed insert in most cases; the key decides when two look at once."""
    with db.connect() as connection:
        if connection.execute(select(exists().where(subscribers.c.email == email))).scalar():
            return False
    return subscribe(db, email)


def subscribe_loudly(db: Engine, email: str) -> None:
    """A duplicate raises: noise, but nothing is written twice."""
    with db.begin() as connection:
        connection.execute(insert(subscribers).values(email=email))


def subscribe_all(db: Engine, emails: list[str]) -> None:
    """Many rows in one statement, without those that are there."""
    with db.begin() as connection:
        for email in sorted(emails):
            add_if_new(connection, subscribers, email=email)


class Base(DeclarativeBase):
    pass


class Member(Base):
    __tablename__ = "members"
    __table_args__ = (UniqueConstraint("team", "login"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    team: Mapped[str] = mapped_column(String(40))
    login: Mapped[str] = mapped_column(String(40))
    role: Mapped[str] = mapped_column(String(20), default="reader")


class Grant(Base):
    __tablename__ = "grants"
    __table_args__ = (UniqueConstraint("member_id", "document"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    member_id: Mapped[int] = mapped_column(ForeignKey("members.id"))
    document: Mapped[str] = mapped_column(String(40))


def invite_members(db: Engine, team: str, logins: list[str]) -> None:
    """ORM: one savepoint per member, so that one that is there does not undo the others."""
    with Session(db) as session:
        for login in sorted(logins):
            try:
                with session.begin_nested():
                    member = Member(team=team, login=login)
                    session.add(member)
                    session.flush()
                    session.add(Grant(member_id=member.id, document="handbook"))
            except IntegrityError:
                pass
        session.commit()


def seed_members(world: Any) -> None:
    with Session(world.db) as session:
        session.add(Member(team="core", login="ada", role="owner"))
        session.commit()


stock = Table("stock", metadata, Column("sku", String(40), primary_key=True), Column("level", Integer))


def report_stock(db: Engine, levels: dict[str, int]) -> None:
    """ON CONFLICT DO UPDATE with absolute values."""
    with db.begin() as connection:
        for sku, level in sorted(levels.items()):
            upsert(connection, stock, {"sku": sku, "level": level}, {"level": level})


def seed_stock(world: Any) -> None:
    with world.db.begin() as connection:
        connection.execute(insert(stock), [{"sku": "milk", "level": 3}, {"sku": "tea", "level": 8}])


high_scores = Table(
    "high_scores",
    metadata,
    Column("player", String(40), primary_key=True),
    Column("score", Integer, nullable=False),
)


def record_score(db: Engine, player: str, score: int) -> None:
    """The greater of two values: applying it again changes nothing."""
    with db.begin() as connection:
        add_if_new(connection, high_scores, player=player, score=score)
        connection.execute(
            update(high_scores)
            .where(high_scores.c.player == player, high_scores.c.score < score)
            .values(score=score)
        )


# -- one transaction with the mark that it is done -----------------------------------------------------------------

wallets = Table(
    "wallets",
    metadata,
    Column("owner", String(40), primary_key=True),
    Column("cents", Integer, nullable=False),
)
processed = Table(
    "processed_events",
    metadata,
    Column("event", String(60), primary_key=True),
    Column("at", DateTime, server_default=func.now()),
)
ledger = Table(
    "ledger",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("owner", String(40), nullable=False),
    Column("cents", Integer, nullable=False),
    sqlite_autoincrement=True,
)
outbox = Table(
    "outbox",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("topic", String(40)),
    Column("body", String(200)),
    Column("sent_at", DateTime),
    sqlite_autoincrement=True,
)


def seed_wallets(world: Any) -> None:
    with world.db.begin() as connection:
        connection.execute(insert(wallets), [{"owner": "ada", "cents": 500}, {"owner": "grace", "cents": 0}])


def top_up(db: Engine, event: str, owner: str, cents: int) -> None:
    """The event is recorded, under its key, in the transaction that moves the money."""
    try:
        with db.begin() as connection:
            connection.execute(insert(processed).values(event=event))
            connection.execute(
                update(wallets).where(wallets.c.owner == owner).values(cents=wallets.c.cents + cents)
            )
            connection.execute(insert(ledger).values(owner=owner, cents=cents))
    except IntegrityError:
        pass


def transfer(db: Engine, event: str, payer: str, payee: str, cents: int) -> None:
    """Two balances, two ledger rows and a message in the outbox: all of it or nothing."""
    with db.begin() as connection:
        if not add_if_new(connection, processed, event=event):
            return
        for owner, change in sorted({payer: -cents, payee: cents}.items()):
            connection.execute(
                update(wallets).where(wallets.c.owner == owner).values(cents=wallets.c.cents + change)
            )
            connection.execute(insert(ledger).values(owner=owner, cents=change))
        connection.execute(insert(outbox).values(topic="transfer", body=f"{payer} pays {payee} {cents}"))


def seed_outbox(world: Any) -> None:
    with world.db.begin() as connection:
        connection.execute(
            insert(outbox), [{"topic": "hello", "body": "one"}, {"topic": "hello", "body": "two"}]
        )


def mark_outbox_sent(db: Engine, topic: str) -> int:
    """Only what is not marked yet is marked; the first time stays."""
    with db.begin() as connection:
        return connection.execute(
            update(outbox)
            .where(outbox.c.topic == topic, outbox.c.sent_at.is_(None))
            .values(sent_at=datetime.now(UTC).replace(tzinfo=None))
        ).rowcount


# -- conditions --------------------------------------------------------------------------------------------------

payments = Table(
    "payments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("status", String(20), nullable=False),
    Column("paid_at", DateTime),
    Column("cents", Integer),
)


def seed_payments(world: Any) -> None:
    rows = [{"id": 1, "status": "pending", "cents": 900}, {"id": 2, "status": "authorised", "cents": 100}]
    with world.db.begin() as connection:
        connection.execute(insert(payments), rows)
    seed_wallets(world)


def settle_payment(db: Engine, payment: int, owner: str) -> None:
    """Who changes the status does the rest, in the same transaction."""
    with db.begin() as connection:
        changed = connection.execute(
            update(payments)
            .where(payments.c.id == payment, payments.c.status == "pending")
            .values(status="settled", paid_at=func.now())
        ).rowcount
        if changed:
            cents = connection.execute(select(payments.c.cents).where(payments.c.id == payment)).scalar_one()
            connection.execute(
                update(wallets).where(wallets.c.owner == owner).values(cents=wallets.c.cents + cents)
            )
            connection.execute(insert(ledger).values(owner=owner, cents=cents))


class WrongState(Exception):
    """The payment is in no state from which this step may start."""


def capture_payment(db: Engine, payment: int) -> None:
    """A state machine: done already is fine, any other state is an error."""
    with db.begin() as connection:
        moved = connection.execute(
            update(payments)
            .where(payments.c.id == payment, payments.c.status == "authorised")
            .values(status="captured")
        ).rowcount
        if moved != 1:
            status = connection.execute(select(payments.c.status).where(payments.c.id == payment)).scalar()
            if status != "captured":
                raise WrongState(f"payment {payment} is {status}")
            return
        connection.execute(insert(ledger).values(owner="shop", cents=100))


def close_payment(db: Engine, payment: int) -> None:
    """Soft deletion: the time of the first stays."""
    with db.begin() as connection:
        connection.execute(
            update(payments)
            .where(payments.c.id == payment)
            .values(status="closed", paid_at=func.coalesce(payments.c.paid_at, func.now()))
        )


# -- deleting and replacing ------------------------------------------------------------------------------------------

logins = Table(
    "logins",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("user", String(40)),
    Column("device", String(40)),
)


def seed_logins(world: Any) -> None:
    rows = [
        {"user": "ada", "device": "phone"},
        {"user": "ada", "device": "desk"},
        {"user": "grace", "device": "desk"},
    ]
    with world.db.begin() as connection:
        connection.execute(insert(logins), rows)


def log_out_everywhere(db: Engine, user: str) -> None:
    """Deleting what is gone is no work."""
    with db.begin() as connection:
        connection.execute(delete(logins).where(logins.c.user == user))


stations = Table(
    "stations", metadata, Column("name", String(40), primary_key=True), Column("revision", String(40))
)
readings = Table(
    "readings", metadata, Column("station", String(40)), Column("hour", Integer), Column("degrees", Integer)
)


def seed_stations(world: Any) -> None:
    with world.db.begin() as connection:
        connection.execute(insert(stations), [{"name": "north"}, {"name": "south"}])
        connection.execute(
            insert(readings),
            [{"station": "north", "hour": 0, "degrees": 9}, {"station": "south", "hour": 0, "degrees": 9}],
        )


def replace_readings(db: Engine, station: str, degrees: list[int], revision: str) -> None:
    """Delete and insert anew, in a table without any key: the station's row is written first and so is locked."""
    with db.begin() as connection:
        connection.execute(update(stations).where(stations.c.name == station).values(revision=revision))
        connection.execute(delete(readings).where(readings.c.station == station))
        connection.execute(
            insert(readings),
            [{"station": station, "hour": hour, "degrees": value} for hour, value in enumerate(degrees)],
        )


coupons = Table(
    "coupons",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("customer", String(40)),
    Column("code", String(40)),
)


def grant_coupon(db: Engine, customer: str) -> None:
    """INSERT ... SELECT WHERE NOT EXISTS is no guard by itself: it is one where transactions are serialisable."""
    with db.connect().execution_options(isolation_level="SERIALIZABLE") as connection, connection.begin():
        there = select(coupons.c.id).where(coupons.c.customer == customer).exists()
        connection.execute(
            insert(coupons).from_select(
                ["customer", "code"], select(literal(customer), literal("WELCOME10")).where(~there)
            )
        )


enrolments = Table(
    "enrolments",
    metadata,
    Column("student", Integer, primary_key=True, autoincrement=False),
    Column("course", String(20), primary_key=True),
    Column("term", String(20)),
)
course_sizes = Table(
    "course_sizes",
    metadata,
    Column("course", String(20), primary_key=True),
    Column("students", Integer, nullable=False),
)


def seed_courses(world: Any) -> None:
    with world.db.begin() as connection:
        connection.execute(insert(course_sizes), [{"course": "math", "students": 1}])
        connection.execute(insert(enrolments), [{"student": 3, "course": "math", "term": "2025"}])


def enrol(db: Engine, student: int, course: str, term: str) -> None:
    """A composite key; the counter moves with the row, if the row is new."""
    with db.begin() as connection:
        if add_if_new(connection, enrolments, student=student, course=course, term=term):
            connection.execute(
                update(course_sizes)
                .where(course_sizes.c.course == course)
                .values(students=course_sizes.c.students + 1)
            )


def count_enrolments(db: Engine, course: str) -> None:
    """Sets what it has counted."""
    with db.begin() as connection:
        number = select(func.count()).where(enrolments.c.course == course).scalar_subquery()
        connection.execute(
            update(course_sizes).where(course_sizes.c.course == course).values(students=number)
        )


audit = Table("audit_log", metadata, Column("id", Integer, primary_key=True), Column("what", String(200)))


def subscribe_with_audit(db: Engine, email: str) -> None:
    """Each attempt leaves a line in the audit log, as it is meant to: the test says ``ignore``."""
    with db.begin() as connection:
        connection.execute(insert(audit).values(what=f"subscribe {email}"))
        add_if_new(connection, subscribers, email=email)


visitors = Table(
    "visitors",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("visits", Integer, nullable=False, default=0),
    Column("greeted", Integer, nullable=False, default=0),
)


def seed_visitors(world: Any) -> None:
    with world.db.begin() as connection:
        connection.execute(insert(visitors).values(name="ada"))


def greet(db: Engine, name: str) -> None:
    """A statistic that may count attempts: one column that is ignored."""
    with db.begin() as connection:
        connection.execute(
            update(visitors).where(visitors.c.name == name).values(visits=visitors.c.visits + 1, greeted=1)
        )


def is_subscribed(db: Engine, email: str) -> bool:
    """Only looks."""
    with db.connect() as connection:
        return bool(connection.execute(select(exists().where(subscribers.c.email == email))).scalar())
