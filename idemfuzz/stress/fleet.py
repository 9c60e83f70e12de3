"""The worker processes of a run: started, replaced when they die, signalled, and gone when it is over.

Only processes that descend from this one are ever signalled. An orphan (a horse whose worker was killed) is handed to
this process by the system and reaped here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from idemfuzz.stress.endings import adopt_orphans

__all__ = ["Fleet"]

_GONE_SECONDS_MAX = 5.0
_LOG_BYTES_MAX = 4_000


class Fleet:
    """Keeps ``size`` workers alive from `start` to `stop`.

    ``command`` gives the command line of the worker with a name.
    """

    def __init__(
        self,
        size: int,
        command: Callable[[str], Sequence[str]],
        environment: Mapping[str, str],
        folder: Path,
        *,
        prefix: str,
    ) -> None:
        self._size = size
        self._command = command
        self._environment = dict(environment)
        self._folder = folder
        self._prefix = prefix
        self._number = 0
        self._workers: dict[str, subprocess.Popen[bytes]] = {}
        self._others: set[int] = set()
        """Children of this process that are none of the fleet's: servers."""
        self.replaced = 0
        self.crashes: list[str] = []
        """What workers printed that ended by themselves, though nobody had told them to stop."""
        self._told_to_stop: set[int] = set()

    def start(self) -> None:
        adopt_orphans()
        self._others = {child.pid for child in psutil.Process().children()}
        for _ in range(self._size):
            self._begin()

    def tend(self) -> None:
        """Replace the workers that have ended, as a supervisor would, and reap orphans."""
        for name, process in list(self._workers.items()):
            if process.poll() is not None:
                del self._workers[name]
                if process.returncode >= 0 and process.pid not in self._told_to_stop:
                    self.crashes.append(f"exit code {process.returncode}: {self._printed(name)}")
                self.replaced += 1
                self._begin()
        self._reap_orphans()

    def has_failed(self) -> bool:
        """Whether a worker has ended by itself with an error."""
        return any(process.poll() not in (None, 0) for process in self._workers.values())

    @property
    def pids(self) -> set[int]:
        """The workers that run now."""
        return {process.pid for process in self._workers.values() if process.poll() is None}

    def signal(self, pid: int, number: signal.Signals) -> bool:
        """Signal a worker or a horse; False if it is not (or no longer) one of ours."""
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            process = psutil.Process(pid)
            if any(parent.pid == os.getpid() for parent in process.parents()):
                if number == signal.SIGTERM:
                    self._told_to_stop.add(pid)
                process.send_signal(number)
                return True
        return False

    def log(self) -> str:
        """The end of what the workers have printed: where a set-up fails, this says why."""
        texts = [self._printed(path.stem) for path in sorted(self._folder.glob(f"{self._prefix}-*.log"))]
        return "\n".join(text for text in texts if text)[-_LOG_BYTES_MAX:]

    def _printed(self, name: str) -> str:
        text = (self._folder / f"{name}.log").read_bytes()[-_LOG_BYTES_MAX:]
        return text.decode("utf-8", "replace").strip()

    def stop(self) -> int:
        """End every worker and all that it has started; how many horses there were to be killed."""
        workers = {process.pid for process in self._workers.values()}
        mine = self._descendants()
        for worker in self._workers.values():
            # By its handle: just after its start the system tells no environment of it yet.
            worker.kill()
            worker.wait()
        horses: set[int] = set()
        deadline = time.monotonic() + _GONE_SECONDS_MAX
        while (mine := mine + self._descendants()) and time.monotonic() < deadline:
            for process in mine:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
            horses |= {process.pid for process in mine} - workers
            self._reap_orphans()
            time.sleep(0.005)
            mine = []
        self._workers.clear()
        return len(horses)

    def _begin(self) -> None:
        self._number += 1
        name = f"{self._prefix}-{self._number}"
        with open(self._folder / f"{name}.log", "wb") as log:
            self._workers[name] = subprocess.Popen(
                list(self._command(name)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )

    def _descendants(self) -> list[psutil.Process]:
        """Workers and horses; servers that this process has started are none of the fleet's business."""
        mine = []
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                if process.environ().get("IDEMFUZZ_STRESS_FOLDER") == str(self._folder):
                    mine.append(process)
        return mine

    def _reap_orphans(self) -> None:
        """Take in the dead that nobody else waits for."""
        if not hasattr(os, "waitid"):
            return  # Nor are orphans handed to this process there.
        workers = {process.pid for process in self._workers.values()}
        with suppress(ChildProcessError):
            while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if found.si_pid in workers | self._others:
                    return  # It is waited for elsewhere, and hides those behind it until then.
                os.waitpid(found.si_pid, os.WNOHANG)

    def spare(self, pid: int) -> None:
        """A child of this process that is not the fleet's: a server that was started again."""
        self._others.add(pid)
