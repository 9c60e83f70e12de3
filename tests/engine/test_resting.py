"""Who waits for a lock in the process is known by a thread that sleeps: one that computes or is answered late does not."""

from __future__ import annotations

import hashlib
import platform
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from idemfuzz.engine.execution import ThreadExecution

_LOOK_SECONDS = 0.02


@contextmanager
def running(body: Callable[[], Any], end: Callable[[], Any]) -> Iterator[ThreadExecution]:
    trial: Any = SimpleNamespace(ended=lambda execution: None, disturbed=False)
    execution = ThreadExecution(trial, 1, 1, body, overlapping=False)
    execution.start()
    try:
        yield execution
    finally:
        end()
        assert execution.wait(10)


def looks(execution: ThreadExecution, number: int) -> list[bool]:
    found = []
    for _ in range(number):
        time.sleep(_LOOK_SECONDS)
        found.append(execution.rests())
    return found


@pytest.mark.slow
def test_who_waits_for_a_lock_rests() -> None:
    lock = threading.Lock()
    lock.acquire()
    with running(lock.acquire, lock.release) as execution:
        # The first look has nothing to be compared with.
        assert any(looks(execution, 50))


@pytest.mark.slow
def test_who_computes_without_a_pause_does_not_rest() -> None:
    """OpenSSL reads its certificates for 50 ms and lets nobody in: no switch of threads says that it works."""
    over = threading.Event()

    def compute() -> None:
        while not over.is_set():
            hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 400_000)

    with running(compute, over.set) as execution:
        assert not any(looks(execution, 15))


@pytest.mark.slow
@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "aarch64"), reason="the system's calls are not known here"
)
def test_who_expects_an_answer_does_not_rest() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, running(lambda: ours.recv(1), lambda: theirs.send(b"x")) as execution:
        assert not any(looks(execution, 15))
