"""The Python front end: `register` a job, `check` a scenario."""

from __future__ import annotations

import copy
import functools
import inspect
import math
import re
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from idemfuzz.abc import Options, Unusable
from idemfuzz.explorers import FAULT_NAMES
from idemfuzz.model import DELIVERIES_MAX, SECONDS_MAX, Example, Plan, PlanError, Report
from idemfuzz.session import Progress, Session

__all__ = ["Registration", "check", "listed", "make_options", "named", "register", "registrations"]

_OPTION_NAMES = frozenset(f.name for f in fields(Options)) - {"extra"}


@dataclass(frozen=True, slots=True)
class Registration:
    """A job with what is needed to search it without a test."""

    job: Any
    args: Any = ()
    """A sequence, a function that returns one, or a strategy for one; a sequence may hold strategies."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    stores: Any = None
    setup: Callable[..., Any] | None = None
    name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    runnable: bool = True
    """Whether `register` was given what it takes to call the job."""
    module: str = ""
    """Where it was registered: importing this module makes the job known."""
    state: Any = None
    """What ``setup`` is called with, or a strategy for it."""

    @property
    def target(self) -> str:
        """What `idemfuzz run` takes for this job alone."""
        return f"{self.module}:{getattr(self.job, '__qualname__', '')}"

    @property
    def callable_now(self) -> bool:
        """Whether there is what it takes to call it: arguments, or none needed."""
        if self.runnable:
            return True
        parameters = inspect.signature(self.job).parameters.values()
        return all(
            p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters
        )

    @property
    def varies(self) -> bool:
        """Whether ``args`` is a function of a number: each number is another job."""
        return callable(self.args) and bool(inspect.signature(self.args).parameters)

    def arguments(self, number: int = 0) -> tuple[Any, ...]:
        """The positional arguments; with ``args=lambda n: ...`` those of job ``number``, else the same for each."""
        if self.draws:
            raise Unusable(
                f"{self.name} is registered with Hypothesis strategies, and here its arguments must be told by a number: "
                "register it with args=lambda n: (...)"
            )
        if not callable(self.args):
            return tuple(self.args)
        return tuple(self.args(number) if self.varies else self.args())

    @property
    def draws(self) -> bool:
        """Whether arguments or state are drawn from strategies."""
        parts = list(self.args) if isinstance(self.args, list | tuple) else [self.args]
        return any(map(is_strategy, [*parts, *self.kwargs.values(), self.state]))

    def values(self) -> dict[str, object]:
        """What the stores are found among, by name."""
        return named(self.stores) if self.stores is not None else _globals_of(self.job)

    def search(
        self,
        options: Options,
        *,
        listener: Callable[[Progress], None] | None = None,
        command: Callable[[Plan], str] | None = None,
        example: Example | None = None,
        **more: Any,
    ) -> Report:
        """Search this job: ``setup``, then one call with ``args`` and ``kwargs``, or with those of an example.

        ``more`` goes to the `Session`.

        Raises:
            Unusable: there is nothing to call it with, or its stores are refused.
        """
        if example is None and not self.callable_now:
            raise Unusable(
                f"{self.name} takes arguments and was registered without; idemfuzz.register({self.name}, args=(...), stores=...)"
            )

        def scenario() -> Any:
            # Each trial gets what was drawn, whatever an earlier one did to it.
            given = copied(example) if example is not None else None
            state = given.state if given is not None else self.state
            prepared = None
            if self.setup is not None:
                prepared = self.setup() if self.state is None else self.setup(state)
            if inspect.iscoroutine(prepared):
                return prepared_and_called(prepared, given)
            return call(given)

        def call(given: Example | None) -> Any:
            if given is not None:
                return self.job(*given.args, **given.kwargs)
            return self.job(*self.arguments(), **dict(self.kwargs))

        async def prepared_and_called(prepared: Awaitable[Any], given: Example | None) -> None:
            await prepared
            called = call(given)
            if inspect.isawaitable(called):
                await called

        session = Session(
            self.name,
            scenario,
            self.values(),
            [self.job],
            options,
            only=True,
            listener=listener,
            command=command,
            **more,
        )
        report = session.run()
        return report if example is None else replace(report, arguments=self.described(example))

    def described(self, example: Example) -> dict[str, str]:
        """The values of an example as text, by the names of the job's parameters; and the state."""
        try:
            told = dict(inspect.signature(self.job).bind(*example.args, **example.kwargs).arguments)
        except TypeError:
            told = {str(index): value for index, value in enumerate(example.args, 1)} | dict(example.kwargs)
        return told_by_text(told if self.state is None else {**told, "state": example.state})


registrations: list[Registration] = []
"""Every job that was registered in this process, in order."""


