"""A Redis or Valkey server for one run alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from idemfuzz.servers import Unavailable, programs
from idemfuzz.servers._launch import Program, Started, Unusable, answers, start, sweep_homes

__all__ = ["PrivateRedis"]


class PrivateRedis:
    """A Redis or Valkey server that only this run uses; it can be thrown back to an older state."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket = folder / "redis.sock"
        self.url = f"unix://{self._socket}?db=0"
        self._started: Started | None = None

    @property
    def pid(self) -> int:
        assert self._started is not None
        return self._started.process.pid

    def start(self) -> None:
        """Start it, from the first program that works.

        Raises:
            Unavailable: there is none.
        """
        found = programs("redis")
        sweep_homes()
        tried = []
        for program in found:
            try:
                self._started = start(program, self._commands(program), self._ready, stop="SIGKILL")
                return
            except Unusable as error:
                tried.append(f"{program.detail}: {error}")
        raise Unavailable("redis", "; ".join(tried), "name a server with --redis")

    def stop(self) -> None:
        if self._started is not None:
            self._started.stop()
            self._started = None

    def remember(self) -> None:
        """Save what there is now, for `throw_back`."""
        from redis import Redis as Client

        with Client(unix_socket_path=str(self._socket)) as client:
            client.save()

    def throw_back(self) -> None:
        """Kill the server; it comes back with what was saved last. Its clients see their connections drop."""
        self.stop()
        self._socket.unlink(missing_ok=True)
        self.start()

    def _commands(self, program: Program) -> Any:
        settings = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._folder),
            "dbfilename": "redis.rdb",
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
            "maxmemory-policy": "noeviction",
        }
        words = [word for name, value in settings.items() for word in (f"--{name}", value)]
        return lambda run: [[program.binaries[-1], *words]]

    def _ready(self, run: Path) -> str | None:
        return self.url if answers(self._socket, b"PING\r\n", b"+PONG") else None
