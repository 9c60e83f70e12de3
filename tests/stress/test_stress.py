"""Real workers, real kills: what is wrong is found, what is right is left in peace, and RQ's doings have names."""

from __future__ import annotations

import os
import re
import threading
from contextlib import closing
from pathlib import Path

import pytest
from redis import Redis
from sqlalchemy import create_engine, inspect

from idemfuzz import servers
from idemfuzz.adapters.redis.store import Address
from idemfuzz.adapters.rq_worker import SPAWNS, UNIQUE
from idemfuzz.adapters.sqlalchemy.witness import address_of
from idemfuzz.engine.claims import Claims
from stress.conftest import Stress

pytestmark = pytest.mark.slow
NEEDS_SPAWN = pytest.mark.skipif(not SPAWNS, reason="this RQ has no SpawnWorker")
NEEDS_UNIQUE = pytest.mark.skipif(not UNIQUE, reason="this RQ has no unique=True")
ONE_EACH = ("--sending", "new-id", "--deliveries", "8", "--distinct", "8")


@pytest.mark.parametrize("worker_class", ["fork", "simple", pytest.param("spawn", marks=NEEDS_SPAWN)])
def test_right_job_holds(stress: Stress, worker_class: str) -> None:
    """Goal: no false alarm from kills, orphans, zombies and copies, with any worker of RQ's."""
    done = stress(
        "insert_once",
        *("--deliveries", "24", "--distinct", "6", "--workers", "4", "--kill-rate", "0.3"),
        *("--worker-class", worker_class, "--job-timeout", "5"),
    )
    assert (done.code, done.report["verdict"]) == (0, "holds"), done.text
    assert sum(done.report["strikes"].values())
    assert done.report["counts"]["executions"] >= 24


def test_duplicate_rows_are_found(stress: Stress) -> None:
    done = stress("insert_always", "--deliveries", "20", "--kill-rate", "0")
    assert (done.code, done.codes) == (1, {"IDM101"}), done.text
    (finding,) = done.report["findings"]
    assert finding["jobs"] == finding["count"] == 10
    assert [step["what"] for step in finding["stories"][0]["timeline"]].count("db.insert.users") == 2


def test_race_is_found(stress: Stress) -> None:
    """Goal: a check-then-act falls when copies run at the same time, whichever of two workers goes first."""
    done = stress("look_then_insert", "--deliveries", "24", "--kill-rate", "0", "--worker-class", "simple")
    assert (done.code, done.codes) == (1, {"IDM101"}), done.text
    assert "two executions at once" in done.report["findings"][0]["cause"]


def test_aimed_kill_finds_lost_work(stress: Stress) -> None:
    """Goal: every first execution dies between flag and work, and RQ's redelivery does nothing."""
    done = stress("flag_then_insert", *ONE_EACH, "--kill-at", "redis.SET")
    assert (done.code, done.codes) == (1, {"IDM201"}), done.text
    assert done.report["strikes"] == {"kill-horse": 8}
    assert done.behaviours["IDM501"] == 8


def test_aimed_kill_elsewhere_is_survived(stress: Stress) -> None:
    done = stress("insert_once", *ONE_EACH, "--kill-at", "db.commit")
    assert (done.code, done.report["strikes"]) == (0, {"kill-horse": 8}), done.text


@pytest.mark.parametrize(
    ("behaviour", "options"),
    [
        pytest.param("IDM501", [*ONE_EACH, "--queue-faults", "kill-both", "--kill-rate", "0.6"], id="killed"),
        pytest.param(
            "IDM502", [*ONE_EACH, "--queue-faults", "kill-worker", "--kill-rate", "0.6"], id="orphan"
        ),
        pytest.param(
            "IDM502",
            [*ONE_EACH, "--queue-faults", "pause", "--kill-rate", "0.6", "--workers", "4"],
            id="zombie",
        ),
        pytest.param(
            "IDM503", [*ONE_EACH, "--queue-faults", "on-success", "--kill-rate", "0.6"], id="callback"
        ),
        pytest.param(
            "IDM504",
            [
                "--sending",
                "same-id",
                "--deliveries",
                "12",
                "--distinct",
                "2",
                "--producers",
                "6",
                "--kill-rate",
                "0",
            ],
            id="same-id",
        ),
        pytest.param(
            "IDM504", [*ONE_EACH, "--queue-faults", "lost-reply", "--kill-rate", "0.6"], id="lost-reply"
        ),
        pytest.param(
            "IDM505",
            ["--sending", "unique", "--deliveries", "12", "--kill-rate", "0"],
            id="unique",
            marks=NEEDS_UNIQUE,
        ),
    ],
)
def test_what_rq_does_has_a_name(stress: Stress, behaviour: str, options: list[str]) -> None:
    """Goal: each of RQ's known behaviours is told by its name and by no other, and is no fault of a right job."""
    done = stress("insert_once", *options)
    # Where the redelivery came late, on a busy machine, some orphans had ended before it: they did not overlap.
    also = {"IDM503"} if behaviour == "IDM502" else set()
    strays = {code: count for code, count in done.behaviours.items() if code not in {behaviour, *also}}
    assert behaviour in done.behaviours, done.text
    # RQ remembers by id when a message lay in its intermediate list: a copy, or a redelivery, that a worker has only just
    # taken looks as old as the first one, and is given out again (IntermediateQueue.cleanup, 2.0 to 3.0). Each such stray
    # is one of those, and no more of them are forgiven than were given out for this reason.
    assert set(strays) <= {"IDM502", "IDM503"}, done.text
    assert sum(strays.values()) <= sum(map(int, re.findall(r"never\s+started\s+×\s+(\d+)", done.text))), (
        done.text
    )
    assert not done.codes, done.text


