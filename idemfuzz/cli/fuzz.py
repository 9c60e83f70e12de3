"""`idemfuzz fuzz`: a budgeted search over arguments, starting states, schedules and faults."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest

from idemfuzz.cli import EXIT_FOUND, EXIT_HOLDS, EXIT_UNUSABLE
from idemfuzz.cli.display import Display

if TYPE_CHECKING:
    from rich.live import Live

    from idemfuzz.configuration import Configuration
    from idemfuzz.corpus import Entry
    from idemfuzz.fuzz.campaign import Campaign, Settings, Slice
    from idemfuzz.fuzz.crew import Part
    from idemfuzz.fuzz.replaying import Replayed
    from idemfuzz.reporting.fuzz import Standing
    from idemfuzz.reporting.screen import Screen
    from idemfuzz.session import Progress

_PLAIN_SECONDS = 10.0
_MAX_SECONDS = 600.0
_LIVE_SECONDS = 0.25
_STATUS_SECONDS = 1.0


def seconds_option(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """``30m``, ``90s``, ``1h`` or a number of seconds."""
    from idemfuzz.stress import seconds_of

    if value is None:
        return None
    try:
        return seconds_of(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def shard_option(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int]:
    """``2/4`` is the second of four parts."""
    from idemfuzz.abc import Unusable
    from idemfuzz.pytest_search import part_of

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
    from idemfuzz.cli.run import _check_json_reports, arguments_for
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
    if processes is None and shard == (1, 1) and status is None:
        processes = _configured_processes(profile)
    if via is not None:
        if shard != (1, 1):
            raise click.UsageError("--via and --shard cannot be combined: --via makes shards of its own")
        seconds = max_time if max_time is not None else _configured_seconds(profile)
        raise click.exceptions.Exit(fuzz_via(via, processes or 1, seconds, report, quiet=quiet))
    if processes is not None and processes > 1:
        if shard != (1, 1):
            raise click.UsageError("-n and --shard cannot be combined: -n makes shards of its own")
        _check_importable(targets)
        raise click.exceptions.Exit(fuzz_in_processes(processes, report, quiet=quiet))
    asked = Asked({name: value for name, value in given.items() if value is not None}, resume, shard)
    arguments = arguments_for(targets, expression, pytest_args)
    arguments += [] if profile is None else [f"--idemfuzz-profile={profile}"]
    with Screen.on_standard_output() as screen:
        display = FuzzDisplay(screen, asked, quiet=quiet, status=status)
        with display.shown(), _stopping(display):
            code = pytest.main(arguments, plugins=[display])
        outcome = display.conclude(int(code))
        if display.campaign is not None:
            _write(report, display)
    raise click.exceptions.Exit(outcome)


def _write(targets: Sequence[str], display: FuzzDisplay) -> None:
    from idemfuzz.reporting.json_report import write_json

    for target in targets:
        write_json(Path(target.partition("=")[2]), display.to_json())


@contextmanager
def _stopping(display: FuzzDisplay) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM ends the campaign after the trial that runs; the next one is pytest's."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: object) -> None:
        signal.signal(number, before[signal.SIGINT] if number == signal.SIGINT else signal.SIG_DFL)
        if display.campaign is None:
            raise KeyboardInterrupt
        display.campaign.stop("Ctrl-C" if number == signal.SIGINT else "SIGTERM")

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says; the rest is the project's to say, whose root folder pytest finds."""

    values: Mapping[str, Any]
    resume: bool = False
    part: tuple[int, int] = (1, 1)

    def settings(self, configured: Configuration) -> Settings:
        """With what the table and the profile say of `idemfuzz fuzz`."""
        from idemfuzz.explorers.chance import Depth
        from idemfuzz.fuzz.campaign import Settings
        from idemfuzz.stress import seconds_of

        values = {"max_time": _MAX_SECONDS, **configured.fuzz, **self.values}
        depth = {"faults": "faults", "deliveries": "deliveries", "order": "order"}
        time_given = values["max_time"]
        return Settings(
            max_seconds=seconds_of(time_given) if isinstance(time_given, str) else float(time_given),
            max_findings=values.get("max_findings"),
            seed=int(self.values.get("seed", configured.options.get("seed", 0))),
            depth=Depth(**{name: values[key] for name, key in depth.items() if key in values}),
            resume=self.resume,
            part=self.part,
        )


