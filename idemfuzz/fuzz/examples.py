"""Examples of registered jobs: where they are drawn from, and a search of each. Hypothesis is used by its public API alone.

An example is drawn as a whole before anything runs, as plain values, so that Hypothesis can make it smaller; nothing is
drawn while a trial runs, and nothing on another thread.
"""

from __future__ import annotations

import inspect
import random
import typing
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from idemfuzz.abc import Options, Unusable
from idemfuzz.api import Registration, is_strategy
from idemfuzz.fuzz.pursuit import Pursuit, Search
from idemfuzz.fuzz.totals import together
from idemfuzz.model import Example, Plan, Report
from idemfuzz.session import Progress, ScenarioFailed

if TYPE_CHECKING:
    from hypothesis.database import ExampleDatabase
    from hypothesis.strategies import SearchStrategy

__all__ = ["DATABASE", "drawn_for", "needs_examples", "pursued", "search_job", "strategy_of"]

_NUMBERS_MAX = 10_000
"""Of ``args=lambda n: ...``, which jobs are drawn from."""


def needs_examples(registration: Registration) -> bool:
    """Whether there is more than one way to call this job."""
    return registration.draws or registration.varies or not registration.callable_now


def strategy_of(registration: Registration) -> SearchStrategy[Example]:
    """What a job's examples are drawn from: what it was registered with, or else the types of its parameters.

    Raises:
        Unusable: Hypothesis is not installed, or there is nothing to draw from; the message names the parameter.
    """
    try:
        from hypothesis import strategies as st
    except ImportError as error:
        raise Unusable(
            f"{registration.name}: to draw arguments, Hypothesis is needed: pip install 'idemfuzz[hypothesis]'"
        ) from error
    args, kwargs = _arguments(registration)
    state = registration.state if is_strategy(registration.state) else st.just(registration.state)
    return st.builds(Example, args=args, kwargs=kwargs, state=state)


def _arguments(registration: Registration) -> tuple[SearchStrategy[Any], SearchStrategy[Any]]:
    from hypothesis import strategies as st

    given = registration.args
    kwargs = {name: _as_strategy(value) for name, value in registration.kwargs.items()}
    if is_strategy(given):
        return given.map(_as_tuple(registration.name)), st.fixed_dictionaries(kwargs)
    if registration.varies:
        return st.integers(0, _NUMBERS_MAX).map(lambda n: tuple(given(n))), st.fixed_dictionaries(kwargs)
    values = list(given() if callable(given) else given)
    if not registration.callable_now or (not values and not kwargs):
        kwargs = {**_inferred(registration), **kwargs}
    return st.tuples(*map(_as_strategy, values)), st.fixed_dictionaries(kwargs)


def _as_strategy(value: Any) -> SearchStrategy[Any]:
    from hypothesis import strategies as st

    return value if is_strategy(value) else st.just(value)


def _as_tuple(name: str) -> Callable[[Any], tuple[Any, ...]]:
    def made(drawn: Any) -> tuple[Any, ...]:
        if not isinstance(drawn, tuple | list):
            raise Unusable(
                f"{name}: args=<strategy> drew {drawn!r:.100}; a strategy for all arguments draws tuples, as st.tuples(...) does. "
                "For one argument write args=[<strategy>]"
            )
        return tuple(drawn)

    return made


def _inferred(registration: Registration) -> dict[str, SearchStrategy[Any]]:
    """A strategy for each parameter that has no default, from its type."""
    from hypothesis import strategies as st
    from hypothesis.errors import HypothesisException

    job = inspect.unwrap(registration.job)
    try:
        hints = typing.get_type_hints(job)
    except Exception:
        hints = {}
    found = {}
    for parameter in inspect.signature(job).parameters.values():
        if parameter.default is not parameter.empty or parameter.kind in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        ):
            continue
        if parameter.name not in hints:
            raise Unusable(
                f"{registration.name} takes arguments and was registered without, and its parameter {parameter.name!r} has no type to "
                f"draw from: idemfuzz.register({registration.name.rpartition(':')[2]}, args=(...), stores=...), or annotate it"
            )
        strategy = st.from_type(hints[parameter.name])
        try:
            strategy.validate()
        except (HypothesisException, TypeError) as error:
            raise Unusable(
                f"{registration.name}: nothing can be drawn for the parameter {parameter.name!r} of type "
                f"{hints[parameter.name]!r} ({str(error).splitlines()[0]}): register the job with args=..."
            ) from error
        found[parameter.name] = strategy
    return found


