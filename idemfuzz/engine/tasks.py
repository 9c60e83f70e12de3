"""Executions of jobs that are coroutines: tasks of the one event loop that the scenario runs on.

Who may go on is decided as on threads, by the same trial and director; only that these do not sleep meanwhile but
run the loop until the one that was let go has come to a stand. A job's child tasks (``gather``, ``TaskGroup``) are
*strands* of its Execution. One strand at a time has an Effect under way, in the order in which they came to theirs,
so that a Plan names the same points each time.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import queue
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from idemfuzz.engine import switching
from idemfuzz.engine.execution import Execution, Killed, Line, Standing, here
from idemfuzz.engine.strands import Strand, Strands
from idemfuzz.model import Ending

if TYPE_CHECKING:
    from idemfuzz.engine.loop import Conductor
    from idemfuzz.engine.trial import Trial

__all__ = ["JobCancelled", "TaskExecution"]

_SPARED_TURNS = 20
_STRAND_SECONDS = 0.25
_IDLE_SECONDS = 0.0005
_IDLE_LOOKS = 3
_CHILDREN_SECONDS = 0.5
_IDLE_LOOKS_MIN = 6
"""So often in a row, some 50 ms apart, must the loop be seen idle before a task counts as blocked in the process."""
_real_monotonic = time.monotonic


class JobCancelled(Exception):
    """What the scenario sees of a job that was cancelled: the CancelledError itself would cancel the scenario."""


class TaskExecution(Execution):
    """A task of the loop that ``conductor`` runs, and the tasks that it starts."""

    can_be_cancelled = True
    # While it stands, its children come to their Effects.
    can_go_on = False

    def __init__(
        self,
        trial: Trial,
        call: int,
        delivery: int,
        body: Callable[[], Any],
        *,
        overlapping: bool,
        conductor: Conductor,
    ) -> None:
        super().__init__(trial, call, delivery, body, overlapping=overlapping)
        self._conductor = conductor
        self._loop = conductor.current
        self._task: asyncio.Task[Any]
        self._children: set[asyncio.Task[Any]] = set()
        self._grant: asyncio.Future[None] | None = None
        self._idle_looks = 0
        self._inside = False
        """Whether a strand has an Effect under way."""
        self._queue: deque[asyncio.Future[None]] = deque()
        """The strands that stand before theirs."""
        self._effects_over = 0
        self._threads = Strands()
        """What it has handed to threads (`asyncio.to_thread`)."""
        self._thread = Strand(-1)
        self._thread.begin()
        self._naps: list[_Nap] = []
        self._idle = 0

    def line(self) -> Line:
        return _LoopLine(self._conductor)

    def start(self) -> None:
        context = contextvars.copy_context()
        context.run(setattr, here, "execution", self)
        self._task = self._conductor.start(
            self._run(), context, f"idemfuzz-delivery-{self.call}.{self.delivery}"
        )

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """A strand has started a task."""
        self._children.add(task)
        task.add_done_callback(self._children.discard)

    def wait(self, timeout_seconds: float) -> bool:
        return self._conductor.until(lambda: self.ending is not None, timeout_seconds)

    def can_stand(self) -> bool:
        return switching.can_wait()

    def stand(self, announce: Callable[[], None]) -> None:
        self._grant = self._loop.create_future()
        announce()
        switching.wait(self._grant)

    def go(self) -> None:
        self._idle_looks = 0
        if self._grant is not None and not self._grant.done():
            self._grant.set_result(None)

    def rests(self) -> bool:
        # An idle loop may also wait for a thread of a driver's own that opens a connection: that takes longer on a busy machine.
        self._idle_looks = self._idle_looks + 1 if self._conductor.is_idle else 0
        return self._idle_looks > _IDLE_LOOKS_MIN

    # -- strands -----------------------------------------------------------------------------------------

    def strand(self) -> AbstractContextManager[object]:
        return self._threads.start()

    def enter(self) -> None:
        if not switching.can_wait():
            self._threads.enter(self._thread)
            return
        if not self._inside:
            self._inside = True
            return
        turn = self._loop.create_future()
        self._queue.append(turn)
        # Who is inside may wait for a lock that another strand holds.
        impatience = self._loop.call_later(_STRAND_SECONDS, self._admit)
        try:
            switching.wait(turn)
        except BaseException:
            if turn in self._queue:
                self._queue.remove(turn)
            elif turn.done() and not turn.cancelled():
                self.leave()
            raise
        finally:
            impatience.cancel()

    def leave(self) -> None:
        if not switching.can_wait():
            self._threads.leave(self._thread)
            return
        self._effects_over += 1
        if self._queue:
            # First everybody comes to a stand, or the order would be the loop's.
            self._conductor.when_idle(self._admit)
        else:
            self._inside = False

    def _admit(self) -> None:
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._inside = False

    @property
    def crowded(self) -> bool:
        return self.overlapping or bool(self._children) or self._threads.several

    def give_way(self) -> bool:
        if not switching.can_wait():
            return self._threads.give_way(self._thread)
        if not self._children:
            return False
        over = self._effects_over
        turn = self._loop.create_future()
        self._queue.append(turn)
        self._conductor.when_idle(self._admit)
        switching.wait(turn)
        # Otherwise they all want the same lock, and somebody else holds it.
        return self._effects_over > over

    async def sleep(self, seconds: float, pause: Callable[[float], None]) -> None:
        """A strand sleeps: time passes when no other one has anything to do, to the first that is to wake."""
        nap = _Nap(seconds, self._loop.create_future())
        self._naps.append(nap)
        try:
            if self._children:
                self._idle = 0
                self._conductor.show_idleness(self)
                await nap.turn
            self.enter()
            try:
                pause(max(0.0, nap.left))
            finally:
                self.leave()
            for other in self._naps:
                other.left -= nap.left
        finally:
            self._naps.remove(nap)

    def look(self, *, idle: bool) -> bool:
        """The loop shows whether it is idle, from time to time; False when that is of no more interest."""
        naps = [nap for nap in self._naps if not nap.turn.done()]
        self._idle = self._idle + 1 if idle and not self._inside and not self._queue else 0
        if naps and self._idle > _IDLE_LOOKS:
            self._idle = 0
            min(naps, key=lambda nap: nap.left).turn.set_result(None)
        return bool(naps)

    async def _children_end(self) -> None:
        """The job has returned: its worker goes on, and so do the tasks it has left, but for those that only sleep."""
        for nap in self._naps:
            nap.turn.cancel()
        deadline = _real_monotonic() + _CHILDREN_SECONDS
        while self._children:
            await asyncio.wait(self._children, timeout=_IDLE_SECONDS)
            if self._inside or self._queue:
                deadline = _real_monotonic() + _CHILDREN_SECONDS
            elif self.dead or _real_monotonic() > deadline:
                for child in list(self._children):
                    child.cancel()
                await asyncio.wait(list(self._children), timeout=_CHILDREN_SECONDS)
                return

    # -- its end -----------------------------------------------------------------------------------------

    def cancel(self, error: BaseException) -> None:
        if not isinstance(error, asyncio.CancelledError) or not switching.can_wait():
            raise error
        # As the worker does it: whether that comes to this strand is for the job to say (`shield`).
        self._task.cancel(*error.args)
        for _ in range(_SPARED_TURNS):
            switching.wait(_Turn())

    def die(self) -> Killed:
        killed = super().die()
        current = asyncio.current_task() if switching.can_wait() else None
        self._cancel_all(current)
        return killed

    def _cancel_all(self, current: asyncio.Task[Any] | None = None) -> None:
        for task in (self._task, *self._children):
            if task is not current:
                task.cancel()

    def _park(self) -> None:
        switching.wait(self._loop.create_future())

    def _break_off(self) -> None:
        tasks = [self._task, *self._children]
        self._cancel_all()
        self._conductor.until(lambda: all(task.done() for task in tasks), _CHILDREN_SECONDS)

    async def _run(self) -> None:
        try:
            result = self._body()
            self.result = await result if inspect.isawaitable(result) else result
            await self._children_end()
            self._finish(Ending.KILLED if self.dead else Ending.OK)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and not self.dead:
                told = JobCancelled(str(error) or "the job was cancelled")
                told.__cause__ = error
                error = told
            try:
                await self._children_end()
            finally:
                self._ended_with(error)

    def _finish(self, ending: Ending) -> None:
        super()._finish(ending)
        self._conductor.wake()


class _Nap:
    """A strand's sleep: how many seconds are left of it, and what it waits for while others are at work."""

    __slots__ = ("left", "turn")

    def __init__(self, seconds: float, turn: asyncio.Future[None]) -> None:
        self.left = seconds
        self.turn = turn


class _Turn:
    """Lets the loop take one turn."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class _LoopLine:
    """Whoever waits here runs the loop meanwhile."""

    def __init__(self, conductor: Conductor) -> None:
        self._conductor = conductor
        self._items: deque[tuple[Execution, Standing]] = deque()

    def put(self, item: tuple[Execution, Standing], /) -> None:
        self._items.append(item)
        self._conductor.wake()

    def get(self, *, timeout: float) -> tuple[Execution, Standing]:
        if not self._conductor.until(lambda: bool(self._items), timeout):
            raise queue.Empty
        return self._items.popleft()
