"""`idemfuzz fuzz`: a budgeted search over arguments, starting states, schedules and faults."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from idemfuzz.cli.fuzz_crew import fuzz_in_processes, fuzz_via
from idemfuzz.cli.fuzz_display import MAX_SECONDS, Asked, FuzzDisplay

if TYPE_CHECKING:
    from idemfuzz.configuration import Configuration


def seconds_option(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """``30m``, ``90s``, ``1h`` or a number of seconds."""
    from idemfuzz.stress import seconds_of

    if value is None:
        return None
    try:
        seconds = seconds_of(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if not seconds:
        raise click.BadParameter(f"{value!r} leaves no time for a search; expected a time above 0, as in 30m")
    return seconds


def shard_option(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int]:
    """``2/4`` is the second of four parts."""
    from idemfuzz.abc import Unusable
    from idemfuzz.pytest_plugin.options import part_of

    if value is None:
        return 1, 1
    try:
        return part_of(value)
    except Unusable as error:
        raise click.BadParameter(str(error)) from error


@click.command("fuzz")
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@click.option(
    "--max-time", callback=seconds_option, metavar="TIME", help="Stop after this long, as in 30m [10m]."
)
@click.option(
    "--max-findings",
    type=click.IntRange(min=1),
    metavar="N",
    help="Stop when so many new findings are there.",
)
@click.option(
    "--continue", "resume", is_flag=True, help="Go on with what an earlier run learned, and its time."
)
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Seed of all that is drawn at random.")
@click.option(
    "-k", "expression", metavar="EXPR", help="Only tests and jobs whose names match (as in pytest)."
)
@click.option("-n", "processes", type=click.IntRange(1, 64), metavar="N", help="Search in N processes [1].")
@click.option(
    "--via",
    metavar="URL",
    help="Hand the parts to RQ workers on this Redis (queue idemfuzz), as many as -n says.",
)
@click.option("--status", type=click.Path(dir_okay=False, path_type=Path), hidden=True)
@click.option("--shard", callback=shard_option, metavar="I/N", help="Only the I-th of N parts of the work.")
@click.option("--faults", type=click.IntRange(1, 9), metavar="N", help="The most faults of a plan [3].")
@click.option(
    "--deliveries",
    type=click.IntRange(2, 9),
    metavar="N",
    help="The most deliveries of a plan [4].",
)
@click.option("--order", type=click.IntRange(2, 9), metavar="N", help="The deepest random order (PCT) [4].")
@click.option(
    "--profile", metavar="NAME", help="The profile of [tool.idemfuzz]: dev, ci, nightly, or your own."
)
@click.option("--report", multiple=True, metavar="json=FILE", help="Write a report for programs, too.")
@click.option("-q", "--quiet", is_flag=True, help="No findings in full, only the summary.")
@click.option(
    "--pytest-args", multiple=True, metavar="ARGS", help="Further arguments for pytest, as one text."
)
def command(
    targets: tuple[str, ...],
    max_time: float | None,
    max_findings: int | None,
    resume: bool,
    seed: int | None,
    expression: str | None,
    processes: int | None,
    via: str | None,
    status: Path | None,
    shard: tuple[int, int],
    faults: int | None,
    deliveries: int | None,
    order: int | None,
    profile: str | None,
    report: tuple[str, ...],
    quiet: bool,
    pytest_args: tuple[str, ...],
) -> None:
    """Search on and on, where it still learns something, until the time is up.

    TARGET is as for `idemfuzz run`. Findings are kept below .idemfuzz/ the moment they are seen, and made small; those of earlier
    runs are replayed first. Ctrl-C ends it after the trial that runs. Ends with 1 if there are findings, new or still failing.
    """
    from idemfuzz.cli.run import _check_json_reports, arguments_for, run_pytest
    from idemfuzz.reporting.screen import Screen

    _check_json_reports(report)
    given = {
        "max_time": max_time,
        "max_findings": max_findings,
        "faults": faults,
        "deliveries": deliveries,
        "order": order,
        "seed": seed,
    }
    if via is not None and shard != (1, 1):
        raise click.UsageError("--via and --shard cannot be combined: --via makes shards of its own")
    if processes is not None and processes > 1 and shard != (1, 1):
        raise click.UsageError("-n and --shard cannot be combined: -n makes shards of its own")
    asked = Asked({name: value for name, value in given.items() if value is not None}, resume, shard)

    def in_parts(configured: Configuration, root: Path) -> int | None:
        """The exit code of parts, if it is to be done in parts."""
        if shard != (1, 1) or status is not None:
            return None
        settings = asked.settings(configured)
        number = processes if processes is not None else int(configured.fuzz.get("processes", 1))
        most = settings.max_findings
        if via is not None:
            seconds = settings.max_seconds or MAX_SECONDS
            return fuzz_via(via, screen, root, number, seconds, report, quiet=quiet, findings_max=most)
        if number == 1:
            return None
        return fuzz_in_processes(screen, number, report, quiet=quiet, findings_max=most)

    arguments = arguments_for(targets, expression, pytest_args)
    arguments += [] if profile is None else [f"--idemfuzz-profile={profile}"]
    with Screen.on_standard_output() as screen:
        display = FuzzDisplay(screen, asked, in_parts, quiet=quiet, status=status)
        with display.shown(), _stopping(display):
            code = run_pytest(arguments, display)
        outcome = display.conclude(code)
        if display.campaign is not None:
            _write(report, display)
    raise click.exceptions.Exit(outcome)


def _write(targets: Sequence[str], display: FuzzDisplay) -> None:
    from idemfuzz.reporting.json_report import write_json

    for target in targets:
        write_json(Path(target.partition("=")[2]), display.to_json())


@contextmanager
def _stopping(display: FuzzDisplay) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM ends the campaign after the trial that runs; the next one of either cuts that trial."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    heard = 0

    def stop(number: int, frame: object) -> None:
        # Counted first of all: the next one may come while this one is being handled.
        nonlocal heard
        heard += 1
        if heard > 1 or display.campaign is None or display.campaign.stopped:
            raise KeyboardInterrupt
        display.campaign.stop("Ctrl-C" if number == signal.SIGINT else "SIGTERM")

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
