"""`idemfuzz run`: searches the marked tests and registered jobs of its targets, in a pytest of its own."""

from __future__ import annotations

import importlib.util
import os
import shlex
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

import click

from idemfuzz import import_path

if TYPE_CHECKING:
    from idemfuzz.cli.display import Display


@click.command("run")
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@click.option(
    "-k", "expression", metavar="EXPR", help="Only tests and jobs whose names match (as in pytest)."
)
@click.option("--max-trials", type=click.IntRange(min=1), metavar="N", help="At most N plans per search.")
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Seed of all that is drawn at random.")
@click.option("--shard", metavar="I/N", help="Only the I-th of N parts of the searches.")
@click.option(
    "--profile", metavar="NAME", help="The profile of [tool.idemfuzz]: dev, ci, nightly, or your own."
)
@click.option(
    "--report",
    multiple=True,
    metavar="KIND=FILE",
    help="Write a report, too: json, ndjson, html, sarif, junit or markdown; or `github`, without a file.",
)
@click.option(
    "--redact",
    multiple=True,
    metavar="PATTERN",
    help="Hide values in all output: a column, a key, or re:REGEX.",
)
@click.option("--plan", metavar="PLAN|FILE", help="Run this one plan of a finding instead of searching.")
@click.option(
    "--prove",
    is_flag=True,
    help="Search again without each guard of a job that holds, and with what may mend one that does not.",
)
@click.option("-v", "--verbose", count=True, help="Show each phase of a search.")
@click.option("-q", "--quiet", is_flag=True, help="One line per search, and findings without certificate.")
@click.option(
    "--pytest-args", multiple=True, metavar="ARGS", help="Further arguments for pytest, as one text."
)
def command(
    targets: tuple[str, ...],
    expression: str | None,
    max_trials: int | None,
    seed: int | None,
    shard: str | None,
    profile: str | None,
    report: tuple[str, ...],
    redact: tuple[str, ...],
    plan: str | None,
    prove: bool,
    verbose: int,
    quiet: bool,
    pytest_args: tuple[str, ...],
) -> None:
    """Search the marked tests or registered jobs of each TARGET.

    TARGET is a test path or node id (tests/test_jobs.py::test_create_user), a module (shop.jobs), or one
    job in it (shop.jobs:create_user). Tests without the marker are not run.
    """
    _check_plan(plan)
    _check(report, redact)
    arguments = arguments_for(targets, expression, pytest_args)
    for name, value in (
        ("max-trials", max_trials),
        ("seed", seed),
        ("plan", plan),
        ("profile", profile),
        ("shard", shard),
    ):
        arguments += [] if value is None else [f"--idemfuzz-{name}={value}"]
    arguments += ["--idemfuzz-prove"] if prove else []
    arguments += [f"--idemfuzz-report={target}" for target in report]
    arguments += [f"--idemfuzz-redact={pattern}" for pattern in redact]
    raise click.exceptions.Exit(_searched(arguments, verbose=verbose, quiet=quiet))


def arguments_for(
    targets: Sequence[str], expression: str | None = None, pytest_args: Sequence[str] = ()
) -> list[str]:
    """What pytest is given for some targets; the current folder can be imported from then."""
    import_path.include_here()
    # Plugins of the project complain about its configuration, to which this run is no party.
    arguments = ["-p", _plugin(), "-W", "ignore::pytest.PytestDeprecationWarning"]
    for target in targets:
        arguments += _placed(target)
    arguments += [] if expression is None else ["-k", expression]
    arguments += _in_one_process()
    for text in pytest_args:
        arguments += _split(text)
    return arguments


def run_pytest(arguments: Sequence[str], display: Display) -> int:
    """pytest's exit code.

    Raises:
        Unusable: the project's configuration cannot be read, and pytest has no word of its own for it.
    """
    import pytest

    from idemfuzz.configuration import table_of

    try:
        return int(pytest.main(list(arguments), plugins=[display]))
    except (AttributeError, UnicodeDecodeError):
        for folder in (Path.cwd(), *Path.cwd().parents):
            table_of(folder / "pyproject.toml")
        raise


def _searched(arguments: Sequence[str], *, verbose: int, quiet: bool) -> int:
    from idemfuzz.cli.display import Display
    from idemfuzz.reporting.screen import Screen

    with Screen.on_standard_output() as screen:
        display = Display(screen, verbose=verbose, quiet=quiet)
        return display.conclude(run_pytest(arguments, display))


def _check_plan(plan: str | None) -> None:
    if plan is None:
        return
    from idemfuzz import corpus
    from idemfuzz.model import PlanError

    try:
        corpus.load(plan)
    except PlanError as error:
        raise click.BadParameter(str(error), param_hint="--plan") from error


def _check(reports: Sequence[str], redact: Sequence[str]) -> None:
    """Before the search: it would be a pity to find out afterwards."""
    from idemfuzz.api import make_options
    from idemfuzz.reporting.files import targets

    targets(reports)
    make_options({"redact": redact})


def _check_json_reports(reports: Sequence[str]) -> None:
    """Before the search: it would be a pity to find out afterwards."""
    from idemfuzz.reporting.json_report import check_writable

    for target in reports:
        kind, _, path = target.partition("=")
        if kind != "json" or not path:
            raise click.BadParameter(f"{target!r} is not usable; expected json=FILE", param_hint="--report")
        check_writable(Path(path))


def _placed(target: str) -> list[str]:
    """What pytest is to be given for a target: a path, or a module for the plugin."""
    path, is_node, _ = target.partition("::")
    if os.path.exists(path):
        return [target]
    if is_node or path.endswith(".py") or os.sep in path:
        raise click.BadParameter(f"there is no file or folder {path!r} in {os.getcwd()}", param_hint="TARGET")
    module, _, function = target.partition(":")
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError) as error:
        raise click.BadParameter(f"{module!r} cannot be imported: {error}", param_hint="TARGET") from error
    if found is None:
        raise click.BadParameter(
            f"{target!r} is neither a path here ({os.getcwd()}) nor a module that can be imported",
            param_hint="TARGET",
        )
    name = Path(found.origin or "").name
    if not function and found.origin and (name.startswith("test_") or name.endswith("_test.py")):
        return [found.origin]
    return [f"--idemfuzz-module={target}"]


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: {error}", param_hint="--pytest-args") from error


def _plugin() -> str:
    """The name to load our pytest plugin by; installed, it goes by the name of its entry point."""
    installed = any(point.name == "idemfuzz" for point in entry_points(group="pytest11"))
    return "idemfuzz" if installed else "idemfuzz.pytest_plugin"


def _in_one_process() -> list[str]:
    """A project that runs its tests with `-n auto` shall not need another configuration for this."""
    loaded = not os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    return ["-n0"] if loaded and importlib.util.find_spec("xdist") is not None else []