def register(
    job: Any = None,
    *,
    args: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    stores: Any = None,
    setup: Callable[..., Any] | None = None,
    state: Any = None,
    name: str | None = None,
    **options: Any,
) -> Any:
    """Make a job known: a marked test need not name it, and `pytest --idemfuzz` collects it as an item.

    Usable as a call or as a decorator. ``args`` are the job's positional arguments, or a function that returns them; one
    that takes a number makes different jobs of it (`idemfuzz stress` sends many, a search delivers number 0). Hypothesis
    strategies in ``args`` and ``kwargs``, or one strategy for all of ``args``, are drawn from, one search per example. ``stores`` is a mapping name -> store, a sequence of stores, or a function
    that returns one of these (called when the search begins). ``setup`` runs before each delivery's scenario, from
    restored state; it may be a coroutine function. With ``state``, a value or a strategy, it is called with that.
    ``options`` are those of the marker.

    Raises:
        Unusable: an option is unknown or has an unusable value.
    """

    module = str(sys._getframe(1).f_globals.get("__name__", ""))

    def enter(target: Any) -> Any:
        make_options(options)
        _check_state(state, setup)
        label = (
            name or f"{getattr(target, '__module__', '?')}:{getattr(target, '__qualname__', repr(target))}"
        )
        runnable = is_strategy(args) or bool(args) or bool(kwargs)
        registrations.append(
            Registration(
                target, args, dict(kwargs or {}), stores, setup, label, dict(options), runnable, module, state
            )
        )
        return target

    return enter if job is None else enter(job)


def is_strategy(value: Any) -> bool:
    """Whether it is a strategy of Hypothesis, which is not imported for this: whoever made one has done so."""
    strategies = sys.modules.get("hypothesis.strategies")
    return strategies is not None and isinstance(value, strategies.SearchStrategy)


def told_by_text(values: Mapping[str, Any]) -> dict[str, str]:
    """Values as a person would write them, for reports."""
    return {name: repr(value) for name, value in values.items()}


def copied(value: Any) -> Any:
    """A deep copy; the same object where there can be none (a client, a lock)."""
    try:
        return copy.deepcopy(value)
    except Exception:
        return value


def _check_state(state: Any, setup: Callable[..., Any] | None) -> None:
    if state is None:
        return
    if setup is None:
        raise Unusable(
            "state=... is given without setup=...: name a function that takes the state and puts it into the stores"
        )
    try:
        inspect.signature(setup).bind(state)
    except TypeError as error:
        raise Unusable(
            f"state=... is given, and setup={setup!r} cannot be called with it ({error}): it takes the state alone"
        ) from error
    except ValueError:
        return


def check(
    scenario: Callable[[], Any],
    *,
    job: Any = None,
    stores: Any = None,
    name: str | None = None,
    **options: Any,
) -> Report:
    """Search for a way of delivering the scenario's jobs that leaves a different world behind than delivering once.

    Args:
        scenario: calls the job, directly or through a queue; it runs once per trial from restored state. It may be
            a coroutine function, which is run on one event loop for the whole search.
        job: the job, or a list of jobs, whose calls are deliveries; jobs run by an RQ Queue or Worker are found.
        stores: mapping name -> store, or a sequence of stores (engines, sessions, Redis clients, folders, mocks).
        options: as for the marker: deliveries, faults, ignore, allow, redelivery_window, max_trials, strict, ...

    Raises:
        Unusable: the set-up is refused.
        ScenarioFailed: the scenario fails without any duplicate.
    """
    jobs = listed(job)
    return Session(
        name or str(getattr(scenario, "__qualname__", "scenario")),
        scenario,
        named(stores),
        jobs or [r.job for r in registrations],
        make_options(options),
        only=bool(jobs),
    ).run()


def make_options(given: Mapping[str, Any]) -> Options:
    """Read the options of a marker, a registration or a command line.

    Raises:
        Unusable: one is unknown or has an unusable value; the message names it, the value and what is expected.
    """
    changes: dict[str, Any] = {}
    for key, value in given.items():
        if key not in _OPTION_NAMES:
            raise Unusable(
                f"unknown option {key}={value!r}; the options are {', '.join(sorted(_OPTION_NAMES))}"
            )
        reader = _READERS.get(key)
        changes[key] = value if reader is None else reader(key, value)
    return Options(**changes)


def named(stores: Any) -> dict[str, object]:
    """Stores by name, from whatever form they were given in."""
    if isinstance(stores, FunctionType | functools.partial):
        stores = stores()
    if stores is None:
        return {}
    if isinstance(stores, Mapping):
        return {str(key): value for key, value in stores.items()}
    if isinstance(stores, list | tuple):
        found: dict[str, object] = {}
        for value in stores:
            label = _label(value)
            number = 2
            while label in found:
                label, number = f"{_label(value)}{number}", number + 1
            found[label] = value
        return found
    return {_label(stores): stores}


