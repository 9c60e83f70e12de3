"""What has happened to each message: who ran it when, who was struck, and which way RQ gave it out again."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from idemfuzz.model import Fact
from idemfuzz.stress.codec import fact_from_json

__all__ = ["Ended", "Ledger", "Message", "Run"]

_EFFECTS_MAX = 60
"""Of one Execution; a story shows no more."""
_LATENCIES_MAX = 20_000
_DEADLY = {"kill-horse", "kill-both"}
"""The faults that end at once the process which runs the job."""


class Ended:
    """How an Execution ended."""

    OK = "ok"
    FAILED = "failed"
    KILLED = "killed"


@dataclass(slots=True)
class Run:
    """One Execution in a worker process."""

    name: str
    worker: str
    pid: int
    worker_pid: int
    started: float
    ended: float | None = None
    ending: str | None = None
    error: str | None = None
    struck: str | None = None
    """Fault and place, if one hit it."""
    fault: str | None = None
    struck_at: float | None = None
    """Just before it did."""
    effects: list[Mapping[str, Any]] = field(default_factory=list)
    effects_left_out: int = 0
    doubtful: Mapping[str, Any] | None = None
    """An outside call that was under way when it was last heard of."""

    def overlaps(self, other: Run) -> bool:
        return (self.ended is None or other.started < self.ended) and (
            other.ended is None or self.started < other.ended
        )


@dataclass(slots=True)
class Message:
    """What lies in the queue under one id: one Delivery or more of one Job."""

    job_id: str
    job: int
    sent: list[float] = field(default_factory=list)
    refused: int = 0
    sent_again: list[float] = field(default_factory=list)
    """When the producer's client sent it once more by itself, for the reply was lost."""
    refused_again: list[float] = field(default_factory=list)
    """The same, but with ``unique=True`` RQ refused that: its producer is told of a duplicate though it is queued."""
    runs: list[Run] = field(default_factory=list)
    requeued: list[tuple[float, str]] = field(default_factory=list)
    popped: bool = False
    """A worker was killed after it had taken this from the queue."""
    callback_fails: bool = False

    @property
    def queued(self) -> int:
        """How often it came to lie in the queue by its producer's doing."""
        return len(self.sent) + len(self.sent_again)

    @property
    def is_owed(self) -> bool:
        """Whether it was queued more often than it was begun."""
        return self.queued + len(self.requeued) > len(self.runs)

    @property
    def succeeded(self) -> int:
        return sum(run.ending == Ended.OK for run in self.runs)

    @property
    def overlaps(self) -> bool:
        return any(one.overlaps(other) for n, one in enumerate(self.runs) for other in self.runs[n + 1 :])


