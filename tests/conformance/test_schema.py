"""Unique keys can be taken away and put back on each kind of database, whatever happens in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine.reflection import Inspector
from sqlalchemy.exc import IntegrityError

import idemfuzz
from idemfuzz.api import make_options
from idemfuzz.session import Progress, Session

TABLES = {
    "people": (
        "CREATE TABLE people (id INTEGER NOT NULL PRIMARY KEY, email VARCHAR(40) NOT NULL, name VARCHAR(40), team INTEGER, "
        "UNIQUE (email), CONSTRAINT one_name_each UNIQUE (team, name))"
    ),
    "codes": "CREATE TABLE codes (code VARCHAR(20) NOT NULL, person INTEGER, PRIMARY KEY (code))",
}


def create(engine: Any) -> None:
    with engine.begin() as connection:
        for statement in TABLES.values():
            connection.execute(text(statement))
        connection.execute(text("CREATE UNIQUE INDEX one_code_each ON codes (person)"))
        connection.execute(text("CREATE INDEX by_name ON people (name)"))
        connection.execute(text("INSERT INTO people VALUES (1, 'ada@x.org', 'Ada', 1)"))
        connection.execute(text("INSERT INTO codes VALUES ('welcome', 1)"))


def schema_of(engine: Any) -> object:
    look = inspect(engine)
    return {
        name: (
            [(c["name"], str(c["type"]), c["nullable"]) for c in look.get_columns(name)],
            look.get_pk_constraint(name)["constrained_columns"],
            sorted((c["name"] or "", tuple(c["column_names"])) for c in look.get_unique_constraints(name)),
            sorted((i["name"], tuple(i["column_names"]), bool(i["unique"])) for i in look.get_indexes(name)),
        )
        for name in look.get_table_names()
    }


def rows_of(engine: Any) -> object:
    with engine.connect() as connection:
        return [[tuple(row) for row in connection.execute(text(f"SELECT * FROM {name}"))] for name in TABLES]


def job(engine: Any) -> None:
    for statement in (
        "INSERT INTO people VALUES (2, 'bob@x.org', 'Bob', 1)",
        "INSERT INTO codes VALUES ('goodbye', 2)",
    ):
        try:
            with engine.begin() as connection:
                connection.execute(text(statement))
        except IntegrityError:
            pass


@pytest.mark.slow
def test_every_key_comes_back(engine: Any) -> None:
    """Goal: a proof takes each of five keys away, and leaves the schema and the rows as they were."""
    create(engine)
    before = schema_of(engine), rows_of(engine)
    report = idemfuzz.check(lambda: job(engine), job=job, stores={"db": engine}, prove=True, max_trials=20)
    assert report.verdict == "holds"
    assert report.proof is not None
    names = {guard.name for removal in report.proof.removals for guard in removal.guards}
    assert names == {
        "PRIMARY KEY(people.id)",
        "UNIQUE(people.email)",
        "UNIQUE(people.team, name)",
        "PRIMARY KEY(codes.code)",
        "UNIQUE(codes.person)",
    }
    assert {str(removal.role) for removal in report.proof.removals} == {"together"}
    assert (schema_of(engine), rows_of(engine)) == before


@pytest.mark.slow
@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_the_schema_comes_back_after_an_exception(engine: Any, kind: type[BaseException]) -> None:
    """Goal: Ctrl-C (or a fault of ours) while a key is away. Method: the listener raises in a search without it."""
    create(engine)
    before = schema_of(engine), rows_of(engine)

    def interrupt(progress: Progress) -> None:
        if progress.phase.startswith("without") and progress.done:
            assert schema_of(engine) != before[0]
            raise kind("stop")

    options = make_options({"prove": True, "max_trials": 20})
    session = Session("t", lambda: job(engine), {"db": engine}, [job], options, listener=interrupt)
    with pytest.raises(kind):
        session.run()
    assert (schema_of(engine), rows_of(engine)) == before


_KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from sqlalchemy import create_engine
from idemfuzz.api import make_options
from idemfuzz.session import Session
from conformance.test_schema import job

def stop(progress):
    if progress.phase.startswith("without UNIQUE(people.email)") and progress.done:
        os.kill(os.getpid(), signal.SIGKILL)

engine = create_engine(sys.argv[1])
options = make_options({"prove": True, "max_trials": 20})
Session("t", lambda: job(engine), {"db": engine}, [job], options, listener=stop).run()
"""


@pytest.mark.slow
def test_the_next_search_puts_back_what_a_killed_one_left(sql_url: str, engine: Any) -> None:
    """Goal: SIGKILL while a key is away is mended at the next start."""
    if sql_url == "sqlite://":
        pytest.skip("a database in memory is gone with its process")
    create(engine)
    before = schema_of(engine)
    url = engine.url.render_as_string(hide_password=False)
    tests = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(tests).parent), tests])}
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, url, tests],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert schema_of(engine) != before
    fresh = create_engine(url)
    report = idemfuzz.check(lambda: job(fresh), job=job, stores={"db": fresh}, max_trials=5)
    # What the trial had written when it was killed is no longer to be told from rows of the user's.
    assert report.certificate.trials
    assert schema_of(fresh) == before
    fresh.dispose()


def test_a_table_may_go_while_the_schema_is_read(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: what somebody else drops is no error. Method: it goes after the tables were listed, before their keys are asked for."""
    create(engine)
    ask = Inspector.get_multi_pk_constraint
    left = []

    def drop_and_ask(self: Any, *args: Any, **options: Any) -> Any:
        monkeypatch.undo()
        with engine.begin() as connection:
            connection.execute(text("DROP TABLE codes"))
        left.extend(inspect(engine).get_table_names())
        return ask(self, *args, **options)

    def add(engine: Any) -> None:
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO people VALUES (2, 'bob@x.org', 'Bob', 1)"))

    monkeypatch.setattr(Inspector, "get_multi_pk_constraint", drop_and_ask)
    report = idemfuzz.check(lambda: add(engine), job=add, stores={"db": engine}, max_trials=5)
    assert left == ["people"]
    assert report.verdict == "holds"