def _globals_of(job: Any) -> dict[str, object]:
    """What the job's own module holds, for a job registered without stores; what is no store is passed over."""
    module = sys.modules.get(getattr(job, "__module__", ""))
    plain = (list, dict, set, tuple, str, int, float, Path, ModuleType, FunctionType, type)
    return {
        name: value
        for name, value in (vars(module) if module else {}).items()
        if not name.startswith("__") and not isinstance(value, plain)
    }


def _label(store: object) -> str:
    if isinstance(store, Path):
        return store.name or "files"
    kind = type(store).__name__.lower()
    return {
        "engine": "db",
        "session": "db",
        "asyncengine": "db",
        "asyncsession": "db",
        "async_sessionmaker": "db",
        "async_scoped_session": "db",
        "sessionmaker": "db",
        "scoped_session": "db",
        "fakeredis": "redis",
    }.get(kind, kind)


def listed(job: Any) -> list[Any]:
    """Jobs as a list, from one, several, or their import paths.

    Raises:
        Unusable: a path cannot be imported.
    """
    if job is None:
        return []
    return [_imported(j) for j in (job if isinstance(job, list | tuple | set) else [job])]


def _imported(job: Any) -> Any:
    """A job given as ``module:function`` or ``module.function``."""
    if not isinstance(job, str):
        return job
    from importlib import import_module

    module, _, attribute = job.partition(":") if ":" in job else job.rpartition(".")
    try:
        found: Any = import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise Unusable(
            f"job={job!r} cannot be imported ({error}); write it as 'package.module:function'"
        ) from error
    return found


def _whole(minimum: int, most: int | None = None) -> Callable[[str, Any], int]:
    expected = f"of at least {minimum}" if most is None else f"from {minimum} to {most}"

    def read(key: str, value: Any) -> int:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not is_whole or value < minimum or (most is not None and value > most):
            raise Unusable(f"{key}={value!r} is not usable; expected a whole number {expected}")
        return int(value)

    return read


def _window(key: str, value: Any) -> float | None:
    if value is None:
        return None
    seconds = _seconds(key, value)
    if seconds > SECONDS_MAX:
        raise Unusable(f"{key}={value!r} is not usable; expected at most {SECONDS_MAX:.0f} seconds")
    return seconds


def _seconds(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise Unusable(f"{key}={value!r} is not usable; expected a number of seconds above 0")
    return float(value)


def _names(key: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = (value,)
    names = tuple(value) if isinstance(value, Iterable) else (value,)
    if not all(isinstance(name, str) for name in names):
        raise Unusable(f"{key}={value!r} is not usable; expected a text or a list of texts")
    return names


def _faults(key: str, value: Any) -> frozenset[str] | None:
    if value is None:
        return None
    names = frozenset(_names(key, value))
    unknown = names - set(FAULT_NAMES)
    if unknown or not names:
        raise Unusable(
            f"{key}={sorted(unknown) if unknown else value!r} is not usable; the faults are {', '.join(FAULT_NAMES)}"
        )
    return names


def _flag(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise Unusable(f"{key}={value!r} is not usable; expected True or False")
    return value


def _redact(key: str, value: Any) -> tuple[str, ...]:
    patterns = _names(key, value)
    for pattern in patterns:
        try:
            re.compile(pattern[3:] if pattern.startswith("re:") else "")
        except re.error as error:
            raise Unusable(f"{key}={pattern!r} is not a regular expression: {error}") from error
    if not all(patterns):
        raise Unusable(f"{key}={value!r} is not usable: an empty pattern hides nothing")
    return patterns


def _plan(key: str, value: Any) -> Plan | None:
    if value is None or isinstance(value, Plan):
        return value
    try:
        return Plan.parse(str(value))
    except PlanError as error:
        raise Unusable(str(error)) from error


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "deliveries": _whole(2, DELIVERIES_MAX),
    "overlapping": _whole(2, DELIVERIES_MAX),
    "max_trials": _whole(1),
    "max_examples": _whole(1),
    "full_read_rows_max": _whole(0),
    "attempts": _whole(2, DELIVERIES_MAX),
    "seed": _whole(0),
    "timeout": _seconds,
    "redelivery_window": _window,
    "ignore": _names,
    "allow": _names,
    "faults": _faults,
    "isolation": lambda key, value: tuple(name.upper().replace("_", " ") for name in _names(key, value)),
    "strict": _flag,
    "prove": _flag,
    "plan": _plan,
    "redact": _redact,
}
