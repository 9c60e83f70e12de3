"""A job of the stress benchmarks as jobs mostly are: a row, its commit, a key."""

from __future__ import annotations

import os

from redis import Redis
from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine
from sqlalchemy.dialects.postgresql import insert

import idemfuzz

_TABLES = MetaData()
MEMBERS = Table(
    "members", _TABLES, Column("id", Integer, primary_key=True), Column("email", String(80), unique=True)
)
_engine = create_engine(os.environ.get("DATABASE_URL", "sqlite://"))
_redis = Redis.from_url(os.environ.get("REDIS_URL", "redis://localhost"))


def setup() -> None:
    _TABLES.create_all(_engine)


def welcome(email: str) -> None:
    """Right, with three effects: an insert, its commit, a command."""
    with _engine.begin() as connection:
        connection.execute(insert(MEMBERS).values(email=email).on_conflict_do_nothing())
    _redis.sadd("welcomed", email)


idemfuzz.register(welcome, args=lambda n: (f"user{n}@example.org",), stores=[_engine, _redis], setup=setup)
