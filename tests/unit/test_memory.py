"""Cells give back what they held, and each delivery has its own memory."""

from __future__ import annotations

import functools
import sqlite3
import threading
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

import pytest

from idemfuzz.engine import memory
from idemfuzz.engine.cells import Container, Lock, Memo, Names, Reentrant
from idemfuzz.engine.memory import Memory

seen: set[str] = set()
asked: list[str] = []
recorded: list[str] = []


@pytest.mark.parametrize(
    ("container", "add"),
    [
        ({1}, lambda c: c.add(2)),
        ([1], lambda c: c.append(2)),
        ({1: 1}, lambda c: c.update({2: 2})),
        (Counter(a=2), lambda c: c.update("ab")),
        (deque([1], 3), lambda c: c.append(2)),
    ],
)
def test_container_goes_back_and_forth(container: Any, add: Any) -> None:
    """Goal: no content is lost, and the object stays the same. Method: two contents, written in turn."""
    cell = Container(container)
    first = cell.read()
    add(container)
    second = cell.read()
    assert not cell.has(first)
    cell.write(first)
    assert cell.has(first)
    cell.write(second)
    assert container == second != first


@pytest.mark.parametrize(
    ("handlers", "register"),
    [
        ({"a": print}, lambda h: h.update({"b": len})),
        ([print], lambda h: h.append(len)),
        ({print}, lambda h: h.add(len)),
    ],
)
def test_code_that_a_delivery_registered_stays(handlers: Any, register: Any) -> None:
    """Goal: what a module registers when a job first imports it is registered in each worker. Method: a later write."""
    cell = Container(handlers)
    first = cell.read()
    register(handlers)
    cell.write(first)
    assert len(handlers) == 2


class _Mapped(type):
    """Like the metaclass of an ORM's base: what is mapped cannot be taken away."""

    def __delattr__(cls, name: str) -> None:
        raise NotImplementedError(name)

    __setattr__ = __delattr__  # type: ignore[assignment]


class _Around:
    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:")


@dataclass(frozen=True)
class _Frozen:
    url: str

    @functools.cached_property
    def host(self) -> str:
        return self.url.upper()


def test_names_that_cannot_be_set_by_the_usual_way_go_back() -> None:
    """Goal: a class with a will of its own stops no search; its descriptors are code. Method: such a class, such an object."""

    class Order(metaclass=_Mapped):
        counted = 0

    settings = _Frozen("a")
    of_class, of_object = Names(Order), Names(settings)
    first = of_class.read(), of_object.read()
    type.__setattr__(Order, "lines", property(len))
    type.__setattr__(Order, "counted", 1)
    assert settings.host == "A"
    of_class.write(first[0])
    of_object.write(first[1])
    assert (Order.counted, "lines" in vars(Order), vars(settings)) == (0, True, {"url": "a"})


def test_an_object_around_something_open_stays() -> None:
    """Goal: a client that is made when first needed is not made for each delivery. Method: one, behind a memo."""
    client = functools.cache(_Around)
    cell = Memo(functools.cache(lambda: client()))
    cell._memoised()
    assert cell.has([])
    cell.write([])
    assert cell._memoised() is client()
    client().connection.close()


@pytest.mark.parametrize("maxsize", [None, 2, 128])
@pytest.mark.parametrize("typed", [False, True])
def test_memo_is_written_as_it_was_read(maxsize: int | None, typed: bool) -> None:
    """Goal: each call that was remembered is, and no other. Method: calls of all shapes, counted."""
    ran = []

    @functools.lru_cache(maxsize, typed)
    def double(number: Any, *more: int, by: int = 2, **names: int) -> int:
        ran.append(number)
        return number * by

    cell = Memo(double)
    assert cell.read() == []
    calls: list[tuple[tuple[Any, ...], dict[str, int]]] = [((1, 2), {"by": 3, "x": 4}), (("a",), {})]
    for args, kwargs in calls:
        double(*args, **kwargs)
    kept = cell.read()
    double(7)
    cell.write([])
    assert double.cache_info().currsize == 0
    cell.write(kept)
    assert cell.has(kept)
    before = len(ran)
    for args, kwargs in calls:
        double(*args, **kwargs)
    assert len(ran) == before
    double(7)
    assert len(ran) == before + 1


def test_locks_are_given_back_to_who_held_them() -> None:
    """Goal: a lock is free for one worker and held by another's thread. Method: write both in turn."""
    plain, reentrant = threading.Lock(), threading.RLock()
    free = Lock(plain).read(), Reentrant(reentrant).read()
    with plain, reentrant, reentrant:
        held = Lock(plain).read(), Reentrant(reentrant).read()
        assert held == (True, (2, threading.get_ident()))
        Lock(plain).write(free[0])
        Reentrant(reentrant).write(free[1])
        assert plain.acquire(blocking=False)
        Lock(plain).write(held[0])
        Reentrant(reentrant).write(held[1])
    assert (Lock(plain).read(), Reentrant(reentrant).read()) == free == (False, None)


def test_each_delivery_begins_afresh() -> None:
    """Goal: the rules of the module's docstring. Method: three deliveries of two calls, by hand."""
    mine = Memory([recorded], lambda: asked)
    asked.append("by the test")
    seen.add("set up")
    assert mine.look()
    assert not mine.look()
    mine.begin()
    mine.switch("one", first=True)
    assert seen == {"set up"}
    seen.add("one")
    asked.append("one")
    recorded.append("one")
    mine.switch("two")
    assert seen == {"set up"}
    seen.add("two")
    mine.switch("one", first=True)
    assert seen == {"set up", "one"}
    mine.end("one")
    assert seen == {"set up", "one", "two"}
    assert asked == ["by the test", "one"]
    mine.begin()
    mine.switch("three", first=True)
    assert seen == {"set up", "one"}
    mine.switch("four")
    assert seen == {"set up"}
    mine.end(None)
    assert not mine.restore()
    assert seen == set()
    assert recorded == ["one"]
    asked.clear()
    recorded.clear()


class _Lazy:
    """A proxy that is not ready yet: whoever asks it anything gets an error."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(f"asked for {name}")


lazy = [_Lazy()]


def test_a_lazy_object_is_not_woken() -> None:
    """Goal: the survey runs no code of the application's. Method: an object that raises whatever it is asked."""
    mine = Memory([lazy[0]], lambda: None)
    assert not mine.look()
    assert not mine.restore()


def test_libraries_keep_theirs() -> None:
    """Goal: the interpreter's own locks and caches are nobody's to exchange. Method: what the survey has kept."""
    kept = {id(value) for value in Memory([], lambda: None)._kept}
    assert id(threading._active) not in kept  # type: ignore[attr-defined]
    assert id(memory._TRANSPARENT) not in kept
    assert id(seen) in kept
