"""Jobs whose rows hold values that are made up anew in each run: times, durations, UUIDs, tokens, ids with gaps."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import secrets
import time
import uuid
import zipfile
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    Column,
    Date,
    DateTime,
    Engine,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    PickleType,
    String,
    Table,
    Time,
    Uuid,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from safe.sql import add_if_new, upsert

metadata = MetaData()


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


# -- times ---------------------------------------------------------------------------------------------------

accounts = Table(
    "accounts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("email", String(120), unique=True, nullable=False),
    Column("created_at", DateTime, server_default=func.now(), nullable=False),
    sqlite_autoincrement=True,
)


def register_account(db: Engine, email: str) -> None:
    """The unique key decides; the clock of the database stamps the row."""
    try:
        with db.begin() as connection:
            connection.execute(insert(accounts).values(email=email))
    except IntegrityError:
        pass


tickets = Table(
    "tickets",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("reference", String(40), unique=True),
    Column("subject", String(200)),
    Column("created_at", DateTime, default=_now),
    Column("opened_on", String(40)),
    Column("due_epoch", Float),
    sqlite_autoincrement=True,
)


def open_ticket(db: Engine, reference: str, subject: str) -> None:
    """Times of three kinds, made by Python: a datetime, an ISO text, seconds since the epoch."""
    with db.begin() as connection:
        add_if_new(
            connection,
            tickets,
            reference=reference,
            subject=subject,
            created_at=_now(),
            opened_on=datetime.now(UTC).isoformat(),
            due_epoch=time.time() + 86400,
        )


profiles = Table(
    "profiles",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(120)),
    Column("updated_at", DateTime, onupdate=_now),
)


def rename_profile(db: Engine, profile: int, name: str) -> None:
    """Sets an absolute value; that the row was touched again later is no harm."""
    with db.begin() as connection:
        connection.execute(update(profiles).where(profiles.c.id == profile).values(name=name))


def seed_profiles(world: Any) -> None:
    with world.db.begin() as connection:
        connection.execute(insert(profiles), [{"id": 1, "name": "Ada"}, {"id": 2, "name": "Grace"}])


settings = Table(
    "settings",
    metadata,
    Column("name", String(60), primary_key=True),
    Column("value", String(60)),
    Column("created_at", DateTime, server_default=func.now()),
    Column("updated_at", DateTime),
)


def save_setting(db: Engine, name: str, value: str) -> None:
    """An upsert that stamps ``updated_at`` only when the row was there: NULL after one delivery, a time after two."""
    with db.begin() as connection:
        upsert(connection, settings, {"name": name, "value": value}, {"value": value, "updated_at": _now()})


imports = Table(
    "imports",
    metadata,
    Column("file", String(120), primary_key=True),
    Column("rows_read", Integer),
    Column("elapsed_ms", Integer),
    Column("seconds", Float),
    Column("finished_at", DateTime),
)


def record_import(db: Engine, file: str, rows: list[str]) -> None:
    """How long it took is different each time."""
    started = time.perf_counter()
    with db.begin() as connection:
        known = connection.execute(select(func.count()).select_from(imports)).scalar_one()
        seconds = time.perf_counter() - started
        add_if_new(
            connection,
            imports,
            file=file,
            rows_read=len(rows) + 0 * known,
            elapsed_ms=round(seconds * 1000),
            seconds=seconds,
            finished_at=_now(),
        )


# -- UUIDs and tokens ------------------------------------------------------------------------------------------


class Base(DeclarativeBase):
    pass


class Invoice(Base):
    __tablename__ = "invoices"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True, default=uuid.uuid4)
    number: Mapped[str] = mapped_column(String(40), unique=True)
    lines: Mapped[list[InvoiceLine]] = relationship(order_by="InvoiceLine.position")


class InvoiceLine(Base):
    __tablename__ = "invoice_lines"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True, default=uuid.uuid4)
    invoice_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("invoices.id"))
    position: Mapped[int]
    text: Mapped[str] = mapped_column(String(80))


def write_invoice(db: Engine, number: str, texts: list[str]) -> None:
    """UUID keys with foreign keys to them; the number is unique."""
    with Session(db) as session:
        session.add(
            Invoice(number=number, lines=[InvoiceLine(position=i, text=t) for i, t in enumerate(texts)])
        )
        try:
            session.commit()
        except IntegrityError:
            session.rollback()


api_tokens = Table(
    "api_tokens",
    metadata,
    Column("customer", String(60), primary_key=True),
    Column("token", String(80), nullable=False),
    Column("short_code", String(12), nullable=False),
    Column("secret_hex", String(64), nullable=False),
)


def issue_api_token(db: Engine, customer: str) -> None:
    """The first token stays."""
    with db.begin() as connection:
        add_if_new(
            connection,
            api_tokens,
            customer=customer,
            token=secrets.token_urlsafe(32),
            short_code=secrets.token_hex(3),
            secret_hex=secrets.token_hex(32),
        )


webhooks = Table(
    "webhooks",
    metadata,
    Column("event", String(60), primary_key=True),
    Column("payload", JSON),
    Column("raw", String(400)),
)


def store_webhook(db: Engine, event: str, order: int) -> None:
    """JSON with a made-up trace id and a time inside, once as JSON and once as text."""
    trace = str(uuid.uuid4())
    body = {
        "order": order,
        "trace": trace,
        "received": {
            "at": datetime.now(UTC).isoformat(),
            "by": "worker",
            "epoch_ms": int(time.time() * 1000),
        },
        "tags": ["paid", trace[:8]],
    }
    with db.begin() as connection:
        add_if_new(
            connection, webhooks, event=event, payload=body, raw=f"order={order} trace={trace} at {_now()}"
        )


credentials = Table(
    "credentials",
    metadata,
    Column("login", String(40), primary_key=True),
    Column("hash", String(200), nullable=False),
    Column("salt", String(40), nullable=False),
    Column("recovery", String(40), nullable=False),
    Column("cookie", String(200), nullable=False),
)


def create_login(db: Engine, login: str, password: str) -> None:
    """A salted hash, base64 with its signs, a recovery code in groups, a signed cookie."""
    salt = secrets.token_bytes(18)
    digest = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 1)
    encoded = base64.b64encode(digest).decode().replace("+", ".").rstrip("=")
    body = base64.urlsafe_b64encode(secrets.token_bytes(30)).decode()
    with db.begin() as connection:
        add_if_new(
            connection,
            credentials,
            login=login,
            hash=f"$pbkdf2-sha256$1${encoded}",
            salt=base64.b64encode(salt).decode(),
            recovery="-".join(secrets.token_hex(2).upper() for _ in range(4)),
            cookie=f"session={body}.{secrets.token_urlsafe(9)}; user={login}",
        )


exports = Table(
    "exports",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("packed", LargeBinary),
    Column("archive", LargeBinary),
    Column("state", PickleType),
    Column("cursor", String(400)),
    Column("rows", JSON),
    Column("log", String(400)),
)


def export(db: Engine, name: str) -> None:
    """Made-up values in gzip, zip, a pickle, base64 and keys of JSON, and a time in words; the last export counts."""
    row = {"id": str(uuid.uuid4()), "at": time.time(), "name": name}
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(f"{uuid.uuid4().hex}.json", json.dumps(row))
    values = {
        "packed": gzip.compress(json.dumps([row, row]).encode()),
        "archive": archive.getvalue(),
        "state": {"token": secrets.token_bytes(8), "at": datetime.now(), "id": uuid.uuid4()},
        "cursor": base64.urlsafe_b64encode(json.dumps(row).encode()).decode(),
        "rows": {"count": 2, str(uuid.uuid4()): {"sku": "tea"}, str(uuid.uuid4()): {"sku": "milk"}},
        "log": f"{time.ctime()}: export {secrets.token_hex(3)} took {time.perf_counter():.1f}s",
    }
    with db.begin() as connection:
        upsert(connection, exports, {"name": name, **values}, values)


calls = Table(
    "call_log",
    metadata,
    Column("call_id", String(40), primary_key=True),
    Column("by_mail", String(60)),
    Column("by_hand", String(60)),
    Column("hour", String(10)),
    Column("clock", Time),
    Column("day", Date),
)


def log_call(db: Engine, call: str) -> None:
    """Times as people write them; a database that is away is waited for, which may take until the next hour."""
    for pause in (1500, 1500, None):
        now = datetime.now()
        try:
            with db.begin() as connection:
                add_if_new(
                    connection,
                    calls,
                    call_id=call,
                    by_mail=formatdate(now.timestamp()),
                    by_hand=now.strftime("%d.%m.%Y %H:%M:%S"),
                    hour=now.strftime("%H:%M"),
                    clock=now.time(),
                    day=now.date(),
                )
            return
        except OperationalError:
            if pause is None:
                raise
            time.sleep(pause)


# -- ids with gaps ---------------------------------------------------------------------------------------------

orders = Table(
    "orders",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("number", String(40), unique=True),
    sqlite_autoincrement=True,
)
order_lines = Table(
    "order_lines",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("order_id", ForeignKey("orders.id"), nullable=False),
    Column("sku", String(40)),
    Column("quantity", Integer),
    sqlite_autoincrement=True,
)


def place_order(db: Engine, number: str, skus: list[str]) -> None:
    """A duplicate burns an id and rolls back; so does a crash."""
    try:
        with db.begin() as connection:
            order = connection.execute(insert(orders).values(number=number)).inserted_primary_key[0]
            for sku in skus:
                connection.execute(insert(order_lines).values(order_id=order, sku=sku, quantity=2))
    except IntegrityError:
        pass


order_summaries = Table(
    "order_summaries",
    metadata,
    Column("number", String(40), primary_key=True),
    Column("content", JSON),
    Column("link", String(200)),
    Column("created_at", DateTime, server_default=func.now()),
)


def place_order_with_summary(db: Engine, number: str, skus: list[str]) -> None:
    """The ids of the rows stand in JSON and in a text, too, beside a time that the database made."""
    try:
        with db.begin() as connection:
            order = connection.execute(insert(orders).values(number=number)).inserted_primary_key[0]
            lines = [
                connection.execute(
                    insert(order_lines).values(order_id=order, sku=sku, quantity=1)
                ).inserted_primary_key[0]
                for sku in skus
            ]
            connection.execute(
                insert(order_summaries).values(
                    number=number,
                    content={"order": order, "lines": lines, "made_at": datetime.now(UTC).isoformat()},
                    link=f"https://shop.example/orders/{order}?lines={len(lines)}",
                )
            )
    except IntegrityError:
        pass


tags = Table(
    "tags",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(40), unique=True),
    sqlite_autoincrement=True,
)
articles = Table(
    "articles",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("slug", String(60), unique=True),
    sqlite_autoincrement=True,
)
article_tags = Table(
    "article_tags",
    metadata,
    Column("article_id", ForeignKey("articles.id"), primary_key=True),
    Column("tag_id", ForeignKey("tags.id"), primary_key=True),
)


def tag_article(db: Engine, slug: str, names: list[str]) -> None:
    """Get-or-create by upsert: the sequences run on though nothing is inserted."""
    with db.begin() as connection:
        add_if_new(connection, articles, slug=slug)
        article = connection.execute(select(articles.c.id).where(articles.c.slug == slug)).scalar_one()
        for name in names:
            add_if_new(connection, tags, name=name)
            tag = connection.execute(select(tags.c.id).where(tags.c.name == name)).scalar_one()
            add_if_new(connection, article_tags, article_id=article, tag_id=tag)


def seed_tags(world: Any) -> None:
    with world.db.begin() as connection:
        connection.execute(insert(tags), [{"name": "news"}, {"name": "sport"}])


folders = Table(
    "folders",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("parent_id", ForeignKey("folders.id")),
    Column("path", String(120), unique=True),
    sqlite_autoincrement=True,
)


def make_folders(db: Engine, path: str) -> None:
    """A tree: rows that refer to rows of their own table."""
    with db.begin() as connection:
        parent = None
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            here = "/".join(parts[:depth])
            add_if_new(connection, folders, path=here, parent_id=parent)
            parent = connection.execute(select(folders.c.id).where(folders.c.path == here)).scalar_one()


class Vehicle(Base):
    __tablename__ = "vehicles"

    id: Mapped[int] = mapped_column(primary_key=True)
    plate: Mapped[str] = mapped_column(String(20), unique=True)
    kind: Mapped[str] = mapped_column(String(20))

    __mapper_args__: ClassVar[dict[str, Any]] = {"polymorphic_on": "kind", "polymorphic_identity": "vehicle"}
    __table_args__ = ({"sqlite_autoincrement": True},)


class Truck(Vehicle):
    __tablename__ = "trucks"

    id: Mapped[int] = mapped_column(ForeignKey("vehicles.id"), primary_key=True)
    load_kg: Mapped[int]

    __mapper_args__: ClassVar[dict[str, Any]] = {"polymorphic_identity": "truck"}


class Trip(Base):
    __tablename__ = "trips"

    id: Mapped[int] = mapped_column(primary_key=True)
    truck_id: Mapped[int] = mapped_column(ForeignKey("trucks.id"))
    place: Mapped[str] = mapped_column(String(40))

    __table_args__ = ({"sqlite_autoincrement": True},)


def register_truck(db: Engine, plate: str, places: list[str]) -> None:
    """Joined-table inheritance: the child's key is the parent's."""
    with Session(db) as session:
        truck = Truck(plate=plate, load_kg=7500)
        session.add(truck)
        try:
            session.flush()
        except IntegrityError:
            session.rollback()
            return
        session.add_all(Trip(truck_id=truck.id, place=place) for place in places)
        session.commit()
