"""Executions: one Delivery's body, running on a thread of its own like in a worker of its own.

What a body that is a coroutine runs on stands in `idemfuzz.engine.tasks`.
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import inspect
import platform
import queue
import sys
import threading
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from idemfuzz.engine.source import is_library_file
from idemfuzz.engine.strands import Strand, Strands
from idemfuzz.model import NOTHING, Effect, Ending, Footprint

if TYPE_CHECKING:
    from idemfuzz.engine.trial import Trial

_SWALLOWED_MAX = 20
_park = threading.Event()
_POOLS = ThreadPoolExecutor.submit.__code__.co_filename


class Killed(BaseException):
    """Unwinds a dead Execution, so that its in-process locks are freed; every Effect on the way is suppressed."""


class Standing(Enum):
    """Where an Execution stands in the eyes of the director."""

    NEW = "new"
    """It has not begun."""
    READY = "ready"
    RUNNING = "running"
    BLOCKED = "blocked"
    RETURNED = "returned"
    """Its wait for a lock is over, and it has not gone on yet."""
    BUSY = "busy"
    SLEEPING = "sleeping"
    ENDED = "ended"


class Cover:
    """An Effect under way, as seen by what happens inside it."""

    __slots__ = ("inner",)

    def __init__(self) -> None:
        self.inner = False
        """Whether something that is an Effect of its own elsewhere happened inside."""


_execution: ContextVar[Execution | None] = ContextVar("idemfuzz_execution", default=None)
_cover: ContextVar[Cover | None] = ContextVar("idemfuzz_cover", default=None)

# The system calls in which a thread waits for a lock: futex, flock and fcntl, by the machine's numbers.
_LOCK_CALLS = {"x86_64": {"202", "73", "72"}, "aarch64": {"98", "32", "25"}}


class Here:
    """What the code at hand works for. A task hands it down to its child tasks; a new thread begins without."""

    @property
    def execution(self) -> Execution | None:
        return _execution.get()

    @execution.setter
    def execution(self, execution: Execution | None) -> None:
        _execution.set(execution)

    @property
    def cover(self) -> Cover | None:
        """The Effect that everything here is part of, if there is one."""
        return _cover.get()

    @cover.setter
    def cover(self, cover: Cover | None) -> None:
        _cover.set(cover)

    def execution_in(self, context: contextvars.Context | None) -> Execution | None:
        """What code that is run in ``context`` will work for."""
        return _execution.get() if context is None else context.get(_execution)


here = Here()


class Line(Protocol):
    """Where Executions announce that they stand, and the director waits for them."""

    def put(self, item: tuple[Execution, Standing], /) -> None: ...

    def get(self, *, timeout: float) -> tuple[Execution, Standing]:
        """The next one.

        Raises:
            queue.Empty: nobody came to stand within ``timeout`` seconds.
        """
        ...


class Execution(ABC):
    """One Delivery's body running, whatever it runs on: what the trial and the director keep of it."""

    can_be_cancelled = False
    """Whether its worker ends it by cancelling it, where no queue says otherwise."""
    can_go_on = True
    """Whether it may go on to its next Effect without having stood before it."""

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
        self.slept_seconds = 0.0
        self.sleeps = 0
        self.settled = False
        self.struck = False
        """Whether a fault of the Plan hit it."""
        self.labels: list[str] = []
        """The Effects since the last sleep, to tell a loop that polls from a pause."""
        self.labels_before: list[str] | None = None
        # Used by the director alone.
        self.standing = Standing.NEW
        self.waits = False
        """Whether it was seen to wait for a lock in the action under way."""
        self.acting = False
        self.pending: tuple[Effect | None, int] = (None, 0)
        self.looked_at: Footprint | None = NOTHING
        self.stray = False
        self.deliver_busy = False
        self.waiting: Callable[[], bool] | None = None
        self._body = body

    @property
    def key(self) -> Hashable:
        return id(self)

    @property
    def effects(self) -> int:
        return sum(self.reached.values())

    @property
    def crowded(self) -> bool:
        return self.overlapping

    # -- what it runs on ---------------------------------------------------------------------------------

    @abstractmethod
    def line(self) -> Line:
        """A new line for this Execution and others of its kind to stand in."""

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def wait(self, timeout_seconds: float) -> bool:
        """Until it has ended; False if it does not within the time. Called from outside."""

    @abstractmethod
    def can_stand(self) -> bool:
        """Whether the code at hand may be made to wait: it is the body's own, and not that of a thread beside it."""

    @abstractmethod
    def stand(self, announce: Callable[[], None]) -> None:
        """Announce that the code at hand has come to a stand, and wait for `go`."""

    @abstractmethod
    def go(self) -> None:
        """Let go on whoever stands; nothing happens if nobody does. Called from outside."""

    @abstractmethod
    def rests(self) -> bool:
        """Whether it has done nothing at all since this was last asked; False where that cannot be told."""

    @abstractmethod
    def enter(self) -> None:
        """The code at hand begins an Effect: of several strands of one Execution, one at a time has one under way."""

    @abstractmethod
    def leave(self) -> None:
        """The Effect is over."""

    @abstractmethod
    def strand(self) -> AbstractContextManager[object]:
        """See `Parent`."""

    def handed_down(
        self, strand: AbstractContextManager[object], work: Callable[..., Any], *, alone: bool = False
    ) -> Callable[..., Any]:
        """See `Parent`."""

        def done(*args: Any, **options: Any) -> Any:
            before = here.execution
            here.execution = self
            try:
                with strand:
                    return work(*args, **options)
            except BaseException:
                if not alone or not self.trial.disturbed:
                    raise
                return None
            finally:
                here.execution = before

        return done

    def helped(self, ends: Callable[[float], object]) -> None:
        """See `Parent`."""
        self.trial.helpers.append(ends)

    @abstractmethod
    def give_way(self) -> bool:
        """Let other strands have an Effect each, for one may hold the lock that is wanted; False if there is none."""

    def cancel(self, error: BaseException) -> None:
        """The worker breaks it off at this Effect, with an exception in the code at hand; returns if that is spared."""
        raise error

    @abstractmethod
    def _park(self) -> None:
        """Never come back."""

    @abstractmethod
    def _break_off(self) -> None:
        """End what still runs, as far as that can be done from outside."""

    # -- its end -----------------------------------------------------------------------------------------

    def die(self) -> Killed:
        """From here on this Execution can touch no Store."""
        self.dead = True
        return Killed(f"delivery {self.delivery} was killed")

    def still_dead(self) -> Killed:
        """What a dead Execution gets at every further Effect; one that swallows it again and again stops for good."""
        self.swallowed += 1
        if self.swallowed > _SWALLOWED_MAX:
            self._finish(Ending.KILLED)
            self._park()
        return Killed(f"delivery {self.delivery} is dead")

    def give_up(self) -> None:
        """It does not come back: no further Effect of it counts."""
        self.dead = True
        if self.ending is None:
            self._finish(Ending.HUNG)

    def abandon(self) -> None:
        """Give up on it, and break off the Python code in it."""
        self.give_up()
        self._break_off()

    def _ended_with(self, error: BaseException) -> None:
        if isinstance(error, Killed) or (self.dead and isinstance(error, asyncio.CancelledError)):
            _let_go(error)
            self._finish(Ending.KILLED)
            return
        self.error = error
        if self.trial.disturbed:
            _let_go(error)
        self._finish(Ending.KILLED if self.dead else Ending.FAILED)

    def _finish(self, ending: Ending) -> None:
        if self.ending is None:
            self.ending = ending
            self.trial.ended(self)


