"""Jobs that ask what their own process remembers, of which another worker knows nothing."""

from __future__ import annotations

import functools
import threading
from typing import Any, ClassVar

from sqlalchemy import Engine, delete, insert, select

from quality.schema import notifications

_shipped: set[int] = set()
_shipped_at: dict[int, str] = {}
_numbers = {"next": 1}
_latest: int | None = None
_gate = threading.Semaphore(1)
_turn = threading.Condition()


def _notify(engine: Engine, order_id: int) -> None:
    with engine.begin() as connection:
        connection.execute(insert(notifications).values(order_id=order_id, text="shipped"))


def _notify_if_new(engine: Engine, order_id: int) -> None:
    with engine.begin() as connection:
        known = select(notifications.c.id).where(notifications.c.order_id == order_id)
        if connection.execute(known).first() is None:
            connection.execute(insert(notifications).values(order_id=order_id, text="shipped"))


def guard_in_a_set(engine: Engine, order_id: int) -> None:
    if order_id in _shipped:
        return
    _notify(engine, order_id)
    _shipped.add(order_id)


def guard_in_a_dict_of_redis_work(redis: Any, order_id: int) -> None:
    if order_id not in _shipped_at:
        redis.rpush("shipped", order_id)
        _shipped_at[order_id] = "today"


class Shipped:
    orders: ClassVar[list[int]] = []
    latest: ClassVar[int] = 0


def guard_in_a_class(engine: Engine, order_id: int) -> None:
    if order_id in Shipped.orders or Shipped.latest >= order_id:
        return
    _notify(engine, order_id)
    Shipped.orders.append(order_id)
    Shipped.latest = order_id


def guard_in_a_global(engine: Engine, order_id: int) -> None:
    global _latest
    if _latest != order_id:
        _notify(engine, order_id)
        _latest = order_id


@functools.lru_cache(maxsize=2)
def _notified(engine: Engine, *, order_id: int) -> bool:
    _notify(engine, order_id)
    return True


def guard_in_a_memo(engine: Engine, order_id: int) -> None:
    """The function that does it is remembered to have done it."""
    assert _notified(engine, order_id=order_id)


def guard_in_a_default(engine: Engine, order_id: int, seen: set[int] = set()) -> None:  # noqa: B006
    if order_id not in seen:
        _notify(engine, order_id)
        seen.add(order_id)


def _once(function: Any) -> Any:
    done = set()

    @functools.wraps(function)
    def wrapper(engine: Engine, order_id: int) -> None:
        if order_id not in done:
            function(engine, order_id)
            done.add(order_id)

    return wrapper


_notify_once = _once(_notify)


def guard_in_a_closure(engine: Engine, order_id: int) -> None:
    _notify_once(engine, order_id)


def number_from_a_dict(engine: Engine, order_id: int) -> None:
    """Each worker counts for itself: the next one takes a number that is another order's, and puts its own in place."""
    number = _numbers["next"]
    _numbers["next"] = number + 1
    with engine.begin() as connection:
        connection.execute(delete(notifications).where(notifications.c.id == number))
        connection.execute(insert(notifications).values(id=number, order_id=order_id, text="shipped"))


class Shipper:
    """A service with a lock of its own, as a fixture hands it in."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def ship(self, engine: Engine, order_id: int) -> None:
        with self._lock, self._lock:
            _notify_if_new(engine, order_id)


_shipper = Shipper()


def lock_of_an_object(engine: Engine, order_id: int) -> None:
    _shipper.ship(engine, order_id)


def semaphore_of_the_process(engine: Engine, order_id: int) -> None:
    with _gate:
        _notify_if_new(engine, order_id)


def condition_of_the_process(engine: Engine, order_id: int) -> None:
    with _turn:
        _notify_if_new(engine, order_id)
        _turn.notify_all()