class FuzzDisplay(Display):
    """Shows a campaign in place of single searches, and starts it once pytest knows its root folder."""

    def __init__(self, screen: Screen, asked: Asked, *, quiet: bool, status: Path | None = None) -> None:
        super().__init__(screen, quiet=quiet)
        self.campaign: Campaign | None = None
        self.fates: list[Replayed] = []
        self._asked = asked
        self._status = status
        self._parent = os.getppid()
        self._live: Live | None = None
        self._drawn = 0.0
        self._told_at = 0.0
        self._blocks: set[str] = set()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """With a live view where there is a terminal. No thread runs beside the search: it is drawn between trials."""
        from rich.live import Live

        if not self._screen.live:
            yield
            return
        with Live(console=self._screen.console, auto_refresh=False, transient=True) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    # -- pytest ------------------------------------------------------------------------------------------

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        from idemfuzz.fuzz.campaign import Campaign
        from idemfuzz.pytest_fuzz import FuzzLoop
        from idemfuzz.pytest_search import configured_for

        settings = self._asked.settings(configured_for(session.config))
        campaign = Campaign(
            session.config.rootpath, settings, listener=self._on_progress, found=self._on_found
        )
        campaign.open()
        self.campaign = campaign
        session.config.pluginmanager.register(FuzzLoop(campaign, self._on_replay), "idemfuzz-fuzz-loop")

    @pytest.hookimpl(optionalhook=True)
    def pytest_idemfuzz_progress(self, nodeid: str, progress: Progress) -> None:
        """The campaign tells it."""

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Turns are not told one by one."""

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """The campaign tells what came of it."""

    def _block(self, title: str, text: str) -> None:
        # An item has many turns, and fails in each for the same reason.
        if title not in self._blocks:
            self._blocks.add(title)
            super()._block(title, text)

    # -- the campaign ------------------------------------------------------------------------------------

    def _on_progress(self, campaign: Campaign, turn: Slice, progress: Progress) -> None:
        now = time.monotonic()
        if self._status is not None:
            if os.getppid() != self._parent:
                campaign.stop("the end of the process that started it")
            if now - self._drawn >= _STATUS_SECONDS:
                self._drawn = now
                self._tell_status(turn.target.name)
            return
        if self._live is not None:
            if now - self._drawn >= _LIVE_SECONDS:
                from idemfuzz.reporting.fuzz import panel

                self._drawn = now
                standing = self._standing(f"{turn.target.name}  {turn.kind}, {progress.phase}")
                self._live.update(panel(standing, self._screen.width), refresh=True)
            return
        if self._told_at == 0.0:
            self._told_at = now
        if now - self._told_at >= _PLAIN_SECONDS:
            from idemfuzz.reporting.fuzz import line_of

            self._told_at = now
            self._screen.say(line_of(self._standing(f"{turn.target.name} ({turn.kind})")), style="dim")

    def _tell_status(self, now: str = "") -> None:
        from idemfuzz.abc import Unusable
        from idemfuzz.reporting.json_report import write_json

        assert self._status is not None
        with suppress(Unusable):
            write_json(self._status, {**self.to_json(), "now": now})

    def _on_found(self, entry: Entry) -> None:
        self._screen.say(f"✗ {entry.code}  {entry.title}  {entry.target}  [{entry.id}]", style="bold red")
        self._screen.say(f"  {entry.summary}")

    def _on_replay(self, fate: Replayed) -> None:
        self.fates.append(fate)
        entry = fate.entry
        self._screen.say(f"known: {entry.code} of {entry.target} [{entry.id}]: {fate.headline}", style="dim")

    def _standing(self, now: str = "") -> Standing:
        from idemfuzz.reporting.fuzz import Standing, TargetStanding

        campaign = self.campaign
        assert campaign is not None
        found = [entry.target for entry in campaign.findings]
        seconds = campaign.seconds
        return Standing(
            seconds=seconds,
            max_seconds=campaign.settings.max_seconds,
            trials=campaign.trials,
            rate=campaign.trials / max(0.001, seconds),
            features=campaign.features,
            last_new_seconds_ago=max(0.0, seconds - campaign.last_new_at),
            curve=campaign.curve,
            targets=[
                TargetStanding(
                    name=target.name,
                    slices=target.slices,
                    trials=target.trials,
                    examples=target.examples,
                    features=len(target.learned.features),
                    points=(len(target.learned.fired & target.learned.passed), len(target.learned.passed)),
                    missed=tuple(target.learned.missed),
                    not_covered=target.not_covered,
                    findings=found.count(target.name),
                    unusable=target.unusable,
                    refused=target.refused,
                )
                for target in campaign.targets.values()
            ],
            findings=len(campaign.findings),
            known=len(campaign.known) - len(campaign.findings),
            now=now,
            seed=campaign.settings.seed,
        )

    # -- the end -----------------------------------------------------------------------------------------

    def conclude(self, code: int) -> int:
        from idemfuzz.reporting.fuzz import summary

        screen, campaign = self._screen, self.campaign
        if code == pytest.ExitCode.USAGE_ERROR:
            return EXIT_UNUSABLE
        if campaign is None or not campaign.targets:
            self._say_nothing_was_searched(self._errors)
            return EXIT_UNUSABLE
        campaign.save()
        if self._status is not None:
            self._tell_status()
        for problem in campaign.problems:
            screen.say(f"Note: {problem}", style="yellow")
        if self._interrupted:
            screen.say(self._interrupted, style="bold yellow")
        elif campaign.stopped:
            screen.say(
                f"Stopped by {campaign.stopped}. Nothing is lost; go on with --continue.", style="bold yellow"
            )
        for line in summary(self._standing()):
            screen.say(line)
        return self._verdict(campaign)

    def _verdict(self, campaign: Campaign) -> int:
        from idemfuzz.fuzz.replaying import Fate

        screen = self._screen
        still = [fate for fate in self.fates if fate.fate is Fate.STILL_FAILING]
        failing = [fate for fate in still if fate.entry.id not in campaign.accepted]
        fixed = [fate for fate in self.fates if fate.fate is Fate.FIXED]
        unusable = [target for target in campaign.targets.values() if target.unusable]
        for entry in [] if self._quiet else campaign.findings:
            screen.say()
            for line in told(entry):
                screen.say(line)
        screen.say()
        parts = [
            f"{len(campaign.findings)} new",
            f"{len(failing)} known and still failing",
            f"{len(fixed)} fixed",
        ]
        parts += [f"{len(still) - len(failing)} accepted"] if len(still) > len(failing) else []
        bad = bool(campaign.findings or failing)
        screen.say(f"Findings: {', '.join(parts)}", style="bold red" if bad else "bold green")
        if bad:
            return EXIT_FOUND
        return EXIT_UNUSABLE if unusable or self._interrupted else EXIT_HOLDS

    def to_json(self) -> dict[str, Any]:
        """The report for programs."""
        from dataclasses import asdict

        from idemfuzz.corpus import to_json

        assert self.campaign is not None
        standing = asdict(self._standing())
        standing["curve"] = [list(point) for point in self.campaign.curve]
        return {
            "idemfuzz_fuzz_report": 1,
            "stopped": self.campaign.stopped,
            "standing": standing,
            "findings": [to_json(entry) for entry in self.campaign.findings],
            "known": [
                {
                    "id": fate.entry.id,
                    "target": fate.entry.target,
                    "fate": str(fate.fate),
                    "why": fate.why,
                    "accepted": fate.entry.id in self.campaign.accepted,
                }
                for fate in self.fates
            ],
        }


def told(entry: Entry) -> Iterator[str]:
    """A finding of the corpus in a few lines."""
    yield f"{entry.code}  {entry.title}  [{entry.id}]"
    yield f"  {entry.target}"
    yield f"  {entry.summary}"
    if entry.example_text:
        yield f"  Found with    {', '.join(f'{name}={text}' for name, text in entry.example_text.items())}"
    if entry.source:
        yield f"  at            {entry.source}"
    yield f"  Happens when  {entry.cause}"
    yield f"  Plan          {entry.plan}"
    yield f"  Replay        {entry.command}"


def _configured_processes(profile: str | None) -> int | None:
    from idemfuzz.configuration import configuration

    found = configuration(Path.cwd(), profile).fuzz.get("processes")
    return int(found) if found is not None else None


def _check_importable(targets: Sequence[str]) -> None:
    """Before processes are started: each of them would say the same."""
    from idemfuzz.cli.run import arguments_for

    arguments_for(targets)


def _own_arguments() -> list[str]:
    """This command's arguments, for the parts, without what concerns their number and the report."""
    given = sys.argv[sys.argv.index("fuzz") + 1 :]
    kept: list[str] = []
    skip = False
    for argument in given:
        if skip:
            skip = False
        elif argument in ("-n", "--report", "--via"):
            skip = True
        elif not argument.startswith(("--report=", "--via=", "-n")):
            kept.append(argument)
    return kept


