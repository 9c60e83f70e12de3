"""The acts of a program on real stores, or on what stands in for them in a test."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, insert, select, update
from sqlalchemy.exc import IntegrityError

from differential.programs import NAMES, STEPS, Act

metadata = MetaData()
lines = Table("lines", metadata, Column("id", Integer, primary_key=True), Column("name", String(20)))
marks = Table("marks", metadata, Column("name", String(20), primary_key=True))
counts = Table(
    "counts",
    metadata,
    Column("name", String(20), primary_key=True),
    Column("value", Integer, nullable=False),
)
orders = Table(
    "orders",
    metadata,
    Column("name", String(20), primary_key=True),
    Column("status", String(20), nullable=False),
)

_PUSH_ONCE = "if redis.call('SETNX', KEYS[1], '1') == 1 then redis.call('RPUSH', KEYS[2], 'done') end"


class Reality:
    """Real stores, or what stands in for them in a test."""

    def __init__(self, db: Any, redis: Any, gateway: Any) -> None:
        self._db, self._redis, self._gateway = db, redis, gateway
        self._read = dict.fromkeys(NAMES, 0)

    async def transaction(self, acts: tuple[Act, ...]) -> None:
        with self._db.begin() as connection:
            self._statements(acts, connection)

    async def multi(self, acts: tuple[Act, ...]) -> None:
        with self._redis.pipeline() as pipeline:
            for act in acts:
                self._command(act, pipeline)
            pipeline.execute()

    async def act(self, act: Act) -> None:
        if act.verb == "call":
            self._gateway.charge(act.name)
        else:
            self._heed(act, self._command(act, self._redis))

    def _command(self, act: Act, redis: Any) -> Any:
        """What the client answers."""
        key, flag = f"{act.verb.lower()}:{act.name}", f"flag:{act.name}"
        match act.verb:
            case "SET token":
                return redis.set(key, uuid.uuid4().hex)
            case "SADD token":
                return redis.sadd(key, uuid.uuid4().hex)
            case "INCR":
                return redis.incr(key)
            case "SET":
                return redis.set(key, "done")
            case "RPUSH":
                return redis.rpush(key, "done")
            case "SADD":
                return redis.sadd(key, "done")
            case "push once":
                return redis.eval(_PUSH_ONCE, 2, f"pushed:{act.name}", key)
            case "flag":
                return redis.set(flag, "1", ex=act.seconds)
            case "unless flagged":
                return redis.get(flag)
            case "take":
                return redis.set(flag, "1", nx=True, ex=act.seconds)
            case "release":
                return redis.delete(flag)
        raise AssertionError(act)

    @staticmethod
    def _heed(act: Act, answer: Any) -> None:
        if (act.verb == "unless flagged" and answer is not None) or (act.verb == "take" and not answer):
            raise act.otherwise

    def _statements(self, acts: tuple[Act, ...], connection: Connection) -> None:
        for act in acts:
            self._statement(act, connection)

    def _statement(self, act: Act, connection: Connection) -> None:
        mine = orders.c.name == act.name
        match act.verb:
            case "add line":
                connection.execute(insert(lines).values(name=act.name))
            case "add token":
                connection.execute(insert(lines).values(name=uuid.uuid4().hex[:20]))
            case "read count":
                self._read[act.name] = connection.scalar(
                    select(counts.c.value).where(counts.c.name == act.name)
                )
            case "write count":
                one_more = self._read[act.name] + 1
                connection.execute(update(counts).where(counts.c.name == act.name).values(value=one_more))
            case "add to count":
                one_more = update(counts).where(counts.c.name == act.name).values(value=counts.c.value + 1)
                connection.execute(one_more)
            case "set status":
                connection.execute(update(orders).where(mine).values(status="done"))
            case "move status" | "begin status" | "end status":
                before, after = STEPS[act.verb]
                moved = update(orders).where(mine, orders.c.status == before).values(status=after)
                if not connection.execute(moved).rowcount:
                    raise act.otherwise
            case "unless done":
                if connection.scalar(select(orders.c.status).where(mine)) == "done":
                    raise act.otherwise
            case "unless marked":
                if connection.scalar(select(marks.c.name).where(marks.c.name == act.name)) is not None:
                    raise act.otherwise
            case "mark":
                try:
                    connection.execute(insert(marks).values(name=act.name))
                except IntegrityError:
                    raise act.otherwise from None
            case _:
                raise AssertionError(act)


class AsyncReality(Reality):
    """The same with an AsyncEngine and an asynchronous client."""

    async def transaction(self, acts: tuple[Act, ...]) -> None:
        async with self._db.begin() as connection:
            await connection.run_sync(lambda plain: self._statements(acts, plain))

    async def multi(self, acts: tuple[Act, ...]) -> None:
        async with self._redis.pipeline() as pipeline:
            for act in acts:
                self._command(act, pipeline)
            await pipeline.execute()

    async def act(self, act: Act) -> None:
        if act.verb == "call":
            self._gateway.charge(act.name)
        else:
            self._heed(act, await self._command(act, self._redis))