class ThreadExecution(Execution):
    """On its own thread: fresh thread-locals, the caller's context variables."""

    def __init__(
        self, trial: Trial, call: int, delivery: int, body: Callable[[], Any], *, overlapping: bool
    ) -> None:
        super().__init__(trial, call, delivery, body, overlapping=overlapping)
        self._ended = threading.Event()
        self._strand = Strand(-1)
        self._strands = Strands()
        self._cancelled: BaseException | None = None
        """What the worker breaks it off with, as soon as the body's own thread is at work."""
        self._grants: list[threading.Lock] = []
        """What those wait for who stand."""
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._run,), name=f"idemfuzz-delivery-{call}.{delivery}", daemon=True
        )

    def line(self) -> Line:
        return queue.SimpleQueue()

    def start(self) -> None:
        self._thread.start()

    def wait(self, timeout_seconds: float) -> bool:
        return self._ended.wait(timeout_seconds)

    def can_stand(self) -> bool:
        return threading.current_thread() is self._thread or (
            self._strands.mine is not None and self.ending is None
        )

    def stand(self, announce: Callable[[], None]) -> None:
        grant = threading.Lock()
        grant.acquire()
        self._grants.append(grant)
        self._strands.standing += 1
        announce()
        grant.acquire()
        self._strands.standing -= 1

    def go(self) -> None:
        if self._grants:
            self._grants.pop().release()
        while self.dead and self._grants:
            self._grants.pop().release()

    def rests(self) -> bool:
        return self._strands.rest(self._strand) and self._may_wait_for_a_lock()

    @property
    def crowded(self) -> bool:
        return self.overlapping or self._strands.several

    def strand(self) -> AbstractContextManager[object]:
        return self._strands.start()

    def enter(self) -> None:
        self._come_to_pass()
        if self._strands.several:
            self._strands.enter(self._strand)

    def leave(self) -> None:
        self._strands.leave(self._strand)

    def give_way(self) -> bool:
        return self._strands.give_way(self._strand)

    def cancel(self, error: BaseException) -> None:
        # A signal's handler runs on the body's own thread, whichever one is at work.
        self._cancelled = error
        self._come_to_pass()

    def _come_to_pass(self) -> None:
        error = self._cancelled
        if error is not None and threading.current_thread() is self._thread:
            self._cancelled = None
            raise error

    def _may_wait_for_a_lock(self) -> bool:
        """Not if its thread expects an answer from a server: a driver that connects goes on without any other delivery."""
        locks = _LOCK_CALLS.get(platform.machine())
        if locks is None:
            return True
        try:
            with open(f"/proc/self/task/{self._thread.native_id}/syscall") as file:
                call = file.read().split()[0]
        except OSError:
            return True
        return call in locks

    def _park(self) -> None:
        _park.wait()

    def _break_off(self) -> None:
        if self._thread.ident is not None and self._thread.is_alive():
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self._thread.ident), ctypes.py_object(Killed)
            )

    def _run(self) -> None:
        here.execution = self
        self._strand.begin()
        try:
            result = self._body()
            if inspect.iscoroutine(result):
                result = asyncio.run(result)
            self._come_to_pass()
            self.result = result
            self._finish(Ending.KILLED if self.dead else Ending.OK)
        except BaseException as error:
            self._ended_with(error)
        finally:
            here.execution = None

    def _finish(self, ending: Ending) -> None:
        super()._finish(ending)
        self._ended.set()