@NEEDS_UNIQUE
def test_lost_reply_of_a_unique_message_is_no_refused_copy(stress: Stress) -> None:
    """Goal: the producer is told of a duplicate that is its own message; it was queued, it runs once, and nothing is lost."""
    done = stress(
        *("insert_once", "--sending", "unique", "--deliveries", "8", "--distinct", "8"),
        *("--queue-faults", "lost-reply", "--kill-rate", "0.6"),
    )
    assert (set(done.behaviours), done.codes) == ({"IDM505"}, set()), done.text
    assert done.report["strikes"]["lost-reply"] == done.behaviours["IDM505"]
    assert (done.report["counts"]["executions"], done.report["counts"].get("refused", 0)) == (8, 0)


def test_nothing_is_told_where_nothing_happened(stress: Stress) -> None:
    """Goal: copies under new ids and no fault are no doing of RQ's."""
    done = stress(
        "insert_once", "--sending", "new-id", "--deliveries", "12", "--distinct", "6", "--kill-rate", "0"
    )
    assert (done.code, done.behaviours) == (0, {}), done.text


def test_worker_on_one_queue_loses_nothing(stress: Stress) -> None:
    """Goal: the same kill as with two queues, and RQ finds the message in its intermediate list."""
    done = stress(
        "insert_once", *ONE_EACH, "--queue-faults", "kill-popped", "--kill-rate", "0.6", "--drain", "5m"
    )
    assert (done.code, done.codes) == (0, set()), done.text
    assert done.report["strikes"]["kill-popped"]


def test_worker_on_two_queues_loses_what_it_has_popped(stress: Stress) -> None:
    done = stress(
        "insert_once",
        *ONE_EACH,
        "--queues",
        "2",
        "--queue-faults",
        "kill-popped",
        "--kill-rate",
        "0.6",
        "--drain",
        "20s",
    )
    assert (done.code, done.codes) == (1, {"IDM204"}), done.text
    assert "BLPOP" in done.report["findings"][0]["cause"]


def test_without_retry_a_killed_job_is_never_done(stress: Stress) -> None:
    done = stress(
        "insert_once", *ONE_EACH, "--retries", "0", "--queue-faults", "kill-horse", "--kill-rate", "0.6"
    )
    assert "IDM204" in done.codes, done.text
    assert any("Retry" in finding["cause"] for finding in done.report["findings"])


def test_nothing_delivered_twice_is_no_pass(stress: Stress) -> None:
    done = stress("insert_once", *ONE_EACH, "--kill-rate", "0")
    assert (done.code, done.report["verdict"]) == (1, "unknown"), done.text


