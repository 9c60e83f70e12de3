"""The gate: every Effect of every Execution passes here, and here alone faults happen."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from typing import TypeVar

from idemfuzz.abc import Errors, Scope
from idemfuzz.engine import switching
from idemfuzz.engine.execution import Cover, Execution, here
from idemfuzz.engine.loop import Conductor
from idemfuzz.engine.source import innermost_user_line
from idemfuzz.model import Effect, Event, EventKind, Fact, Fault, FaultKind, Point, Side, Source

T = TypeVar("T")
_NO_ERRORS = Errors()
_ASIDES_MAX = 64


@cache
def _asides() -> ThreadPoolExecutor:
    """Threads for what would block an event loop; not the loop's own, which waits for them when it is closed."""
    return ThreadPoolExecutor(_ASIDES_MAX, "idemfuzz-aside")


class TrialGate:
    """Implements `idemfuzz.abc.Gate`: the Execution is known by the context that the code at hand runs in."""

    def __init__(self, conductor: Conductor | None = None) -> None:
        self._conductor = conductor or Conductor()
        self.opaque: set[str] = set()
        """The labels of Effects inside which others were seen: their own store is not all that they touch."""

    def scope(self) -> Scope | None:
        cover = here.cover
        if cover is not None:
            cover.inner = True
            return None
        return here.execution

    def source(self) -> Source | None:
        return innermost_user_line(2)

    def wait(self, awaitable: Awaitable[T]) -> T:
        result: T = self._conductor.wait(awaitable)
        return result

    def aside(self, action: Callable[[], T]) -> T:
        execution = here.execution
        if execution is None or not switching.can_wait():
            return action()
        # It is part of the Effect under way, and no strand of the job's.
        here.execution = None
        try:
            future = asyncio.get_running_loop().run_in_executor(_asides(), action)
        finally:
            here.execution = execution
        result: T = switching.wait(future)
        return result

    def perform(
        self,
        effect: Effect,
        action: Callable[[], T],
        *,
        errors: Errors = _NO_ERRORS,
        describe: Callable[[T], str] | None = None,
        call: Fact | Callable[[T], Fact | None] | None = None,
    ) -> T:
        execution = here.execution
        if execution is None or here.cover is not None:
            return action()
        if effect.source is None:
            effect = replace(effect, source=innermost_user_line(2))
        execution.enter()
        try:
            return self._perform(execution, effect, action, errors, describe, call)
        finally:
            execution.leave()

    def _perform(
        self,
        execution: Execution,
        effect: Effect,
        action: Callable[[], T],
        errors: Errors,
        describe: Callable[[T], str] | None,
        call: Fact | Callable[[T], Fact | None] | None,
    ) -> T:
        trial = execution.trial
        point = trial.reach(execution, effect, errors)
        before = trial.fault_at(execution, point, Side.BEFORE)
        if before is not None and before.kind is not FaultKind.FAILOVER:
            self._strike(execution, effect, point, before, errors)
        if before is not None:
            trial.mark(effect)
        result = self._act(execution, effect, point, action, errors)
        outcome = describe(result) if describe is not None else ""
        trial.performed(execution, effect, point, outcome, call(result) if callable(call) else call)
        after = trial.fault_at(execution, point, Side.AFTER)
        if after is not None:
            if after.kind is not FaultKind.RESENT:
                self._strike(execution, effect, point, after, errors)
            trial.record(_fault_event(execution, effect, point, after, "the client sent it again"))
            again = errors.resend if errors.resend is not None else action
            result = self._act(execution, effect, point, again, errors)
            outcome = describe(result) if describe is not None else ""
            trial.performed(execution, effect, point, outcome, call(result) if callable(call) else call)
        return result

    def _act(
        self, execution: Execution, effect: Effect, point: Point, action: Callable[[], T], errors: Errors
    ) -> T:
        while True:
            cover = here.cover = Cover()
            execution.acting = True
            try:
                result = action()
                execution.trial.acted(execution)
                return result
            except BaseException as error:
                here.cover = None
                execution.trial.acted(execution)
                if (
                    errors.busy is not None
                    and errors.busy(error)
                    and execution.trial.busy(execution, effect, point)
                ):
                    continue
                execution.trial.errored(execution, effect, point, error)
                raise
            finally:
                here.cover = None
                execution.acting = False
                if cover.inner:
                    self.opaque.add(effect.label)

    def _strike(
        self, execution: Execution, effect: Effect, point: Point, fault: Fault, errors: Errors
    ) -> None:
        trial = execution.trial
        error: BaseException | None
        if fault.kind is FaultKind.KILL:
            trial.record(_fault_event(execution, effect, point, fault, "the worker is killed"))
            raise trial.kill(execution)
        if fault.kind is FaultKind.REFUSED:
            error = errors.refused() if errors.refused is not None else None
        elif fault.kind is FaultKind.LOST:
            error = errors.lost() if errors.lost is not None else None
        else:
            error = trial.interrupt(execution, fault.kind)
        if error is None:
            return
        text = f"{type(error).__name__} is raised"
        trial.record(_fault_event(execution, effect, point, fault, text))
        if fault.kind in (FaultKind.TIMEOUT, FaultKind.SHUTDOWN):
            execution.cancel(error)
            return
        raise error


def _fault_event(execution: Execution, effect: Effect, point: Point, fault: Fault, text: str) -> Event:
    return Event(
        EventKind.FAULT,
        execution.call,
        execution.delivery,
        text,
        effect=effect,
        point=point,
        fault=fault,
        stack=execution.trial.stack(),
    )
