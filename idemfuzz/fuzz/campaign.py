"""A campaign: many jobs, one budget of time, spent where the search still learns something, and kept through every end.

The work goes in *slices*: one target for some seconds. A target's first slices are glances, a few trials each, so that every target
is seen, and its plain bugs are found, before any gets depth. Then comes the bounded search of `idemfuzz run`; later slices draw other
arguments and states, or go beyond the bounds with plans by chance. Which target is next depends on how much new behaviour its last slices
brought per second; targets whose code has changed come first.

What was learned is written after a slice, a finding the moment it is seen: whenever the process ends, by whatever, the next
one goes on from there.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from idemfuzz import baseline, corpus
from idemfuzz.abc import Options, Unusable
from idemfuzz.corpus import Entry
from idemfuzz.explorers.chance import ChanceExplorer, Depth
from idemfuzz.fuzz.news import explains, parts_of
from idemfuzz.fuzz.pursuit import Pursuit
from idemfuzz.fuzz.target import Target, code_of, restore, to_json
from idemfuzz.model import Example, Finding, Report
from idemfuzz.reporting.json_report import write_json
from idemfuzz.session import Progress
from idemfuzz.stage import Sight

__all__ = ["Campaign", "Settings", "Slice", "TimeIsUp"]

FORMAT = 1
_FOLDER = "fuzz"
_KEY = "idemfuzz_fuzz"
_GLANCES = (8, 40)
"""How many trials of each example the first slices of a target have: plain duplicates, then some of every kind."""
_FIRST_EXAMPLES = 6
_EXAMPLES = 8
_DEEP_EXAMPLES = 3
_DEEP_TRIALS = 80
_SHRINK_SECONDS = 20.0
_FADING = 0.5
"""How much the yield of the last slice counts against that of those before."""
_CURIOSITY = 1.0
_SAVING_SHARE = 0.03
"""How much of the time may go into writing what was learned, which grows with the number of targets."""


class TimeIsUp(KeyboardInterrupt):
    """Ends a search between two trials: what it changed is put back, and nothing that it found is lost.

    Like a Ctrl-C it is no failure of an example, and Hypothesis lets it through at once.
    """


@dataclass(frozen=True, slots=True)
class Settings:
    """What a campaign may do; times in seconds."""

    max_seconds: float | None = None
    max_findings: int | None = None
    seed: int = 0
    depth: Depth = field(default_factory=Depth)
    resume: bool = False
    """Whether to go on with what an earlier campaign learned and with its time."""
    part: tuple[int, int] = (1, 1)
    """Which share of the work, of how many: its state is kept apart, and its seeds are its own."""


@dataclass(slots=True)
class Slice:
    """One target's turn: makes the pursuit that a front end drives, and takes in what came of it."""

    campaign: Campaign
    target: Target
    kind: str
    seed: int
    examples_max: int
    trials_max: int | None = None
    """Of each example, where it is but a glance."""
    began: float = 0.0
    new: int = 0
    first_path: Path | None = None
    _confirming: bool = False

    def pursuit(self, options: Options) -> Pursuit:
        """A pursuit that is watched, ends in time, and passes over what is known."""
        options = replace(options, seed=self.seed % 2**31)
        explorers = None
        if self.kind == "deep":
            depth = self.campaign.settings.depth
            options = replace(
                options,
                max_trials=min(options.max_trials, _DEEP_TRIALS),
                attempts=max(options.attempts, depth.faults + 1),
            )
            explorers = [ChanceExplorer(f"{self.seed}", depth, self.target.parents)]
        return Pursuit(
            options,
            news=self._is_news,
            found=self._found,
            ends=lambda: self.campaign.is_over,
            shrink_seconds=_SHRINK_SECONDS,
            examples_max=self.examples_max,
            explorers=explorers,
            looked_trials_max=self.trials_max,
            observer=self._observe,
        )

    def progress(self, progress: Progress) -> None:
        """What a `Session` tells; nothing that it may have found is thrown away when the time is up."""
        self._confirming = progress.findings > 0 or progress.phase in ("confirm", "plan")
        self.campaign.tick(self, progress)

    def _observe(self, sight: Sight) -> None:
        self.target.trials += 1
        new = self.target.learned.see(sight)
        if new:
            self.new += new
            self.target.last_new_at = self.campaign.seconds
            self.campaign.discovered(new)
        if self.campaign.is_over and not self._confirming:
            raise TimeIsUp

    def _is_news(self, finding: Finding) -> bool:
        return self.campaign.is_news(corpus.entry_of(finding, self.target.name))

    def _found(self, finding: Finding, report: Report, example: Example | None) -> None:
        """Keep it before it is made small: whatever ends this process now, it is not lost."""
        path = self._kept(finding, report, example)
        self.first_path = self.campaign.root / path if path is not None else None

    def _kept(self, finding: Finding, report: Report, example: Example | None) -> str | None:
        entry = corpus.entry_of(
            finding,
            self.target.name,
            example=example,
            described=report.arguments,
            seed=self.campaign.settings.seed,
            is_test=self.target.is_test,
        )
        return self.campaign.keep(entry)

    def conclude(
        self, pursuit: Pursuit, settled: Report | None = None, example: Example | None = None
    ) -> None:
        """Take in what a slice found: the small form of what was followed, and what else was seen beside it."""
        if settled is not None:
            before = self.first_path
            path = self._kept(settled.findings[0], settled, example)
            if before is not None and path is not None and before != self.campaign.root / path:
                # Made small, it has become another one's file; its large form is no finding of its own.
                self.campaign.forget(before)
        for report, seen in pursuit.looked:
            for finding in report.findings:
                if self._is_news(finding):
                    self._kept(finding, report, seen)
        if self.kind in ("glance", "bounded") and pursuit.looked:
            self.target.not_covered = _not_covered(pursuit.reports)
        self.target.examples += len(pursuit.looked)
        for text, times in pursuit.refused.items():
            self.target.refused[text] = self.target.refused.get(text, 0) + times

    def end(self) -> None:
        """The turn is over, however it went."""
        took = max(0.001, time.monotonic() - self.began)
        target = self.target
        rate = self.new / took
        target.gain = rate if math.isinf(target.gain) else _FADING * rate + (1 - _FADING) * target.gain
        target.seconds += took
        target.slices += 1
        self.campaign.save_in_time()


