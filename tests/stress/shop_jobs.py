"""Jobs for stress runs: as a worker imports them."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from redis import Redis
from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, select
from sqlalchemy.dialects.postgresql import insert as insert_or_not
from sqlalchemy.schema import CreateSchema, CreateTable

import idemfuzz

engine = create_engine(os.environ["DATABASE_URL"])
redis = Redis.from_url(os.environ["REDIS_URL"])
metadata = MetaData()
users = Table("users", metadata, Column("id", Integer, primary_key=True), Column("email", String(80)))
members = Table(
    "members", metadata, Column("id", Integer, primary_key=True), Column("email", String(80), unique=True)
)
timings = Table("timings", metadata, Column("email", String(80), primary_key=True), Column("took", Integer))
entries = Table("entries", MetaData(schema="ledger"), Column("email", String(80)))
begun = Path("begun")


def setup() -> None:
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(CreateSchema("ledger", if_not_exists=True))
        connection.execute(CreateTable(entries, if_not_exists=True))


def insert_always(email: str) -> None:
    """Two users for two deliveries."""
    with engine.begin() as connection:
        connection.execute(users.insert().values(email=email))


def book_beside(email: str) -> None:
    """Two entries for two deliveries, in another schema."""
    with engine.begin() as connection:
        connection.execute(entries.insert().values(email=email))


def import_on_threads(email: str) -> None:
    """Two users, each by a thread in a transaction of its own."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(insert_always, [email, f"also.{email}"]))


def look_then_insert(email: str) -> None:
    """Safe one after the other, and not at once."""
    with engine.begin() as connection:
        found = connection.execute(select(users.c.id).where(users.c.email == email)).first()
        time.sleep(0.2)
        if found is None:
            connection.execute(users.insert().values(email=email))


def flag_then_insert(email: str) -> None:
    """A kill between flag and work leaves the flag alone."""
    if not redis.set(f"seen:{email}", "1", nx=True):
        return
    with engine.begin() as connection:
        connection.execute(users.insert().values(email=email))


def insert_timed(email: str) -> None:
    """Right: how long it took is noted, and it takes longer after a kill."""
    started = time.perf_counter()
    if begun.exists():
        time.sleep(0.03)
    begun.touch()
    with engine.begin() as connection:
        connection.execute(select(timings.c.email))
        took = round((time.perf_counter() - started) * 100)
        connection.execute(insert_or_not(timings).values(email=email, took=took).on_conflict_do_nothing())
    begun.unlink()


def insert_once(email: str) -> None:
    """Right: the database refuses the second row, and a set knows no twice."""
    with engine.begin() as connection:
        connection.execute(insert_or_not(members).values(email=email).on_conflict_do_nothing())
    redis.sadd("welcomed", email)


def always_fails(email: str) -> None:
    raise ValueError(f"no such user: {email}")


def lock_for_ever(email: str) -> None:
    """A killed execution leaves the lock behind, and every other one gives up."""
    if not redis.set(f"lock:{email}", "1", nx=True):
        raise RuntimeError("another execution is at work")
    with engine.begin() as connection:
        connection.execute(insert_or_not(members).values(email=email).on_conflict_do_nothing())
    redis.delete(f"lock:{email}")


def hangs_the_second_time(email: str) -> None:
    """A copy waits for something that never comes."""
    if not redis.sadd("welcomed", email):
        time.sleep(3_600)


def dawdles_twice(email: str) -> None:
    """Right; but the first two times that it is delivered again, the machine has no time for it."""
    dawdled = Path(os.environ["DAWDLED"])
    times = len(dawdled.read_text()) if dawdled.exists() else 0
    if redis.sismember("welcomed", email) and times < 2:
        dawdled.write_text("x" * (times + 1))
        time.sleep(3_600)
    redis.sadd("welcomed", email)


def does_nothing(email: str) -> None:
    """No effect that could be seen."""


def by_turns(email: str) -> None:
    """Does the same by another command at its third call."""
    turns = Path(os.environ["TURNS"])
    turn = len(turns.read_text()) if turns.exists() else 0
    turns.write_text("x" * (turn + 1))
    if turn == 2:
        with redis.pipeline() as pipeline:
            pipeline.sadd("welcomed", email)
            pipeline.execute()
    else:
        redis.sadd("welcomed", email)


for job in (
    insert_always,
    book_beside,
    import_on_threads,
    look_then_insert,
    flag_then_insert,
    insert_timed,
    insert_once,
    always_fails,
    lock_for_ever,
    dawdles_twice,
    hangs_the_second_time,
    does_nothing,
    by_turns,
):
    idemfuzz.register(job, args=lambda n: (f"user{n}@example.org",), stores=[engine, redis], setup=setup)
