"""MariaDB and MySQL: where they are found, how one is started, how a database is lent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

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
from idemfuzz.servers._launch import Program, Started, Unusable, answers, start, which


def _with_charset(url: str) -> str:
    parts = urlsplit(url)
    query = {"charset": "utf8mb4"} | dict(parse_qsl(parts.query))
    return joined(parts.scheme, parts.netloc, parts.path or "/", query)


def _connect(url: str) -> Any:
    import pymysql

    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    return pymysql.connect(
        host=parts.hostname or "localhost",
        port=parts.port or 3306,
        user=unquote(parts.username or "root"),
        password=unquote(parts.password or ""),
        database=unquote(parts.path.strip("/")) or None,
        unix_socket=query.get("unix_socket"),
        charset="utf8mb4",
        autocommit=True,
        connect_timeout=CONNECT_SECONDS_MAX,
    )


def _drop(connection: Any, name: str) -> None:
    """Drop a database; its sessions first, for one open transaction would hold the drop up for ever."""
    for (number,) in rows(connection, f"select id from information_schema.processlist where db = '{name}'"):
        with suppress(Exception):
            execute(connection, f"kill {int(number)}")
    execute(connection, f"drop database if exists `{name}`")


class MySQL(Kind):
    """MariaDB or MySQL through pymysql; of these there is no wheel."""

    name = "mysql"
    variable = "IDEMFUZZ_MYSQL_URL"
    extra = "mysql"
    no_wheel = "there is no wheel of a MariaDB or MySQL server"
    mends = ()

    def driver(self) -> str:
        import pymysql  # noqa: F401

        return "pymysql"

    def normalise(self, url: str) -> str:
        scheme, _, rest = url.partition("://")
        if scheme.partition("+")[0] not in {"mysql", "mariadb"}:
            raise ValueError(f"it begins with {scheme[:40]!r}, expected mysql://user:password@host:3306")
        return _with_charset(f"mysql+pymysql://{rest}")

    def addresses(self) -> tuple[str, ...]:
        sockets = ("/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/tmp/mysql.sock")
        urls = [
            f"mysql+pymysql://root@localhost/?unix_socket={path}" for path in sockets if Path(path).exists()
        ]
        return tuple(_with_charset(url) for url in (*urls, "mysql+pymysql://root@127.0.0.1:3306/"))

    def check(self, url: str) -> str:
        try:
            connection = _connect(url)
        except Exception as error:
            raise Unusable(first_line(error)) from None
        try:
            return str(rows(connection, "select version()")[0][0])
        finally:
            connection.close()

    def programs(self) -> tuple[Program, ...]:
        server, install = which("mariadbd"), which("mariadb-install-db")
        if not server or not install:
            return ()
        return (Program((install, server), "machine", server),)

    def start(self, program: Program) -> Started:
        install, mariadbd = program.binaries
        as_root = ["--user=root"] if os.geteuid() == 0 else []

        def commands(run: Path) -> list[list[str]]:
            data = f"--datadir={run / 'data'}"
            small = [
                "--innodb-log-file-size=16M",
                "--innodb-flush-log-at-trx-commit=0",
                "--innodb-buffer-pool-size=32M",
            ]
            private = ["--skip-networking", f"--socket={run / 'mysql.sock'}", f"--pid-file={run / 'pid'}"]
            method = "--auth-root-authentication-method=normal"
            return [
                [install, "--no-defaults", *as_root, method, "--skip-test-db", data, small[0]],
                [mariadbd, "--no-defaults", *as_root, data, *small, *private, f"--tmpdir={run}"],
            ]

        def ready(run: Path) -> str | None:
            if not answers(run / "mysql.sock", b"", b""):
                return None
            url = _with_charset(f"mysql+pymysql://root@localhost/?unix_socket={run / 'mysql.sock'}")
            with suppress(Unusable):
                self.check(url)
                return url
            return None

        # The data is thrown away, so an orderly shutdown would be lost time.
        return start(program, commands, ready, stop="SIGKILL")

    @contextmanager
    def database(self, server: Server) -> Iterator[str]:
        name = new_name()
        with closing(_connect(server.url)) as connection:
            for left in abandoned(rows(connection, "show databases")):
                _drop(connection, left)
            execute(connection, f"create database `{name}` character set utf8mb4")
        try:
            yield with_database(server.url, name)
        finally:
            with closing(_connect(server.url)) as connection:
                _drop(connection, name)