class Campaign:
    """See the module. ``listener`` is told of every trial, ``found`` of every new finding."""

    def __init__(
        self,
        root: Path,
        settings: Settings,
        *,
        listener: Callable[[Campaign, Slice, Progress], None] | None = None,
        found: Callable[[Entry], None] | None = None,
    ) -> None:
        self.root = root
        self.settings = settings
        self.targets: dict[str, Target] = {}
        self.findings: list[Entry] = []
        """Of this campaign, in the order in which they were found."""
        self.known: dict[str, Entry] = {}
        """All findings of the corpus, by id."""
        self.due: dict[str, list[Entry]] = {}
        """Those that are still to be replayed in this process, by target: also by one that goes on with an earlier campaign."""
        self.accepted: set[str] = set()
        """Ids of those that the baseline accepts today."""
        self.problems: list[str] = []
        self.stopped = ""
        """Why it was stopped from outside."""
        self.curve: list[tuple[float, int]] = []
        """When there was how much behaviour: seconds, features."""
        self._listener = listener
        self._told = found
        self._earlier_seconds = 0.0
        self._began = time.monotonic()
        self._saved: dict[str, Any] = {}
        self._codes: dict[str, set[object]] = {}
        """What each target's code was when it was last looked at, by this part of the work or by any other."""
        self._features = 0
        self._save_at = 0.0

    # -- the beginning -----------------------------------------------------------------------------------

    def open(self) -> None:
        """Read the corpus, the baseline and, where it is to go on, what an earlier campaign learned.

        Raises:
            Unusable: the baseline cannot be read.
        """
        self.accepted = {one.id for one in baseline.read(self.root) if not one.expired()}
        kept, self.problems = corpus.entries(self.root)
        self.known = {entry.id: entry for entry in kept if entry.id}
        self._saved = self._read_state(self._state_path)
        others = [p for p in self._state_path.parent.glob("state*.json") if p != self._state_path]
        for state in (self._saved, *map(self._read_state, sorted(others))):
            for name, saved in state.get("targets", {}).items():
                if isinstance(saved, dict):
                    self._codes.setdefault(name, set()).add(saved.get("code"))
        if self.settings.resume:
            self._go_on()
        self._began = time.monotonic()

    def _go_on(self) -> None:
        if not self._saved:
            self.problems.append(
                f"there is nothing to go on with in {self._state_path}: the campaign begins anew"
            )
        with suppress(TypeError, ValueError):
            self._earlier_seconds = max(0.0, float(self._saved.get("seconds", 0.0)))
            self.curve = [(float(at), int(count)) for at, count in self._saved.get("curve", [])]

    def add(
        self, name: str, job: object, *, is_test: bool, draws: bool, sources: Iterable[object] = ()
    ) -> None:
        """Make a target known; ``sources`` are further functions whose text is part of its code."""
        target = Target(name, is_test, draws, code=code_of([job, *sources]))
        if name in self._codes:
            target.changed = target.code not in self._codes[name]
        saved = self._saved.get("targets", {}).get(name)
        if self.settings.resume and isinstance(saved, dict) and saved.get("code") == target.code:
            restore(target, saved)
        self.targets[name] = target
        self.due[name] = [entry for entry in self.known.values() if entry.target == name]
        self._features += len(target.learned.features)

    # -- which is next -----------------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """How long this campaign has run, with those that it goes on from."""
        return self._earlier_seconds + time.monotonic() - self._began

    @property
    def features(self) -> int:
        return self._features

    @property
    def trials(self) -> int:
        return sum(target.trials for target in self.targets.values())

    @property
    def last_new_at(self) -> float:
        return max((target.last_new_at for target in self.targets.values()), default=0.0)

    @property
    def is_over(self) -> bool:
        """Whether the budget is spent, or somebody wants it to stop."""
        settings = self.settings
        if self.stopped:
            return True
        if settings.max_seconds is not None and self.seconds >= settings.max_seconds:
            return True
        return settings.max_findings is not None and len(self.findings) >= settings.max_findings

    def next(self) -> Target | None:
        """Whose turn it is: first those with findings to replay; then each has its glances and its bounded search, one round after the other; then who promises most."""
        able = [target for target in self.targets.values() if not target.unusable and not target.skipped]
        if self.is_over or not able:
            return None
        waiting = [target for target in able if self.due[target.name] and not target.begun]
        if waiting:
            return min(waiting, key=lambda t: (not t.changed, t.name))
        fresh = [target for target in able if target.slices <= len(_GLANCES)]
        if fresh:
            found = {entry.target for entry in self.findings}
            # Within a round: what has changed, then what showed nothing yet, then what showed most that was new.
            return min(fresh, key=lambda t: (t.slices, not t.changed, t.name in found, -t.gain))
        total = sum(target.slices for target in able)
        best = max(target.gain for target in able) or 1.0

        def promise(target: Target) -> float:
            # What it brought of late, as a share of the best; and the less it was looked at, the more there may be.
            return target.gain / best + _CURIOSITY * math.sqrt(math.log(total + 1) / target.slices)

        return max(able, key=lambda target: (promise(target), target.name))

    def slice(self, target: Target) -> Slice:
        """A turn for a target."""
        target.begun = True
        number = target.slices
        part, parts = self.settings.part
        seed = _number_of(f"{self.settings.seed}/{target.name}/{number * parts + part - 1}")
        trials_max = None
        if number < len(_GLANCES):
            kind, examples, trials_max = "glance", _FIRST_EXAMPLES, _GLANCES[number]
        elif number == len(_GLANCES):
            kind, examples = "bounded", _FIRST_EXAMPLES
        elif target.draws and number % 2:
            kind, examples = "examples", _EXAMPLES
        else:
            kind, examples = "deep", _DEEP_EXAMPLES if target.draws else 1
        return Slice(self, target, kind, seed, examples, trials_max, began=time.monotonic())

    # -- what comes of it --------------------------------------------------------------------------------

    def tick(self, turn: Slice, progress: Progress) -> None:
        if self._listener is not None:
            self._listener(self, turn, progress)

    def discovered(self, new: int) -> None:
        self._features += new
        self.curve.append((round(self.seconds, 1), self._features))
        if len(self.curve) > 400:
            # Half of the points are as good a picture.
            self.curve = self.curve[::2]

    def is_news(self, entry: Entry) -> bool:
        """Whether nothing that is known explains it: the same cause, or a simpler way to the same damage."""
        if entry.id in self.accepted:
            return False
        same = self.known.get(entry.id)
        if same is not None:
            return parts_of(entry.plan) < parts_of(same.plan)
        return not any(explains(known, entry) for known in self.known.values())

    def keep(self, entry: Entry) -> str | None:
        """Write a finding to the corpus; whether it is new or the smaller form of a known one."""
        path = corpus.write(entry, self.root)
        if path is not None:
            entry = replace(entry, path=self.root / path)
        else:
            text = f"{entry.code} of {entry.target} [{entry.id}] cannot be kept below {self.root / corpus.FOLDER}, so no replay will know it"
            self.problems += [text] if text not in self.problems else []
        is_new = entry.id not in self.known
        self.known[entry.id] = entry
        for other in [found for found in self.findings if found.id != entry.id and explains(entry, found)]:
            # The simpler one came later: what it explains is no finding of its own.
            if other.path is not None:
                self.forget(other.path)
        if is_new:
            self.findings.append(entry)
            if self._told is not None:
                self._told(entry)
        else:
            self.findings = [entry if found.id == entry.id else found for found in self.findings]
        return path

    def forget(self, path: Path) -> None:
        """Take a finding back whose smaller form is kept under another name."""
        gone = [entry for entry in self.known.values() if entry.path == path]
        for entry in gone:
            del self.known[entry.id]
            self.findings = [found for found in self.findings if found.id != entry.id]
            corpus.remove(entry)

    @property
    def not_replayed(self) -> list[Entry]:
        """Known findings that had no turn; but for those that are accepted, and those of tests that are skipped."""
        waiting = [entry for name, due in self.due.items() if not self.targets[name].skipped for entry in due]
        return [entry for entry in waiting if entry.id not in self.accepted]

    def stop(self, why: str) -> None:
        """End after the trial that runs."""
        self.stopped = self.stopped or why

    # -- what lasts --------------------------------------------------------------------------------------

    @property
    def _state_path(self) -> Path:
        part, parts = self.settings.part
        name = "state.json" if parts == 1 else f"state-{part}-of-{parts}.json"
        return self.root / corpus.FOLDER / _FOLDER / name

    def _read_state(self, path: Path) -> dict[str, Any]:
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            self.problems.append(f"{path} cannot be read and is begun anew: {error}")
            return {}
        if (
            not isinstance(data, dict)
            or data.get(_KEY) != FORMAT
            or not isinstance(data.get("targets"), dict)
        ):
            self.problems.append(f"{path} is not of this version of idemfuzz and is begun anew")
            return {}
        return data

    def save_in_time(self) -> None:
        """Write what was learned, unless that was done a moment ago: a campaign of many targets would do little else."""
        began = time.monotonic()
        if began < self._save_at:
            return
        self.save()
        ended = time.monotonic()
        self._save_at = ended + (ended - began) / _SAVING_SHARE

    def save(self) -> None:
        """Write what was learned, whole or not at all."""
        known = {
            **self._saved.get("targets", {}),
            **{name: to_json(target) for name, target in self.targets.items()},
        }
        path = self._state_path
        document = {
            _KEY: FORMAT,
            "seconds": round(self.seconds, 1),
            "seed": self.settings.seed,
            "curve": self.curve,
            "targets": known,
        }
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, document)
        except (OSError, Unusable) as error:
            text = f"what was learned cannot be kept: {error}"
            if text not in self.problems:
                self.problems.append(text)


def _number_of(text: str) -> int:
    return int.from_bytes(hashlib.blake2s(text.encode(), digest_size=6).digest(), "big")


def _not_covered(reports: Sequence[Report]) -> tuple[str, ...]:
    """What the first of the searches that left something out left out."""
    for report in reports:
        if not report.certificate.exhaustive:
            return tuple(
                f"{covered.explorer}: {covered.why or f'{covered.over_budget} plans over budget'}"
                for covered in report.certificate.coverage
                if covered.exhaustive is False or covered.over_budget
            )
    return ()
