"""Jobs that are coroutines, wrong in the ways that synchronous ones are, and in some that only they can be."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

metadata = MetaData()
Engine = Any
Redis = Any

accounts = Table(
    "async_accounts",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("cents", Integer, nullable=False),
    Column("paid", Integer, nullable=False),
)
mails = Table(
    "async_mails",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("address", String(60), nullable=False),
)
events = Table(
    "async_events",
    metadata,
    Column("name", String(60), primary_key=True),
)


class Base(DeclarativeBase):
    metadata = metadata


class User(Base):
    __tablename__ = "async_users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(60))


# -- SQL ------------------------------------------------------------------------------------------------------------


async def bare_insert(engine: Engine) -> None:
    async with engine.begin() as connection:
        await connection.execute(insert(mails).values(address="ada@example.org"))


async def check_then_insert(engine: Engine) -> None:
    """Two deliveries can both find nothing."""
    from sqlalchemy.ext.asyncio import AsyncSession

    async with AsyncSession(engine) as session:
        found = await session.scalar(select(User).where(User.email == "ada@example.org"))
        if found is None:
            session.add(User(email="ada@example.org"))
            await session.commit()


async def two_commits(engine: Engine) -> None:
    """A worker that dies between them leaves the event without its mail."""
    async with engine.begin() as connection:
        found = await connection.execute(select(events).where(events.c.name == "signup"))
        if found.first() is not None:
            return
        await connection.execute(insert(events).values(name="signup"))
    async with engine.begin() as connection:
        await connection.execute(insert(mails).values(address="ada@example.org"))


async def check_then_add(engine: Engine) -> None:
    """The sum is added in the database, so that nothing is lost; it is added twice."""
    async with engine.begin() as connection:
        paid = await connection.scalar(select(accounts.c.paid).where(accounts.c.id == 1))
        if not paid:
            await connection.execute(
                update(accounts).where(accounts.c.id == 1).values(paid=1, cents=accounts.c.cents + 500)
            )


# -- Redis ----------------------------------------------------------------------------------------------------------


async def flag_before_work(redis: Redis, engine: Engine) -> None:
    """Whoever dies behind the flag has done nothing, and nobody comes after him."""
    if await redis.set("welcomed:ada", "1", nx=True):
        async with engine.begin() as connection:
            await connection.execute(insert(mails).values(address="ada@example.org"))


async def look_then_count(redis: Redis) -> None:
    if not await redis.sismember("counted", "order-1"):
        async with redis.pipeline(transaction=True) as pipeline:
            pipeline.sadd("counted", "order-1")
            pipeline.incr("orders")
            await pipeline.execute()


async def marks_in_finally(redis: Redis) -> None:
    """A worker that is shut down cancels the job, and the clean-up says that it was done."""
    if await redis.exists("done:order-1"):
        return
    try:
        await redis.sadd("shipped", "order-1")
    finally:
        await redis.set("done:order-1", "1")


async def swallows_cancellation(redis: Redis) -> None:
    """The task's cancellation is taken for an error of the call."""
    try:
        await redis.sadd("shipped", "order-1")
    except BaseException as error:
        await redis.hset("errors", "order-1", type(error).__name__)


# -- outside --------------------------------------------------------------------------------------------------------


async def posts_then_marks(redis: Redis, url: str) -> None:
    import httpx

    if await redis.exists("charged:order-1"):
        return
    async with httpx.AsyncClient(verify=False) as client:
        await client.post(f"{url}/charges", json={"order": 1, "cents": 500})
    await redis.set("charged:order-1", "1")


async def calls_the_gateway(gateway: Any) -> None:
    await gateway.charges.create(order=1, cents=500)
