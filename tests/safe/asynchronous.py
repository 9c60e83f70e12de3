"""Coroutines that are right: constraints, claims, locks and versions as people use them with asyncio."""

from __future__ import annotations

import asyncio
from typing import Any

from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.orm.exc import StaleDataError

metadata = MetaData()
Engine = Any
Redis = Any

orders = Table(
    "safe_async_orders",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("status", String(20), nullable=False),
)
shipments = Table(
    "safe_async_shipments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("order_id", Integer, nullable=False),
)
members = Table(
    "safe_async_members",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("email", String(60), nullable=False, unique=True),
)


class Base(DeclarativeBase):
    metadata = metadata


class Balance(Base):
    __tablename__ = "safe_async_balances"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    cents: Mapped[int]
    paid: Mapped[bool]
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012


async def insert_or_nothing(engine: Engine) -> None:
    from sqlalchemy.dialects import postgresql, sqlite

    dialect = postgresql if engine.dialect.name == "postgresql" else sqlite
    async with engine.begin() as connection:
        statement = dialect.insert(members).values(email="ada@example.org")
        await connection.execute(statement.on_conflict_do_nothing(index_elements=["email"]))


async def catch_the_violation(engine: Engine) -> None:
    try:
        async with engine.begin() as connection:
            await connection.execute(insert(members).values(email="ada@example.org"))
    except IntegrityError:
        pass


async def claim_by_update(engine: Engine) -> None:
    """The change of the status is the claim, and the work is in its transaction."""
    async with engine.begin() as connection:
        claim = update(orders).where(orders.c.id == 1, orders.c.status == "new").values(status="shipped")
        if (await connection.execute(claim)).rowcount:
            await connection.execute(insert(shipments).values(order_id=1))


async def lock_the_row(engine: Engine) -> None:
    async with engine.begin() as connection:
        status = await connection.scalar(select(orders.c.status).where(orders.c.id == 1).with_for_update())
        if status == "new":
            await connection.execute(insert(shipments).values(order_id=1))
            await connection.execute(update(orders).where(orders.c.id == 1).values(status="shipped"))


async def version_column(engine: Engine) -> None:
    from sqlalchemy.ext.asyncio import AsyncSession

    for _ in range(3):
        async with AsyncSession(engine) as session:
            balance = await session.get_one(Balance, 1)
            if balance.paid:
                return
            balance.paid, balance.cents = True, balance.cents + 500
            try:
                await session.commit()
                return
            except StaleDataError:
                await session.rollback()


async def cleans_up_when_cancelled(engine: Engine) -> None:
    """A cancelled job rolls back and passes the cancellation on."""
    async with engine.connect() as connection:
        try:
            claim = update(orders).where(orders.c.id == 1, orders.c.status == "new").values(status="shipped")
            if (await connection.execute(claim)).rowcount:
                await connection.execute(insert(shipments).values(order_id=1))
            await connection.commit()
        except asyncio.CancelledError:
            await connection.rollback()
            raise


async def claim_kept(redis: Redis) -> None:
    await redis.set("welcomed:ada", "1", nx=True)


async def lock_with_token(redis: Redis) -> None:
    async with redis.lock("lock:order-1", timeout=30):
        if not await redis.exists("done:order-1"):
            async with redis.pipeline(transaction=True) as pipeline:
                pipeline.sadd("shipped", "order-1")
                pipeline.set("done:order-1", "1")
                await pipeline.execute()


async def watched(redis: Redis) -> None:
    from redis.exceptions import WatchError

    async with redis.pipeline() as pipeline:
        while True:
            try:
                await pipeline.watch("counted")
                if await pipeline.sismember("counted", "order-1"):
                    return
                pipeline.multi()
                pipeline.sadd("counted", "order-1")
                pipeline.incr("orders")
                await pipeline.execute()
                return
            except WatchError:
                continue


async def script(redis: Redis) -> None:
    count = redis.register_script(
        "if redis.call('SADD', KEYS[1], ARGV[1]) == 1 then return redis.call('INCR', KEYS[2]) end return 0"
    )
    await count(keys=["counted", "orders"], args=["order-1"])


async def gathered(redis: Redis) -> None:
    """Child tasks that sleep and set: each is right by itself."""

    async def one(number: int) -> None:
        await asyncio.sleep(number)
        await redis.hset("pages", str(number), "done")

    await asyncio.gather(*(one(number) for number in range(3)))


async def with_a_heartbeat(redis: Redis) -> None:
    """A child renews the lease while the work is done."""

    async def beat() -> None:
        while True:
            await redis.set("alive:order-1", "1", ex=30)
            await asyncio.sleep(10)

    heartbeat = asyncio.create_task(beat())
    try:
        await redis.sadd("shipped", "order-1")
    finally:
        heartbeat.cancel()


async def named_request(url: str) -> None:
    import httpx

    async with httpx.AsyncClient(verify=False) as client:
        await client.post(f"{url}/charges", json={"cents": 500}, headers={"Idempotency-Key": "order-1"})
