"""What the pytest plugin does for marked tests and registered jobs; imported when the first of them is there."""

from __future__ import annotations

import functools
import importlib
import inspect
import shlex
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any, cast

import pytest

from idemfuzz import api, baseline, corpus
from idemfuzz.abc import Options, Unusable
from idemfuzz.configuration import Configuration, configuration
from idemfuzz.model import Example, Finding, Plan, PlanError, Report, Verdict
from idemfuzz.pytest_plugin import CRASH, DELIVER, MARKER, REPORTS
from idemfuzz.reporting import junit
from idemfuzz.reporting.certificate import counted, headline
from idemfuzz.reporting.json_report import report_to_json, worst_per_search
from idemfuzz.reporting.steps import clean
from idemfuzz.reporting.text import mark_of, render
from idemfuzz.session import Progress, ScenarioFailed, Session

WORK: pytest.StashKey[Any] = pytest.StashKey()
"""What is done with each subject in place of a plain search: by a fuzzer, or a replay."""
_CONFIGURED: pytest.StashKey[Configuration] = pytest.StashKey()
_DATABASE: pytest.StashKey[Any] = pytest.StashKey()
_ACCEPTED: pytest.StashKey[list[baseline.Accepted]] = pytest.StashKey()
_TIMED: pytest.StashKey[list[Any]] = pytest.StashKey()
_OWN_SETTINGS: pytest.StashKey[bool] = pytest.StashKey()
_SETTINGS = "_hypothesis_internal_use_settings"
"""Where Hypothesis keeps the settings of a test."""
_BYPASSED: pytest.StashKey[Any] = pytest.StashKey()
_OWN_FIXTURES = ("request", "deliver", "capsys", "caplog", "capfd", "recwarn", "pytestconfig")
_NOT_OPTIONS = ("job", "stores")
_HOLDING_MAX = 10
_MARKUP = {Verdict.HOLDS: {"green": True}, Verdict.UNKNOWN: {"yellow": True}, Verdict.VIOLATED: {"red": True}}


if TYPE_CHECKING:
    from idemfuzz.fuzz.pursuit import Pursuit


class Violated(AssertionError):
    """A search found something; the message is the whole report."""


class Deliver:
    """The ``deliver`` fixture: calls a job as a delivery, registered or not."""

    def __init__(self) -> None:
        self.session: Session | None = None

    def __call__(self, job: Any, /, *args: Any, **kwargs: Any) -> Any:
        if self.session is None:
            raise Unusable(
                "deliver(...) was called outside the test's body, for instance in a fixture; call it in the test"
            )
        return self.session.deliver(job, *args, **kwargs)


# -- configuration ---------------------------------------------------------------------------------------


def check_options(config: pytest.Config) -> None:
    """Refuse unusable command line options before anything runs, and make ready for report files."""
    option = config.option
    try:
        configured_for(config)
        if option.idemfuzz_shard:
            part_of(option.idemfuzz_shard)
        _command_line(config)
        _accepted(config)
        asked = [*option.idemfuzz_report]
        asked += [f"html={option.idemfuzz_html}"] if option.idemfuzz_html else []
        if asked:
            from idemfuzz.pytest_reports import ReportFiles
            from idemfuzz.reporting.files import targets

            wanted = targets(asked)
            if not hasattr(config, "workerinput"):
                config.pluginmanager.register(ReportFiles(wanted), "idemfuzz-reports")
    except Unusable as error:
        raise pytest.UsageError(str(error)) from error


def _command_line(config: pytest.Config) -> dict[str, Any]:
    option = config.option
    given: dict[str, Any] = {}
    if option.idemfuzz_plan:
        try:
            given["plan"] = corpus.load(option.idemfuzz_plan)
        except PlanError as error:
            raise Unusable(str(error)) from error
    if option.idemfuzz_max_trials is not None:
        given["max_trials"] = option.idemfuzz_max_trials
    if option.idemfuzz_seed is not None:
        given["seed"] = option.idemfuzz_seed
    if option.idemfuzz_prove:
        given["prove"] = True
    if option.idemfuzz_redact:
        given["redact"] = option.idemfuzz_redact
    api.make_options(given)
    return given


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
    for item in items:
        assert isinstance(item, pytest.Function)
        try:
            options = _options(item)
        except Unusable as error:
            raise pytest.UsageError(f"{item.nodeid}: @pytest.mark.{MARKER}: {error}") from error
        if hasattr(item.obj, "hypothesis"):
            _give_time(item, options)


