"""Inside a worker process: reports what each Execution does, and strikes where the run's lots say so.

`install` is called when the worker class is imported, in each worker and in each horse that is a process of its own.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from idemfuzz.abc import Errors, Unusable
from idemfuzz.engine.source import innermost_user_line
from idemfuzz.model import Effect, Fact, Source
from idemfuzz.stress.channel import Reporter
from idemfuzz.stress.codec import fact_to_json
from idemfuzz.stress.endings import die_if_left, die_with_parent, outlive_parent

__all__ = ["FOLDER_VARIABLE", "Execution", "Strike", "Turns", "WitnessGate", "install"]

FOLDER_VARIABLE = "IDEMFUZZ_STRESS_FOLDER"
_WORKER_VARIABLE = "IDEMFUZZ_STRESS_WORKER_PID"
_NO_ERRORS = Errors()
_DETAIL_LENGTH_MAX = 240
_ALARM_SECONDS_MAX = 5.0
_WARM_SECONDS = 0.3
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Strike:
    """What happens to an Execution, before or after the ``occurrence``-th Effect with a label.

    The labels "start" and "end" are the beginning and the end of the body.
    """

    kind: str
    label: str
    occurrence: int = 1
    side: str = "after"

    def __str__(self) -> str:
        return f"{self.kind} {self.side} {self.label}#{self.occurrence}"


@dataclass(slots=True)
class Execution:
    """One Execution of a job's body in this process."""

    name: str
    job_id: str
    strike: Strike | None
    others: frozenset[int]
    """The threads that were there before: the worker's own."""
    reached: Counter[str] = field(default_factory=Counter)

    @property
    def key(self) -> Hashable:
        return self.name

    @property
    def overlapping(self) -> bool:
        return False

    @property
    def crowded(self) -> bool:
        return False

    @property
    def effects(self) -> int:
        return sum(self.reached.values())

    @property
    def dead(self) -> bool:
        return False


class Listener(Protocol):
    """Where events go."""

    def send(self, message: dict[str, Any]) -> None: ...


class Lots(Protocol):
    """Who is struck, and how its worker is reached."""

    folder: Path
    hold_seconds: float

    @property
    def worker_pid(self) -> int: ...

    @property
    def run_pid(self) -> int: ...

    def draw(self, job_id: str, execution: str) -> Strike | None: ...

    def claim(self, job_id: str) -> bool: ...


class Turns:
    """Who of several threads may have an Effect: all of them, as they come."""

    def enter(self) -> None:
        """The code at hand begins an Effect."""

    def leave(self) -> None:
        """It is over."""


