"""Executions: one Delivery's body, running on a thread of its own like in a worker of its own."""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import inspect
import threading
import traceback
from collections.abc import Callable, Hashable
from enum import Enum
from typing import TYPE_CHECKING, Any

from idemfuzz.model import NOTHING, Effect, Ending, Footprint

if TYPE_CHECKING:
    from idemfuzz.engine.trial import Trial

_SWALLOWED_MAX = 20
_park = threading.Event()


class Killed(BaseException):
    """Unwinds a dead Execution, so that its in-process locks are freed; every Effect on the way is suppressed."""


class Standing(Enum):
    """Where an Execution stands in the eyes of the director."""

    READY = "ready"
    RUNNING = "running"
    BLOCKED = "blocked"
    RETURNED = "returned"
    """Its wait for a lock is over, and it has not gone on yet."""
    BUSY = "busy"
    SLEEPING = "sleeping"
    ENDED = "ended"


class Here(threading.local):
    """What the current thread works for."""

    execution: Execution | None = None
    masked: bool = False
    inner: bool = False
    """Something that is an Effect of its own elsewhere happened inside the Effect under way."""


here = Here()


class Execution:
    """One Delivery's body on its own thread: fresh thread-locals, the caller's context variables."""

    def __init__(
        self, trial: Trial, call: int, delivery: int, body: Callable[[], Any], *, overlapping: bool
    ) -> None:
        self.trial = trial
        self.call = call
        self.delivery = delivery
        self.overlapping = overlapping
        self.dead = False
        self.swallowed = 0
        self.reached: dict[str, int] = {}
        self.ending: Ending | None = None
        self.result: Any = None
        self.error: BaseException | None = None
        self.ended = threading.Event()
        self.slept_seconds = 0.0
        self.sleeps = 0
        self.settled = False
        self.struck = False
        """Whether a fault of the Plan hit it."""
        self.labels: list[str] = []
        """The Effects since the last sleep, to tell a loop that polls from a pause."""
        self.labels_before: list[str] | None = None
        # Used by the director alone.
        self.standing = Standing.RUNNING
        self.waits = False
        """Whether it was seen to wait for a lock in the action under way."""
        self.acting = False
        self.switches = -1
        """How often its thread had gone to sleep when it was last looked at."""
        self.pending: tuple[Effect | None, int] = (None, 0)
        self.looked_at: Footprint | None = NOTHING
        self.stray = False
        self.grant = threading.Lock()
        self.grant.acquire()
        self.deliver_busy = False
        self.waiting: Callable[[], bool] | None = None
        self._body = body
        context = contextvars.copy_context()
        self.thread = threading.Thread(
            target=context.run, args=(self._run,), name=f"idemfuzz-delivery-{call}.{delivery}", daemon=True
        )

    def rests(self) -> bool:
        """Whether the thread has done nothing at all since this was last asked; False where the system cannot tell."""
        try:
            with open(f"/proc/self/task/{self.thread.native_id}/status") as status:
                lines = [line for line in status if "ctxt_switches" in line]
        except OSError:
            return False
        switches = sum(int(line.split()[1]) for line in lines)
        same = switches == self.switches
        self.switches = switches
        return same

    @property
    def key(self) -> Hashable:
        return id(self)

    def start(self) -> None:
        self.thread.start()

    def die(self) -> Killed:
        """From here on this Execution can touch no Store."""
        self.dead = True
        return Killed(f"delivery {self.delivery} was killed")

    def still_dead(self) -> Killed:
        """What a dead Execution gets at every further Effect; one that swallows it again and again stops for good."""
        self.swallowed += 1
        if self.swallowed > _SWALLOWED_MAX:
            self._finish(Ending.KILLED)
            _park.wait()
        return Killed(f"delivery {self.delivery} is dead")

    def abandon(self) -> None:
        """Give up on a thread that does not come back: no Effect of it counts, and Python code in it is broken off."""
        self.dead = True
        if self.ending is None:
            self._finish(Ending.HUNG)
        if self.thread.ident is not None and self.thread.is_alive():
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self.thread.ident), ctypes.py_object(Killed)
            )

    def _run(self) -> None:
        here.execution = self
        try:
            result = self._body()
            if inspect.iscoroutine(result):
                result = asyncio.run(result)
            self.result = result
            self._finish(Ending.KILLED if self.dead else Ending.OK)
        except Killed as killed:
            _let_go(killed)
            self._finish(Ending.KILLED)
        except BaseException as error:
            self.error = error
            if self.trial.disturbed:
                _let_go(error)
            self._finish(Ending.KILLED if self.dead else Ending.FAILED)
        finally:
            here.execution = None

    def _finish(self, ending: Ending) -> None:
        if self.ending is None:
            self.ending = ending
            self.trial.ended(self)
            self.ended.set()


def _let_go(error: BaseException) -> None:
    """Free what the frames of an ended Execution hold: a cursor half read would keep its store locked."""
    seen: set[int] = set()
    chain: BaseException | None = error
    while chain is not None and id(chain) not in seen:
        seen.add(id(chain))
        traceback.clear_frames(chain.__traceback__)
        chain = chain.__cause__ or chain.__context__


class Inheritance:
    """Threads that a job starts work for the job's Execution, too."""

    def __init__(self) -> None:
        self._start = threading.Thread.start

    def install(self) -> None:
        start = self._start

        def inheriting(thread: threading.Thread) -> None:
            execution = here.execution
            if execution is not None:
                run = thread.run

                def run_for_execution() -> None:
                    here.execution = execution
                    try:
                        run()
                    except Killed:
                        pass

                thread.run = run_for_execution  # type: ignore[method-assign]
                execution.trial.helpers.append(thread)
            start(thread)

        threading.Thread.start = inheriting  # type: ignore[method-assign, assignment]

    def remove(self) -> None:
        threading.Thread.start = self._start  # type: ignore[method-assign]