def _give_time(item: pytest.Function, options: Options) -> None:
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
        item.stash[_OWN_SETTINGS] = True


def bypass(item: pytest.Function) -> Generator[None, object, object]:
    """Around a test with ``@given`` and ``@settings`` of its own: Hypothesis' plugin does not see it.

    It would refuse function-scoped fixtures, for a reason that does not hold here: each trial restores them.
    """
    if not item.stash.get(_OWN_SETTINGS, False):
        return (yield)
    function = item.obj

    def run(**arguments: Any) -> None:
        raise AssertionError("run_marked runs the test")

    item.obj, item.stash[_BYPASSED] = run, function
    try:
        return (yield)
    finally:
        item.obj = function
        del item.stash[_BYPASSED]


def _marker_arguments(item: pytest.Item) -> dict[str, Any]:
    """The nearest marker wins, option by option."""
    merged: dict[str, Any] = {}
    for marker in reversed(list(item.iter_markers(MARKER))):
        if marker.args:
            raise Unusable(f"takes keyword options only, got {marker.args!r}")
        merged.update(marker.kwargs)
    return merged


def _options(item: pytest.Item) -> Options:
    given = {key: value for key, value in _marker_arguments(item).items() if key not in _NOT_OPTIONS}
    return _merged(item.config, given)


def _merged(config: pytest.Config, job: Mapping[str, Any]) -> Options:
    """The command line over the job over the profile over the table of the project."""
    configured = configured_for(config)
    given = _command_line(config)
    options = configured.merged(job, given)
    # What is hidden is added up: nobody who asks for less on the command line means a secret.
    hidden = dict.fromkeys((*configured.merged(job, {}).redact, *options.redact))
    database = config.stash.get(_DATABASE, None)
    extra = {} if database is None else {"example_database": database}
    allow = (*options.allow, *config.getini("idemfuzz_allow"))
    return replace(options, allow=allow, redact=tuple(hidden), extra=extra)


def configured_for(config: pytest.Config) -> Configuration:
    """``[tool.idemfuzz]`` of the project, read once.

    Raises:
        Unusable: it cannot be used.
    """
    known = config.stash.get(_CONFIGURED, None)
    if known is None:
        known = configuration(config.rootpath, config.option.idemfuzz_profile)
        config.stash[_CONFIGURED] = known
        if known.example_databases:
            from idemfuzz.fuzz.databases import example_database

            config.stash[_DATABASE] = example_database(known.example_databases, config.rootpath)
    return known


def part_of(text: str) -> tuple[int, int]:
    """``2/4``: the second of four parts.

    Raises:
        Unusable: it is no such text.
    """
    number, slash, parts = text.partition("/")
    if slash and number.isdecimal() and parts.isdecimal() and 1 <= int(number) <= int(parts):
        return int(number), int(parts)
    raise Unusable(f"the shard {text!r} is not usable; expected I/N with I from 1 to N, as in 2/4")


# -- marked tests ----------------------------------------------------------------------------------------


def run_marked(item: pytest.Function) -> None:
    """Search a marked test instead of running it once; fails it with the report if it does not hold."""
    with _failures(item):
        if inspect.iscoroutinefunction(item.obj):
            raise Unusable(
                "the test is an async function, and no plugin runs it: mark it with @pytest.mark.asyncio (pytest-asyncio) or "
                "@pytest.mark.anyio"
            )
        arguments = {name: item.funcargs[name] for name in item._fixtureinfo.argnames}
        function = item.stash.get(_BYPASSED, item.obj)
        work = item.config.stash.get(WORK, None)
        if hasattr(function, "hypothesis"):
            given = GivenSubject(item, function, arguments)
            given.judge() if work is None else work(given)
        elif work is not None:
            work(TestSubject(item, functools.partial(item.obj, **arguments)))
        else:
            _search(item, functools.partial(item.obj, **arguments), _options(item))


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


