"""Right jobs on tables with triggers, computed columns and types of every kind."""

from __future__ import annotations

import enum
import uuid
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Computed,
    Date,
    Engine,
    Enum,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    Time,
    Uuid,
    insert,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError

from safe.sql import add_if_new

metadata = MetaData()

products = Table(
    "products",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("sku", String(40), unique=True),
    Column("net", Integer),
    Column("gross", Integer, Computed("net * 2", persisted=True)),
    sqlite_autoincrement=True,
)
product_history = Table(
    "product_history",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("product_id", Integer),
    Column("what", String(80)),
    sqlite_autoincrement=True,
)

_TRIGGERS = {
    "sqlite": [
        "CREATE TRIGGER product_added AFTER INSERT ON products BEGIN "
        "INSERT INTO product_history (product_id, what) VALUES (new.id, 'added ' || new.sku); END"
    ],
    "postgresql": [
        "CREATE FUNCTION product_added() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO product_history (product_id, what) VALUES (new.id, 'added ' || new.sku); RETURN new; END $$",
        "CREATE TRIGGER product_added AFTER INSERT ON products FOR EACH ROW EXECUTE FUNCTION product_added()",
    ],
    "mysql": [
        "CREATE TRIGGER product_added AFTER INSERT ON products FOR EACH ROW "
        "INSERT INTO product_history (product_id, what) VALUES (new.id, concat('added ', new.sku))"
    ],
}


def create_trigger(world: Any) -> None:
    """History by trigger, and one product that is there from the start."""
    with world.db.begin() as connection:
        backend = world.db.url.get_backend_name()
        for statement in _TRIGGERS["mysql" if backend == "mariadb" else backend]:
            connection.execute(text(statement))
        connection.execute(insert(products).values(sku="milk", net=3))


def add_product(db: Engine, sku: str, net: int) -> None:
    """A trigger writes the history, the database computes a column, ids have gaps."""
    try:
        with db.begin() as connection:
            connection.execute(insert(products).values(sku=sku, net=net))
    except IntegrityError:
        pass


def discard_product(db: Engine, sku: str) -> None:
    """Takes a row with a computed column away."""
    with db.begin() as connection:
        connection.execute(products.delete().where(products.c.sku == sku))


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


samples = Table(
    "samples",
    metadata,
    Column("name", String(80), primary_key=True),
    Column("colour", Enum(Colour)),
    Column("big", BigInteger),
    Column("price", Numeric(20, 6)),
    Column("day", Date),
    Column("hour", Time),
    Column("raw", LargeBinary),
    Column("words", Text),
    Column("yes", Boolean),
    Column("absent", String(10)),
    Column("tree", JSON),
    Column("code", Uuid),
)
_CODE = uuid.UUID("7d444840-9dc0-11d1-b245-5ffdce74fad2")


def store_sample(db: Engine, name: str) -> None:
    """Enum, big integer, decimal, date, time, bytes, text in many scripts, NULL, JSON, UUID."""
    with db.begin() as connection:
        add_if_new(
            connection,
            samples,
            name=name,
            colour=Colour.GREEN,
            big=2**62 + 1,
            price=Decimal("12345678901234.567890"),
            day=date(2024, 2, 29),
            hour=time(23, 59, 58),
            raw=b"\x00\xff'\\%s",
            words="Grüße, 世界 🚚 %s %(x)s :y \\ ' \" {curly} line\nfeed",
            yes=True,
            absent=None,
            tree={"a": [1, None, {"ü": "ß"}], "when": "2020-01-01T00:00:00Z"},
            code=_CODE,
        )


def seed_samples(world: Any) -> None:
    for name in ("old Ünïcode ' %", "older"):
        store_sample(world.db, name)


def repaint_sample(db: Engine, name: str) -> None:
    """Changes a row that holds all of these, so that it must be put back exactly."""
    with db.begin() as connection:
        connection.execute(
            samples.update()
            .where(samples.c.name == name)
            .values(colour=Colour.RED, raw=b"\x01", words="new", tree=[1], absent="")
        )


postgresql_only = MetaData()
exotic = Table(
    "exotic",
    postgresql_only,
    Column("id", Integer, primary_key=True),
    Column("name", String(40), unique=True),
    Column("labels", postgresql.ARRAY(Text)),
    Column("grid", postgresql.ARRAY(Integer, dimensions=2)),
    Column("raw", postgresql.BYTEA),
    Column("tree", postgresql.JSONB),
    Column("stay", postgresql.DATERANGE),
    Column("address", postgresql.INET),
    Column("pause", Interval),
    Column("seen", postgresql.TIMESTAMP(timezone=True)),
    Column("ratio", postgresql.DOUBLE_PRECISION),
    Column("amount", Numeric),
)


