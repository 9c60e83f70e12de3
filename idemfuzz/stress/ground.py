"""Where a run takes place: servers of its own unless some are given, and what the workers' environment says of them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from idemfuzz import servers
from idemfuzz.abc import Unusable
from idemfuzz.scratch import scratch
from idemfuzz.servers import Unavailable
from idemfuzz.servers.private import PrivateRedis

__all__ = ["Ground", "ReplyThief", "check_servers", "prepared"]

_PREFIX = "idemfuzz-stress-"
_DATABASES = ("sqlite", "none")
"""Instead of a URL: a file of the run's own, or nothing."""
_DATABASE_VARIABLE, _REDIS_VARIABLE = "DATABASE_URL", "REDIS_URL"


@dataclass(slots=True)
class Ground:
    """The URLs of one run."""

    database: str | None
    redis: str
    own_redis: PrivateRedis | None
    folder: Path

    def environment(self, wanted: Mapping[str, str]) -> dict[str, str]:
        """What is set for this process and its workers: DATABASE_URL, REDIS_URL, and what the user asks for.

        Raises:
            Unusable: a value names something that the run has not got.
        """
        known = {"database": self.database or "", "redis": self.redis, "folder": str(self.folder)}
        made = {_REDIS_VARIABLE: self.redis}
        if self.database:
            made[_DATABASE_VARIABLE] = self.database
        for name, value in wanted.items():
            try:
                made[name] = value.format_map(known)
            except (KeyError, ValueError, IndexError) as error:
                raise Unusable(
                    f"--env {name}={value!r} is not usable ({error}); expected NAME=TEXT, in which {{database}}, {{redis}} and "
                    "{folder} stand for what the run has"
                ) from error
        return made


def check_servers(database: str | None, redis: str | None, allow: Sequence[str]) -> None:
    """Whether the servers that were given may be used, and answer.

    Raises:
        Unusable: one may not, or does not.
    """
    if redis is not None:
        from idemfuzz.adapters.redis.given import check_given

        check_given(redis, called="--redis", allow=allow)
    if database not in (None, *_DATABASES):
        from idemfuzz.adapters.sqlalchemy import given

        given.check_given(database, called="--database", allow=allow)


@contextmanager
def prepared(database: str | None, redis: str | None) -> Iterator[Ground]:
    """Yield the ground of a run, and clear it away afterwards.

    ``database``: a SQLAlchemy URL, "sqlite" for a file, "none" for nothing, or None for a new PostgreSQL database.
    ``redis``: a URL, or None for a server of the run's own.

    Raises:
        Unusable: a server cannot be had; the message says why and what to do.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(scratch(_PREFIX))
        try:
            own = None
            if redis is None:
                own = PrivateRedis(folder)
                own.start()
                stack.callback(own.stop)
            if database is None:
                database = stack.enter_context(servers.database("postgresql"))
            elif database == "sqlite":
                database = f"sqlite:///{folder / 'stress.db'}"
            elif database == "none":
                database = None
        except Unavailable as error:
            raise Unusable(f"{error}") from error
        yield Ground(database, redis if redis is not None else own.url if own else "", own, folder)


class ReplyThief:
    """A TCP proxy before Redis that can drop the reply to one message's accepted enqueue, and the connection with it.

    ``Redis(host, port)`` of redis-py 6 and later then sends the command again. Several producers may use it at once: a reply
    is known by the message's id, so that nobody's else is lost.
    """

    def __init__(self, url: str) -> None:
        self._target = _address_of(url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._armed: set[str] = set()
        self._stolen: set[str] = set()
        self._lock = threading.Lock()
        self._open = True
        threading.Thread(target=self._accept, name="idemfuzz-proxy", daemon=True).start()

    def arm(self, job_id: str) -> None:
        """The reply to the next enqueue of this message is lost, if it says that the message is queued."""
        with self._lock:
            self._armed.add(job_id)

    def disarm(self, job_id: str) -> bool:
        """No later reply of this message is lost; whether one was."""
        with self._lock:
            self._armed.discard(job_id)
            stolen = job_id in self._stolen
            self._stolen.discard(job_id)
            return stolen

    def close(self) -> None:
        self._open = False
        with suppress(OSError):
            self._listener.close()

    def _accept(self) -> None:
        while self._open:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _armed_in(self, request: bytes) -> str | None:
        """The message that this enqueues, if its reply is to be lost; with ``unique=True`` RQ enqueues by a script."""
        if b"RPUSH" not in request and b"EVALSHA" not in request:
            return None
        with self._lock:
            return next((job_id for job_id in self._armed if job_id.encode() in request), None)

    def _steals(self, job_id: str, reply: bytes) -> bool:
        """Whether this reply is lost: once for each time that it was armed, and none that refuses the message."""
        if reply.startswith((b":0", b"-")):
            return False
        with self._lock:
            self._armed.discard(job_id)
            self._stolen.add(job_id)
        return True

    def _serve(self, client: socket.socket) -> None:
        family, address = self._target
        with client, socket.socket(family) as server, suppress(OSError):
            server.connect(address)
            enqueued: list[str] = []

            def forward() -> None:
                with suppress(OSError):
                    while data := client.recv(65536):
                        if (job_id := self._armed_in(data)) is not None:
                            enqueued.append(job_id)
                        server.sendall(data)
                with suppress(OSError):
                    server.shutdown(socket.SHUT_WR)

            threading.Thread(target=forward, daemon=True).start()
            while data := server.recv(65536):
                if enqueued and self._steals(enqueued.pop(), data):
                    # Another thread waits in it: only this ends the connection at once.
                    client.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(data)


def _address_of(url: str) -> tuple[socket.AddressFamily, Any]:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return socket.AF_UNIX, parts.path
    return socket.AF_INET, (parts.hostname or "localhost", parts.port or 6379)
