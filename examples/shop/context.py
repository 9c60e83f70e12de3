"""How a job finds the world: `current_shop()`.

A queue carries a function's name and plain arguments, never an open connection. So a job is a
function at module level, and asks for its shop when it runs. Tests (and idemfuzz) open a shop in
the process; a worker process reads it from the environment:

    SHOP_DATABASE_URL   postgresql+psycopg://localhost/shop, mariadb+pymysql://..., sqlite:///shop.db
    SHOP_REDIS_URL      redis://localhost:6379/0
    SHOP_PAYMENTS_URL   http://127.0.0.1:8080
    SHOP_SMTP           127.0.0.1:8025
    SHOP_REPORTS        /var/lib/shop/reports
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis import Redis
from rq import Queue
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """Everything outside the process that a job may touch."""

    engine: Engine
    redis: Redis
    payments_url: str
    smtp_host: str
    smtp_port: int
    reports: Path

    @property
    def staging(self) -> Path:
        """Where reports are written before they are published, on the same file system."""
        return self.reports.with_name(f"{self.reports.name}-staging")

    def session(self) -> Session:
        """A new session. Leaving its `with` block without a commit rolls back."""
        return Session(self.engine)

    def queue(self, name: str) -> Queue:
        return Queue(name, connection=self.redis)

    @classmethod
    def from_environment(cls) -> Shop:
        host, _, port = os.environ["SHOP_SMTP"].rpartition(":")
        return cls(
            engine=create_engine(os.environ["SHOP_DATABASE_URL"]),
            # from_url, not Redis(host=...): the latter silently re-sends a command whose reply was lost.
            redis=Redis.from_url(os.environ["SHOP_REDIS_URL"]),
            payments_url=os.environ["SHOP_PAYMENTS_URL"],
            smtp_host=host,
            smtp_port=int(port),
            reports=Path(os.environ["SHOP_REPORTS"]),
        )


_current: Shop | None = None


def current_shop() -> Shop:
    """The open shop; in a worker that opened none, the one that the environment names."""
    global _current
    if _current is None:
        _current = Shop.from_environment()
    return _current


@contextmanager
def opened(shop: Shop) -> Iterator[Shop]:
    """Make `shop` the current one, in every thread, until the block is left."""
    global _current
    before, _current = _current, shop
    try:
        yield shop
    finally:
        _current = before