def store_exotic(db: Engine, name: str) -> None:
    """What only PostgreSQL has."""
    with db.begin() as connection:
        connection.execute(
            postgresql.insert(exotic)
            .values(
                name=name,
                labels=["a", 'b"c', None, "d,e"],
                grid=[[1, 2], [3, 4]],
                raw=bytes(range(256)),
                tree={"x": [1, 2.5, None], "by": str(uuid.uuid4()), "at": datetime.now().isoformat()},
                stay=postgresql.Range(date(2024, 1, 1), date(2024, 1, 8)),
                address="10.0.0.1/8",
                pause=timedelta(days=1, seconds=2),
                seen=datetime.fromisoformat("2024-03-31T01:30:00+00:00"),
                ratio=0.1,
                amount=Decimal("1e30"),
            )
            .on_conflict_do_nothing(index_elements=["name"])
        )


def seed_exotic(world: Any) -> None:
    store_exotic(world.db, "old")
    with world.db.begin() as connection:
        connection.execute(text("INSERT INTO exotic (name, labels, raw) VALUES ('empty', '{}', '')"))


def retire_exotic(db: Engine, name: str) -> None:
    """Changes such a row, so that it must be put back exactly."""
    with db.begin() as connection:
        connection.execute(
            exotic.update().where(exotic.c.name == name).values(labels=[], raw=b"", tree=None, address=None)
        )


def create_view_schema(world: Any) -> None:
    """Identity columns, a sequence of its own, a view, a partial unique index."""
    statements = [
        "CREATE SEQUENCE receipt_numbers START 1000 INCREMENT 10",
        "CREATE TABLE receipts (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
        " number integer NOT NULL DEFAULT nextval('receipt_numbers'), order_no text NOT NULL, void boolean NOT NULL DEFAULT false)",
        "CREATE UNIQUE INDEX one_valid_receipt ON receipts (order_no) WHERE NOT void",
        "CREATE VIEW valid_receipts AS SELECT * FROM receipts WHERE NOT void",
        "INSERT INTO receipts (order_no, void) VALUES ('A-1', true)",
    ]
    with world.db.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def write_receipt(db: Engine, order_no: str) -> None:
    """A number from a sequence, unique by a partial index."""
    with db.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO receipts (order_no) VALUES (:no) ON CONFLICT (order_no) WHERE NOT void DO NOTHING"
            ),
            {"no": order_no},
        )


def create_without_rowid(world: Any) -> None:
    with world.db.begin() as connection:
        connection.execute(text("CREATE TABLE words (word TEXT PRIMARY KEY, meaning) WITHOUT ROWID"))
        connection.execute(text("INSERT INTO words VALUES ('old', 12), ('older', x'00ff')"))


def define_word(db: Engine, word: str, meaning: str) -> None:
    """SQLite's own words: INSERT OR IGNORE, a column without a type, a table without row ids."""
    with db.begin() as connection:
        connection.execute(text("INSERT OR IGNORE INTO words VALUES (:w, :m)"), {"w": word, "m": meaning})
        connection.execute(text("UPDATE OR IGNORE words SET meaning = :m WHERE word = 'old'"), {"m": meaning})


def create_tenant(world: Any) -> None:
    statements = [
        "CREATE SCHEMA tenant_a",
        "CREATE TABLE tenant_a.plans (id serial PRIMARY KEY, name text UNIQUE, seats int NOT NULL)",
        "CREATE TABLE plans (id serial PRIMARY KEY, name text UNIQUE, seats int NOT NULL)",
        "INSERT INTO tenant_a.plans (name, seats) VALUES ('free', 1)",
    ]
    with world.db.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def choose_plan(db: Engine, tenant: str, name: str, seats: int) -> None:
    """A schema for each tenant, which a transaction chooses."""
    with db.begin() as connection:
        connection.execute(text("SELECT set_config('search_path', :tenant, true)"), {"tenant": tenant})
        connection.execute(
            text(
                "INSERT INTO plans (name, seats) VALUES (:name, :seats) ON CONFLICT (name) DO UPDATE SET seats = :seats"
            ),
            {"name": name, "seats": seats},
        )