class TestSubject:
    """A marked test without ``@given``, for a fuzzer or a replay."""

    draws = False

    def __init__(self, item: pytest.Function, scenario: Callable[[], Any]) -> None:
        self._item = item
        self._scenario = scenario
        self.options = _options(item)

    def search(self, example: Example | None) -> Callable[..., Report]:
        return lambda options, **more: _session(self._item, self._scenario, options, **more).run()

    def pursue(self, pursuit: Pursuit, seed: int) -> tuple[Example | None, Report] | None:
        from idemfuzz.fuzz.subject import once

        return once(self, pursuit)


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
        self.options = _options(item)
        # Whoever says by `@settings` how many examples there are gets them, unless the marker says so, too.
        self._has_own_settings = item.stash.get(
            _OWN_SETTINGS, False
        ) and "max_examples" not in _marker_arguments(item)

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
            report = _session(self._item, scenario, options, **more).run()
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

        pursuit = Pursuit(self.options)
        found = self.pursue(pursuit)
        if found is not None:
            example, report = found
            report = replace(report, certificate=together(pursuit.reports).certificate)
            _conclude(self._item, report, example)
        elif pursuit.reports:
            _conclude(self._item, together(pursuit.reports))


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


def _search(item: pytest.Function, scenario: Callable[[], Any], options: Options) -> None:
    _conclude(item, _session(item, scenario, options).run())


def _session(item: pytest.Function, scenario: Callable[[], Any], options: Options, **more: Any) -> Session:
    marker = _marker_arguments(item)
    values = _values(item, marker.get("stores"))
    jobs = api.listed(marker.get("job"))
    session = Session(
        item.nodeid,
        scenario,
        values,
        jobs or list(_known_jobs(item, values)),
        options,
        only=bool(jobs),
        listener=lambda progress: _publish(item, progress),
        command=lambda plan: command_for(item.nodeid, plan),
        **more,
    )
    deliver = item.stash.get(DELIVER, None)
    if deliver is not None:
        deliver.session = session
    return session


def _conclude(item: pytest.Item, report: Report, example: Example | None = None) -> None:
    report = replace(
        report,
        findings=tuple(_saved(finding, item, example, report.arguments) for finding in report.findings),
    )
    item.stash.setdefault(REPORTS, []).append(report)
    if not item.config.option.idemfuzz_plan:
        from idemfuzz.inventory.verdicts import Verdicts

        Verdicts(item.config.rootpath).keep(item.nodeid, report)
    item.ihook.pytest_idemfuzz_report(nodeid=item.nodeid, report=report)
    if report.verdict is not Verdict.HOLDS:
        item.stash[CRASH] = _crash(item, report)
        raise Violated(render(report, with_certificate=False))


def _crash(item: pytest.Item, report: Report) -> tuple[str, int, str]:
    """Where and what, for summaries of one line: the user's line that did it, else the test's own."""
    source = next((finding.source for finding in report.findings if finding.source is not None), None)
    told = [f"{finding.code} {finding.title}: {finding.summary}" for finding in report.findings]
    more = f" (and {len(told) - 1} more)" if len(told) > 1 else ""
    message = f"{told[0]}{more}" if told else headline(report)
    file, line, _ = item.location
    where = (file, (line or 0) + 1) if source is None else (source.file, source.line)
    return (*where, clean(message))


_SECTION = "Captured stdout idemfuzz"


