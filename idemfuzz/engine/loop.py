"""The conductor: runs the scenario's event loop, and stops it whenever the engine has something to decide.

An asynchronous scenario runs on whatever loop the test's plugin (or `asyncio.run`) gives it. While a search is on,
running that loop means: run it until the scenario is over *or calls a job*; then, with the loop stopped, deliver the job
as any other. The engine itself is not asynchronous: where it would wait for a thread, it runs the loop for a while.
So there is one loop and one thread, and nothing happens that the engine did not wait for.

Time on the loop follows the clock that the job sees, and `asyncio.sleep` in a job moves it.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import sys
import threading
import time
from asyncio.base_events import BaseEventLoop
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from idemfuzz.abc import Unusable
from idemfuzz.engine import switching
from idemfuzz.engine.execution import here
from idemfuzz.engine.intercept import Interception
from idemfuzz.engine.source import is_library_file
from idemfuzz.engine.tasks import TaskExecution

__all__ = ["Conductor"]

_IDLE_TURNS_MAX = 1000
_LOOK_SECONDS = 0.0005
_real_monotonic = time.monotonic


class Conductor:
    """Runs event loops from `install` to `remove`; ``advanced`` tells by how much time was moved so far."""

    def __init__(
        self,
        pause: Callable[[float, bool], None] = lambda seconds, polls: None,
        advanced: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._pause = pause
        self._advanced = advanced
        self._thread = threading.current_thread()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turning: asyncio.AbstractEventLoop | None = None
        self._conducting = False
        self._runner: asyncio.Runner | None = None
        self._requests: deque[tuple[Callable[[], Any], contextvars.Context, asyncio.Future[Any]]] = deque()
        self._lookers: list[TaskExecution] = []
        self._originals: dict[str, Any] = {}
        self._interceptions: list[Interception] = []

    # -- life --------------------------------------------------------------------------------------------

    def install(self) -> None:
        for name, make in (
            ("run_until_complete", self._run_until_complete),
            ("create_task", self._create_task),
            ("run_in_executor", self._run_in_executor),
            ("time", self._time),
        ):
            self._originals[name] = original = vars(BaseEventLoop)[name]
            setattr(BaseEventLoop, name, make(original))
        self._intercept(asyncio.sleep, self._sleep)
        self._intercept(asyncio.run, self._run)

    def remove(self) -> None:
        """Everything as it was; a loop of our own is closed."""
        for interception in self._interceptions:
            interception.remove()
        self._interceptions.clear()
        for name, original in self._originals.items():
            setattr(BaseEventLoop, name, original)
        self._originals.clear()
        if self._runner is not None:
            self._runner.close()
            self._runner = None
        self._loop = None

    def _intercept(self, function: Any, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        interception = Interception(function, lambda *args, **kwargs: handle(*args, **kwargs))
        handle = make(interception.body)
        interception.install()
        self._interceptions.append(interception)

    # -- what the engine asks of the loop, which stands still meanwhile ----------------------------------

    @property
    def current(self) -> asyncio.AbstractEventLoop:
        """The loop on which the scenario runs."""
        if self._loop is None:
            raise RuntimeError("no scenario runs on an event loop")
        return self._loop

    @property
    def conducts_here(self) -> bool:
        """Whether the code at hand runs on a loop that can be stopped for a delivery."""
        return self._conducting and threading.current_thread() is self._thread

    @property
    def is_idle(self) -> bool:
        """Whether nothing on the loop can go on by itself."""
        return not getattr(self._loop, "_ready", ())

    def start(self, coroutine: Coroutine[Any, Any, Any], context: contextvars.Context, name: str) -> Any:
        """A task of its own for ``coroutine``, in which any code can be made to wait."""
        create = self._originals.get("create_task", BaseEventLoop.create_task)
        return create(self.current, switching.drive(coroutine), name=name, context=context)

    def until(self, done: Callable[[], bool], timeout_seconds: float) -> bool:
        """Run the loop until ``done()``, which somebody on it makes true and then calls `wake`; False if time is out."""
        if done():
            return True
        loop = self.current
        deadline = _real_monotonic() + timeout_seconds
        timer = loop.call_later(timeout_seconds, self.wake)
        try:
            while not done():
                self._turn(loop)
                if _real_monotonic() >= deadline:
                    break
                if timer.cancelled() or loop.time() >= timer.when():
                    # Time on the loop was moved.
                    timer = loop.call_later(max(0.0, deadline - _real_monotonic()), self.wake)
        finally:
            timer.cancel()
        return done()

    def wake(self) -> None:
        """Whoever waits in `until` looks again."""
        if self._turning is not None:
            self._turning.stop()

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run ``loop`` until somebody calls `wake`."""
        self._turning = loop
        try:
            loop.run_forever()
        finally:
            self._turning = None

    def when_idle(self, action: Callable[[], None], turns: int = 0) -> None:
        """Do ``action`` as soon as nothing else on the loop can go on."""
        if turns and (self.is_idle or turns > _IDLE_TURNS_MAX):
            action()
        else:
            self.current.call_soon(self.when_idle, action, turns + 1)

    def show_idleness(self, execution: TaskExecution) -> None:
        """Tell ``execution`` from time to time whether the loop is idle, until it has seen enough."""
        if execution not in self._lookers:
            self._lookers.append(execution)
            if len(self._lookers) == 1:
                self.current.call_later(_LOOK_SECONDS, self._show)

    def _show(self) -> None:
        idle = self.is_idle
        self._lookers = [looker for looker in self._lookers if looker.look(idle=idle)]
        if self._lookers:
            self.current.call_later(_LOOK_SECONDS, self._show)

    def wait(self, awaitable: Awaitable[Any]) -> Any:
        """Wait for ``awaitable`` from a plain function, within a job's coroutine or with the loop standing still."""
        running = asyncio._get_running_loop()
        if running is not None:
            return switching.wait(awaitable)
        run = self._originals.get("run_until_complete", BaseEventLoop.run_until_complete)
        loop = self._standing_loop()
        try:
            return run(loop, switching.drive(_whole(awaitable)))
        finally:
            if self._runner is None and loop is not self._loop and loop is not _set_loop():
                loop.close()

    def _standing_loop(self) -> Any:
        for loop in (self._loop, _set_loop()):
            if loop is not None and not loop.is_closed():
                return loop
        return self._own().get_loop() if self._originals else asyncio.new_event_loop()

    # -- what the scenario does --------------------------------------------------------------------------

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a scenario's coroutine on a loop of our own, which stays the same throughout the search."""
        if asyncio._get_running_loop() is not None:
            coroutine.close()
            raise Unusable(
                "a search of an asynchronous scenario was begun on a running event loop, which it would block: begin it "
                "outside of coroutines"
            )
        runner = self._own()
        try:
            return runner.run(_whole(coroutine), context=contextvars.copy_context())
        finally:
            self._clear(runner.get_loop())

    async def ask(self, action: Callable[[], Any]) -> Any:
        """Have ``action`` done while the loop stands still, and return what it returns.

        Raises:
            Unusable: the loop that runs here is not in our hands.
        """
        loop = asyncio.get_running_loop()
        if not self.conducts_here or loop is not self._loop:
            raise Unusable(
                "a job was awaited on an event loop that idemfuzz does not run: it must be one of asyncio's own, run by "
                "asyncio.run, pytest-asyncio or anyio on the thread of the test"
            )
        answer = loop.create_future()
        self._requests.append((action, contextvars.copy_context(), answer))
        self.wake()
        return await answer

    def _own(self) -> asyncio.Runner:
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner

    def _clear(self, loop: asyncio.AbstractEventLoop) -> None:
        """What `asyncio.run` does at its end: tasks that are left are cancelled."""
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            self._originals["run_until_complete"](loop, asyncio.wait(left, timeout=1.0))

    def _answer(self) -> None:
        action, context, answer = self._requests.popleft()
        try:
            result = context.run(action)
        except Exception as error:
            if not answer.done():
                answer.set_exception(error)
        else:
            if not answer.done():
                answer.set_result(result)

    # -- the patches -------------------------------------------------------------------------------------

    def _run_until_complete(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def run_until_complete(loop: Any, future: Any) -> Any:
            if (
                self._conducting
                or here.execution is not None
                or threading.current_thread() is not self._thread
            ):
                return original(loop, future)
            self._conducting, self._loop = True, loop
            try:
                task = asyncio.ensure_future(future, loop=loop)
                task.add_done_callback(lambda _: self.wake())
                while not task.done():
                    self._turn(loop)
                    while self._requests:
                        self._answer()
                return original(loop, task)
            finally:
                self._conducting = False
                self._lookers.clear()
                self._requests.clear()

        return run_until_complete

    def _create_task(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def create_task(loop: Any, coro: Any, **options: Any) -> Any:
            execution = here.execution_in(options.get("context"))
            if execution is None or not asyncio.iscoroutine(coro):
                return original(loop, coro, **options)
            task = original(loop, switching.drive(coro), **options)
            if isinstance(execution, TaskExecution):
                execution.adopt(task)
            return task

        return create_task

    def _run_in_executor(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def run_in_executor(loop: Any, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
            if here.execution is not None and executor is None:
                # A pool's thread may have been started for another delivery.
                func = functools.partial(contextvars.copy_context().run, func)
            return original(loop, executor, func, *args)

        return run_in_executor

    def _time(self, original: Callable[..., Any]) -> Callable[..., Any]:
        # One clock for timers of the job and for the loop that fires them.
        return lambda loop: _real_monotonic() + self._advanced()

    def _sleep(self, body: Callable[..., Any]) -> Callable[..., Any]:
        self.real_sleep: Callable[[float], Awaitable[None]] = body

        async def sleep(delay: float, result: Any = None) -> Any:
            execution = here.execution
            if execution is None or delay <= 0 or not switching.can_wait():
                return await body(delay, result)
            polls = _by_library()
            if isinstance(execution, TaskExecution):
                await execution.sleep(delay, lambda seconds: self._pause(seconds, polls))
            else:
                self._pause(delay, polls)
            # A timer that has run out meanwhile comes first.
            await body(0)
            return result

        return sleep

    def _run(self, body: Callable[..., Any]) -> Callable[..., Any]:
        def run(main: Any, **options: Any) -> Any:
            if (
                here.execution is not None
                or self._conducting
                or threading.current_thread() is not self._thread
            ):
                return body(main, **options)
            # Connections that a pool keeps are bound to their loop, so all trials share one.
            return self.run(main)

        return run


async def _whole(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _by_library() -> bool:
    """Whether the innermost frame that is neither ours nor asyncio's belongs to a library."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        module = frame.f_globals.get("__name__", "")
        if not module.startswith(("idemfuzz.engine", "asyncio")):
            return is_library_file(frame.f_code.co_filename)
    return False


def _set_loop() -> Any:
    """The loop that a test's plugin has set for this thread; unlike asyncio's own function, it never makes one."""
    local = getattr(getattr(asyncio.events, "_event_loop_policy", None), "_local", None)
    return getattr(local, "_loop", None)
