"""The pytest plugin's thin front: a suite without a marked test pays for this module alone.

Everything else is imported when the first marked test runs, or `--idemfuzz` is given.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

MARKER = "idempotent"
REPORTS: pytest.StashKey[list[Any]] = pytest.StashKey()
CRASH: pytest.StashKey[tuple[str, int, str]] = pytest.StashKey()
"""File, line and one line of text for what failed a marked test."""
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
    "max_examples",
    "full_read_rows_max",
    "strict",
    "timeout",
    "prove",
    "redact",
)


_CHECKED = ("", "_module", "_report", "_html", "_redact", "_plan", "_profile", "_shard")
"""Options of the command line that are looked at before anything is collected."""


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
    group.addoption(
        "--idemfuzz-profile",
        metavar="NAME",
        help="the profile of [tool.idemfuzz]: dev, ci, nightly, or one of its own",
    )
    group.addoption(
        "--idemfuzz-shard",
        metavar="I/N",
        help="search only the I-th of N parts of the marked tests and registered jobs",
    )
    group.addoption("--idemfuzz-max-trials", type=int, metavar="N", help="at most N plans per search")
    group.addoption(
        "--idemfuzz-seed", type=int, metavar="N", help="seed of everything that is drawn at random"
    )
    group.addoption(
        "--idemfuzz-report",
        action="append",
        default=[],
        metavar="KIND=FILE",
        help="write a report: json, ndjson, html, sarif, junit or markdown; or `github`, which takes no file",
    )
    group.addoption(
        "--idemfuzz-html",
        metavar="FILE",
        help="write a page with a trace viewer (as --idemfuzz-report html=FILE)",
    )
    group.addoption(
        "--idemfuzz-redact",
        action="append",
        default=[],
        metavar="PATTERN",
        help="hide values in all output: a column, a key, or re:REGEX",
    )
    group.addoption(
        "--idemfuzz-prove",
        action="store_true",
        help="search again without each guard of a job that holds, and with what may mend one that does not",
    )
    parser.addini(
        "idemfuzz_allow", type="linelist", default=[], help="databases that idemfuzz may write to by name"
    )


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    from idemfuzz.pytest_plugin import hooks

    pluginmanager.add_hookspecs(hooks)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"{MARKER}({', '.join(f'{option}=' for option in _OPTIONS)}): the test's body is a scenario; the jobs that it calls "
        "are delivered twice, at once and with crashes, and must leave the same world behind as delivered once",
    )
    option = config.option
    if any(getattr(option, f"idemfuzz{name}") for name in _CHECKED):
        from idemfuzz.pytest_plugin.options import check_options

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
        from idemfuzz.pytest_plugin.jobs import job_items

        items += job_items(session)
    if config.option.idemfuzz_shard:
        from idemfuzz.pytest_plugin.search import leave_out_other_shards

        leave_out_other_shards(config, items)
    marked = [item for item in items if _is_marked(item)]
    searched = marked + [item for item in items if hasattr(item, "registration")]
    if searched:
        from idemfuzz.pytest_plugin.reruns import refuse_reruns

        refuse_reruns(config, searched)
    if marked:
        from idemfuzz.pytest_plugin.search import prepare

        prepare(config, marked)


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> str | None:
    marked = sum(_is_marked(item) or hasattr(item, "registration") for item in items)
    if not marked or config.get_verbosity() < 0 or config.option.no_header:
        return None
    return f"idemfuzz: {marked} of {len(items)} searched, for a delivery that leaves a different world behind"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    if not (isinstance(item, pytest.Function) and _is_marked(item)):
        return (yield)
    from idemfuzz.pytest_plugin.given import bypass
    from idemfuzz.pytest_plugin.search import claim

    if hasattr(item.obj, "hypothesis"):
        return (yield from bypass(item))
    return (yield from claim(item))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object | None:
    if not _is_marked(pyfuncitem):
        return None
    from idemfuzz.pytest_plugin.search import run_marked

    run_marked(pyfuncitem)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.when == "call" and (REPORTS in item.stash or CRASH in item.stash):
        from idemfuzz.pytest_plugin.outcome import told

        told(item, report)
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    reports = [r for rs in terminalreporter.stats.values() for r in rs if getattr(r, "idemfuzz", None)]
    if reports:
        from idemfuzz.pytest_plugin.outcome import summarise

        summarise(terminalreporter, config, reports)


@pytest.fixture
def deliver(request: pytest.FixtureRequest) -> Any:
    """Deliver a job explicitly: ``deliver(job, *args, **kwargs)``; the test is a scenario as if it were marked."""
    from idemfuzz.pytest_plugin.subject import Deliver

    value = request.node.stash[DELIVER] = Deliver()
    return value


def _is_marked(item: pytest.Item) -> bool:
    return isinstance(item, pytest.Function) and (
        item.get_closest_marker(MARKER) is not None or "deliver" in item.fixturenames
    )
