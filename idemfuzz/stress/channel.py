"""What worker processes tell the stress run: one line of JSON each, through a named pipe.

A line of up to 4096 bytes arrives whole or not at all, whoever else writes, and stays in the pipe if its writer is killed
right after (POSIX: `write` of at most PIPE_BUF). A longer one goes through a file of its own, whose name is sent.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["Receiver", "Reporter"]

_LINE_BYTES_MAX = 4096
_PIPE_BYTES = 1 << 20
_SET_PIPE_SIZE = getattr(fcntl, "F_SETPIPE_SZ", None)
_encoded = json.JSONEncoder(separators=(",", ":")).encode


class Reporter:
    """The writing end, in a worker process and in what it forks.

    Raises:
        OSError: nobody listens.
    """

    def __init__(self, path: Path) -> None:
        self._folder = path.parent
        # To wait for somebody who listens would be to wait for ever where the run has been killed.
        self._file = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(self._file, True)

    def send(self, message: dict[str, Any]) -> None:
        """Send one message; when the run is over and nobody listens any more, it is lost."""
        line = _line(message)
        if len(line) > _LINE_BYTES_MAX:
            handle, name = tempfile.mkstemp(dir=self._folder, prefix="message-")
            with os.fdopen(handle, "wb") as file:
                file.write(line)
            line = _line({"file": Path(name).name})
        with suppress(BrokenPipeError):
            os.write(self._file, line)


class Receiver:
    """The reading end; it makes the pipe."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "events"
        os.mkfifo(self.path, 0o600)
        # Open for both, so that it never ends while one worker is replaced by another.
        self._file = os.open(self.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        if _SET_PIPE_SIZE is not None:
            with suppress(OSError):
                fcntl.fcntl(self._file, _SET_PIPE_SIZE, _PIPE_BYTES)
        self._rest = b""

    def receive(self) -> Iterator[dict[str, Any]]:
        """The messages that have come."""
        while True:
            try:
                data = os.read(self._file, _PIPE_BYTES)
            except OSError as error:
                if error.errno == errno.EAGAIN:
                    return
                raise
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                yield self._read(line)
            if len(data) < _PIPE_BYTES:
                return

    def close(self) -> None:
        os.close(self._file)
        self.path.unlink(missing_ok=True)

    def _read(self, line: bytes) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(line)
        if "file" in message:
            path = self.path.parent / message["file"]
            message = json.loads(path.read_bytes())
            path.unlink()
        return message


def _line(message: dict[str, Any]) -> bytes:
    return _encoded(message).encode() + b"\n"
