"""One stress run: the clean deliveries that say what is right, the storm, and the judgement of what it left."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from idemfuzz import import_path
from idemfuzz.abc import Options, Store, Unusable
from idemfuzz.checkers import Noise, Span, State, strip
from idemfuzz.model import Delta
from idemfuzz.stress.channel import Receiver
from idemfuzz.stress.differences import Clean
from idemfuzz.stress.doings import STRANGER, is_taken
from idemfuzz.stress.endings import remembered, shielded
from idemfuzz.stress.fleet import Fleet
from idemfuzz.stress.ground import Ground, ReplyThief
from idemfuzz.stress.judgement import Judgement
from idemfuzz.stress.ledger import Ledger
from idemfuzz.stress.report import StressReport
from idemfuzz.stress.settings import Settings
from idemfuzz.stress.stores import adopted, claimed, closed, opened
from idemfuzz.stress.storm import Round, Storm, rounds_of
from idemfuzz.stress.target import Target
from idemfuzz.stress.witness import FOLDER_VARIABLE

__all__ = ["Progress", "stress"]

_CLASSES = {"fork": "ForkingWorker", "simple": "SimpleWorker", "spawn": "SpawnWorker"}
_WORKER_MODULE = "idemfuzz.stress.rq_process"
_SAMPLE_SECONDS_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Progress:
    """For live displays."""

    phase: str
    sent: int = 0
    done: int = 0
    total: int = 0
    running: int = 0
    redelivered: int = 0
    strikes: int = 0
    findings: int = 0
    rate: float = 0.0
    eta_seconds: float | None = None
    seconds: float = 0.0


def stress(
    target: Target,
    ground: Ground,
    settings: Settings,
    *,
    listener: Callable[[Progress], None] = lambda progress: None,
) -> StressReport:
    """Run it. The stores are left at their baseline, whatever happens.

    Raises:
        Unusable: the set-up is refused, or the job fails when it is delivered once.
    """
    return _Run(target, ground, settings, listener).run()


class _Run:
    def __init__(
        self, target: Target, ground: Ground, settings: Settings, listener: Callable[[Progress], None]
    ) -> None:
        self._target = target
        self._ground = ground
        self._settings = settings
        self._listener = listener
        self._queues = [f"stress-{number}" for number in range(1, settings.queues + 1)]
        self._began = time.time()
        self._stores: list[Store] = []
        self._noise = Noise()
        self._ledger = Ledger()
        self._samples = 0
        self._labels: dict[str, None] = {}
        self._has_more_labels = False
        """An Execution had so many effects that not all of them are known."""
        self._storm_seconds = 0.0
        self._judgement = Judgement(target.name, settings, target.arguments)

    def run(self) -> StressReport:
        started = time.monotonic()
        jobs = self._distinct()
        self._target.check_sendable(jobs)
        options = Options(allow=self._settings.allow, ignore=self._settings.ignore)
        stores = adopted(self._target.registration.values(), options)
        for store in stores:
            if hasattr(store, "check_given"):
                store.check_given()
        with claimed(stores, redis=self._ground.redis):
            self._target.prepare()
            self._stores = opened(stores)
            try:
                return self._judged(jobs, started)
            finally:
                with shielded():
                    closed(self._stores)

    def _judged(self, jobs: int, started: float) -> StressReport:
        end: float | None = None
        rounds = rounds_of(self._settings.deliveries, jobs)
        for numbers, parts in groupby(rounds, key=lambda part: part.numbers):
            self._listener(self._progress("one clean delivery at a time"))
            clean = self._clean(numbers)
            self._check_aim()
            # The time of the first clean deliveries is not the storm's.
            end = end or time.monotonic() + self._settings.duration_seconds
            if not self._storm(clean, parts, end):
                break
        return self._judgement.report(
            self._ledger,
            stores=[f"{s.name} ({getattr(s, 'description', s.kind)})" for s in self._stores],
            seconds=time.monotonic() - started,
            storm_seconds=self._storm_seconds,
        )

    def _distinct(self) -> int:
        asked = self._settings.distinct
        if not self._target.varies:
            if asked not in (None, 1):
                raise Unusable(
                    f"--distinct {asked}: {self._target.name} was registered with the same arguments for each job; "
                    "idemfuzz.register(job, args=lambda n: (...)) makes different ones"
                )
            return 1
        return asked or max(1, min(200, self._settings.deliveries // 2))

    # -- what is right -----------------------------------------------------------------------------------

    def _clean(self, numbers: range) -> Clean:
        """Each job once, in order: what must be there in the end. And in another order: what depends on it."""
        settings = replace(
            self._settings,
            workers=1,
            worker_class="simple",
            kill_rate=0.0,
            kill_at=None,
            faults=(),
            retries=0,
            producers=1,
            sending=("new-id",),
            drain_seconds=_SAMPLE_SECONDS_MAX,
        )
        with self._workers(settings, ()) as (fleet, receiver, messages, folder):
            storm = Storm(self._target, settings, fleet, receiver, messages, folder, Ledger())

            def sample(chosen: Sequence[int]) -> State:
                return self._sample(storm, chosen, messages, fleet)

            alone = range(numbers.start, numbers.start + 1)
            first = sample(alone)
            effects = [e for m in storm.ledger.of_job(numbers.start) for run in m.runs for e in run.effects]
            self._restore(perturb=True)
            second = sample(alone)
            self._restore()
            if not self._noise.learn(first.delta.added, second.delta.added, first.span, second.span):
                raise Unusable(
                    f"two clean deliveries of {self._target.name} from the same state leave different things behind: "
                    "nothing can be compared. `idemfuzz run` says more"
                )
            if len(numbers) == 1:
                return Clean(numbers, first, None, self._noise, tuple(effects))
            ordered = sample(numbers)
            self._restore()
            shuffled = random.Random(self._settings.seed).sample(numbers, len(numbers))
            other = sample(shuffled)
            self._restore()
        return Clean(numbers, ordered, other, self._noise, tuple(effects))

    def _sample(self, storm: Storm, numbers: Sequence[int], messages: Any, fleet: Fleet) -> State:
        """Deliver jobs once each by one worker, nothing going wrong; the state."""
        self._samples += 1
        storm.run(
            Round(self._samples, numbers, len(numbers)),
            lambda: None,
            time.monotonic() + _SAMPLE_SECONDS_MAX,
        )
        if storm.interrupted:
            raise KeyboardInterrupt
        for number in numbers:
            self._check_clean(number, storm.ledger, messages, fleet)
            for run in (run for message in storm.ledger.of_job(number) for run in message.runs):
                self._labels |= dict.fromkeys(effect["label"] for effect in run.effects)
                self._has_more_labels |= run.effects_left_out > 0
        return self._state(storm.ledger)

    def _check_clean(self, number: int, ledger: Ledger, messages: Any, fleet: Fleet) -> None:
        message = next(iter(ledger.of_job(number)), None)
        if message is not None and message.succeeded:
            return
        error = next((run.error for run in message.runs if run.error), None) if message is not None else None
        if message is not None and is_taken(message, messages.fate(message.job_id)):
            raise Unusable(f"the clean delivery of {self._target.name} ran elsewhere: {STRANGER}")
        why = error or messages.error(message.job_id if message is not None else "") or fleet.log()
        raise Unusable(
            f"{self._target.name}{self._target.arguments(number)[0]!r} fails when it is delivered once, by one worker: "
            f"{why or 'the worker did not say why'}. Workers see DATABASE_URL and REDIS_URL, and what --env adds"
        )

    # -- the storm ---------------------------------------------------------------------------------------

    def _storm(self, clean: Clean, parts: Iterator[Round], end: float) -> bool:
        """Some rounds of the same jobs, each judged from the same baseline; whether there is time for more."""
        settings = self._settings
        thief = ReplyThief(self._ground.redis) if "lost-reply" in settings.faults else None
        with (
            remembered() as pressed,
            closing(thief) if thief is not None else nullcontext(),
            self._workers(settings, _places(clean.effects)) as (fleet, receiver, messages, folder),
        ):
            storm = Storm(
                self._target,
                settings,
                fleet,
                receiver,
                messages,
                folder,
                self._ledger,
                thief=thief,
                redis=self._ground.own_redis,
            )
            for part in parts:
                try:
                    storm.run(part, partial(self._tell, pressed), end)
                finally:
                    self._storm_seconds += self._ledger.seconds
                try:
                    if storm.cut_short:
                        # What is still at work would change the state while it is looked at.
                        with shielded():
                            fleet.stop()
                    self._listener(self._progress("judging"))
                    self._judgement.take(clean, self._state(self._ledger), storm)
                except KeyboardInterrupt:
                    self._judgement.interrupt()
                    return False
                if storm.cut_short or time.monotonic() > end:
                    return False
                self._restore()
                for mark in folder.glob("struck-*"):
                    mark.unlink()
        return True

    def _progress(self, phase: str) -> Progress:
        counts = self._ledger.counts
        return Progress(
            phase,
            sent=counts["sent"] + counts["refused"],
            done=counts["ok"],
            total=self._settings.deliveries,
            running=len(self._ledger.live),
            redelivered=counts["requeued"],
            strikes=sum(self._ledger.strikes.values()),
            findings=self._judgement.findings,
        )

    def _tell(self, pressed: threading.Event) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        told = self._progress("storm")
        seconds = self._storm_seconds + time.monotonic() - (self._ledger.began or time.monotonic())
        rate = told.done / seconds if seconds else 0.0
        left = max(0, told.total - told.done)
        eta = left / rate if rate else None
        self._listener(replace(told, rate=rate, eta_seconds=eta, seconds=seconds))

    @contextmanager
    def _workers(
        self, settings: Settings, places: Sequence[tuple[str, int, str]]
    ) -> Iterator[tuple[Fleet, Receiver, Any, Path]]:
        from idemfuzz.adapters.rq_messages import RqMessages
        from idemfuzz.adapters.rq_worker import worker_command

        folder = self._ground.folder / f"workers-{time.monotonic_ns()}"
        folder.mkdir()
        _write_orders(folder, settings, places, self._stores)
        receiver = Receiver(folder)
        environment = {**os.environ, FOLDER_VARIABLE: str(folder)}
        environment["PYTHONPATH"] = import_path.for_children()
        worker_class = f"{_WORKER_MODULE}.{_CLASSES[settings.worker_class]}"
        quick = settings.lease_seconds is not None

        def command(name: str) -> Sequence[str]:
            return worker_command(worker_class, self._ground.redis, self._queues, name, quick=quick)

        fleet = Fleet(
            settings.workers, command, environment, folder, prefix=f"stress-{os.getpid()}-{folder.name[8:]}"
        )
        messages = RqMessages(self._ground.redis, self._queues)
        try:
            messages.check_alone()
            fleet.start()
            yield fleet, receiver, messages, folder
        finally:
            with shielded():
                fleet.stop()
                messages.empty()
                messages.close()
                receiver.close()

    # -- states ------------------------------------------------------------------------------------------

    def _check_aim(self) -> None:
        """A label that no clean delivery has is a slip of the pen, and not worth a storm."""
        aim = self._settings.kill_at
        if aim is None or aim.label in self._labels or self._has_more_labels:
            return
        close = get_close_matches(aim.label, self._labels, n=1)
        meant = f"; did you mean {close[0]!r}?" if close else "."
        raise Unusable(
            f"--kill-at {aim.label!r} is no effect of a clean delivery of {self._target.name}{meant} It has "
            f"{', '.join(self._labels) or 'none that was seen'}"
        )

    def _state(self, ledger: Ledger) -> State:
        delta = Delta(added=tuple(ledger.calls))
        for store in self._stores:
            delta += store.changes()
        return State(strip(delta, self._settings.ignore), Span(self._began, time.time()))

    def _restore(self, *, perturb: bool = False) -> None:
        for store in self._stores:
            store.restore()
            if perturb:
                store.perturb()


def _places(effects: Sequence[Mapping[str, Any]]) -> list[tuple[str, int, str]]:
    """Where an Execution can be struck: before its beginning, after each Effect that is more than a look, at its end."""
    places = [("start", 1, "before"), ("end", 1, "after")]
    places += [(e["label"], e["occurrence"], "after") for e in effects if e["access"] != "read"]
    return list(dict.fromkeys(places))


def _write_orders(
    folder: Path, settings: Settings, places: Sequence[tuple[str, int, str]], stores: Sequence[Store]
) -> None:
    orders = {
        "names": {address: store.name for store in stores if (address := getattr(store, "place", None))},
        "run_pid": os.getpid(),
        "hold_seconds": settings.hold_seconds,
        "lease_seconds": settings.lease_seconds,
        "rate": settings.kill_rate,
        "seed": settings.seed,
        "kinds": [kind for kind in settings.faults if kind not in ("on-success", "lost-reply", "restart")],
        "places": list(places),
        "aim": None
        if settings.kill_at is None
        else [settings.kill_at.label, settings.kill_at.occurrence, settings.kill_at.side],
        "strikes_max": max(1, settings.retries - 1),
    }
    (folder / "orders.json").write_text(json.dumps(orders), encoding="utf-8")
