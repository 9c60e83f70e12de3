"""How `idemfuzz fuzz` runs in parts, as processes or as jobs of RQ, and shows them as one campaign."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idemfuzz.cli import EXIT_FOUND, EXIT_UNUSABLE
from idemfuzz.cli.fuzz_display import NOT_REPLAYED, PLAIN_SECONDS, STATUS_SECONDS, judged, told

if TYPE_CHECKING:
    from rich.live import Live

    from idemfuzz.corpus import Entry
    from idemfuzz.fuzz.crew import Part
    from idemfuzz.reporting.fuzz import Standing
    from idemfuzz.reporting.screen import Screen


def fuzz_in_processes(
    screen: Screen, processes: int, report: Sequence[str], *, quiet: bool, findings_max: int | None = None
) -> int:
    """Start a process for each part, show them as one, and gather what they found."""
    from idemfuzz.fuzz.crew import LocalPart
    from idemfuzz.scratch import scratch

    with ExitStack() as stack:
        folder = stack.enter_context(scratch("idemfuzz-fuzz-"))
        parts = []
        for number in range(1, processes + 1):
            part = LocalPart(number, processes, own_arguments(), folder)
            stack.callback(part.close)
            parts.append(part)
        return CrewDisplay(screen, parts, quiet=quiet, findings_max=findings_max).watch(report)


def fuzz_via(
    url: str,
    screen: Screen,
    root: Path,
    parts: int,
    seconds: float,
    report: Sequence[str],
    *,
    quiet: bool,
    findings_max: int | None = None,
) -> int:
    """Hand the parts to RQ's workers, and gather what they find below ``root``."""
    import importlib.util

    from idemfuzz.abc import Unusable
    from idemfuzz.reporting.redaction import redact

    missing = [name for name in ("redis", "rq") if importlib.util.find_spec(name) is None]
    if missing:
        raise Unusable(
            f"--via needs {', '.join(missing)}, which is not installed: pip install 'idemfuzz[rq,redis]'"
        )
    from idemfuzz.adapters.rq_parts import QUEUE, enqueued

    try:
        made, workers = enqueued(url, own_arguments(), parts, seconds)
    except (ConnectionError, ValueError) as error:
        raise Unusable(
            f"--via {redact(url)!r}: {redact(str(error))}. Expected the URL of a Redis that RQ workers use"
        ) from None
    told_workers = f"{workers} worker{'' if workers == 1 else 's'} listening"
    screen.say(f"{parts} part{'' if parts == 1 else 's'} handed to the queue {QUEUE!r}, {told_workers}")
    if not workers:
        screen.say(
            f"Nobody takes them yet. On each machine, in the project's folder: rq worker {QUEUE} --url {redact(url)}",
            style="yellow",
        )
    display = CrewDisplay(screen, made, quiet=quiet, findings_max=findings_max, keep_in=root)
    return display.watch(report)


def own_arguments() -> list[str]:
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


class CrewDisplay:
    """Shows parts as one campaign."""

    def __init__(
        self,
        screen: Screen,
        parts: Sequence[Part],
        *,
        quiet: bool,
        findings_max: int | None = None,
        keep_in: Path | None = None,
    ) -> None:
        self._screen = screen
        self._parts = parts
        self._quiet = quiet
        self._findings_max = findings_max
        self._keep_in = keep_in
        """Where findings are written; None where the parts have done so themselves."""
        self._told: set[str] = set()
        self._findings: dict[str, dict[str, Any]] = {}
        """By id, also those of parts that have died or begun anew since."""
        self._stopped = ""
        self._ending = False
        """Whether the parts have been asked to end."""
        self._left = False
        """Whether nobody waits any longer for parts that have not ended."""

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
            while not self._left and not all(part.ended() for part in self._parts):
                time.sleep(STATUS_SECONDS / 2)
                self._tell_findings()
                if self._findings_max is not None and len(self._gathered()) >= self._findings_max:
                    self._end_parts()
                standing = self._standing()
                if live is not None:
                    from idemfuzz.reporting.fuzz import panel

                    live.update(panel(standing, self._screen.width), refresh=True)
                elif time.monotonic() - said >= PLAIN_SECONDS:
                    from idemfuzz.reporting.fuzz import line_of

                    said = time.monotonic()
                    self._screen.say(line_of(standing), style="dim")
        return self._conclude(report)

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def stop(number: int, frame: object) -> None:
            self._left = bool(self._stopped)
            self._stopped = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
            self._end_parts()

        for number in before:
            signal.signal(number, stop)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end_parts(self) -> None:
        """Ask each, once, to end after the trial that runs."""
        if not self._ending:
            self._ending = True
            for part in self._parts:
                part.stop()

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
        troubles = [trouble for part in self._parts if part.ended() and (trouble := part.trouble())]
        troubles += [f"part {part.name} was not waited for" for part in self._parts if not part.ended()]
        problems = dict.fromkeys(text for part in reports for text in part["problems"])
        for text in (*problems, *troubles):
            screen.say(f"Note: {text}", style="yellow")
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
        # Where one part had no time for it, another one may have had; a part that begins anew knows what it found before.
        told_known = [one for part in reports for one in part["known"]]
        known = {one["id"]: one for one in sorted(told_known, key=lambda one: one["fate"] != NOT_REPLAYED)}
        known = {one: fate for one, fate in known.items() if one not in self._findings}
        counts = {
            fate: sum(one["fate"] == fate for one in known.values()) for fate in ("STILL FAILING", "FIXED")
        }
        failing = [one for one in known.values() if one["fate"] == "STILL FAILING" and not one["accepted"]]
        waiting = [identity for identity, one in known.items() if one["fate"] == NOT_REPLAYED]
        waiting_text = f", {len(waiting)} not replayed" if waiting else ""
        screen.say()
        screen.say(
            f"Findings: {len(found)} new, {len(failing)} known and still failing, {counts['FIXED']} fixed{waiting_text}",
            style="bold red" if found or failing else "bold green",
        )
        document = {
            **reports[0],
            "stopped": self._stopped,
            "standing": merged(reports),
            "known": list(known.values()),
        }
        document["findings"] = [self._findings[entry.id] for entry in found]
        for target in report:
            write_json(Path(target.partition("=")[2]), document)
        if found or failing:
            return EXIT_FOUND
        code = judged(screen, self._standing(), self._stopped, waiting)
        return EXIT_UNUSABLE if troubles else code