@dataclass(slots=True)
class Drawn:
    """How examples are drawn. Equal seeds draw equal examples, unless there is a database."""

    examples_max: int
    seed: int | None = None
    database: ExampleDatabase | None = None
    key: str = ""


DATABASE = "example_database"
"""Under this name `Options.extra` holds Hypothesis' database, where one is configured."""


def drawn_for(registration: Registration, options: Options, examples_max: int, seed: int) -> Drawn:
    """How examples of a job are drawn under these options."""
    return Drawn(examples_max, seed, options.extra.get(DATABASE), registration.target)


def pursued(
    strategy: SearchStrategy[Example],
    pursuit: Pursuit,
    search: Callable[[Example], Search],
    drawn: Drawn,
) -> tuple[Example, Report] | None:
    """Let Hypothesis draw examples until one shows a finding, and make that one small; None if none does.

    Raises:
        Unusable: the set-up is refused, or nothing can be drawn.
    """
    from hypothesis import Phase, find, settings
    from hypothesis.errors import HypothesisException, NoSuchExample, Unsatisfiable

    fatal: BaseException | None = None
    example: Example | None = None

    def shows(candidate: Example) -> bool:
        nonlocal fatal
        if fatal is not None:
            # What cannot be searched is made no smaller.
            return True
        try:
            return pursuit.shows(_key(candidate), search(candidate), candidate, refuses=True)
        except Exception as error:
            fatal = error
            return True

    shared = drawn.database is not None
    phases = (Phase.generate, Phase.target, Phase.shrink)
    chosen = settings(
        settings.default,
        max_examples=max(1, drawn.examples_max),
        phases=(Phase.reuse, *phases) if shared else phases,
        deadline=None,
        database=drawn.database,
        derandomize=False,
    )
    # With a seed of ours, Hypothesis keeps nothing in its database.
    chance = None if shared or drawn.seed is None else random.Random(drawn.seed)
    try:
        example = find(
            strategy,
            shows,
            settings=chosen,
            random=chance,
            database_key=drawn.key.encode() if shared else None,
        )
    except NoSuchExample:
        example = None
    except Unsatisfiable as error:
        raise Unusable(f"no example can be drawn: {error}") from error
    except HypothesisException as error:
        raise Unusable(f"Hypothesis refuses to draw: {error}") from error
    if fatal is not None:
        raise fatal
    if example is None:
        return None
    return example, pursuit.settled(_key(example))


def _key(example: Example) -> str:
    return repr((example.args, example.kwargs, example.state))


def search_job(
    registration: Registration,
    options: Options,
    *,
    listener: Callable[[Progress], None] | None = None,
    command: Callable[[Plan], str] | None = None,
    example: Example | None = None,
    judged: Callable[[Report], Report] = lambda report: report,
) -> tuple[Report, Example | None]:
    """Search a registered job: once, or once per example, where there is more than one way to call it.

    ``judged`` is what is made of each report.

    Returns the report, and the example that shows its finding, if there is one.

    Raises:
        Unusable: there is nothing to call it with, or its stores are refused.
        ScenarioFailed: it fails when it is delivered once, with every example.
    """

    def search(one: Example) -> Search:
        return lambda chosen, **more: registration.search(
            chosen, listener=listener, command=command, example=one, **more
        )

    if example is not None:
        return judged(search(example)(options)), example
    drawing = registration.draws or not registration.callable_now
    if not drawing:
        return judged(registration.search(options, listener=listener, command=command)), None
    pursuit = Pursuit(options, judged=judged)
    found = pursued(
        strategy_of(registration),
        pursuit,
        search,
        drawn_for(registration, options, options.max_examples, options.seed),
    )
    if found is not None:
        shown, report = found
        whole = together(pursuit.reports, refused=pursuit.refused)
        return replace(report, certificate=whole.certificate), shown
    if not pursuit.reports:
        errors = "; ".join(f"{text} ({times} times)" for text, times in pursuit.refused.most_common(3))
        raise ScenarioFailed(
            Unusable(
                f"{registration.name} fails with each of {pursuit.looks} examples when it is delivered once: {errors}. "
                "Register it with args=... that it takes"
            )
        )
    return together(pursuit.reports, refused=pursuit.refused), None
