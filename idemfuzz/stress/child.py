"""One delivery in a forked process on the real stores: watched, and killed by SIGKILL where it is asked for."""

from __future__ import annotations

import json
import os
import select
import signal
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from idemfuzz.abc import Store
from idemfuzz.adapters import load_adapters
from idemfuzz.model import Fact
from idemfuzz.stress.codec import fact_from_json
from idemfuzz.stress.witness import Strike, WitnessGate

__all__ = ["Child", "delivered"]

_ANSWER_BYTES = 1 << 16
_EFFECT_SECONDS = 0.613
"""So long does each Effect seem to take when the clock was moved: a measured duration shows that it is one."""


@dataclass(slots=True)
class Child:
    """What one child process did."""

    events: list[Mapping[str, Any]] = field(default_factory=list)
    killed: bool = False
    hung: bool = False
    error: str | None = None

    @property
    def succeeded(self) -> bool:
        return not self.killed and not self.hung and self.error is None

    @property
    def effects(self) -> list[Mapping[str, Any]]:
        return [e for e in self.events if e["event"] == "effect" and e["outcome"] != "under way"]

    @property
    def calls(self) -> list[Fact]:
        return [fact_from_json(e["call"]) for e in self.effects if e["call"] is not None]


def delivered(
    scenario: Callable[[], Any],
    strike: Strike | None,
    *,
    stores: Sequence[Store],
    values: Mapping[str, object],
    timeout_seconds: float,
    passed_seconds: float = 0.0,
    slow: bool = False,
) -> Child:
    """Run the scenario once in a forked process, which dies where ``strike`` says; what came of it.

    ``passed_seconds``: the child's clocks are ahead by so much; with ``slow`` each Effect seems to take its time there.
    """
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Other threads of this process hold nothing that the child needs.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        os.close(reading)
        _be_child(scenario, writing, strike, stores, values, passed_seconds, slow=slow)
    os.close(writing)
    child = Child(hung=True)
    try:
        child.hung = not _listen(reading, child, timeout_seconds)
    finally:
        # Also where Ctrl-C ends it: no child is left.
        os.close(reading)
        if child.hung:
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    child.killed = not child.hung and os.WIFSIGNALED(status)
    ended = next((e for e in child.events if e["event"] == "ended"), None)
    child.error = (
        None if child.killed or child.hung else ended["error"] if ended else "it ended without a word"
    )
    return child


def _listen(file: int, child: Child, timeout_seconds: float) -> bool:
    """Take in what the child says until it is gone; False if it does not end in time."""
    deadline = time.monotonic() + timeout_seconds
    rest = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([file], [], [], left)[0]:
            return False
        data = os.read(file, _ANSWER_BYTES)
        if not data:
            return True
        *lines, rest = (rest + data).split(b"\n")
        child.events += [json.loads(line) for line in lines]


def _be_child(
    scenario: Callable[[], Any],
    writing: int,
    strike: Strike | None,
    stores: Sequence[Store],
    values: Mapping[str, object],
    passed_seconds: float,
    *,
    slow: bool,
) -> NoReturn:
    """Run the scenario as a worker's horse would; this never returns."""
    try:
        # Ctrl-C is the run's to take; a job that is interrupted would look like one that fails.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        pipe = _Pipe(writing)
        if passed_seconds:
            clock = _moved(passed_seconds)
            if slow:
                pipe.heard = lambda: clock.shift(_EFFECT_SECONDS)
        gate = WitnessGate(pipe, _Order(strike))
        _watch(gate, stores, values)
        with gate.executing("swept", "sweep", os.getpid()):
            scenario()
    except BaseException:
        # It was reported.
        os._exit(1)
    os._exit(0)


class _Clock:
    """Moves what a child reads of the time: the wall clock by the library, the others by as much."""

    def __init__(self, coordinates: Any) -> None:
        self._coordinates = coordinates
        self._shifted_seconds = 0.0
        for name in ("monotonic", "perf_counter"):
            setattr(time, name, self._later(getattr(time, name)))

    def shift(self, seconds: float) -> None:
        self._coordinates.shift(seconds)
        self._shifted_seconds += seconds

    def _later(self, read: Callable[[], float]) -> Callable[[], float]:
        return lambda: read() + self._shifted_seconds


def _moved(seconds: float) -> _Clock:
    """In the child: its clocks, ``seconds`` ahead."""
    import time_machine

    return _Clock(time_machine.travel(time.time() + seconds, tick=True).start())


class _Pipe:
    def __init__(self, file: int) -> None:
        self._file = file
        self._lock = threading.Lock()
        self.heard: Callable[[], None] = lambda: None
        """Called after each Effect."""

    def send(self, message: dict[str, Any]) -> None:
        if message["event"] == "effect":
            self.heard()
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self._file, line) :]


@dataclass(slots=True)
class _Order:
    """One strike, or none."""

    strike: Strike | None
    folder: Path = Path()
    hold_seconds: float = 0.0

    @property
    def worker_pid(self) -> int:
        return os.getpid()

    @property
    def run_pid(self) -> int:
        return os.getppid()

    def draw(self, job_id: str, execution: str) -> Strike | None:
        return self.strike

    def claim(self, job_id: str) -> bool:
        return True


def _watch(gate: WitnessGate, stores: Sequence[Store], values: Mapping[str, object]) -> None:
    """In the child: every Effect is reported; what the parent's own taps see leads to no gate."""
    names = {place: store.name for store in stores if (place := getattr(store, "place", None))}
    kinds = {store.kind for store in stores}
    if "sql" in kinds:
        from idemfuzz.adapters.sqlalchemy.witness import EngineWitness, forget_connections

        forget_connections()
        EngineWitness(gate, names).attach()
    if "redis" in kinds:
        from idemfuzz.adapters.redis.witness import RedisWitness

        RedisWitness(gate, names, piecewise=True).attach()
        with suppress(ImportError):
            from idemfuzz.adapters.rq_worker import watch_enqueues

            watch_enqueues(gate)
    for adapter in load_adapters():
        if hasattr(adapter, "reset"):
            adapter.attach(gate, values)