class WitnessGate:
    """Implements `idemfuzz.abc.Gate` for a process that works for one Execution at a time."""

    def __init__(self, reporter: Listener, orders: Lots, turns: Turns | None = None) -> None:
        self._turns = turns or Turns()
        self._reporter = reporter
        self._orders = orders
        self._execution: Execution | None = None
        self._local = threading.local()
        self._count = 0

    def scope(self) -> Execution | None:
        execution = self._execution
        if execution is None or getattr(self._local, "masked", False):
            return None
        return None if threading.get_ident() in execution.others else execution

    def source(self) -> Any:
        return innermost_user_line(2)

    def wait(self, awaitable: Awaitable[T]) -> T:
        """Refused: a worker process does not halt coroutines.

        Raises:
            Unusable: always; such jobs are for the search.
        """
        raise Unusable(
            "asynchronous clients are not watched in worker processes; search this job with `idemfuzz run`"
        )

    def aside(self, action: Callable[[], T]) -> T:
        return action()

    def tell(self, event: str, **fields: Any) -> None:
        """Report something that is no Effect."""
        self._reporter.send({"event": event, "at": time.monotonic(), **fields})

    @contextmanager
    def executing(self, job_id: str, worker: str, worker_pid: int) -> Iterator[None]:
        """The body of a job runs in this block."""
        self._count += 1
        pid = os.getpid()
        name = f"{pid}.{self._count}"
        mine = threading.get_ident()
        others = frozenset(t.ident for t in threading.enumerate() if t.ident and t.ident != mine)
        execution = Execution(name, job_id, self._orders.draw(job_id, name), others)
        self.tell("started", execution=name, job=job_id, worker=worker, worker_pid=worker_pid, pid=pid)
        self._execution = execution
        try:
            self._pass("start", "before")
            yield
            self._pass("end", "after")
        except BaseException as error:
            self.tell(
                "ended", execution=name, job=job_id, error=_cut(f"{type(error).__name__}: {error}".strip())
            )
            raise
        else:
            self.tell("ended", execution=name, job=job_id, error=None)
        finally:
            self._execution = None

    def perform(
        self,
        effect: Effect,
        action: Callable[[], T],
        *,
        errors: Errors = _NO_ERRORS,
        describe: Callable[[T], str] | None = None,
        call: Fact | Callable[[T], Fact | None] | None = None,
    ) -> T:
        execution = self.scope()
        if execution is None:
            return action()
        source = effect.source or innermost_user_line(2)
        self._turns.enter()
        try:
            return self._perform(execution, effect, source, action, describe, call)
        finally:
            self._turns.leave()

    def _perform(
        self,
        execution: Execution,
        effect: Effect,
        source: Source | None,
        action: Callable[[], T],
        describe: Callable[[T], str] | None,
        call: Fact | Callable[[T], Fact | None] | None,
    ) -> T:
        execution.reached[effect.label] += 1
        self._strike_at(execution, effect.label, "before")
        self._local.masked = True
        try:
            if call is not None:
                # A process that is killed from here on may or may not have made the call.
                self._report(execution, effect, source, "under way", None)
            result = action()
            call = call(result) if callable(call) else call
        except BaseException as error:
            self._local.masked = False
            self._report(execution, effect, source, f"raised {type(error).__name__}", None)
            raise
        finally:
            self._local.masked = False
        self._report(execution, effect, source, describe(result) if describe is not None else "", call)
        self._strike_at(execution, effect.label, "after")
        return result

    def _report(
        self, execution: Execution, effect: Effect, source: Source | None, outcome: str, call: Fact | None
    ) -> None:
        self.tell(
            "effect",
            execution=execution.name,
            label=effect.label,
            occurrence=execution.reached[effect.label],
            access=str(effect.access),
            detail=_cut(effect.detail),
            outcome=_cut(outcome),
            source=None if source is None else [source.file, source.line, source.function],
            call=None if call is None else fact_to_json(call),
        )

    def _pass(self, label: str, side: str) -> None:
        execution = self._execution
        if execution is not None:
            execution.reached[label] += 1
            self._strike_at(execution, label, side)

    # -- strikes -----------------------------------------------------------------------------------------

    def _strike_at(self, execution: Execution, label: str, side: str) -> None:
        strike = execution.strike
        if (
            strike is None
            or (strike.label, strike.side) != (label, side)
            or execution.reached[label] != strike.occurrence
            or not self._orders.claim(execution.job_id)
        ):
            return
        execution.strike = None
        self.tell(
            "struck", execution=execution.name, job=execution.job_id, kind=strike.kind, where=str(strike)
        )
        self._strike(execution, strike.kind)

    def _strike(self, execution: Execution, kind: str) -> None:
        if kind == "kill-horse":
            os.kill(os.getpid(), signal.SIGKILL)
        elif kind == "kill-both":
            self._signal_worker(signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        elif kind == "kill-worker":
            self._signal_worker(signal.SIGKILL)
            self._hold(execution)
        elif kind == "pause":
            # The run lets both go on again.
            if self._orders.worker_pid != os.getpid():
                # Nobody could wake it if the run and its workers were gone.
                die_with_parent(self._orders.worker_pid, self._orders.run_pid)
                self._signal_worker(signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGSTOP)
            if self._orders.worker_pid != os.getpid():
                outlive_parent()
        elif kind == "timeout":
            # RQ's own alarm, now.
            signal.setitimer(signal.ITIMER_REAL, 0.001)
            time.sleep(_ALARM_SECONDS_MAX)
        else:
            # What the run does from outside; a worker is told to stop in the middle of a job, not behind it.
            self.tell("asked", execution=execution.name, job=execution.job_id, kind=kind)
            time.sleep(_WARM_SECONDS if kind == "warm" else self._orders.hold_seconds)

    def _signal_worker(self, number: signal.Signals) -> None:
        """Signal this horse's own worker, if it still is that; else its number may be somebody else's by now."""
        worker = self._orders.worker_pid
        if worker in (os.getpid(), os.getppid()):
            os.kill(worker, number)

    def _hold(self, execution: Execution) -> None:
        """Stand still until the redelivery has come and gone, as a slow machine would; the run says when."""
        release = self._orders.folder / f"release-{execution.name}"
        while not release.exists():
            # An orphan is the run's own child, until the run is gone.
            die_if_left(self._orders.worker_pid, self._orders.run_pid)
            time.sleep(0.02)


class Orders:
    """What the run has laid down for its workers, in a file of its folder; lots are drawn by its seed."""

    def __init__(self, folder: Path) -> None:
        given = json.loads((folder / "orders.json").read_text(encoding="utf-8"))
        self.folder = folder
        self.names: dict[str, str] = given["names"]
        self.run_pid: int = given["run_pid"]
        self.hold_seconds: float = given["hold_seconds"]
        self.lease_seconds: float | None = given["lease_seconds"]
        self._rate: float = given["rate"]
        self._seed: int = given["seed"]
        self._kinds: Sequence[str] = given["kinds"]
        self._places: Sequence[tuple[str, int, str]] = [tuple(place) for place in given["places"]]
        self._aim: Sequence[Any] | None = given["aim"]
        self._strikes_max: int = given["strikes_max"]

    @property
    def worker_pid(self) -> int:
        """The process of this one's worker: itself, or the one that has started it."""
        return int(os.environ.get(_WORKER_VARIABLE) or os.getpid())

    def this_is_the_worker(self) -> None:
        """From here on, for this process and those that it starts."""
        os.environ[_WORKER_VARIABLE] = str(os.getpid())
        die_with_parent(self.run_pid)

    def draw(self, job_id: str, execution: str) -> Strike | None:
        if self._aim is not None:
            label, occurrence, side = self._aim
            return None if self._struck(job_id) else Strike(self._kinds[0], label, occurrence, side)
        kinds = [kind for kind in self._kinds if kind != "kill-popped"]
        if not kinds or not self._places:
            return None
        lots = random.Random(f"{self._seed}/{job_id}/{self._struck(job_id)}")
        if lots.random() >= self._rate:
            return None
        label, occurrence, side = lots.choice(self._places)
        return Strike(lots.choice(kinds), label, occurrence, side)

    def pops(self, job_id: str) -> bool:
        """Whether the worker dies between taking this job from the queue and beginning with it."""
        if "kill-popped" not in self._kinds:
            return False
        lots = random.Random(f"{self._seed}/{job_id}/popped/{self._struck(job_id)}")
        return lots.random() < self._rate and self.claim(job_id)

    def claim(self, job_id: str) -> bool:
        """Whether this job may be struck once more; whoever asks first has it, over all processes."""
        for number in range(self._strikes_max):
            with suppress(FileExistsError):
                os.close(os.open(self._mark(job_id, number), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
                return True
        return False

    def _struck(self, job_id: str) -> int:
        return sum(self._mark(job_id, number).exists() for number in range(self._strikes_max))

    def _mark(self, job_id: str, number: int) -> Path:
        return self.folder / f"struck-{job_id}-{number}"


def install() -> tuple[WitnessGate, Orders]:
    """Watch this process for the run whose folder the environment names.

    Raises:
        RuntimeError: it names none; these worker classes are for stress runs alone.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    if not named:
        raise RuntimeError(
            f"{FOLDER_VARIABLE} is not set: these worker classes are started by `idemfuzz stress` alone"
        )
    folder = Path(named)
    orders = Orders(folder)
    return WitnessGate(Reporter(folder / "events"), orders), orders


def _cut(text: str) -> str:
    return text if len(text) <= _DETAIL_LENGTH_MAX else text[: _DETAIL_LENGTH_MAX - 1] + "…"