def _let_go(error: BaseException) -> None:
    """Free what the frames of an ended Execution hold: a cursor half read would keep its store locked."""
    seen: set[int] = set()
    chain: BaseException | None = error
    while chain is not None and id(chain) not in seen:
        seen.add(id(chain))
        traceback.clear_frames(chain.__traceback__)
        chain = chain.__cause__ or chain.__context__


class Parent(Protocol):
    """Who starts threads."""

    def strand(self) -> AbstractContextManager[object]:
        """One is about to be started; what it does within this is a strand's. Called by who starts it."""
        ...

    def handed_down(
        self, strand: AbstractContextManager[object], work: Callable[..., Any], *, alone: bool = False
    ) -> Callable[..., Any]:
        """The same work, done for the parent on another thread; ``alone``: nobody but the terminal hears of its end."""
        ...

    def helped(self, ends: Callable[[float], object]) -> None:
        """``ends`` waits for the end of that work, for so many seconds."""
        ...


class Inheritance:
    """Threads that a job starts work for the job's Execution, too, and so does what it hands to a pool of threads.

    ``parent`` tells for whom the code at hand works, if for anybody.
    """

    def __init__(self, parent: Callable[[], Parent | None] = lambda: here.execution) -> None:
        self._parent = parent
        self._start = threading.Thread.start
        self._submit = ThreadPoolExecutor.submit

    def install(self) -> None:
        start, submit = self._start, self._submit

        def inheriting(thread: threading.Thread) -> None:
            parent = self._parent()
            starter = sys._getframe(1).f_code.co_filename
            # A pool's thread may work for many, one after the other.
            if parent is not None and starter != _POOLS:
                # A connection's own thread, such as aiosqlite's, lives as long as the connection.
                lasting = thread.daemon and is_library_file(starter)
                strand = nullcontext() if lasting else parent.strand()
                thread.run = parent.handed_down(strand, thread.run, alone=True)  # type: ignore[method-assign]
                if not lasting:
                    parent.helped(thread.join)
            start(thread)

        def submitting(pool: Any, work: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
            parent = self._parent()
            if parent is None:
                return submit(pool, work, *args, **options)
            future = submit(pool, parent.handed_down(parent.strand(), work), *args, **options)
            parent.helped(lambda timeout: wait([future], timeout))
            return future

        threading.Thread.start = inheriting  # type: ignore[method-assign, assignment]
        ThreadPoolExecutor.submit = submitting  # type: ignore[method-assign]

    def remove(self) -> None:
        threading.Thread.start = self._start  # type: ignore[method-assign]
        ThreadPoolExecutor.submit = self._submit  # type: ignore[method-assign]
