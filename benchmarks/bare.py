"""The executions of a search, driven without idemfuzz.

A `Meter` sits below idemfuzz, in SQLAlchemy's dialect and redis-py's client, and counts the steps (statements,
commits, commands) that each execution of a search really takes. `drive` then does the same: for each trial the
store is cleared, and for each execution a thread is started that runs the job and breaks it off after as many steps.
Deliveries that overlapped run one after another here: nobody hands over, nobody waits for a lock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import redis
from sqlalchemy import Engine

from benchmarks.jobs import clear
from idemfuzz import check

Trials = list[list[int]]
"""For each trial the number of steps of each of its executions."""


class _Over(Exception):
    """As many steps as in the search were taken."""


class Meter:
    """Counts the steps of each thread's execution, and ends an execution that has a limit."""

    def __init__(self, store: Any) -> None:
        self._here = threading.local()
        self._owner: type = type(store.dialect) if isinstance(store, Engine) else redis.Redis
        sql = ("do_execute", "do_executemany", "do_execute_no_params", "do_commit")
        self._methods = sql if isinstance(store, Engine) else ("execute_command",)

    def __enter__(self) -> Meter:
        self._kept = {name: vars(self._owner).get(name) for name in self._methods}
        for name in self._methods:
            setattr(self._owner, name, self._counting(getattr(self._owner, name)))
        return self

    def __exit__(self, *_: object) -> None:
        for name, method in self._kept.items():
            if method is None:
                delattr(self._owner, name)
            else:
                setattr(self._owner, name, method)

    def begin(self, steps: list[int], limit: int | None = None) -> None:
        """An execution begins on this thread; its last entry of ``steps`` is counted up."""
        steps.append(0)
        self._here.steps, self._here.number, self._here.limit = steps, len(steps) - 1, limit

    def end(self) -> None:
        self._here.steps = None

    def _counting(self, original: Callable[..., Any]) -> Callable[..., Any]:
        here = self._here

        def counted(instance: Any, *args: Any, **kwargs: Any) -> Any:
            steps = getattr(here, "steps", None)
            if steps is not None:
                if here.limit is not None and steps[here.number] >= here.limit:
                    raise _Over
                steps[here.number] += 1
            return original(instance, *args, **kwargs)

        return counted


def recorded(job: Callable[[Any], None], store: Any) -> Trials:
    """One search, not timed: how many steps its executions took."""
    trials: Trials = []

    with Meter(store) as meter:

        def body(given: Any) -> None:
            meter.begin(trials[-1])
            try:
                job(given)
            finally:
                meter.end()

        def scenario() -> None:
            trials.append([])
            body(store)

        check(scenario, job=body, stores={"db": store})
    return trials


def drive(job: Callable[[Any], None], store: Any, trials: Trials) -> float:
    """The seconds that the same executions take without idemfuzz."""
    with Meter(store) as meter:

        def run(limit: int) -> None:
            meter.begin([], limit)
            try:
                job(store)
            except Exception:
                pass

        begun = time.perf_counter()
        for executions in trials:
            for limit in executions:
                thread = threading.Thread(target=run, args=(limit,))
                thread.start()
                thread.join()
            clear(store)
        return time.perf_counter() - begun
