"""What the pytest plugin does for marked tests and registered jobs; imported when the first of them is there."""

from __future__ import annotations

import functools
import importlib
import inspect
import shlex
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest

from idemfuzz import api, corpus
from idemfuzz.abc import Options, Unusable
from idemfuzz.model import Finding, Plan, PlanError, Report, Verdict
from idemfuzz.pytest_plugin import DELIVER, MARKER, REPORTS
from idemfuzz.session import Progress, ScenarioFailed, Session

_EXAMPLES_MAX = 20
_OWN_FIXTURES = ("request", "deliver", "monkeypatch", "capsys", "caplog", "capfd", "recwarn", "pytestconfig")
_NOT_OPTIONS = ("job", "stores")


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
    """Refuse unusable command line options before anything runs."""
    option = config.option
    try:
        _command_line(config)
        for target in option.idemfuzz_report:
            kind, _, path = target.partition("=")
            if kind != "json" or not path:
                raise Unusable(f"--idemfuzz-report {target!r} is not usable; expected json=FILE")
            from idemfuzz.reporting.json_report import check_writable

            check_writable(Path(path))
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
    api.make_options(given)
    return given


def prepare(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """Refuse marked tests that cannot be searched, and make room for a search inside Hypothesis' tests."""
    if getattr(config.option, "reruns", None):
        raise pytest.UsageError(
            "--reruns would hide findings of idemfuzz: a finding is reproduced by idemfuzz itself. Run marked tests without it"
        )
    for item in items:
        assert isinstance(item, pytest.Function)
        try:
            _options(item)
        except Unusable as error:
            raise pytest.UsageError(f"{item.nodeid}: @pytest.mark.{MARKER}: {error}") from error
        if hasattr(item.obj, "hypothesis"):
            _give_time(item)


def _give_time(item: pytest.Function) -> None:
    """A search is many runs of the body: no deadline, fewer examples; idemfuzz resets what fixtures hold."""
    from hypothesis import HealthCheck, settings

    function = inspect.unwrap(item.obj, stop=lambda f: hasattr(f, "hypothesis"))
    function = getattr(function, "__func__", function)
    given = getattr(function, "_hypothesis_internal_use_settings", None) or settings.default
    assert given is not None
    checks = {*given.suppress_health_check, HealthCheck.function_scoped_fixture, HealthCheck.too_slow}
    function._hypothesis_internal_use_settings = settings(
        given,
        deadline=None,
        max_examples=min(given.max_examples, _EXAMPLES_MAX),
        suppress_health_check=sorted(checks, key=lambda check: check.value),
    )


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
    options = api.make_options({**given, **_command_line(item.config)})
    return replace(options, allow=(*options.allow, *item.config.getini("idemfuzz_allow")))


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
        if hasattr(item.obj, "hypothesis"):
            _search_examples(item, arguments)
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


def _search_examples(item: pytest.Function, arguments: Mapping[str, Any]) -> None:
    """A search per example; once one fails, only its plan is tried while Hypothesis shrinks the arguments."""
    handle = item.obj.hypothesis
    inner = handle.inner_test
    options = _options(item)

    @functools.wraps(inner)
    def example(*args: Any, **kwargs: Any) -> None:
        nonlocal options
        try:
            _search(item, lambda: inner(*args, **kwargs), options)
        except Violated:
            found = item.stash[REPORTS][-1].findings
            if options.plan is None and found:
                options = replace(options, plan=found[0].counterexample.plan)
            raise

    handle.inner_test = example
    try:
        item.obj(**arguments)
    finally:
        handle.inner_test = inner


def _search(item: pytest.Function, scenario: Callable[[], Any], options: Options) -> None:
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
    )
    deliver = item.stash.get(DELIVER, None)
    if deliver is not None:
        deliver.session = session
    _conclude(item, session.run())


def _conclude(item: pytest.Item, report: Report) -> None:
    report = replace(report, findings=tuple(_saved(finding, item) for finding in report.findings))
    item.stash.setdefault(REPORTS, []).append(report)
    item.ihook.pytest_idemfuzz_report(nodeid=item.nodeid, report=report)
    if report.verdict is not Verdict.HOLDS:
        from idemfuzz.reporting.text import render

        raise Violated(render(report))


def _saved(finding: Finding, item: pytest.Item) -> Finding:
    path = corpus.save(finding, item.nodeid, item.config.rootpath)
    return replace(finding, counterexample=replace(finding.counterexample, saved=path))


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
            raise pytest.fail.Exception(f"{error}\n{notes}".rstrip(), pytrace=False) from None
        if isinstance(error, Unusable):
            self._item.ihook.pytest_idemfuzz_unusable(nodeid=self._item.nodeid, message=str(error))
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
    function: Any = item.obj
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
        with _failures(self):
            registration = self.registration
            options = api.make_options({**registration.options, **_command_line(self.config)})
            options = replace(options, allow=(*options.allow, *self.config.getini("idemfuzz_allow")))
            report = registration.search(
                options,
                listener=lambda progress: self.ihook.pytest_idemfuzz_progress(
                    nodeid=self.nodeid, progress=progress
                ),
                command=lambda plan: command_for(registration.target, plan),
            )
            _conclude(self, report)

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
    """One line per search that holds, the whole certificate with -v; and the report files."""
    found = [one for report in reports for one in report.idemfuzz]
    if found and not getattr(config, "idemfuzz_quiet", False):
        terminalreporter.section("idemfuzz", sep="=")
        for one in _newest(found):
            terminalreporter.write_line(f"{one['name']}  {one['headline']}")
            if config.get_verbosity() > 0:
                for line in one["certificate_text"].splitlines():
                    terminalreporter.write_line(f"  {line}")
    for target in config.option.idemfuzz_report:
        from idemfuzz.reporting.json_report import write

        write(Path(target.partition("=")[2]), found)


def _newest(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of the searches of one test (examples), the last."""
    return list({one["name"]: one for one in found}.values())
