"""What the pytest plugin does for marked tests and registered jobs; imported when the first of them is there."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator, Sequence
from typing import Any

import pytest

from idemfuzz.abc import Options, Unusable
from idemfuzz.pytest_plugin import MARKER
from idemfuzz.pytest_plugin.fixtures import BYPASSED
from idemfuzz.pytest_plugin.given import GivenSubject, give_time
from idemfuzz.pytest_plugin.jobs import JobItem
from idemfuzz.pytest_plugin.options import WORK, accepted, configured_for, judged_for, options_of, part_of
from idemfuzz.pytest_plugin.outcome import conclude, failures
from idemfuzz.pytest_plugin.subject import TestSubject, session_of

__all__ = ["claim", "is_searched", "leave_out_other_shards", "prepare", "run_marked"]


def leave_out_other_shards(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the part of the searches that ``--idemfuzz-shard`` names; tests that are no searches all stay."""
    number, parts = part_of(config.option.idemfuzz_shard)
    searched = sorted((item for item in items if is_searched(item)), key=lambda item: item.nodeid)
    others = [item for index, item in enumerate(searched) if index % parts != number - 1]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]


def is_searched(item: pytest.Item) -> bool:
    """Whether it is a marked test or a registered job."""
    if isinstance(item, JobItem) or item.get_closest_marker(MARKER) is not None:
        return True
    return "deliver" in getattr(item, "fixturenames", ())


def prepare(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """Refuse marked tests that cannot be searched, and make room for a search inside Hypothesis' tests."""
    try:
        configured_for(config)
        accepted(config)
    except Unusable as error:
        raise pytest.UsageError(str(error)) from error
    for item in items:
        assert isinstance(item, pytest.Function)
        try:
            options = options_of(item)
        except Unusable as error:
            raise pytest.UsageError(f"{item.nodeid}: @pytest.mark.{MARKER}: {error}") from error
        if hasattr(item.obj, "hypothesis"):
            give_time(item, options)


def run_marked(item: pytest.Function) -> None:
    """Search a marked test instead of running it once; fails it with the report if it does not hold."""
    with failures(item):
        if inspect.iscoroutinefunction(item.obj):
            raise Unusable(
                "the test is an async function, and no plugin runs it: mark it with @pytest.mark.asyncio (pytest-asyncio) or "
                "@pytest.mark.anyio"
            )
        arguments = {name: item.funcargs[name] for name in item._fixtureinfo.argnames}
        function = item.stash.get(BYPASSED, item.obj)
        work = item.config.stash.get(WORK, None)
        if hasattr(function, "hypothesis"):
            given = GivenSubject(item, function, arguments)
            given.judge() if work is None else work(given)
        elif work is not None:
            work(TestSubject(item, functools.partial(item.obj, **arguments)))
        else:
            _search(item, functools.partial(item.obj, **arguments), options_of(item))


def claim(item: pytest.Function) -> Generator[None, object, object]:
    """Around a marked test that anyio's plugin would run itself: gives it a function that runs it on anyio's loop.

    (pytest-asyncio makes such a function of its own accord.)
    """
    backend = item.funcargs.get("anyio_backend")
    if backend is None or not inspect.iscoroutinefunction(item.obj):
        return (yield)
    from anyio.pytest_plugin import extract_backend_and_options, get_runner

    function = item.obj
    name, options = extract_backend_and_options(backend)
    if name != "asyncio":
        pytest.skip(f"idemfuzz searches tests on asyncio alone, and this one runs on {name}")
    # One runner, and so one loop, for the whole search.
    with get_runner(name, options) as runner:

        @functools.wraps(function)
        def run(**arguments: Any) -> None:
            runner.run_test(function, arguments)

        # Not marked as a coroutine function, which `wraps` would not undo.
        item.obj = run
        try:
            return (yield)
        finally:
            item.obj = function


def _search(item: pytest.Function, scenario: Callable[[], Any], options: Options) -> None:
    conclude(item, judged_for(item)(session_of(item, scenario, options).run()))
