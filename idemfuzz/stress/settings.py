"""What a stress run is asked to do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from idemfuzz.abc import Unusable

__all__ = ["DEFAULT_FAULTS", "FAULTS", "SENDING", "WORKERS", "Aim", "Settings", "seconds_of"]

FAULTS: Mapping[str, str] = {
    "kill-horse": "SIGKILL of the process that runs the job",
    "kill-worker": "SIGKILL of the worker; its horse lives on as an orphan until its redelivery has come",
    "kill-both": "SIGKILL of worker and horse, as when a machine is lost",
    "pause": "SIGSTOP of worker and horse until the redelivery has come, then SIGCONT: a zombie",
    "timeout": "the job's time is over at this point",
    "warm": "SIGTERM of the worker, as in a deploy",
    "cold": "SIGTERM of the worker twice: the horse is killed",
    "term-all": "SIGTERM of worker and horse, as systemd and Kubernetes send it",
    "kill-popped": "SIGKILL of the worker between taking a job from the queue and beginning with it",
    "on-success": "the job's success callback raises",
    "lost-reply": "the reply to the producer's enqueue is lost, and its client sends it again",
    "restart": "Redis is killed and comes back with the state of some time ago",
}
"""The queue's faults by name, and what each does."""

DEFAULT_FAULTS = ("kill-horse", "kill-worker", "kill-both", "pause")
SENDING = ("new-id", "same-id", "unique")
"""How a further copy of a job is enqueued: under an id of its own, under the same one, or that with unique=True."""
WORKERS = ("fork", "simple", "spawn")
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "ms": 0.001}


@dataclass(frozen=True, slots=True)
class Aim:
    """The Effect at which the first Execution of each job is killed."""

    label: str
    occurrence: int = 1
    side: str = "after"

    @classmethod
    def parse(cls, text: str) -> Aim:
        """``db.commit``, ``redis.SET#2``, ``before:db.commit``, ``after:db.commit#1``.

        Raises:
            Unusable: it is none of these.
        """
        found = re.fullmatch(r"(?:(before|after):)?([\w-]+\.[^#\s:]+)(?:#([1-9]\d*))?", text)
        if found is None:
            raise Unusable(
                f"--kill-at {text!r} is not usable; expected an effect's label as a finding shows it, as in db.commit, "
                "redis.SET#2 or before:db.commit"
            )
        return cls(found[2], int(found[3] or 1), found[1] or "after")

    def __str__(self) -> str:
        return f"{self.side}:{self.label}#{self.occurrence}"


@dataclass(frozen=True, slots=True)
class Settings:
    """All bounds of a run; times in seconds."""

    deliveries: int = 100
    distinct: int | None = None
    """How many different jobs are among them; None: half of them, at most 200, if the arguments vary."""
    workers: int = 4
    worker_class: str = "fork"
    kill_rate: float = 0.1
    """Which share of the Executions is struck by a fault."""
    kill_at: Aim | None = None
    faults: tuple[str, ...] = DEFAULT_FAULTS
    sending: tuple[str, ...] = ("new-id", "same-id")
    producers: int = 3
    queues: int = 1
    retries: int = 3
    """RQ's ``Retry(max=...)`` of each message; 0 is none, RQ's default."""
    job_timeout_seconds: int = 15
    lease_seconds: float | None = 2.0
    """What RQ adds to its monitoring interval for a lease, a minute in stock RQ; None leaves all of RQ's times alone."""
    duration_seconds: float = 60.0
    """After this long nothing more is enqueued."""
    drain_seconds: float = 30.0
    """And this long the workers may take to finish after that."""
    seed: int = 0
    ignore: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, value, known in (
            ("--queue-faults", self.faults, tuple(FAULTS)),
            ("--sending", self.sending, SENDING),
            ("--worker-class", (self.worker_class,), WORKERS),
        ):
            unknown = [one for one in value if one not in known]
            if unknown:
                close = get_close_matches(unknown[0], known, n=1)
                meant = f"; did you mean {close[0]!r}?" if close else ""
                raise Unusable(
                    f"{name} {unknown[0]!r} is not known{meant or '.'} Known are {', '.join(known)}"
                )
        if not self.sending:
            raise Unusable(f"--sending names nothing; choose from {', '.join(SENDING)}")
        for name, number, least in (
            ("--deliveries", self.deliveries, 1),
            ("--workers", self.workers, 1),
            ("--producers", self.producers, 1),
            ("--queues", self.queues, 1),
            ("--retries", self.retries, 0),
            ("--distinct", 1 if self.distinct is None else self.distinct, 1),
            ("--job-timeout", self.job_timeout_seconds, 1),
        ):
            if number < least:
                raise Unusable(f"{name} {number} is not usable; expected a whole number of at least {least}")
        if self.distinct is not None and self.distinct > self.deliveries:
            raise Unusable(
                f"--distinct {self.distinct} is not usable with --deliveries {self.deliveries}: each job is delivered at least "
                "once; give more deliveries, or fewer different jobs"
            )
        if self.duration_seconds <= 0:
            raise Unusable(
                f"--duration {self.duration_seconds:g}s is not usable: nothing would be sent; expected a time such as 60s"
            )
        if self.lease_seconds is not None and self.lease_seconds < 1:
            raise Unusable(
                f"--lease {self.lease_seconds:g}s is not usable: a worker renews its lease each second; expected at least 1s"
            )
        if not 0 <= self.kill_rate <= 1:
            raise Unusable(f"--kill-rate {self.kill_rate} is not usable; expected a share from 0 to 1")

    @property
    def hold_seconds(self) -> float:
        """How long an orphan or a zombie waits for its redelivery at most."""
        lease = 62.0 if self.lease_seconds is None else self.lease_seconds
        return lease + 6.0 + (self.job_timeout_seconds if self.worker_class == "simple" else 0.0)


def seconds_of(text: str) -> float:
    """``60``, ``60s``, ``1.5m``, ``2h``, ``500ms`` in seconds.

    Raises:
        ValueError: it is none of these.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|)", text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no time; expected a number with s, m or h, as in 60s")
    return float(found[1]) * _UNITS[found[2]]
