"""What worker processes tell the stress run: one frame each, through a named pipe.

A frame of up to 4096 bytes arrives whole or not at all, whoever else writes, and stays in the pipe if its writer is killed
right after (POSIX: `write` of at most PIPE_BUF). A longer one goes through a file of its own, whose name is sent.

A frame is its length and what `marshal` makes of the message: both ends are the same Python, and each Effect of a
watched job pays for one. What is not quite a plain value (a text of a class of its own) goes by way of JSON.
"""

from __future__ import annotations

import errno
import fcntl
import json
import marshal
import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["Receiver", "Reporter"]

_FRAME_BYTES_MAX = 4096
_LENGTH = struct.Struct("<I")
_PIPE_BYTES = 1 << 20
_SET_PIPE_SIZE = getattr(fcntl, "F_SETPIPE_SZ", None)


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
        frame = _frame(message)
        if len(frame) > _FRAME_BYTES_MAX:
            handle, name = tempfile.mkstemp(dir=self._folder, prefix="message-")
            with os.fdopen(handle, "wb") as file:
                file.write(frame)
            frame = _frame({"file": Path(name).name})
        with suppress(BrokenPipeError):
            os.write(self._file, frame)


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
            frames = self._rest + data
            begin = 0
            while len(frames) - begin > _LENGTH.size:
                end = begin + _LENGTH.size + _LENGTH.unpack_from(frames, begin)[0]
                if end > len(frames):
                    break
                yield self._read(frames[begin:end])
                begin = end
            self._rest = frames[begin:]
            if len(data) < _PIPE_BYTES:
                return

    def close(self) -> None:
        os.close(self._file)
        self.path.unlink(missing_ok=True)

    def _read(self, frame: bytes) -> dict[str, Any]:
        message: dict[str, Any] = marshal.loads(frame[_LENGTH.size :])
        if "file" in message:
            path = self.path.parent / message["file"]
            message = marshal.loads(path.read_bytes()[_LENGTH.size :])
            path.unlink()
        return message


def _frame(message: dict[str, Any]) -> bytes:
    try:
        made = marshal.dumps(message)
    except ValueError:
        made = marshal.dumps(json.loads(json.dumps(message)))
    return _LENGTH.pack(len(made)) + made