def told(item: pytest.Item, report: pytest.TestReport) -> None:
    """Put what the searches found into pytest's report, for the terminal, other plugins, xdist and JUnit."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if report.failed and crash is not None and CRASH in item.stash:
        # pytest would name the line of this plugin that raised.
        crash.path, crash.lineno, crash.message = item.stash[CRASH]
    found = item.stash.get(REPORTS, [])
    if not found:
        return
    # A report attribute survives the way from an xdist worker; objects would not.
    made = report.idemfuzz = [report_to_json(one) for one in found]  # type: ignore[attr-defined]
    (last,) = worst_per_search([{**one, "name": ""} for one in made])
    item.user_properties += junit.properties(last)
    report.user_properties += junit.properties(last)
    # JUnit's system-out is what pytest takes for captured; it reads it of the report of the teardown.
    item.add_report_section("idemfuzz", "stdout", last["certificate_text"] + "\n")
    if item.config.get_verbosity() > 0:
        report.sections.append(("idemfuzz: certificate", last["certificate_text"]))


def _accepted(config: pytest.Config) -> Sequence[baseline.Accepted]:
    """The baseline, read once."""
    known = config.stash.get(_ACCEPTED, None)
    if known is None:
        known = config.stash[_ACCEPTED] = baseline.read(config.rootpath)
    return known


def _saved(
    finding: Finding, item: pytest.Item, example: Example | None, described: Mapping[str, str] | None
) -> Finding:
    path = corpus.save(
        finding,
        item.nodeid,
        item.config.rootpath,
        example,
        described=described,
        is_test=isinstance(item, pytest.Function),
    )
    shown = replace(finding.counterexample, saved=path)
    if example is not None and path is not None:
        # The plan alone would not do: it shows the finding with this example.
        shown = replace(shown, command=corpus.read(item.config.rootpath / path).command)
    return replace(finding, counterexample=shown)


def command_for(nodeid: str, plan: Plan) -> str:
    return f"idemfuzz run {shlex.quote(nodeid)} --plan {shlex.quote(str(plan))}"


def _publish(item: pytest.Item, progress: Progress) -> None:
    item.ihook.pytest_idemfuzz_progress(nodeid=item.nodeid, progress=progress)


class _failures:  # Reads as a statement: with _failures(item).
    """Shows what a person needs: the report, the refusal, or the test's own failure as if it had run plainly."""

    def __init__(self, item: pytest.Item) -> None:
        self._item = item

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, Violated):
            notes = "\n".join(getattr(error, "__notes__", ()))
            text = f"{error}\n{notes}".rstrip()
            if self._item.config.option.tbstyle == "line":
                _, _, text = self._item.stash[CRASH]
            raise pytest.fail.Exception(text, pytrace=False) from None
        if isinstance(error, Unusable):
            self._item.ihook.pytest_idemfuzz_unusable(nodeid=self._item.nodeid, message=str(error))
            file, line, _ = self._item.location
            refusal = clean(f"idemfuzz cannot search this test: {error}")
            self._item.stash[CRASH] = (file, (line or 0) + 1, refusal)
            raise pytest.fail.Exception(f"idemfuzz cannot search this test: {error}", pytrace=False) from None
        if isinstance(error, ScenarioFailed):
            own = error.error
            own.add_note(
                "idemfuzz: this is the test with every job delivered once, without any fault."
                + (f" {error.hint}" if error.hint else "")
            )
            raise own.with_traceback(_own_frames(own)) from own.__cause__


def _own_frames(error: BaseException) -> Any:
    """The traceback from the test's own frame on."""
    traceback = error.__traceback__
    while (
        traceback is not None
        and "idemfuzz" in traceback.tb_frame.f_globals.get("__name__", "").partition(".")[0]
    ):
        traceback = traceback.tb_next
    return traceback or error.__traceback__


# -- what a test brings ----------------------------------------------------------------------------------


def _values(item: pytest.Function, stores: Any) -> dict[str, object]:
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
    from idemfuzz.adapters import load_adapters

    if type(value) in (list, dict, set, deque) or isinstance(value, Path):
        return True
    for adapter in load_adapters():
        adopt = getattr(adapter, "adopt", None)
        if adopt is not None:
            try:
                if adopt("?", value, Options()) is not None:
                    return True
            except Unusable:
                return True
    return False


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


def _known_jobs(item: pytest.Function, values: Mapping[str, object]) -> Iterator[object]:
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
    function: Any = item.stash.get(_BYPASSED, item.obj)
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


# -- registered jobs -------------------------------------------------------------------------------------


