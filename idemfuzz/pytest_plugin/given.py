"""Marked tests with ``@given``: a search for each example that Hypothesis draws."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from idemfuzz import api
from idemfuzz.abc import Options, Unusable
from idemfuzz.model import Example, Report
from idemfuzz.pytest_plugin.fixtures import BYPASSED
from idemfuzz.pytest_plugin.options import judged_for, marker_arguments, options_of
from idemfuzz.pytest_plugin.outcome import Violated, conclude
from idemfuzz.pytest_plugin.subject import session_of
from idemfuzz.session import ScenarioFailed

if TYPE_CHECKING:
    from idemfuzz.fuzz.pursuit import Pursuit


__all__ = ["OWN_SETTINGS", "GivenSubject", "bypass", "give_time"]

_TIMED: pytest.StashKey[list[Any]] = pytest.StashKey()
OWN_SETTINGS: pytest.StashKey[bool] = pytest.StashKey()
_SETTINGS = "_hypothesis_internal_use_settings"
"""Where Hypothesis keeps the settings of a test."""


def give_time(item: pytest.Function, options: Options) -> None:
    """A search is many runs of the body: no deadline, fewer examples; idemfuzz resets what fixtures hold.

    A test with ``@settings`` of its own keeps them: see `bypass` and `_search_examples` for what is done then.
    """
    from hypothesis import HealthCheck, settings
    from hypothesis.errors import InvalidArgument

    function = inspect.unwrap(item.obj, stop=lambda f: hasattr(f, "hypothesis"))
    function = getattr(function, "__func__", function)
    timed = item.config.stash.setdefault(_TIMED, [])
    if any(function is known for known in timed):
        return
    default = settings.default
    assert default is not None
    database = options.extra.get("example_database", default.database)
    checks = {*default.suppress_health_check, HealthCheck.function_scoped_fixture, HealthCheck.too_slow}
    roomy = settings(
        default,
        deadline=None,
        database=database,
        max_examples=min(default.max_examples, options.max_examples),
        suppress_health_check=sorted(checks, key=lambda check: check.value),
    )
    try:
        roomy(function)
        timed.append(function)
    except InvalidArgument:
        # It is decorated already, and Hypothesis lets nobody overrule that.
        item.stash[OWN_SETTINGS] = True


def bypass(item: pytest.Function) -> Generator[None, object, object]:
    """Around a test with ``@given`` and ``@settings`` of its own: Hypothesis' plugin does not see it.

    It would refuse function-scoped fixtures, for a reason that does not hold here: each trial restores them.
    """
    if not item.stash.get(OWN_SETTINGS, False):
        return (yield)
    function = item.obj

    def run(**arguments: Any) -> None:
        raise AssertionError("run_marked runs the test")

    # pytest-asyncio looks for the coroutine there, and puts what runs it in its place.
    run.hypothesis = cast(Any, function).hypothesis  # type: ignore[attr-defined]
    item.obj, item.stash[BYPASSED] = run, function
    try:
        return (yield)
    finally:
        item.obj = function
        del item.stash[BYPASSED]


class GivenSubject:
    """A marked test with ``@given``: a search per example; once one fails, its finding is followed to a smaller example."""

    draws = True

    def __init__(
        self, item: pytest.Function, function: Callable[..., Any], arguments: Mapping[str, Any]
    ) -> None:
        self._item = item
        self._function = function
        self._arguments = arguments
        self._handle = cast(Any, function).hypothesis
        self._inner = self._handle.inner_test
        self.options = options_of(item)
        # Whoever says by `@settings` how many examples there are gets them, unless the marker says so, too.
        self._has_own_settings = item.stash.get(
            OWN_SETTINGS, False
        ) and "max_examples" not in marker_arguments(item)

    def search(self, example: Example | None) -> Callable[..., Report]:
        """A search with the values of an example in place of what would be drawn."""
        if example is None:
            raise Unusable("the example that was drawn is needed, and is not kept")
        drawn = dict(example.kwargs)
        instance = getattr(self._function, "__self__", None)
        bound = () if instance is None else (instance,)

        def scenario() -> Any:
            # Each trial gets what was drawn, whatever an earlier one did to it.
            return self._inner(*bound, **{**self._arguments, **api.copied(drawn)})

        def run(options: Options, **more: Any) -> Report:
            report = session_of(self._item, scenario, options, **more).run()
            return replace(report, arguments=api.told_by_text(drawn))

        return run

    def pursue(self, pursuit: Pursuit, seed: int | None = None) -> tuple[Example | None, Report] | None:
        """Let Hypothesis run the test, whose body is a search now."""
        import hypothesis
        from hypothesis.errors import Unsatisfiable

        last: dict[str, Any] = {}

        @functools.wraps(self._inner)
        def example(*args: Any, **kwargs: Any) -> None:
            drawn = {name: value for name, value in kwargs.items() if name not in self._arguments}
            if self._is_shown(pursuit, drawn):
                last.clear()
                last.update(drawn)
                raise Violated

        self._handle.inner_test = example
        function = getattr(self._function, "__func__", self._function)
        if seed is not None:
            hypothesis.seed(seed)(function)
        try:
            with _without_deadline(function):
                self._function(**self._arguments)
        except Violated:
            # What Hypothesis has to say of it, the report says better.
            pass
        except Unsatisfiable:
            # What was judged here may be none to Hypothesis: `_is_shown`.
            if not pursuit.looked:
                raise
        finally:
            self._handle.inner_test = self._inner
        return (Example(kwargs=last), pursuit.settled()) if pursuit.target is not None else None

    def _is_shown(self, pursuit: Pursuit, drawn: Mapping[str, Any]) -> bool:
        from hypothesis import reject, settings
        from hypothesis.errors import UnsatisfiedAssumption

        _refuse_interactive(drawn)
        one = Example(kwargs=drawn)
        # Within a test these are its own.
        chosen = settings.default
        assert chosen is not None
        if self._has_own_settings:
            pursuit.examples_max = min(chosen.max_examples, pursuit.examples_max or chosen.max_examples)
        try:
            shown = pursuit.shows(repr(sorted(drawn.items(), key=repr)), self.search(one), one)
        except ScenarioFailed as failure:
            if isinstance(failure.error, UnsatisfiedAssumption):
                raise failure.error from None
            raise
        if not shown and chosen.deadline is not None:
            # Its deadline could not be taken away: a search takes longer than a run of the body may, and Hypothesis would
            # call that a failure. The example has been judged here; to Hypothesis it is none.
            reject()
        return shown

    def judge(self) -> None:
        """The verdict of the test."""
        from idemfuzz.fuzz.pursuit import Pursuit
        from idemfuzz.fuzz.totals import together

        pursuit = Pursuit(self.options, judged=judged_for(self._item))
        found = self.pursue(pursuit)
        if found is not None:
            example, report = found
            report = replace(report, certificate=together(pursuit.reports).certificate)
            conclude(self._item, report, example)
        elif pursuit.reports:
            conclude(self._item, together(pursuit.reports))


@contextmanager
def _without_deadline(function: Any) -> Iterator[None]:
    """While it runs, a test with ``@settings`` of its own has these, but for what a search cannot keep to."""
    from hypothesis import settings

    own = getattr(function, _SETTINGS, None)
    if not isinstance(own, settings):
        yield
        return
    setattr(function, _SETTINGS, settings(own, deadline=None))
    try:
        yield
    finally:
        setattr(function, _SETTINGS, own)


def _refuse_interactive(drawn: Mapping[str, Any]) -> None:
    for name, value in drawn.items():
        kind = type(value)
        if kind.__module__.startswith("hypothesis."):
            raise Unusable(
                f"{name} is a {kind.__qualname__} of Hypothesis, which draws while the test runs; a search runs it many times, "
                "and each must get the same. Draw plain values by @given, with st.builds or @st.composite where one depends on another"
            )
