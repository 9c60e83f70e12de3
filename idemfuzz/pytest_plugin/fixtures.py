"""What a test brings: the values of its fixtures that are stores, mocks and queues, and the jobs that its code names."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest

from idemfuzz import api
from idemfuzz.abc import Unusable

__all__ = ["BYPASSED", "known_jobs", "values_of"]

BYPASSED: pytest.StashKey[Any] = pytest.StashKey()
_OWN_FIXTURES = ("request", "deliver", "capsys", "caplog", "capfd", "recwarn", "pytestconfig")


def values_of(item: pytest.Function, stores: Any) -> dict[str, object]:
    """Name -> value of all fixtures of a test (also those behind its own ones), or of the stores that were named."""
    fixtures = dict(_fixture_values(item))
    if stores is None:
        return fixtures
    chosen: dict[str, object] = {}
    for name, value in _named_stores(stores, fixtures).items():
        chosen[name] = value
    # Mocks and queues are no stores: they are watched anyway.
    return {**{n: v for n, v in fixtures.items() if not _is_store_like(v)}, **chosen}


def _named_stores(stores: Any, fixtures: Mapping[str, object]) -> dict[str, object]:
    if isinstance(stores, str):
        stores = [stores]
    if isinstance(stores, list | tuple) and all(isinstance(store, str) for store in stores):
        unknown = [store for store in stores if store not in fixtures]
        if unknown:
            raise Unusable(
                f"stores={list(stores)!r}: {', '.join(map(repr, unknown))} is no fixture of this test; "
                f"its fixtures are {', '.join(sorted(fixtures)) or 'none'}"
            )
        return {store: fixtures[store] for store in stores}
    return api.named(stores)


def _is_store_like(value: object) -> bool:
    from idemfuzz.adapters import is_store

    return type(value) in (list, dict, set, deque) or isinstance(value, Path) or is_store(value)


def _fixture_values(item: pytest.Function) -> Iterator[tuple[str, object]]:
    own = dict(item.funcargs)
    # Fixtures behind fixtures (a client on an engine) are known to the request alone.
    definitions = getattr(item._request, "_fixture_defs", {})
    behind = {}
    for name, definition in definitions.items():
        cached = getattr(definition, "cached_result", None)
        if cached is not None and cached[2] is None:
            behind[name] = cached[0]
    for name, value in {**own, **behind}.items():
        if name == "tmp_path" and name not in item._fixtureinfo.argnames:
            # Only what fixtures put their own files into; the test does not speak of it.
            continue
        if name not in _OWN_FIXTURES and not name.startswith("_"):
            yield name, value


def known_jobs(item: pytest.Function, values: Mapping[str, object]) -> Iterator[object]:
    """Jobs that the test's code names, if they were registered or a queue knows them."""
    from idemfuzz.adapters import load_adapters

    queues = [adapter for adapter in load_adapters() if hasattr(adapter, "interruption")]
    registered = [registration.job for registration in api.registrations]
    yield from registered
    for value in _reachable(item, values):
        if any(value is job for job in registered):
            continue
        if any(True for queue in queues for _ in queue.functions(value)):
            yield value


def _reachable(item: pytest.Function, values: Mapping[str, object]) -> Iterator[object]:
    function: Any = item.stash.get(BYPASSED, item.obj)
    if hasattr(function, "hypothesis"):
        function = function.hypothesis.inner_test
    function = inspect.unwrap(getattr(function, "__func__", function))
    names = set(_names(function.__code__)) if hasattr(function, "__code__") else set()
    scope = {**getattr(function, "__globals__", {}), **inspect.getclosurevars(function).nonlocals}
    for name in names & scope.keys():
        value = scope[name]
        yield value
        if isinstance(value, ModuleType | type):
            yield from (getattr(value, n) for n in names if hasattr(value, n))
    yield from values.values()
    params = getattr(getattr(item, "callspec", None), "params", {})
    yield from params.values()


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    yield from code.co_freevars
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
