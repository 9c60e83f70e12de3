"""The storm: producers send, workers work and die, and everything is written down until nothing moves any more.

It comes in rounds. Each ends when nothing moves, and is judged by itself from the same baseline on; so what is held in
memory, of histories as of states, is bounded by a round and not by the run.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from idemfuzz.abc import Unusable
from idemfuzz.servers.private import PrivateRedis
from idemfuzz.stress.channel import Receiver
from idemfuzz.stress.fleet import Fleet
from idemfuzz.stress.ground import ReplyThief
from idemfuzz.stress.ledger import Ended, Ledger
from idemfuzz.stress.settings import Settings
from idemfuzz.stress.target import Target

__all__ = ["Round", "Sending", "Storm", "messages_of", "rounds_of"]

_HEAR_SECONDS = 0.02
_TICK_SECONDS = 0.2
_QUEUED_PER_WORKER_MIN = 8
_QUEUED_SECONDS = 2.0
_ROUND_MESSAGES_MAX = 5_000
_ROUND_JOBS_MAX = 1_000
_LIMIT_SECONDS = 3.0
_BIRTH_SECONDS_MAX = 180.0
_LOST_SECONDS = 2.0
_COLD_SECONDS = 1.6
"""RQ takes a second SIGTERM for "at once" only if it comes a second after the first."""


@dataclass(frozen=True, slots=True)
class Round:
    """Some of the run's jobs, and how many messages carry them; rounds of the same jobs share a clean state."""

    index: int
    numbers: Sequence[int]
    deliveries: int


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
    limit: float
    """Then RQ's own time limit for the job is near, which would end it otherwise."""