class JobItem(pytest.Item):
    """A job made known with `idemfuzz.register`, as a test of its own."""

    registration: api.Registration

    def runtest(self) -> None:
        from idemfuzz.fuzz.examples import search_job
        from idemfuzz.fuzz.subject import JobSubject

        with _failures(self):
            registration = self.registration
            options = _merged(self.config, registration.options)

            def listener(progress: Progress) -> None:
                self.ihook.pytest_idemfuzz_progress(nodeid=self.nodeid, progress=progress)

            def command(plan: Plan) -> str:
                return command_for(registration.target, plan)

            work = self.config.stash.get(WORK, None)
            if work is not None:
                work(JobSubject(registration, options, listener, command))
                return
            report, example = search_job(registration, options, listener=listener, command=command)
            _conclude(self, report, example)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        function = getattr(self.registration.job, "__wrapped__", self.registration.job)
        code = getattr(function, "__code__", None)
        path = Path(code.co_filename) if code is not None else self.path
        return path, code.co_firstlineno - 1 if code is not None else None, f"idemfuzz {self.name}"


def job_items(session: pytest.Session) -> list[pytest.Item]:
    """Items for the registered jobs; with modules named, for those of these modules alone."""
    wanted = session.config.option.idemfuzz_module
    for target in wanted:
        module = target.partition(":")[0]
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise pytest.UsageError(f"--idemfuzz-module {target!r} cannot be imported: {error}") from error
    chosen = list(_chosen(wanted)) if wanted else [r for r in api.registrations if r.callable_now]
    items: list[pytest.Item] = []
    for registration in chosen:
        item = JobItem.from_parent(session, name=registration.name, nodeid=registration.target)
        item.registration = registration
        items.append(item)
    return items


def _chosen(wanted: Iterable[str]) -> Iterator[api.Registration]:
    for target in wanted:
        module, _, name = target.partition(":")
        found = [
            r
            for r in api.registrations
            if r.module == module and (not name or getattr(r.job, "__qualname__", "") == name)
        ]
        if name and not found:
            found = [_unregistered(module, name)]
        if not found:
            raise pytest.UsageError(
                f"{target!r} registers no job; call idemfuzz.register(job, args=..., stores=...) in it, or name a function"
            )
        yield from found


def _unregistered(module: str, name: str) -> api.Registration:
    job: Any = importlib.import_module(module)
    try:
        for part in name.split("."):
            job = getattr(job, part)
    except AttributeError as error:
        raise pytest.UsageError(f"'{module}:{name}' does not exist: {error}") from error
    return api.Registration(job, name=f"{module}:{name}", runnable=False, module=module)


# -- the summary -----------------------------------------------------------------------------------------


def summarise(terminalreporter: Any, config: pytest.Config, reports: Sequence[Any]) -> None:
    """What does not hold, a line each; what holds, a line each while they are few; with -v every certificate, too."""
    if getattr(config, "idemfuzz_quiet", False):
        return
    found = worst_per_search([one for report in reports for one in report.idemfuzz])
    verbosity = config.get_verbosity()
    holding = [one for one in found if one["verdict"] == Verdict.HOLDS]
    terminalreporter.section("idemfuzz", sep="=")
    few = verbosity > 0 or (verbosity == 0 and len(holding) <= _HOLDING_MAX)
    for one in [*holding, *(one for one in found if one not in holding)] if few else found:
        if one in holding and not few and not one["proof_text"]:
            continue
        line = f"{mark_of(Verdict(one['verdict']))} {clean(one['name'])}  {clean(one['headline'])}"
        terminalreporter.write_line(line, **_MARKUP[Verdict(one["verdict"])])
        for text in one["proof_text"].splitlines():
            terminalreporter.write_line(f"    {text}")
        if verbosity > 0:
            for text in one["certificate_text"].splitlines():
                terminalreporter.write_line(f"    {text}")
    if holding and not few:
        trials = sum(one["certificate"]["trials"] for one in holding)
        seconds = sum(one["certificate"]["seconds"] for one in holding)
        amount = f"{counted(len(holding), 'search holds', 'searches hold')}: {counted(trials, 'trial')} ({seconds:.1f} s)"
        terminalreporter.write_line(f"{mark_of(Verdict.HOLDS)} {amount}", green=True)
