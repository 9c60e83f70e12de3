"""The storm: producers send, workers work and die, and everything is written down until nothing moves any more."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from idemfuzz.abc import Unusable
from idemfuzz.servers.private import PrivateRedis
from idemfuzz.stress.channel import Receiver
from idemfuzz.stress.fleet import Fleet
from idemfuzz.stress.ground import ReplyThief
from idemfuzz.stress.ledger import Ledger
from idemfuzz.stress.settings import Settings

if TYPE_CHECKING:
    from idemfuzz.stress.run import Progress, Target

__all__ = ["Sending", "Storm", "messages_of"]

_TICK_SECONDS = 0.2
_WINDOW = 1_000
_BIRTH_SECONDS_MAX = 60.0
_COLD_SECONDS = 1.6
"""RQ takes a second SIGTERM for "at once" only if it comes a second after the first."""


@dataclass(frozen=True, slots=True)
class Sending:
    """One message to be sent."""

    number: int
    job_id: str
    unique: bool = False
    callback_fails: bool = False
    reply_lost: bool = False


@dataclass(slots=True)
class _Held:
    """An Execution that stands still until its redelivery has come and gone."""

    job_id: str
    pids: tuple[int, ...]
    deadline: float
    is_paused: bool


def messages_of(settings: Settings, numbers: Sequence[int]) -> list[Sending]:
    """What is sent, in order: the copies of one job stand next to each other, so that producers send them together."""
    lots = random.Random(f"{settings.seed}/messages")
    made = []
    copies = [settings.deliveries // len(numbers)] * len(numbers)
    for place in range(settings.deliveries - sum(copies)):
        copies[place] += 1
    for number, count in zip(numbers, copies, strict=True):
        for copy in range(count):
            mode = "new-id" if copy == 0 else lots.choice(settings.sending)
            label = copy if mode == "new-id" else 0
            made.append(
                Sending(
                    number,
                    f"stress-{number}-{label}-{settings.seed}",
                    mode == "unique" or (settings.sending == ("unique",)),
                    "on-success" in settings.faults and lots.random() < settings.kill_rate,
                    "lost-reply" in settings.faults and lots.random() < settings.kill_rate,
                )
            )
    return made


class Storm:
    """One set of messages through one fleet; afterwards `ledger` has what happened."""

    def __init__(
        self,
        target: Target,
        settings: Settings,
        fleet: Fleet,
        receiver: Receiver,
        messages: Any,
        folder: Path,
        *,
        numbers: Sequence[int],
        thief: ReplyThief | None = None,
        redis: PrivateRedis | None = None,
    ) -> None:
        self.ledger = Ledger()
        self.seconds = 0.0
        self.interrupted = False
        self.unfinished = False
        """The time was over before everything was done."""
        self.restarts = 0
        self.fate_of: dict[str, Mapping[str, Any]] = {}
        self.settings = settings
        self.workers_replaced = 0
        self.crashes: tuple[str, ...] = ()
        self._target = target
        self._settings = settings
        self._fleet = fleet
        self._receiver = receiver
        self._messages = messages
        self._folder = folder
        self._thief = thief
        self._redis = redis
        self._sendings = messages_of(settings, list(numbers))
        self._stop = threading.Event()
        self._sent = 0
        self._waiting = 0
        self._errors: list[BaseException] = []
        self._held: dict[str, _Held] = {}
        self._suspects: set[str] = set()
        self._later: list[tuple[float, Callable[[], Any]]] = []
        self._remembered = False

    # -- the run -----------------------------------------------------------------------------------------

    def run(self, listener: Callable[[Progress], None]) -> None:
        """Until everything that was sent is done, or the time is over, or Ctrl-C.

        Raises:
            Unusable: the workers do not come up.
        """
        self._await_workers()
        began = time.monotonic()
        producers = [
            threading.Thread(target=self._produce, args=(k,), name=f"idemfuzz-producer-{k}", daemon=True)
            for k in range(self._settings.producers)
        ]
        end = began + self._settings.duration_seconds
        for producer in producers:
            producer.start()
        try:
            ticked = 0.0
            while True:
                self._hear(_TICK_SECONDS / 4)
                now = time.monotonic()
                if now - ticked < _TICK_SECONDS:
                    continue
                ticked = now
                self._tick(now)
                listener(self._progress(now - began))
                sending = any(producer.is_alive() for producer in producers)
                if now > end:
                    self._stop.set()
                if self._errors:
                    raise self._errors[0]
                if not sending and self._is_quiet():
                    break
                if now > end + self._settings.drain_seconds:
                    self.unfinished = True
                    break
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            self._stop.set()
            for producer in producers:
                producer.join(5.0)
            self._let_all_go()
            self.seconds = time.monotonic() - began
            self.workers_replaced, self.crashes = self._fleet.replaced, tuple(self._fleet.crashes)
        self._hear(0.0)

    def _await_workers(self) -> None:
        """A worker that cannot even begin is a set-up that fails; what it has printed says why."""
        deadline = time.monotonic() + _BIRTH_SECONDS_MAX
        born: set[str] = set()
        while len(born) < self._settings.workers:
            for event in self._receiver.receive(0.1):
                if event["event"] == "born":
                    born.add(event["worker"])
            if self._fleet.has_failed() or time.monotonic() > deadline:
                raise Unusable(f"the workers do not start: {self._fleet.log() or 'they print nothing'}")

    def fates(self) -> None:
        """Ask RQ what it makes of each message that has not succeeded, before it is all cleared away."""
        for message in list(self.ledger.messages.values()):
            if message.job >= 0 and message.sent and not message.succeeded:
                with suppress(Exception):
                    self.fate_of[message.job_id] = self._messages.fate(message.job_id)

    # -- producers ---------------------------------------------------------------------------------------

    def _produce(self, which: int) -> None:
        messages = self._messages.producer(
            self._messages.client_through(self._thief.port) if self._thief else None
        )
        try:
            for number, sending in enumerate(self._sendings):
                if number % self._settings.producers != which:
                    continue
                while self._waiting > _WINDOW and not self._stop.is_set():
                    time.sleep(0.01)
                if self._stop.is_set():
                    return
                self._send(messages, sending, number)
        except BaseException as error:
            self._errors.append(error)
        finally:
            messages.close()

    def _send(self, messages: Any, sending: Sending, number: int) -> None:
        args, kwargs = self._target.arguments(sending.number)
        self.ledger.sending(
            sending.job_id, sending.number, time.monotonic(), callback_fails=sending.callback_fails
        )
        thief = self._thief if sending.reply_lost else None
        stolen = thief.arm() if thief is not None else 0
        for attempt in range(40):
            try:
                accepted = messages.send(
                    self._target.function,
                    args,
                    kwargs,
                    sending.job_id,
                    retries=self._settings.retries,
                    timeout_seconds=self._settings.job_timeout_seconds,
                    queue=number,
                    unique=sending.unique,
                    failing_callback=sending.callback_fails,
                )
                break
            except OSError:
                raise
            except Exception as error:
                # Redis is being restarted: a producer tries again.
                if (
                    "restart" not in self._settings.faults
                    or "Connection" not in type(error).__name__
                    or attempt == 39
                ):
                    raise
                time.sleep(0.1)
        if thief is not None and thief.stolen > stolen:
            self.ledger.sent_again(sending.job_id, sending.number, time.monotonic())
        if not accepted:
            self.ledger.refused(sending.job_id, sending.number)
        self._sent += 1

    # -- events ------------------------------------------------------------------------------------------

    def _hear(self, wait_seconds: float) -> None:
        for event in self._receiver.receive(wait_seconds):
            self.ledger.heard(event)
            if event["event"] == "struck":
                self._struck(event)
            elif event["event"] == "asked":
                self._asked(event)
            elif event["event"] == "ended":
                self._release(event["job"], but=event["execution"])

    def _struck(self, event: Mapping[str, Any]) -> None:
        if event["kind"] not in ("kill-worker", "pause") or event["execution"] is None:
            return
        known = self.ledger.live.get(event["execution"])
        if known is None:
            return
        run = known[0]
        deadline = time.monotonic() + self._settings.hold_seconds
        pids = tuple(dict.fromkeys((run.pid, run.worker_pid)))
        self._held[run.name] = _Held(event["job"], pids, deadline, event["kind"] == "pause")

    def _asked(self, event: Mapping[str, Any]) -> None:
        known = self.ledger.live.get(event["execution"])
        if known is None:
            return
        run, kind = known[0], event["kind"]
        self._fleet.signal(run.worker_pid, signal.SIGTERM)
        if kind == "term-all" and run.pid != run.worker_pid:
            self._fleet.signal(run.pid, signal.SIGTERM)
        elif kind == "cold":
            again = time.monotonic() + _COLD_SECONDS
            self._later.append((again, lambda: self._fleet.signal(run.worker_pid, signal.SIGTERM)))

    def _release(self, job_id: str, *, but: str) -> None:
        for name, held in list(self._held.items()):
            if held.job_id == job_id and name != but:
                self._let_go(name)

    def _let_go(self, name: str) -> None:
        held = self._held.pop(name)
        if held.is_paused:
            for pid in held.pids:
                self._fleet.signal(pid, signal.SIGCONT)
        else:
            (self._folder / f"release-{name}").touch()

    def _let_all_go(self) -> None:
        for name in list(self._held):
            self._let_go(name)

    # -- each tick ---------------------------------------------------------------------------------------

    def _tick(self, now: float) -> None:
        self._fleet.tend()
        for name, held in list(self._held.items()):
            if now > held.deadline:
                self._let_go(name)
        for due, action in list(self._later):
            if now > due:
                self._later.remove((due, action))
                action()
        self._bury(now)
        with suppress(Exception):
            self._waiting = self._messages.waiting()
        if "restart" in self._settings.faults and self._redis is not None and not self.restarts:
            self._throw_back()

    def _bury(self, now: float) -> None:
        """Who was found dead at the last tick and has not been heard of since is dead."""
        for name in [name for name in self._suspects if name in self.ledger.live]:
            self.ledger.died(name, now)
        self._suspects = {name for name, (run, _) in list(self.ledger.live.items()) if not _is_alive(run.pid)}

    def _throw_back(self) -> None:
        assert self._redis is not None
        if not self._remembered and self._sent > len(self._sendings) // 4:
            self._redis.remember()
            self._remembered = True
        elif self._remembered and self._sent > len(self._sendings) // 2:
            self._redis.throw_back()
            self._fleet.spare(self._redis.pid)
            self.restarts += 1
            self.ledger.strikes["restart"] += 1

    def _is_quiet(self) -> bool:
        """Nothing is queued, leased or running: nothing can happen any more."""
        if self.ledger.live or self._held or self._later:
            return False
        try:
            return not self._messages.waiting() and not self._messages.leased()
        except Exception:
            return False

    def _progress(self, seconds: float) -> Progress:
        from idemfuzz.stress.run import Progress

        counts = self.ledger.counts
        done = counts["ok"]
        rate = done / seconds if seconds else 0.0
        total = len(self._sendings)
        left = max(0, total - done)
        return Progress(
            "storm",
            sent=self._sent,
            done=done,
            total=total,
            running=len(self.ledger.live),
            redelivered=counts["requeued"],
            strikes=sum(self.ledger.strikes.values()),
            rate=rate,
            eta_seconds=left / rate if rate else None,
            seconds=seconds,
        )


def _is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