def fuzz_in_processes(processes: int, report: Sequence[str], *, quiet: bool) -> int:
    """Start a process for each part, show them as one, and gather what they found."""
    import tempfile

    from idemfuzz.fuzz.crew import LocalPart
    from idemfuzz.reporting.screen import Screen

    with Screen.on_standard_output() as screen, ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="idemfuzz-fuzz-")))
        parts = []
        for number in range(1, processes + 1):
            part = LocalPart(number, processes, _own_arguments(), folder)
            stack.callback(part.close)
            parts.append(part)
        return CrewDisplay(screen, parts, quiet=quiet).watch(report)


def _configured_seconds(profile: str | None) -> float:
    from idemfuzz.configuration import configuration

    return Asked({}).settings(configuration(Path.cwd(), profile)).max_seconds or _MAX_SECONDS


def fuzz_via(url: str, parts: int, seconds: float, report: Sequence[str], *, quiet: bool) -> int:
    """Hand the parts to RQ's workers, and gather what they find."""
    import importlib.util

    from idemfuzz.abc import Unusable
    from idemfuzz.reporting.redaction import redact
    from idemfuzz.reporting.screen import Screen

    missing = [name for name in ("redis", "rq") if importlib.util.find_spec(name) is None]
    if missing:
        raise Unusable(
            f"--via needs {', '.join(missing)}, which is not installed: pip install 'idemfuzz[rq,redis]'"
        )
    from idemfuzz.adapters.rq_parts import QUEUE, enqueued

    try:
        made, workers = enqueued(url, _own_arguments(), parts, seconds)
    except (ConnectionError, ValueError) as error:
        raise Unusable(
            f"--via {redact(url)!r}: {redact(str(error))}. Expected the URL of a Redis that RQ workers use"
        ) from None
    with Screen.on_standard_output() as screen:
        told_workers = f"{workers} worker{'' if workers == 1 else 's'} listening"
        screen.say(f"{parts} part{'' if parts == 1 else 's'} handed to the queue {QUEUE!r}, {told_workers}")
        if not workers:
            screen.say(
                f"Nobody takes them yet. On each machine, in the project's folder: rq worker {QUEUE} --url {redact(url)}",
                style="yellow",
            )
        return CrewDisplay(screen, made, quiet=quiet, keep_in=Path.cwd()).watch(report)


