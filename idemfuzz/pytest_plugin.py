"""The pytest plugin's thin front: a suite without a marked test pays for this module alone.

Everything else is imported when the first marked test runs, or `--idemfuzz` is given.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

MARKER = "idempotent"
REPORTS: pytest.StashKey[list[Any]] = pytest.StashKey()
DELIVER: pytest.StashKey[Any] = pytest.StashKey()

_OPTIONS = (
    "job",
    "deliveries",
    "overlapping",
    "faults",
    "isolation",
    "ignore",
    "allow",
    "stores",
    "redelivery_window",
    "max_trials",
    "full_read_rows_max",
    "strict",
    "timeout",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("idemfuzz", "what happens if this job runs twice?")
    group.addoption(
        "--idemfuzz", action="store_true", help="also collect jobs made known with idemfuzz.register as items"
    )
    group.addoption(
        "--idemfuzz-module",
        action="append",
        default=[],
        metavar="MODULE[:JOB]",
        help="import a module and collect the jobs that it registers (implies --idemfuzz)",
    )
    group.addoption(
        "--idemfuzz-plan", metavar="PLAN|FILE", help="run this one plan of a finding instead of searching"
    )
    group.addoption("--idemfuzz-max-trials", type=int, metavar="N", help="at most N plans per search")
    group.addoption(
        "--idemfuzz-seed", type=int, metavar="N", help="seed of everything that is drawn at random"
    )
    group.addoption(
        "--idemfuzz-report", action="append", default=[], metavar="json=FILE", help="write a report"
    )
    parser.addini(
        "idemfuzz_allow", type="linelist", default=[], help="databases that idemfuzz may write to by name"
    )


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    from idemfuzz import pytest_hooks

    pluginmanager.add_hookspecs(pytest_hooks)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"{MARKER}({', '.join(f'{option}=' for option in _OPTIONS)}): the test's body is a scenario; the jobs that it calls "
        "are delivered twice, at once and with crashes, and must leave the same world behind as delivered once",
    )
    option = config.option
    if option.idemfuzz or option.idemfuzz_module or option.idemfuzz_report or option.idemfuzz_plan:
        from idemfuzz.pytest_search import check_options

        check_options(config)


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """With modules named and no test paths, nothing else is collected."""
    if config.option.idemfuzz_module and config.args_source is not pytest.Config.ArgsSource.ARGS:
        return True
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    if config.option.idemfuzz or config.option.idemfuzz_module:
        from idemfuzz.pytest_search import job_items

        items += job_items(session)
    marked = [item for item in items if _is_marked(item)]
    if marked:
        from idemfuzz.pytest_search import prepare

        prepare(config, marked)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    if not (isinstance(item, pytest.Function) and "anyio_backend" in item.funcargs and _is_marked(item)):
        return (yield)
    from idemfuzz.pytest_search import claim

    return (yield from claim(item))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object | None:
    if not _is_marked(pyfuncitem):
        return None
    from idemfuzz.pytest_search import run_marked

    run_marked(pyfuncitem)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    found = item.stash.get(REPORTS, None)
    if found and call.when == "call":
        from idemfuzz.reporting.json_report import report_to_json

        # A report attribute survives the way from an xdist worker; objects would not.
        report.idemfuzz = [report_to_json(one) for one in found]  # type: ignore[attr-defined]
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    reports = [r for rs in terminalreporter.stats.values() for r in rs if getattr(r, "idemfuzz", None)]
    if reports or config.option.idemfuzz_report:
        from idemfuzz.pytest_search import summarise

        summarise(terminalreporter, config, reports)


@pytest.fixture
def deliver(request: pytest.FixtureRequest) -> Any:
    """Deliver a job explicitly: ``deliver(job, *args, **kwargs)``; the test is a scenario as if it were marked."""
    from idemfuzz.pytest_search import Deliver

    value = request.node.stash[DELIVER] = Deliver()
    return value


def _is_marked(item: pytest.Item) -> bool:
    return isinstance(item, pytest.Function) and (
        item.get_closest_marker(MARKER) is not None or "deliver" in item.fixturenames
    )
