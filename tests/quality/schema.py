"""The tables of a small shop, on which most of the planted bugs work. A test makes only those that its job needs."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Date,
    DateTime,
    ForeignKey,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    UniqueConstraint,
    func,
)

metadata = MetaData()

users = Table(
    "users",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("email", String(120), nullable=False),
    Column("name", String(80)),
    Column("home_id", Integer),
)
members = Table(
    "members",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("email", String(120), nullable=False),
)
unique_users = Table(
    "unique_users",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("email", String(120), nullable=False, unique=True),
)
contacts = Table(
    "contacts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("email", String(120), nullable=False),
)
imports = Table(
    "imports",
    metadata,
    Column("file", String(80), primary_key=True),
    Column("state", String(20), nullable=False),
)
orders = Table(
    "orders",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("customer", String(80), nullable=False),
    Column("status", String(20), nullable=False),
    Column("stock_taken", Boolean, nullable=False, default=False),
    Column("version", Integer, nullable=False, default=1),
)
lines = Table(
    "order_lines",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("order_id", ForeignKey("orders.id"), nullable=False),
    Column("sku", String(20), nullable=False),
)
catalogue = Table(
    "catalogue",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("sku", String(20), nullable=False, unique=True),
    Column("price", Integer),
    sqlite_autoincrement=True,
)
listings = Table(
    "listings",
    metadata,
    Column("sku", String(20), primary_key=True),
    Column("catalogue_id", Integer, nullable=False),
)
"""Refers to the catalogue without a foreign key, as another service's table would."""
logins = Table(
    "logins",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("email", String(80), nullable=False),
    Column("at", DateTime, nullable=False),
    Column("noted", DateTime, server_default=func.now()),
)
story = Table(
    "story",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("order_id", ForeignKey("orders.id"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("what", String(20), nullable=False),
    UniqueConstraint("order_id", "version"),
)
article_tags = Table(
    "article_tags",
    metadata,
    Column("article_id", Integer, nullable=False),
    Column("tag_id", Integer, nullable=False),
)
payments = Table(
    "payments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("order_id", Integer, nullable=False),
    Column("amount", Integer, nullable=False),
    Column("transaction_id", String(36), unique=True),
)
order_payments = Table(
    "order_payments",
    metadata,
    Column("order_id", Integer, primary_key=True, autoincrement=False),
    Column("amount", Integer, nullable=False),
)
receipts = Table(
    "receipts",
    metadata,
    Column("order_id", Integer, primary_key=True, autoincrement=False),
    Column("text", String(120), nullable=False),
)
failures = Table(
    "payment_failures",
    metadata,
    Column("order_id", Integer, primary_key=True, autoincrement=False),
    Column("reason", String(200), nullable=False),
)
statements = Table(
    "statements",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("customer", String(80), nullable=False),
    Column("made_at", DateTime, nullable=False),
    UniqueConstraint("customer", "made_at"),
)
invoices = Table(
    "invoices",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("order_id", Integer, nullable=False),
    Column("number", Integer, nullable=False, unique=True),
)
order_invoices = Table(
    "order_invoices",
    metadata,
    Column("order_id", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, nullable=False),
)
counters = Table(
    "counters",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("value", Integer, nullable=False),
)
products = Table(
    "products",
    metadata,
    Column("sku", String(20), primary_key=True),
    Column("stock", Integer, nullable=False),
    Column("price", Numeric(12, 4), nullable=False),
)
accounts = Table(
    "accounts",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("balance", Integer, nullable=False),
)
profiles = Table(
    "profiles",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("events", JSON, nullable=False),
    Column("notes", String(400), nullable=False, default=""),
    Column("active", Boolean, nullable=False, default=False),
    Column("paid_until", Date),
)
tasks = Table(
    "tasks",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("title", String(80), nullable=False),
)
notifications = Table(
    "notifications",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("order_id", Integer, nullable=False),
    Column("text", String(80), nullable=False),
)
audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("what", String(80), nullable=False),
)
seats = Table(
    "seats",
    metadata,
    Column("number", String(8), primary_key=True),
    Column("taken", Boolean, nullable=False),
)
reservations = Table(
    "reservations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("seat", String(8), nullable=False),
    Column("guest", String(80), nullable=False),
)
addresses = Table(
    "addresses",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("user_id", ForeignKey("users.id"), nullable=False),
    Column("kind", String(10), nullable=False),
    UniqueConstraint("user_id", "kind"),
)
homes = Table(
    "homes",
    metadata,
    Column("user_id", ForeignKey("users.id"), primary_key=True, autoincrement=False),
    Column("address_id", ForeignKey("addresses.id"), nullable=False),
)
documents = Table(
    "documents",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(80), nullable=False),
    Column("version", Integer, nullable=False),
)
outbox = Table(
    "outbox",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("to_address", String(120), nullable=False),
    Column("sent", Boolean, nullable=False),
)