class CrewDisplay:
    """Shows parts as one campaign."""

    def __init__(
        self, screen: Screen, parts: Sequence[Part], *, quiet: bool, keep_in: Path | None = None
    ) -> None:
        self._screen = screen
        self._parts = parts
        self._quiet = quiet
        self._keep_in = keep_in
        """Where findings are written; None where the parts have done so themselves."""
        self._told: set[str] = set()
        self._findings: dict[str, dict[str, Any]] = {}
        """By id, also those of parts that have died or begun anew since."""
        self._stopped = ""

    def watch(self, report: Sequence[str]) -> int:
        """Until all have ended; the exit code."""
        from rich.live import Live

        with self._stopping(), ExitStack() as stack:
            live: Live | None = None
            if self._screen.live:
                live = stack.enter_context(
                    Live(console=self._screen.console, auto_refresh=False, transient=True)
                )
            said = time.monotonic()
            while not all(part.ended() for part in self._parts):
                time.sleep(_STATUS_SECONDS / 2)
                self._tell_findings()
                standing = self._standing()
                if live is not None:
                    from idemfuzz.reporting.fuzz import panel

                    live.update(panel(standing, self._screen.width), refresh=True)
                elif time.monotonic() - said >= _PLAIN_SECONDS:
                    from idemfuzz.reporting.fuzz import line_of

                    said = time.monotonic()
                    self._screen.say(line_of(standing), style="dim")
        return self._conclude(report)

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def stop(number: int, frame: object) -> None:
            self._stopped = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
            for part in self._parts:
                part.stop()

        for number in before:
            signal.signal(number, stop)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _reports(self) -> list[dict[str, Any]]:
        reports = [status for part in self._parts if (status := part.status()) is not None]
        for report in reports:
            self._findings.update({str(data["id"]): data for data in report["findings"]})
        return reports

    def _gathered(self) -> list[Entry]:
        from idemfuzz.fuzz.crew import gathered

        return gathered([{"findings": list(self._findings.values())}])

    def _standing(self) -> Standing:
        from idemfuzz.fuzz.crew import merged
        from idemfuzz.reporting.fuzz import Standing, TargetStanding

        data = merged(self._reports())
        targets = [
            TargetStanding(**{**target, "points": tuple(target["points"])}) for target in data["targets"]
        ]
        now = f"{sum(not part.ended() for part in self._parts)} of {len(self._parts)} parts at work"
        return Standing(**{**data, "targets": targets, "now": now})

    def _tell_findings(self) -> None:
        from idemfuzz.corpus import write

        self._reports()
        for entry in self._gathered():
            if self._keep_in is not None:
                write(entry, self._keep_in)
            if entry.id not in self._told:
                self._told.add(entry.id)
                self._screen.say(
                    f"✗ {entry.code}  {entry.title}  {entry.target}  [{entry.id}]", style="bold red"
                )
                self._screen.say(f"  {entry.summary}")

    def _conclude(self, report: Sequence[str]) -> int:
        from idemfuzz.fuzz.crew import merged
        from idemfuzz.reporting.fuzz import summary
        from idemfuzz.reporting.json_report import write_json

        screen, reports = self._screen, self._reports()
        self._tell_findings()
        found = self._gathered()
        troubles = [trouble for part in self._parts if (trouble := part.trouble())]
        for trouble in troubles:
            screen.say(f"Note: {trouble}", style="yellow")
        if self._stopped:
            screen.say(
                f"Stopped by {self._stopped}. Nothing is lost; go on with --continue.", style="bold yellow"
            )
        if not reports:
            return EXIT_UNUSABLE
        for line in summary(self._standing()):
            screen.say(line)
        for entry in [] if self._quiet else found:
            screen.say()
            for line in told(entry):
                screen.say(line)
        known = {one["id"]: one for part in reports for one in part["known"]}
        counts = {
            fate: sum(one["fate"] == fate for one in known.values()) for fate in ("STILL FAILING", "FIXED")
        }
        failing = [one for one in known.values() if one["fate"] == "STILL FAILING" and not one["accepted"]]
        screen.say()
        screen.say(
            f"Findings: {len(found)} new, {len(failing)} known and still failing, {counts['FIXED']} fixed",
            style="bold red" if found or failing else "bold green",
        )
        document = {**reports[0], "standing": merged(reports), "known": list(known.values())}
        document["findings"] = [self._findings[entry.id] for entry in found]
        for target in report:
            write_json(Path(target.partition("=")[2]), document)
        if found or failing:
            return EXIT_FOUND
        return EXIT_UNUSABLE if troubles else EXIT_HOLDS
