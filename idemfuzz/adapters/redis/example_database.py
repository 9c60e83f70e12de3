"""Hypothesis' example database in Redis, by its URL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypothesis.database import ExampleDatabase


def redis_example_database(url: str) -> ExampleDatabase:
    """The shared database at a URL.

    Raises:
        ImportError: redis-py or Hypothesis is not installed.
        ValueError: the URL is none.
    """
    from hypothesis.extra.redis import RedisExampleDatabase
    from redis import Redis

    client: Any = Redis.from_url(url)
    return RedisExampleDatabase(client, key_prefix=b"hypothesis-example:")
