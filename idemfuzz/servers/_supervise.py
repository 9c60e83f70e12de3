"""The process that stands between idemfuzz and one server that it started.

Run as a script (``python -I -S _supervise.py SPEC``) by ``_launch.py``, never imported. It runs the server as
its child until its standard input closes, which happens when the starting process ends, however that ends
(SIGKILL, too); then it stops the server and removes the server's directory. It does not promise to outlive a
SIGKILL of its own: then the kernel kills the server (Linux), and the next start removes the directory.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__: list[str] = []

_PR_SET_PDEATHSIG = 1
_CLONE_NEWUSER = 0x10000000
_NOBODY = 65534
_INNER_UID = 1000
_STOP_SECONDS_MAX = 4.0


def _die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies. Only Linux can; a change of user undoes it."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _enter_user_namespace() -> None:
    """Become uid 1000 in a new user namespace: no longer root to itself, but still owner of root's files."""
    uid, gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER) != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"unshare(CLONE_NEWUSER): {os.strerror(errno)}")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{_INNER_UID} {uid} 1"),
        ("gid_map", f"{_INNER_UID} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def _become_nobody() -> None:
    os.setgroups([])
    os.setgid(_NOBODY)
    os.setuid(_NOBODY)


_SWITCHES: dict[str, Callable[[], None]] = {
    "keep": lambda: None,
    "namespace": _enter_user_namespace,
    "nobody": _become_nobody,
}


def _in_child(switch: str) -> Callable[[], None]:
    def prepare() -> None:
        _SWITCHES[switch]()
        _die_with_parent()

    return prepare


def _can_run(command: list[str], switch: str) -> bool:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, preexec_fn=_in_child(switch), timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def _choose_switch(wanted: str) -> str:
    """Return how the server's user is chosen: ``auto`` asks whether user namespaces are permitted here."""
    if wanted != "auto":
        return wanted
    if os.geteuid() != 0:
        return "keep"
    return (
        "namespace" if sys.platform == "linux" and _can_run(["/bin/sh", "-c", ":"], "namespace") else "nobody"
    )


def _reachable_commands(spec: dict[str, Any], switch: str) -> list[list[str]]:
    """Return the commands to run: of a copy of the binaries where the server's user cannot reach them."""
    commands: list[list[str]] = spec["commands"]
    binaries = [command[0] for command in commands]
    if switch == "keep":
        reachable = all(os.access(binary, os.X_OK) for binary in binaries)
    else:
        reachable = all(_can_run([binary, "--version"], switch) for binary in binaries)
    if reachable or not spec["copy"]:
        return commands
    copy = Path(spec["home"]) / "copy"
    for source, place in spec["copy"]:
        if Path(source).is_dir():
            shutil.copytree(source, copy / place, symlinks=True)
        elif Path(source).exists():
            (copy / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy / place)
    moved = []
    for command in commands:
        for source, place in spec["copy"]:
            if Path(command[0]).is_relative_to(source):
                binary = copy / place / Path(command[0]).relative_to(source)
                binary.chmod(0o755)
                moved.append([str(binary), *command[1:]])
                break
        else:
            moved.append(command)
    for folder in (copy, *copy.rglob("*")):
        if folder.is_dir() and not folder.is_symlink():
            folder.chmod(0o755)
    return moved


def _say(text: str) -> None:
    print(f"idemfuzz: {text}", file=sys.stderr, flush=True)


def _stop(server: subprocess.Popen[bytes], how: int) -> None:
    for number, seconds in ((how, _STOP_SECONDS_MAX), (signal.SIGKILL, 1.0)):
        with suppress(ProcessLookupError):
            server.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            server.wait(seconds)
            return


def _run(spec: dict[str, Any], woken: int) -> int:
    """Run the commands one after the other, the last until standard input closes; return the exit code."""
    switch = _choose_switch(spec["switch"])
    _say(f"user of the server: {switch}")
    if switch == "nobody":
        os.chmod(spec["home"], 0o711)
        os.chown(spec["run"], _NOBODY, _NOBODY)
    commands = _reachable_commands(spec, switch)
    for command in commands:
        last = command is commands[-1]
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            cwd=spec["run"],
            preexec_fn=_in_child(switch),
            pass_fds=[spec["lock"]],
        )
        while True:
            # Children report by SIGCHLD (the wakeup pipe); the parent's end, or SIGTERM, asks to stop.
            readable, _, _ = select.select([0, woken], [], [])
            signals = os.read(woken, 256) if woken in readable else b""
            if 0 in readable or signal.SIGTERM in signals:
                _stop(server, signal.Signals[spec["stop"]])
                return 0
            if server.poll() is not None:
                break
        if last or server.returncode != 0:
            _say(f"{command[0]} ended with exit code {server.returncode}")
            return 1
    return 1


def main(arguments: list[str]) -> int:
    """Run the server that ``arguments[0]`` (JSON, see ``_launch.start``) describes; return the exit code."""
    spec: dict[str, Any] = json.loads(arguments[0])
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(wake)
    try:
        code = _run(spec, woken)
    except Exception as error:
        _say(f"{type(error).__name__}: {error}")
        code = 1
    if code == 0:
        # After a failure the starting process shows the log's tail and removes the directory.
        shutil.rmtree(spec["home"], ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