def rounds_of(deliveries: int, jobs: int) -> Iterator[Round]:
    """Split a run: at most 1,000 jobs and 5,000 messages a round, each job with as many messages as any other."""
    index = 0
    for first in range(0, jobs, _ROUND_JOBS_MAX):
        numbers = range(first, min(jobs, first + _ROUND_JOBS_MAX))
        left = deliveries * numbers.stop // jobs - deliveries * numbers.start // jobs
        for place in range(count := -(-left // _ROUND_MESSAGES_MAX)):
            yield Round(index, numbers, left * (place + 1) // count - left * place // count)
            index += 1


def messages_of(settings: Settings, part: Round) -> list[Sending]:
    """What is sent, in order: the copies of one job stand next to each other, so that producers send them together."""
    lots = random.Random(f"{settings.seed}/messages/{part.index}")
    made: list[list[Sending]] = []
    numbers = part.numbers
    copies = [part.deliveries // len(numbers)] * len(numbers)
    for place in range(part.deliveries - sum(copies)):
        copies[place] += 1
    for number, count in zip(numbers, copies, strict=True):
        made.append([])
        for copy in range(count):
            mode = "new-id" if copy == 0 else lots.choice(settings.sending)
            label = copy if mode == "new-id" else 0
            made[-1].append(
                Sending(
                    number,
                    f"stress-{number}-{label}-{settings.seed}r{part.index}",
                    mode == "unique" or (settings.sending == ("unique",)),
                    "on-success" in settings.faults and lots.random() < settings.kill_rate,
                    "lost-reply" in settings.faults and lots.random() < settings.kill_rate,
                )
            )
    return list(_staggered(made))


def _staggered(jobs: Sequence[Sequence[Sending]]) -> Iterator[Sending]:
    """Of each four jobs, the last copy of the second comes behind the fourth.

    Two workers that take messages in turns would else go on as they began: either each pair of copies meets, or none does.
    """
    for first in range(0, len(jobs), 4):
        late: Sequence[Sending] = ()
        for place, copies in enumerate(jobs[first : first + 4]):
            late = copies[-1:] if place == 1 else late
            yield from copies[:-1] if place == 1 else copies
        yield from late


class Storm:
    """Messages through one fleet, round after round; after each, ``ledger`` has what happened in it."""

    def __init__(
        self,
        target: Target,
        settings: Settings,
        fleet: Fleet,
        receiver: Receiver,
        messages: Any,
        folder: Path,
        ledger: Ledger,
        *,
        thief: ReplyThief | None = None,
        redis: PrivateRedis | None = None,
    ) -> None:
        self.ledger = ledger
        self.interrupted = False
        self.unfinished = False
        """The time was over before everything was done."""
        self.fate_of: dict[str, Mapping[str, Any]] = {}
        """What RQ says of the messages of this round that did not succeed."""
        self.settings = settings
        self._target = target
        self._settings = settings
        self._fleet = fleet
        self._receiver = receiver
        self._messages = messages
        self._folder = folder
        self._thief = thief
        self._redis = redis
        self._sendings: Sequence[Sending] = ()
        self._stop = threading.Event()
        self._born = False
        self._queued_besides = 0
        """What was in the queue at the last look, beyond what had been sent and not been begun by then."""
        self._queued_max = _QUEUED_PER_WORKER_MIN * settings.workers
        self._executed = 0
        self._errors: list[BaseException] = []
        self._held: dict[str, _Held] = {}
        self._suspects: set[str] = set()
        self._later: list[tuple[float, Callable[[], Any]]] = []
        self._remembered = False
        self._quiet_since: float | None = None
        self._replaced_before = 0

    @property
    def cut_short(self) -> bool:
        """Whether this round ended while there was still something to do."""
        return self.interrupted or self.unfinished

    @property
    def replaced(self) -> int:
        """Workers that were replaced in this round."""
        return self._fleet.replaced - self._replaced_before

    @property
    def crashes(self) -> Sequence[str]:
        """What workers have printed that ended by themselves."""
        return self._fleet.crashes

    # -- a round -----------------------------------------------------------------------------------------

    def run(self, part: Round, listener: Callable[[], None], end: float) -> None:
        """Until everything that was sent is done, or the time is over, or Ctrl-C.

        ``end``: after it nothing more is sent, by `time.monotonic`.

        Raises:
            Unusable: the workers do not come up.
        """
        if not self._born:
            self._await_workers()
            self._born = True
        self.ledger.turn()
        self.fate_of.clear()
        self._suspects.clear()
        self._sendings = messages_of(self._settings, part)
        self._stop.clear()
        self._replaced_before = self._fleet.replaced
        turns = threading.Barrier(self._settings.producers)
        producers = [
            threading.Thread(
                target=self._produce, args=(k, turns), name=f"idemfuzz-producer-{k}", daemon=True
            )
            for k in range(self._settings.producers)
        ]
        for producer in producers:
            producer.start()
        try:
            self._attend(producers, listener, end)
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            self._stop.set()
            turns.abort()
            for producer in producers:
                producer.join(5.0)
            self._let_all_go()
        self._hear()
        self._fates()

    def _attend(
        self, producers: Sequence[threading.Thread], listener: Callable[[], None], end: float
    ) -> None:
        ticked = 0.0
        while True:
            # Not woken by each event: that would cost the workers a good part of the processor.
            time.sleep(_HEAR_SECONDS)
            self._hear()
            sending = any(producer.is_alive() for producer in producers)
            if self._errors:
                raise self._errors[0]
            if not sending and self._queued <= 0 and self._is_quiet():
                return
            now = time.monotonic()
            if now - ticked < _TICK_SECONDS:
                continue
            self._tick(now, now - ticked)
            ticked = now
            listener()
            if now > end:
                self._stop.set()
            if now > end + self._settings.drain_seconds:
                self.unfinished = True
                return

    def _await_workers(self) -> None:
        """A worker that cannot even begin is a set-up that fails; what it has printed says why."""
        deadline = time.monotonic() + _BIRTH_SECONDS_MAX
        born: set[str] = set()
        while len(born) < self._settings.workers:
            time.sleep(_HEAR_SECONDS)
            for event in self._receiver.receive():
                if event["event"] == "born":
                    born.add(event["worker"])
            if self._fleet.has_failed() or time.monotonic() > deadline:
                raise Unusable(
                    f"the workers do not start: {self._fleet.log() or f'they print nothing for {_BIRTH_SECONDS_MAX:.0f} s'}"
                )

    def _fates(self) -> None:
        """Ask RQ what it makes of each message that has not succeeded, before it is all cleared away."""
        for message in list(self.ledger.messages.values()):
            if message.job >= 0 and message.sent and not message.succeeded:
                with suppress(Exception):
                    self.fate_of[message.job_id] = self._messages.fate(message.job_id)

    # -- producers ---------------------------------------------------------------------------------------

    def _produce(self, which: int, turns: threading.Barrier) -> None:
        """Send each message that is this producer's, at the same time as the others send theirs."""
        messages = self._messages.producer(
            self._messages.client_through(self._thief.port) if self._thief else None
        )
        try:
            for first in range(0, len(self._sendings), self._settings.producers):
                # Without turns one may have sent all of its messages before the next is connected, and no two copies meet.
                turns.wait()
                while self._queued > self._queued_max and not self._stop.is_set():
                    time.sleep(0.01)
                if self._stop.is_set():
                    turns.abort()
                    return
                if first + which < len(self._sendings):
                    self._send(messages, self._sendings[first + which], first + which)
        except threading.BrokenBarrierError:
            pass
        except BaseException as error:
            turns.abort()
            self._errors.append(error)
        finally:
            messages.close()

    def _send(self, messages: Any, sending: Sending, number: int) -> None:
        args, kwargs = self._target.arguments(sending.number)
        self.ledger.sending(
            sending.job_id, sending.number, time.monotonic(), callback_fails=sending.callback_fails
        )
        thief = self._thief if sending.reply_lost else None
        if thief is not None:
            thief.arm(sending.job_id)
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
        if thief is not None and thief.disarm(sending.job_id):
            self.ledger.sent_again(sending.job_id, sending.number, time.monotonic(), accepted=accepted)
        elif not accepted:
            self.ledger.refused(sending.job_id, sending.number)

    # -- events ------------------------------------------------------------------------------------------

    def _hear(self) -> None:
        for event in self._receiver.receive():
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
        # It may be prolonged while its redelivery waits behind others in the queue.
        limit = max(deadline, run.started + self._settings.job_timeout_seconds - _LIMIT_SECONDS)
        self._held[run.name] = _Held(event["job"], pids, deadline, event["kind"] == "pause", limit)

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
            self._resume(held.pids)
        else:
            (self._folder / f"release-{name}").touch()

    def _resume(self, pids: Sequence[int]) -> None:
        for pid in pids:
            self._fleet.signal(pid, signal.SIGCONT)

    def _let_all_go(self) -> None:
        for name in list(self._held):
            self._let_go(name)

    # -- each tick ---------------------------------------------------------------------------------------

    @property
    def _queued(self) -> int:
        """How long the queue is; producers wait where it is too long: a redelivery comes behind all that is queued.

        Reckoned from what is sent and begun: to ask Redis each time would take from the workers what they have.
        """
        counts = self.ledger.counts
        return self._queued_besides + counts["sent"] - counts["started"]

    def _look(self) -> None:
        with suppress(Exception):
            self._queued_besides += self._messages.waiting() - self._queued

    def _tick(self, now: float, seconds: float) -> None:
        self._look()
        ended = sum(self.ledger.counts[ending] for ending in (Ended.OK, Ended.FAILED, Ended.KILLED))
        rate, self._executed = (ended - self._executed) / max(seconds, _TICK_SECONDS), ended
        self._queued_max = max(
            _QUEUED_PER_WORKER_MIN * self._settings.workers,
            int(rate * _QUEUED_SECONDS),
            self._queued_max // 2,
        )
        self._fleet.tend()
        self._tend_held(now)
        for due, action in list(self._later):
            if now > due:
                self._later.remove((due, action))
                action()
        self._bury(now)
        if (
            "restart" in self._settings.faults
            and self._redis is not None
            and not self.ledger.strikes["restart"]
        ):
            self._throw_back()

    def _tend_held(self, now: float) -> None:
        for name, held in list(self._held.items()):
            if now <= held.deadline:
                continue
            message = self.ledger.messages.get(held.job_id)
            if message is None or not message.is_owed or now > held.limit:
                self._let_go(name)
        for name, (run, _) in list(self.ledger.live.items()):
            if run.fault == "pause" and name not in self._held:
                # It may have been let go before it stood still.
                self._resume((run.pid, run.worker_pid))

    def _bury(self, now: float) -> None:
        """Who was found dead at the last tick and has not been heard of since is dead."""
        for name in [name for name in self._suspects if name in self.ledger.live]:
            self.ledger.died(name, now)
        self._suspects = {name for name, (run, _) in list(self.ledger.live.items()) if not _is_alive(run.pid)}

    def _throw_back(self) -> None:
        assert self._redis is not None
        sent = sum(message.queued for message in self.ledger.messages.values())
        if not self._remembered and sent > len(self._sendings) // 4:
            self._redis.remember()
            self._remembered = True
        elif self._remembered and sent > len(self._sendings) // 2:
            self._redis.throw_back()
            self._fleet.spare(self._redis.pid)
            self.ledger.strikes["restart"] += 1

    def _is_quiet(self) -> bool:
        """Nothing is queued, leased or running: nothing can happen any more."""
        now = time.monotonic()
        if self._is_busy():
            self._quiet_since = None
            return False
        if self._quiet_since is None:
            self._quiet_since = now
        # A worker on several queues has a message in its memory alone until it leases it; only time tells it from a lost one.
        return not self.ledger.owes() or now - self._quiet_since > _LOST_SECONDS

    def _is_busy(self) -> bool:
        if self.ledger.live or self._held or self._later:
            return True
        try:
            if self._messages.waiting_and_leased() != (0, 0):
                return True
        except Exception:
            return True
        # Who has begun or given out a message meanwhile has said so before.
        self._hear()
        return bool(self.ledger.live or self._held or self._later)


def _is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
