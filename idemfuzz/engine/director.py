"""The director: lets overlapping Executions take Steps in the order that a Scheduler says.

A Step is one Effect and the Python code behind it up to the next. Nothing observable lies before the first
Effect, so all Executions are brought there first. Whether an Execution is blocked is the database's to say: after
a grant the director waits a little for the next arrival, then asks. To try for a lock and to wait is a Step; what
lets the waiter go on is the Step of whoever frees the lock.

A store that reports a lock instead of waiting for it (SQLite) is asked again after every Step of the others. An
Execution that polls (a lock of redis-py's, BLPOP) sleeps until somebody touches what it has looked at. If nobody
can move, time passes for the sleepers, or the store's own error ends the wait.

To wake another thread costs more than most Steps. So an Execution that comes to its next Effect looks itself whether it
is the one to go on, and wakes the director only if it is not.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from idemfuzz.abc import Scheduler
from idemfuzz.engine.execution import Execution, Standing
from idemfuzz.model import NOTHING, Effect, Event, EventKind, Footprint, Lapse, Step, conflict

if TYPE_CHECKING:
    from idemfuzz.engine.trial import Trial

_PATIENCE_SECONDS = 0.001
_PATIENCE_SECONDS_MAX = 0.05
_RESTING_SECONDS = 0.05
_STALLED_SECONDS = 1.0
_now = time.monotonic

_Choice = tuple[int | Lapse | None, Mapping[int, Footprint | None]]
"""Who moves next, or what passes before; and the deliveries that could move. None: nobody can."""


@dataclass(frozen=True, slots=True)
class _Move:
    """A Step under way."""

    execution: Execution
    effect: Effect | None
    occurrence: int
    choices: Mapping[int, Footprint | None]
    waited_for: Mapping[Execution, Effect | None]
    """What those waited for who waited when it began."""

    @classmethod
    def of(
        cls,
        execution: Execution,
        choices: Mapping[int, Footprint | None],
        waiters: Sequence[Execution] = (),
    ) -> _Move:
        return cls(execution, *execution.pending, choices, {e: e.pending[0] for e in waiters})


class Director:
    """Runs ``executions`` to their ends; afterwards all of them have ended and ``steps`` tells in which order."""

    def __init__(self, trial: Trial, executions: Sequence[Execution], timeout_seconds: float) -> None:
        self.steps: list[Step] = []
        self.lapses: dict[int, Lapse] = {}
        """What passed before the Step of that index."""
        self._trial = trial
        self._executions = executions
        self._timeout = timeout_seconds
        self._arrivals = executions[0].line()
        self._sleep_seconds: dict[int, float] = {}
        # Invariant: who was blocked first stands first, as in a database's own queue.
        self._waiters: list[Execution] = []
        self._scheduler: Scheduler
        self._late: frozenset[int] = frozenset()
        """Who begins when time has passed."""
        # Invariant: the director has it but while it waits in line; so whoever gets it may decide in its place.
        self._deciding = threading.Lock()
        self._move: _Move | None = None
        self._chosen: _Choice | None = None
        """What the Execution that moved last has decided in its place."""
        self._failure: BaseException | None = None
        """What came of that instead."""

    # -- called by the Executions ----------------------------------------------------------------------

    def arrive(self, execution: Execution, effect: Effect | None = None, occurrence: int = 0) -> None:
        """Stand before an Effect until granted."""
        execution.pending = (effect, occurrence)
        if not (execution.can_go_on and self._goes_on(execution)):
            self._stand(execution, Standing.READY)

    def busy(self, execution: Execution, effect: Effect) -> bool:
        """Stand at a locked store until it is worth another try; False where the error must be delivered."""
        self._stand(execution, Standing.BUSY)
        if execution.deliver_busy:
            execution.deliver_busy = False
            return False
        return not execution.dead

    def sleep(self, execution: Execution, seconds: float) -> None:
        self._sleep_seconds[execution.delivery] = seconds
        self._stand(execution, Standing.SLEEPING)

    def returned(self, execution: Execution) -> None:
        """Stand behind an action in which a lock was waited for, until whoever set it free has come to a halt."""
        self._stand(execution, Standing.RETURNED)

    def left(self, execution: Execution) -> None:
        self._arrivals.put((execution, Standing.ENDED))

    def _stand(self, execution: Execution, standing: Standing) -> None:
        execution.stand(lambda: self._arrivals.put((execution, standing)))

    def _goes_on(self, execution: Execution) -> bool:
        """Whether the one that has just taken a Step takes the next one, too."""
        if not self._deciding.acquire(blocking=False):
            return False
        try:
            if not self._affects_nobody(execution):
                return False
            self._finish()
            execution.standing = Standing.READY
            choice, choices = self._chosen = self._choose()
            execution.standing = Standing.RUNNING
            if choice != execution.delivery:
                return False
            self._chosen = None
            self._move = _Move.of(execution, choices)
            execution.waiting = None
            return True
        except Exception as error:
            # It is the search's, and none of the job's.
            self._failure = error
            return False
        finally:
            self._deciding.release()

    def _affects_nobody(self, execution: Execution) -> bool:
        """Whether it is its Step that is under way, and no other one waits for something that may have come of it."""
        untouched = (Standing.NEW, Standing.READY, Standing.ENDED)
        return (
            self._move is not None
            and self._move.execution is execution
            and all(e is execution or e.standing in untouched for e in self._executions)
        )

    # -- the director itself -----------------------------------------------------------------------------

    def run(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._late = getattr(scheduler, "latecomers", frozenset())
        self._deciding.acquire()
        try:
            self._begin([e for e in self._executions if e.delivery not in self._late])
            while not all(e.standing is Standing.ENDED for e in self._executions):
                (choice, choices), self._chosen = self._chosen or self._choose(), None
                if choice is None:
                    self._unstick()
                elif isinstance(choice, Lapse):
                    self.lapses[len(self.steps)] = choice
                    self._trial.lapse(choice.seconds)
                    # Not before: what comes when time has passed reads its clock then.
                    self._begin([e for e in self._executions if e.delivery in self._late])
                    self._late = frozenset()
                else:
                    self._step(self._ready()[choice], choices)
        except BaseException:
            for execution in self._executions:
                if execution.standing is not Standing.ENDED:
                    execution.dead = True
                    execution.abandon()
                    execution.go()
            raise

    def _begin(self, executions: Sequence[Execution]) -> None:
        for execution in executions:
            execution.standing = Standing.RUNNING
            self._trial.switch(execution)
            execution.start()
            self._await(execution)

    def _ready(self) -> dict[int, Execution]:
        return {e.delivery: e for e in self._executions if e.standing is Standing.READY}

    def _choose(self) -> _Choice:
        ready = self._ready()
        if not ready and not self._late:
            return None, {}
        pending = {number: self._footprint(e) for number, e in ready.items()}
        return self._scheduler.choose(pending), pending

    def _step(self, execution: Execution, choices: Mapping[int, Footprint | None]) -> None:
        self._move = _Move.of(execution, choices, self._waiters)
        self._go(execution)
        if self._failure is not None:
            raise self._failure
        self._finish()

    def _finish(self) -> None:
        """The Step under way is over; so may be several by now, of which the others are finished already."""
        move, self._move = self._move, None
        if move is None:
            return
        execution, effect = move.execution, move.effect
        footprint = self._trial.footprint(effect) if effect is not None else NOTHING
        if execution.stray:
            # A thread that the job started did something meanwhile, and nobody knows what.
            execution.stray = False
            footprint = None
        execution.looked_at = _together(execution.looked_at, footprint)
        self._settle(execution)
        for waiter, wanted in move.waited_for.items():
            if waiter not in self._waiters and wanted is not None:
                done = self._trial.footprint(wanted)
                waiter.looked_at = _together(waiter.looked_at, done)
                footprint = _together(footprint, done)
        self._wake(execution, footprint)
        waited = execution in self._waiters
        label = effect.label if effect is not None else ""
        step = Step(execution.delivery, label, move.occurrence, footprint, move.choices, waited)
        self.steps.append(step)
        self._scheduler.took(step)

    def _settle(self, mover: Execution | None) -> None:
        """After a Step: who waited and need not any more comes to its next Effect, one after the other."""
        for execution in [e for e in self._waiters if e is not mover]:
            if execution.standing is Standing.BUSY:
                self._go(execution)
                continue
            if execution.standing is Standing.BLOCKED and not self._still_blocked(execution):
                self._trial.switch(execution)
                self._await(execution)
            if execution.standing is Standing.RETURNED:
                self._go(execution)

    def _still_blocked(self, execution: Execution) -> bool:
        waiting = execution.waiting
        return waiting() if waiting is not None else execution.rests()

    def _wake(self, mover: Execution, footprint: Footprint | None) -> None:
        """After a Step: who polls what another one's Step has touched looks again."""
        for execution in self._executions:
            if execution is mover or execution.standing is not Standing.SLEEPING:
                continue
            if conflict(footprint, execution.looked_at):
                execution.looked_at = NOTHING
                self._go(execution)

    def _unstick(self) -> None:
        """Nobody can move: time passes for who sleeps, the server breaks a deadlock, a locked store's error counts."""
        sleeping = [e for e in self._executions if e.standing is Standing.SLEEPING]
        blocked = [e for e in self._waiters if e.standing is Standing.BLOCKED]
        if sleeping:
            first = min(sleeping, key=lambda e: self._sleep_seconds[e.delivery])
            self._trial.pass_time(self._sleep_seconds[first.delivery])
            first.looked_at = NOTHING
            self._go(first)
        elif blocked:
            self._await(blocked[0], anyone=True)
        else:
            # All that are left hold what the others want.
            last = self._waiters[-1]
            last.deliver_busy = True
            self._go(last)
        self._settle(None)

    def _go(self, execution: Execution) -> None:
        execution.standing = Standing.RUNNING
        execution.waiting = None
        self._trial.switch(execution)
        execution.go()
        self._await(execution)

    def _await(self, execution: Execution, *, anyone: bool = False) -> None:
        """Until ``execution`` (or anyone) stands again, is blocked by another one, or is given up."""
        move, begun, patience = self._move, _now(), _PATIENCE_SECONDS
        while True:
            try:
                arrived, standing = self._arrival(patience)
            except queue.Empty:
                if self._move is not move:
                    # It has gone on by itself meanwhile.
                    move, begun, patience = self._move, _now(), _PATIENCE_SECONDS
                    continue
                if not anyone and self._is_blocked(execution, _now() - begun):
                    self._stands(execution, Standing.BLOCKED)
                    return
                if _now() - begun > self._timeout:
                    self._trial.hang(execution)
                    self._stands(execution, Standing.ENDED)
                    return
                patience = min(patience * 2, _PATIENCE_SECONDS_MAX)
                continue
            self._stands(arrived, standing)
            if arrived is execution or anyone:
                return

    def _arrival(self, timeout_seconds: float) -> tuple[Execution, Standing]:
        self._deciding.release()
        try:
            return self._arrivals.get(timeout=timeout_seconds)
        finally:
            self._deciding.acquire()

    def _stands(self, execution: Execution, standing: Standing) -> None:
        waits = standing in (Standing.BLOCKED, Standing.BUSY, Standing.RETURNED)
        execution.waits = standing is Standing.BLOCKED
        if waits and execution not in self._waiters:
            self._waiters.append(execution)
            self._trial.record(
                Event(
                    EventKind.BLOCKED,
                    execution.call,
                    execution.delivery,
                    "waits for a lock",
                    effect=execution.pending[0],
                )
            )
        elif not waits and execution in self._waiters:
            self._waiters.remove(execution)
        execution.standing = standing
        if standing is Standing.ENDED:
            self._trial.settle(execution)

    def _is_blocked(self, execution: Execution, waited_seconds: float) -> bool:
        """The database says so; or nothing happens for long (a lock in the process) while others could go on."""
        if all(
            e is execution or e.standing in (Standing.ENDED, Standing.BLOCKED, Standing.BUSY)
            for e in self._executions
        ):
            # Nobody is left who could set it free, but the server, which breaks a deadlock.
            return execution.waiting is not None and len(self._executions) > 1 and execution.waiting()
        waiting = execution.waiting
        if waiting is not None:
            return waiting()
        if execution.acting or waited_seconds < _RESTING_SECONDS:
            return False
        return execution.rests() or waited_seconds > _STALLED_SECONDS

    def _footprint(self, execution: Execution) -> Footprint | None:
        effect, _ = execution.pending
        return self._trial.footprint(effect) if effect is not None else NOTHING


def _together(one: Footprint | None, other: Footprint | None) -> Footprint | None:
    return None if one is None or other is None else one | other
