"""The jobs that are measured. Each takes its store; the first three of each kind are wrong on purpose."""

from __future__ import annotations

from redis import Redis
from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, insert, select, text

TABLES = MetaData()
PAYMENT = Table(
    "payment",
    TABLES,
    Column("id", Integer, primary_key=True),
    Column("ref", String(40)),
    Column("cents", Integer),
)
RECEIPT = Table("receipt", TABLES, Column("id", Integer, primary_key=True), Column("ref", String(40)))
ORDERED = Table("ordered", TABLES, Column("ref", String(40), primary_key=True), Column("cents", Integer))
KEYS = ("payments", "paid", "receipts", "order", "orders", "done")


# -- the three of SQL ------------------------------------------------------------------------------------


def insert_bare(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(insert(PAYMENT).values(ref="order-1", cents=1250))


def guard_two_commits(engine: Engine) -> None:
    with engine.begin() as connection:
        if connection.scalar(select(PAYMENT.c.id).where(PAYMENT.c.ref == "order-1")):
            return
        connection.execute(insert(PAYMENT).values(ref="order-1", cents=1250))
    with engine.begin() as connection:
        connection.execute(insert(RECEIPT).values(ref="order-1"))


def check_then_insert(engine: Engine) -> None:
    with engine.begin() as connection:
        if not connection.scalar(select(PAYMENT.c.id).where(PAYMENT.c.ref == "order-1")):
            connection.execute(insert(PAYMENT).values(ref="order-1", cents=1250))


# -- the three of Redis ----------------------------------------------------------------------------------


def push_bare(client: Redis) -> None:
    client.rpush("payments", "order-1")


def guard_two_commands(client: Redis) -> None:
    if not client.sismember("paid", "order-1"):
        client.sadd("paid", "order-1")
        client.rpush("receipts", "order-1")


def check_then_push(client: Redis) -> None:
    if client.lpos("payments", "order-1") is None:
        client.rpush("payments", "order-1")


# -- for throughput --------------------------------------------------------------------------------------


def append(engine: Engine) -> None:
    """Two deliveries never wait for each other on a server: no row has a key that the job gives."""
    with engine.begin() as connection:
        connection.scalar(select(PAYMENT.c.id).where(PAYMENT.c.ref == "order-0"))
        connection.execute(insert(PAYMENT).values(ref="order-1", cents=1250))
        connection.execute(insert(RECEIPT).values(ref="order-1"))


def upsert(engine: Engine) -> None:
    """Right, and the second of two deliveries waits for the first one's transaction."""
    ignore = "IGNORE " if engine.dialect.name in ("mysql", "mariadb") else ""
    nothing = "" if ignore else " ON CONFLICT DO NOTHING"
    order = text(f"INSERT {ignore}INTO ordered (ref, cents) VALUES ('order-1', 1250){nothing}")
    with engine.begin() as connection:
        connection.scalar(select(PAYMENT.c.id).where(PAYMENT.c.ref == "order-1"))
        if connection.execute(order).rowcount:
            connection.execute(insert(RECEIPT).values(ref="order-1"))


def put(client: Redis) -> None:
    """Right: each command, done again, changes nothing."""
    client.get("done")
    client.hset("order", mapping={"ref": "order-1", "cents": 1250})
    client.sadd("orders", "order-1")
    client.set("done", "order-1")


def claim(client: Redis) -> None:
    """Right: one command decides who does the work."""
    if client.set("done", "order-1", nx=True):
        client.rpush("payments", "order-1")


def clear(store: Engine | Redis) -> None:
    """What the author of a test would write to begin anew."""
    if isinstance(store, Engine):
        with store.begin() as connection:
            for table in TABLES.sorted_tables:
                connection.execute(table.delete())
    else:
        store.delete(*KEYS)
