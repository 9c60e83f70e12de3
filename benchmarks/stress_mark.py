"""A job of the stress benchmarks that is as little work as a job can be, in a module that is quickly imported."""

from __future__ import annotations

import os

from redis import Redis

import idemfuzz

_redis = Redis.from_url(os.environ.get("REDIS_URL", "redis://localhost"))


def mark(email: str) -> None:
    """Right: one command, which done again changes nothing."""
    _redis.sadd("welcomed", email)


idemfuzz.register(mark, args=lambda n: (f"user{n}@example.org",), stores=[_redis])
