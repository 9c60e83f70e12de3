"""Jobs that no redelivery can finish."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, insert, select, update

from quality.keys import Busy
from quality.schema import imports, orders, receipts


def lock_without_ttl(redis: Any, report: str) -> None:
    """SET NX without an expiry; DEL in finally, which SIGKILL skips."""
    if not redis.set(f"lock:{report}", "1", nx=True):
        raise Busy(report)
    try:
        redis.hset("reports", report, "done")
    finally:
        redis.delete(f"lock:{report}")


def lock_and_give_up(redis: Any, report: str) -> None:
    """The same, but whoever finds the lock is content: the work is lost, and all that follows with it."""
    if not redis.setnx(f"lock:{report}", "1"):
        return
    try:
        redis.hset("reports", report, "done")
    finally:
        redis.delete(f"lock:{report}")


def redis_lock_without_timeout(redis: Any, report: str) -> None:
    """redis-py's Lock holds for ever by default."""
    with redis.lock(f"lock:{report}"):
        redis.hset("reports", report, "done")


def token_from_pool(redis: Any, report: str) -> None:
    """A semaphore as a list of tokens: a killed worker takes its token along."""
    token = redis.blpop("tokens")[1]
    try:
        redis.hset("reports", report, "done")
    finally:
        redis.rpush("tokens", token)


def processing_for_ever(engine: Engine, order_id: int) -> None:
    """A status 'processing' that only the worker who set it would leave."""
    with engine.begin() as connection:
        status = connection.execute(select(orders.c.status).where(orders.c.id == order_id)).scalar_one()
        if status == "done":
            return
        if status == "processing":
            raise Busy(f"order {order_id} is being processed")
        connection.execute(update(orders).where(orders.c.id == order_id).values(status="processing"))
    with engine.begin() as connection:
        connection.execute(insert(receipts).values(order_id=order_id, text="thank you"))
        connection.execute(update(orders).where(orders.c.id == order_id).values(status="done"))


def start_record_not_caught(engine: Engine, file: str) -> None:
    """The start is recorded under a unique key, and the violation is not caught: no retry gets past it."""
    with engine.connect() as connection:
        if connection.execute(select(imports.c.state).where(imports.c.file == file)).scalar() == "done":
            return
    with engine.begin() as connection:
        connection.execute(insert(imports).values(file=file, state="started"))
    with engine.begin() as connection:
        connection.execute(update(imports).where(imports.c.file == file).values(state="done"))


def folder_must_be_new(folder: Path, name: str) -> None:
    """mkdir without exist_ok, then the file: after a crash in between, mkdir fails for ever."""
    place = folder / name
    if (place / "report.txt").exists():
        return
    place.mkdir()
    (place / "report.txt").write_text("report")


def wait_for_lock_file(folder: Path, name: str) -> None:
    """A lock file that a killed worker leaves, and whose successor waits until it goes."""
    lock = folder / f"{name}.lock"
    while lock.exists():
        time.sleep(0.5)
    lock.touch()
    try:
        (folder / f"{name}.txt").write_text("report")
    finally:
        lock.unlink()


def spin_on_lock_file(folder: Path, name: str) -> None:
    """The same without a sleep: it does not even come to a time limit of its own."""
    lock = folder / f"{name}.busy"
    while lock.exists():
        pass
    lock.touch()
    try:
        (folder / f"{name}.txt").write_text("report")
    finally:
        lock.unlink()