class Ledger:
    """Keeps the messages and outside calls of one round; of the rounds before it only numbers are left.

    Invariant: its size is bounded by that of a round, however long the run.
    """

    def __init__(self) -> None:
        self.messages: dict[str, Message] = {}
        self.calls: list[Fact] = []
        self.live: dict[str, tuple[Run, Message]] = {}
        self.counts: Counter[str] = Counter()
        self.strikes: Counter[str] = Counter()
        self.latencies: list[float] = []
        """Seconds from a message's first sending to the end of an Execution: an even sample."""
        self.began: float | None = None
        """When this round's first message was sent."""
        self.last_ended: float | None = None
        self._of_job: dict[int, list[Message]] = defaultdict(list)
        self._stride = 1
        self._lock = threading.Lock()

    def turn(self) -> None:
        """Begin a new round: its messages have been judged."""
        with self._lock:
            self.messages.clear()
            self.calls.clear()
            self.live.clear()
            self.began = self.last_ended = None
            self._of_job.clear()

    # -- what the producers say --------------------------------------------------------------------------

    def sending(self, job_id: str, job: int, at: float, *, callback_fails: bool = False) -> None:
        """A producer is about to send a message: said before, for a worker may be quicker than the producer."""
        with self._lock:
            message = self._message(job_id, job)
            if callback_fails and not message.callback_fails:
                message.callback_fails = True
                self.strikes["on-success"] += 1
            message.sent.append(at)
            self.began = at if self.began is None else self.began
            self.counts["sent"] += 1

    def sent_again(self, job_id: str, job: int, at: float, *, accepted: bool) -> None:
        """The reply to a sending that was accepted was lost, and the producer's client sent it again."""
        with self._lock:
            message = self._message(job_id, job)
            (message.sent_again if accepted else message.refused_again).append(at)
            self.strikes["lost-reply"] += 1

    def refused(self, job_id: str, job: int) -> None:
        """The queue did not take it."""
        with self._lock:
            message = self._message(job_id, job)
            message.sent.pop()
            message.refused += 1
            self.counts["sent"] -= 1
            self.counts["refused"] += 1

    # -- what the workers say ----------------------------------------------------------------------------

    def heard(self, event: Mapping[str, Any]) -> None:
        """Take one event of a worker process into account."""
        with self._lock:
            self._heard(event)

    def _heard(self, event: Mapping[str, Any]) -> None:
        kind = event["event"]
        if kind == "started":
            run = Run(event["execution"], event["worker"], event["pid"], event["worker_pid"], event["at"])
            message = self._message(event["job"], _job_of(event["job"]))
            message.runs.append(run)
            self.live[run.name] = (run, message)
            self.counts["started"] += 1
        elif kind == "effect":
            known = self.live.get(event["execution"])
            if known is not None:
                self._effect(known[0], event)
        elif kind == "ended":
            self._ended(event)
        elif kind == "struck":
            self.strikes[event["kind"]] += 1
            known = self.live.get(event["execution"] or "")
            if known is not None:
                run = known[0]
                run.struck, run.fault, run.struck_at = event["where"], event["kind"], event["at"]
            else:
                self._message(event["job"], _job_of(event["job"])).popped = True
        elif kind == "requeued":
            self._message(event["job"], _job_of(event["job"])).requeued.append((event["at"], event["path"]))
            self.counts["requeued"] += 1

    def died(self, name: str, at: float) -> None:
        """The process of a live Execution is gone without a word. It was found so ``at``; if a fault killed it, it had ended then."""
        run, _ = self.live.pop(name)
        killed_at = run.struck_at if run.fault in _DEADLY else None
        run.ended, run.ending = at if killed_at is None else killed_at, Ended.KILLED
        self.counts["killed"] += 1
        if run.doubtful is not None:
            self.counts["doubtful calls"] += 1

    @property
    def seconds(self) -> float:
        """How long this round's work took: from the first sending to the end of the last Execution."""
        return max(0.0, self.last_ended - self.began) if self.began and self.last_ended else 0.0

    # -- what there is to tell ---------------------------------------------------------------------------

    def of_job(self, job: int) -> list[Message]:
        """The messages that carried a job in this round."""
        return self._of_job.get(job, [])

    def owes(self) -> bool:
        """Whether a message of this round was queued more often than it was begun."""
        with self._lock:
            return any(message.is_owed for messages in self.jobs.values() for message in messages)

    def pending(self) -> set[int]:
        """The jobs of which something is still to be begun or ended."""
        return {
            job
            for job, messages in self.jobs.items()
            if any(m.is_owed or any(run.ended is None for run in m.runs) for m in messages)
        }

    @property
    def jobs(self) -> Mapping[int, list[Message]]:
        """The messages of this round by their job; child jobs are left out."""
        return {job: messages for job, messages in self._of_job.items() if job >= 0}

    def _message(self, job_id: str, job: int) -> Message:
        message = self.messages.get(job_id)
        if message is None:
            message = self.messages[job_id] = Message(job_id, job)
            self._of_job[job].append(message)
        return message

    def _effect(self, run: Run, event: Mapping[str, Any]) -> None:
        if event["outcome"] == "under way":
            run.doubtful = event
            return
        run.doubtful = None
        self.counts["effects"] += 1
        if event["call"] is not None:
            self.calls.append(fact_from_json(event["call"]))
        if len(run.effects) < _EFFECTS_MAX:
            run.effects.append(event)
        else:
            run.effects_left_out += 1

    def _ended(self, event: Mapping[str, Any]) -> None:
        known = self.live.pop(event["execution"], None)
        if known is None:
            return
        run, message = known
        run.ended, run.error = event["at"], event["error"]
        self.last_ended = max(run.ended, self.last_ended or 0.0)
        run.ending = Ended.OK if run.error is None else Ended.FAILED
        self.counts[run.ending] += 1
        self._note_latency(run.ended - (message.sent[0] if message.sent else run.started))

    def _note_latency(self, seconds: float) -> None:
        if self.counts["started"] % self._stride == 0:
            self.latencies.append(max(0.0, seconds))
        if len(self.latencies) >= _LATENCIES_MAX:
            self.latencies = self.latencies[::2]
            self._stride *= 2


def _job_of(job_id: str) -> int:
    """Which job a message carries, by its id; -1 for a child job, whose id is its own."""
    parts = job_id.split("-")
    return int(parts[1]) if len(parts) == 4 and parts[0] == "stress" and parts[1].isdigit() else -1