@pytest.mark.parametrize(
    ("job", "options", "told"),
    [
        ("always_fails", [], "fails when it is delivered once"),
        ("no_such_job", [], "has no function 'no_such_job'"),
        ("insert_once", ["--queue-faults", "explode"], "'explode' is not known. Known are kill-horse"),
        ("insert_once", ["--queue-faults", "kil-horse"], "did you mean 'kill-horse'?"),
        ("insert_once", ["--kill-rate", "-0.1"], "expected a share from 0 to 1"),
        ("insert_once", ["--duration", "0s"], "nothing would be sent"),
        ("insert_once", ["--lease", "200ms"], "at least 1s"),
        (
            "insert_once",
            ["--redis", "redis://user:secret@127.0.0.1:1"],
            "--redis 127.0.0.1:1 does not answer",
        ),
        ("insert_once", ["--redis", "redis://example.org"], "example.org:6379/0 on another host"),
        ("insert_once", ["--redis", "127.0.0.1"], "expected redis://HOST:PORT/NUMBER"),
        ("insert_once", ["--database", "postgresql+psycopg://127.0.0.1:1/test"], "does not answer"),
        ("insert_once", ["--database", "shop"], "expected a SQLAlchemy URL"),
        ("insert_once", ["--database", "sqlite://"], "in memory"),
        ("insert_once", ["--kill-rate", "2"], "expected a share from 0 to 1"),
        ("insert_once", ["--kill-at", "!!"], "expected an effect's label"),
        ("insert_once", ["--workers", "0"], "at least 1"),
        ("insert_once", ["--duration", "soon"], "is no time"),
        ("insert_once", ["--env", "X={nothing}"], "is not usable"),
        ("insert_once", ["--database", "postgresql+psycopg://127.0.0.1/production"], "production"),
    ],
)
def test_bad_input_is_refused(
    stress: Stress, tmp_path: Path, job: str, options: list[str], told: str
) -> None:
    done = stress(job, "--deliveries", "4", *options)
    assert done.code == 2, done.text
    assert told in done.text.replace("\n", " ")
    assert "secret" not in done.text
    assert "Traceback" not in done.text


def test_aim_that_no_clean_delivery_has_is_refused(stress: Stress) -> None:
    done = stress("insert_once", *ONE_EACH, "--kill-at", "db.comit")
    assert (done.code, done.report) == (2, {}), done.text
    assert "did you mean 'db.commit'? It has db.insert.members, db.commit, redis.SADD" in done.text


def test_other_worker_on_the_queue_is_told(stress: Stress, tmp_path: Path) -> None:
    """Goal: what somebody else's worker has taken is no finding and no pass. Method: one takes all and says that it is done."""
    with servers.database("redis") as url, Redis.from_url(url) as client:
        client.sadd("rq:workers:stress-1", "rq:worker:other")
        client.set("rq:worker:other", "here")
        done = stress("insert_once", "--redis", url)
        assert (done.code, "the worker 'other' listens" in done.text) == (2, True), done.text
        client.flushdb()
        over = threading.Event()

        def take() -> None:
            while not over.is_set():
                taken = client.blpop(["rq:queue:stress-1"], timeout=0.1)
                if taken is not None:
                    client.hset(f"rq:job:{taken[1].decode()}", "status", "finished")

        thief = threading.Thread(target=take)
        thief.start()
        try:
            done = stress("insert_once", "--redis", url, "--deliveries", "4")
        finally:
            over.set()
            thief.join()
    assert (done.code, "ran elsewhere" in done.text) == (2, True), done.text


@pytest.mark.parametrize("sweep", [False, True], ids=["run", "sweep"])
def test_store_that_another_run_has_is_refused(stress: Stress, sweep: bool) -> None:
    """Goal: two runs at once do not take each other's rows for the job's. Method: this process has the database."""
    with servers.database("postgresql") as url, closing(create_engine(url).connect()) as connection:
        claims = Claims()
        claims.take_places({address_of(connection.engine): "theirs"})
        try:
            done = stress("insert_once", "--database", url, *(["--sweep"] if sweep else ONE_EACH))
        finally:
            claims.give_up()
        assert (done.code, done.report) == (2, {}), done.text
        assert f"in use by another search or stress run (process {os.getpid()}" in done.text.replace(
            "\n", " "
        )
        assert not inspect(connection).get_table_names()


def test_queue_that_another_run_has_is_refused(stress: Stress) -> None:
    with servers.database("redis") as url, Redis.from_url(url) as client:
        claims = Claims()
        claims.take_places({str(Address.of(client.connection_pool)): "theirs"})
        try:
            done = stress("insert_once", *ONE_EACH, "--redis", url)
        finally:
            claims.give_up()
        assert (done.code, "another search or stress run" in done.text.replace("\n", " ")) == (2, True), (
            done.text
        )
        assert not client.keys("rq:*")


@pytest.mark.skipif(SPAWNS and UNIQUE, reason="this RQ has all of it")
@pytest.mark.parametrize("options", [["--worker-class", "spawn"], ["--sending", "unique"]])
def test_what_an_old_rq_has_not_is_refused(stress: Stress, options: list[str]) -> None:
    done = stress("insert_once", *options)
    assert (done.code, "or later" in done.text) == (2, True), done.text
