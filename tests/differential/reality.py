"""The acts of a program on real stores, or on what stands in for them in a test."""

from __future__ import annotations

import smtplib
import uuid
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx
from redis.exceptions import WatchError
from rq import Queue
from rq.exceptions import DuplicateJobError
from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, delete, insert, select, update
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from differential.programs import CALLS, CHILDREN, FILES, NAMES, STEPS, STOCK, Act, Busy, Watched

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


def fill(connection: Connection, names: Iterable[str] = NAMES) -> None:
    metadata.create_all(connection)
    connection.execute(insert(counts), [{"name": name, "value": 0} for name in names])
    connection.execute(insert(orders), [{"name": name, "status": "new"} for name in names])


def fill_redis(redis: Any, names: Iterable[str] = NAMES) -> list[Any]:
    """What the client answers: of an asynchronous one, what is to be awaited."""
    return [redis.rpush(f"stock:{name}", *range(STOCK)) for name in names]


def child(name: str) -> None:
    """What a job enqueues. It lies in the queue; nobody runs it here."""


def _insert_if_missing(connection: Connection, table: Table) -> Any:
    if connection.dialect.name in ("mysql", "mariadb"):
        return mysql.insert(table).prefix_with("IGNORE")
    dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table).on_conflict_do_nothing()


@dataclass(frozen=True, slots=True)
class Outside:
    """What is neither the database nor Redis."""

    gateway: Any
    """A client, as a mock."""
    smtp: tuple[str, int]
    folder: Path

    def call(self, act: Act) -> None:
        name = act.name
        match act.verb:
            case "call":
                self.gateway.charge(name)
            case "mail" | "mail named":
                message = EmailMessage()
                message["From"], message["To"] = "shop@example.org", f"{name}@example.org"
                message["Subject"] = act.verb
                if act.verb == "mail named":
                    message["Message-ID"] = f"<{name}@shop.example.org>"
                message.set_content("Thank you.")
                with smtplib.SMTP(*self.smtp) as server:
                    server.send_message(message)
            case "post" | "post keyed" | "put":
                headers = {"Idempotency-Key": f"key-{name}"} if act.verb == "post keyed" else {}
                method = "PUT" if act.verb == "put" else "POST"
                path = act.verb.replace(" ", "-")
                with httpx.Client(
                    transport=httpx.MockTransport(lambda request: httpx.Response(200))
                ) as client:
                    client.request(
                        method, f"https://api.example.org/{path}", json={"name": name}, headers=headers
                    )

    def file(self, act: Act) -> None:
        target = self.folder / act.name
        match act.verb:
            case "append to file":
                with target.open("a") as file:
                    file.write("done")
            case "write file":
                target.write_text("done")
            case "replace file":
                temporary = self.folder / f"{act.name}.tmp"
                temporary.write_text("done")
                temporary.replace(target)


class Reality:
    """Real stores, or what stands in for them in a test."""

    def __init__(self, db: Any, redis: Any, outside: Outside) -> None:
        self._db, self._redis, self._outside = db, redis, outside
        self._read: dict[str, Any] = defaultdict(int)
        self._number: dict[str, int] = defaultdict(int)

    async def transaction(self, acts: tuple[Act, ...]) -> None:
        with self._db.begin() as connection:
            self._statements(acts, connection)

    async def multi(self, acts: tuple[Act, ...]) -> None:
        with self._redis.pipeline() as pipeline:
            for act in acts:
                self._command(act, pipeline)
            pipeline.execute()

    async def watched(self, part: Watched) -> None:
        flag = f"flag:{part.name}"
        with self._redis.pipeline() as pipeline:
            pipeline.watch(flag)
            if pipeline.get(flag) is not None:
                raise part.otherwise
            pipeline.multi()
            for act in part.acts:
                self._command(act, pipeline)
            try:
                pipeline.execute()
            except WatchError:
                raise Busy from None

    async def act(self, act: Act) -> None:
        if act.verb in FILES:
            self._outside.file(act)
        elif act.verb in CALLS:
            self._outside.call(act)
        elif act.verb in CHILDREN:
            self._enqueue(act)
        else:
            self._heed(act, self._command(act, self._redis))

    def _enqueue(self, act: Act) -> None:
        queue = Queue(connection=self._redis)
        if act.verb == "enqueue":
            queue.enqueue(child, act.name)
        else:
            with suppress(DuplicateJobError):
                queue.enqueue(child, act.name, job_id=f"child-{act.name}", unique=True)

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
            case "HSET":
                return redis.hset(key, "done", 1)
            case "HINCRBY":
                return redis.hincrby(key, "done", 1)
            case "ZADD":
                return redis.zadd(key, {"done": 1})
            case "DEL list":
                return redis.delete(f"rpush:{act.name}")
            case "LPOP":
                return redis.lpop(f"stock:{act.name}")
            case "LMOVE":
                return redis.lmove(f"stock:{act.name}", f"taken:{act.name}", "LEFT", "RIGHT")
            case "read number":
                return redis.get(f"number:{act.name}")
            case "write number":
                return redis.set(f"number:{act.name}", self._number[act.name] + 1)
            case "flag":
                return redis.set(flag, "1", ex=act.seconds)
            case "unless flagged":
                return redis.get(flag)
            case "take":
                return redis.set(flag, "1", nx=True, ex=act.seconds)
            case "release":
                return redis.delete(flag)
        raise AssertionError(act)

    def _heed(self, act: Act, answer: Any) -> None:
        if act.verb == "read number":
            self._number[act.name] = int(answer or 0)
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
            case "mark if missing":
                connection.execute(_insert_if_missing(connection, marks).values(name=act.name))
            case "cancel":
                connection.execute(delete(orders).where(mine))
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

    async def watched(self, part: Watched) -> None:
        flag = f"flag:{part.name}"
        async with self._redis.pipeline() as pipeline:
            await pipeline.watch(flag)
            if await pipeline.get(flag) is not None:
                raise part.otherwise
            pipeline.multi()
            for act in part.acts:
                self._command(act, pipeline)
            try:
                await pipeline.execute()
            except WatchError:
                raise Busy from None

    async def act(self, act: Act) -> None:
        if act.verb in FILES:
            self._outside.file(act)
        elif act.verb in CALLS:
            self._outside.call(act)
        else:
            self._heed(act, await self._command(act, self._redis))
