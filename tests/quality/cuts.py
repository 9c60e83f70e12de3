"""What only an interruption breaks: a kill, a time limit, a refused connection, a lost reply, a command sent again."""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy import Engine, delete, insert, select, update
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError

from quality.schema import contacts, failures, imports, order_payments, orders


def import_one_by_one(engine: Engine, redis: Any, file: str, emails: list[str]) -> None:
    """Locked against a second worker, marked when done, and committed row by row: a crash repeats what was there."""
    with redis.lock(f"import:{file}", timeout=60):
        with engine.connect() as connection:
            if connection.execute(select(imports.c.state).where(imports.c.file == file)).first():
                return
        for email in emails:
            with engine.begin() as connection:
                connection.execute(insert(contacts).values(email=email))
        with engine.begin() as connection:
            connection.execute(insert(imports).values(file=file, state="done"))


def charge_then_mark(redis: Any, gateway: Any, order_id: int) -> None:
    """Locked; marked right after the call. There is a moment between."""
    with redis.lock(f"order:{order_id}", timeout=60):
        if redis.hexists("paid", str(order_id)):
            return
        gateway.charge(order_id)
        redis.hset("paid", str(order_id), "1")


def push_unless_there(redis: Any, event: str) -> None:
    """Right under duplicates, overlaps and kills. But the client may send the RPUSH again on its own."""
    with redis.lock(f"event:{event}", timeout=60):
        if redis.lpos("events", event) is None:
            redis.rpush("events", event)


def record_failed_payment(engine: Engine, order_id: int) -> None:
    """'The connection broke, so it did not happen': the COMMIT had gone through, and now both are on record."""
    try:
        with engine.begin() as connection:
            connection.execute(delete(failures).where(failures.c.order_id == order_id))
            connection.execute(insert(order_payments).values(order_id=order_id, amount=100))
    except IntegrityError:
        return
    except OperationalError as error:
        with engine.begin() as connection:
            connection.execute(insert(failures).values(order_id=order_id, reason=str(error)[:40]))
        raise


def skip_bad_rows(engine: Engine, rows: list[str]) -> None:
    """Database errors go up; whatever else is wrong with a row is the row's fault. The time limit, too, is 'else'."""
    for email in rows:
        try:
            with engine.begin() as connection:
                known = connection.execute(select(imports.c.file).where(imports.c.file == email)).first()
                if known is None:
                    connection.execute(insert(imports).values(file=email, state="read"))
        except IntegrityError:
            continue
        except SQLAlchemyError:
            raise
        except Exception:
            continue


def done_in_finally(engine: Engine, redis: Any, file: str, emails: list[str]) -> None:
    """Marked as done in finally: also when the time limit or an error has cut the work short."""
    with engine.connect() as connection:
        if connection.execute(select(imports.c.state).where(imports.c.file == file)).scalar() == "done":
            return
    try:
        redis.sadd("imported", *emails)
    finally:
        with engine.begin() as connection:
            connection.execute(update(imports).where(imports.c.file == file).values(state="done"))


def give_up_on_slow_call(engine: Engine, gateway: Any, order_id: int) -> None:
    """A broken connection goes up; everything else, the time limit among it, is logged and forgotten."""
    with engine.connect() as connection:
        if connection.execute(select(orders.c.status).where(orders.c.id == order_id)).scalar() == "paid":
            return
    try:
        gateway.charge(order_id, idempotency_key=f"order-{order_id}")
    except OSError:
        raise
    except Exception:
        logging.getLogger(__name__).debug("no charge for %s", order_id)
    with engine.begin() as connection:
        connection.execute(update(orders).where(orders.c.id == order_id).values(status="paid"))


def retry_in_the_job(redis: Any, counter: str) -> None:
    """Tries again by itself when the connection breaks; the first try may have worked."""
    from redis.exceptions import ConnectionError as Broken

    with redis.lock(f"lock:{counter}", timeout=60):
        if redis.exists(counter):
            return
        try:
            redis.incr(counter)
        except Broken:
            redis.incr(counter)
