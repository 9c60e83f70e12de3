"""How `idemfuzz fuzz` shows a campaign: a live view or plain lines, a status for whoever started it, and what came of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from idemfuzz.cli import EXIT_FOUND, EXIT_HOLDS, EXIT_UNUSABLE
from idemfuzz.cli.display import Display
from idemfuzz.reporting.certificate import counted

if TYPE_CHECKING:
    from rich.live import Live

    from idemfuzz.configuration import Configuration
    from idemfuzz.corpus import Entry
    from idemfuzz.fuzz.campaign import Campaign, Settings, Slice
    from idemfuzz.fuzz.replaying import Replayed
    from idemfuzz.reporting.fuzz import Standing
    from idemfuzz.reporting.screen import Screen
    from idemfuzz.session import Progress


_LIVE_SECONDS = 0.25
PLAIN_SECONDS = 10.0
STATUS_SECONDS = 1.0
MAX_SECONDS = 600.0
NOT_REPLAYED = "NOT REPLAYED"
"""In a report, in place of the fate of a known finding."""
_NAMED_MAX = 6


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

        values = {"max_time": MAX_SECONDS, **configured.fuzz, **self.values}
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

    def __init__(
        self,
        screen: Screen,
        asked: Asked,
        in_parts: Callable[[Configuration, Path], int | None],
        *,
        quiet: bool,
        status: Path | None = None,
    ) -> None:
        """``in_parts`` does it elsewhere if the project's table or the command line say so, and returns the exit code."""
        super().__init__(screen, quiet=quiet)
        self._in_parts = in_parts
        self._done_in_parts: int | None = None
        self._stack = ExitStack()
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
        """Ends the live view in the end."""
        with self._stack:
            yield
        self._live = None

    # -- pytest ------------------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> int | None:
        """pytest knows the project's root folder now, and nothing has begun."""
        from idemfuzz.pytest_plugin.options import configured_for

        self._done_in_parts = self._in_parts(configured_for(config), config.rootpath)
        return self._done_in_parts

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        from rich.live import Live

        from idemfuzz.fuzz.campaign import Campaign
        from idemfuzz.pytest_plugin.fuzz import FuzzLoop
        from idemfuzz.pytest_plugin.options import configured_for

        settings = self._asked.settings(configured_for(session.config))
        campaign = Campaign(
            session.config.rootpath, settings, listener=self._on_progress, found=self._on_found
        )
        campaign.open()
        self.campaign = campaign
        if self._screen.live:
            # No thread runs beside the search: it is drawn between trials.
            live = Live(console=self._screen.console, auto_refresh=False, transient=True)
            self._live = self._stack.enter_context(live)
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
            if now - self._drawn >= STATUS_SECONDS:
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
        if now - self._told_at >= PLAIN_SECONDS:
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
        if self._status is not None:
            # Whatever ends this part now, whoever started it knows of this.
            self._tell_status()

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
                    skipped=target.skipped,
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
        if self._done_in_parts is not None:
            return self._done_in_parts
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
        parts += [f"{len(campaign.not_replayed)} not replayed"] if campaign.not_replayed else []
        bad = bool(campaign.findings or failing)
        screen.say(f"Findings: {', '.join(parts)}", style="bold red" if bad else "bold green")
        if bad:
            return EXIT_FOUND
        if self._interrupted:
            return EXIT_UNUSABLE
        # Of a part, whoever started it judges, with all the others.
        if self._status is not None:
            return EXIT_HOLDS
        waiting = [entry.id for entry in campaign.not_replayed]
        return judged(screen, self._standing(), campaign.stopped, waiting)

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
                    "id": entry.id,
                    "target": entry.target,
                    "fate": fate,
                    "why": why,
                    "accepted": entry.id in self.campaign.accepted,
                }
                for entry, fate, why in [
                    *((entry, NOT_REPLAYED, "it had no turn") for entry in self.campaign.not_replayed),
                    *((one.entry, str(one.fate), one.why) for one in self.fates),
                ]
            ],
            "problems": self.campaign.problems,
        }


def judged(screen: Screen, standing: Standing, stopped: str, waiting: Sequence[str]) -> int:
    """The exit code of a campaign without findings: not having searched something is no pass, and says why.

    ``waiting`` are the ids of known findings that were not replayed.
    """
    if waiting:
        screen.say(
            f"Nothing can be claimed of {_named(waiting)}, which had no turn: give it more (--max-time), or idemfuzz replay",
            style="bold yellow",
        )
        return EXIT_UNUSABLE
    unsearched = [target for target in standing.targets if target.is_unsearched]
    if unsearched:
        names = _named([target.name for target in unsearched])
        screen.say(f"Nothing can be claimed of {names}: see above", style="bold yellow")
        return EXIT_UNUSABLE
    if all(target.skipped for target in standing.targets):
        screen.say(
            f"Nothing was searched: {counted(len(standing.targets), 'test')} skipped.", style="bold red"
        )
        return EXIT_UNUSABLE
    if not stopped and not any(target.examples for target in standing.targets):
        screen.say(
            "No search came to its end before the time was up, so nothing can be claimed. Give it more: --max-time",
            style="bold yellow",
        )
        return EXIT_UNUSABLE
    return EXIT_HOLDS


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED_MAX} more" if len(names) > _NAMED_MAX else ""
    return ", ".join(names[:_NAMED_MAX]) + more


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
