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
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from idemfuzz.abc import Store
from idemfuzz.adapters import load_adapters
from idemfuzz.engine.clock import move_words
from idemfuzz.engine.execution import Inheritance
from idemfuzz.engine.strands import Strand, Strands
from idemfuzz.model import Fact
from idemfuzz.stress.codec import fact_from_json
from idemfuzz.stress.witness import Strike, Turns, WitnessGate

__all__ = ["Child", "Children"]

_ANSWER_BYTES = 1 << 16
_SCHEMA = "schema"
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


class Children:
    """Runs a scenario in forked processes, one after the other, each of which dies where it is told to.

    Args:
        scenario: calls the job once.
        stores: those of this process, which hold the baselines.
        values: name -> store, as the user gave them.
        timeout_seconds: for each delivery.
    """

    def __init__(
        self,
        scenario: Callable[[], Any],
        stores: Sequence[Store],
        values: Mapping[str, object],
        timeout_seconds: float,
    ) -> None:
        self._scenario = scenario
        self._stores = stores
        self._values = values
        self._timeout_seconds = timeout_seconds
        self.strangers: dict[str, None] = {}
        """Schemas that a child touched and that cannot be looked at, with the reason."""
        self._engines: list[Any] = []
        if any(store.kind == "sql" for store in stores):
            from idemfuzz.adapters.sqlalchemy.witness import engines_here

            self._engines = engines_here()

    def deliver(self, strike: Strike | None, *, passed_seconds: float = 0.0, slow: bool = False) -> Child:
        """Run the scenario once in a process of its own; what came of it.

        ``passed_seconds``: its clocks are ahead by so much; with ``slow`` each Effect seems to take its time there.
        """
        reading, writing = os.pipe()
        answered, answering = os.pipe()
        with warnings.catch_warnings():
            # Other threads of this process hold nothing that the child needs.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            os.close(reading)
            os.close(answering)
            self._be_child(_Pipe(writing, answered), strike, passed_seconds, slow=slow)
        os.close(writing)
        os.close(answered)
        child = Child(hung=True)
        try:
            child.hung = not self._listen(reading, answering, child)
        finally:
            # Also where Ctrl-C ends it: no child is left.
            os.close(reading)
            os.close(answering)
            if child.hung:
                os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
        child.killed = not child.hung and os.WIFSIGNALED(status)
        ended = next((e for e in child.events if e["event"] == "ended"), None)
        child.error = (
            None if child.killed or child.hung else ended["error"] if ended else "it ended without a word"
        )
        return child

    def _listen(self, reading: int, answering: int, child: Child) -> bool:
        """Take in what the child says until it is gone; False if it does not end in time."""
        deadline = time.monotonic() + self._timeout_seconds
        rest = b""
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([reading], [], [], left)[0]:
                return False
            data = os.read(reading, _ANSWER_BYTES)
            if not data:
                return True
            *lines, rest = (rest + data).split(b"\n")
            for event in map(json.loads, lines):
                if event["event"] == _SCHEMA:
                    why = self._adopt(event["store"], event["schema"])
                    # Its descriptor goes to nobody else; a child that is dead by now asks no more.
                    with suppress(BrokenPipeError):
                        os.write(answering, json.dumps(why).encode() + b"\n")
                else:
                    child.events.append(event)

    def _adopt(self, name: str, schema: str) -> str:
        """A child is about to touch a schema that nobody has looked at."""
        store: Any = next(store for store in self._stores if store.name == name)
        why: str = store.adopt_schema(schema)
        if why:
            self.strangers[f"the schema {schema!r} beside {name!r} ({why})"] = None
        return why

    def _be_child(self, pipe: _Pipe, strike: Strike | None, passed_seconds: float, *, slow: bool) -> NoReturn:
        """Run the scenario as a worker's horse would; this never returns."""
        try:
            # Ctrl-C is the run's to take; a job that is interrupted would look like one that fails.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            if passed_seconds:
                clock = _moved(passed_seconds)
                if slow:
                    pipe.heard = lambda: clock.shift(_EFFECT_SECONDS)
            threads = _Threads()
            gate = WitnessGate(pipe, _Order(strike), threads)
            Inheritance(lambda: None if gate.scope() is None else threads).install()
            self._watch(gate, pipe)
            with gate.executing("swept", "sweep", os.getpid()):
                self._scenario()
        except BaseException:
            # It was reported.
            os._exit(1)
        os._exit(0)

    def _watch(self, gate: WitnessGate, pipe: _Pipe) -> None:
        """In the child: every Effect is reported; what the parent's own taps see leads to no gate."""
        stores = self._stores
        names = {place: store.name for store in stores if (place := getattr(store, "place", None))}
        kinds = {store.kind for store in stores}
        if "sql" in kinds:
            from idemfuzz.adapters.sqlalchemy.witness import EngineWitness, forget_connections

            forget_connections(self._engines)
            EngineWitness(gate, names).attach()
        for store in stores:
            if hasattr(store, "leave_schemas_to"):
                store.leave_schemas_to(partial(pipe.ask_for, store.name))
        if "redis" in kinds:
            from idemfuzz.adapters.redis.witness import RedisWitness

            RedisWitness(gate, names, piecewise=True).attach()
            with suppress(ImportError):
                from idemfuzz.adapters.rq_worker import watch_enqueues

                watch_enqueues(gate)
        for adapter in load_adapters():
            if hasattr(adapter, "reset"):
                adapter.attach(gate, self._values)


class _Threads(Turns):
    """The job's own threads: one has its Effect at a time, in the order in which they were started, as in a search."""

    def __init__(self) -> None:
        self._strands = Strands()
        self._body = Strand(-1)
        self._body.begin()

    def enter(self) -> None:
        if self._strands.several:
            self._strands.enter(self._body)

    def leave(self) -> None:
        self._strands.leave(self._body)

    def strand(self) -> AbstractContextManager[object]:
        return self._strands.start()

    def handed_down(
        self, strand: AbstractContextManager[object], work: Callable[..., Any], *, alone: bool = False
    ) -> Callable[..., Any]:
        def done(*args: Any, **options: Any) -> Any:
            with strand:
                return work(*args, **options)

        return done

    def helped(self, ends: Callable[[float], object]) -> None:
        """A worker that has done its job waits for nobody."""


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

    move_words()
    return _Clock(time_machine.travel(time.time() + seconds, tick=True).start())


class _Pipe:
    """From the child to its parent, and back where it asks for something."""

    def __init__(self, file: int, answers: int) -> None:
        self._file = file
        self._answers = answers
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self.heard: Callable[[], None] = lambda: None
        """Called after each Effect."""

    def send(self, message: dict[str, Any]) -> None:
        if message["event"] == "effect":
            self.heard()
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self._file, line) :]

    def ask_for(self, store: str, schema: str) -> str:
        """The parent looks at this schema before anything is done to it; why not, where that cannot be."""
        with self._asking:
            self.send({"event": _SCHEMA, "store": store, "schema": schema})
            answer = b""
            while not answer.endswith(b"\n"):
                piece = os.read(self._answers, _ANSWER_BYTES)
                if not piece:
                    # The parent is gone, and with it who would judge this.
                    os._exit(1)
                answer += piece
        why: str = json.loads(answer)
        return why


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
