"""The children of a sweep, and what they ask of their parent."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, create_engine, event
from sqlalchemy.pool import NullPool

from idemfuzz.abc import Options
from idemfuzz.stress.child import _Pipe
from idemfuzz.stress.kill_sweep import Sweep

users = Table("users", MetaData(), Column("id", Integer, primary_key=True), Column("email", String(80)))
entries = Table("entries", MetaData(schema="side"), Column("id", Integer, primary_key=True))


@pytest.fixture
def attached(tmp_path: Path, request: pytest.FixtureRequest) -> Engine:
    """SQLite in a file, with another database attached."""
    engine = create_engine(f"sqlite:///{tmp_path / 'test.db'}", poolclass=NullPool)
    place = request.param.format(folder=tmp_path)

    @event.listens_for(engine, "connect")
    def attach(connection: object, record: object) -> None:
        connection.execute(f"ATTACH DATABASE '{place}' AS side")  # type: ignore[attr-defined]
        connection.execute("CREATE TABLE IF NOT EXISTS side.entries (id INTEGER PRIMARY KEY)")  # type: ignore[attr-defined]

    users.metadata.create_all(engine)
    return engine


def book(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(users.insert().values(id=1).prefix_with("OR IGNORE"))
        connection.execute(entries.insert())


@pytest.mark.parametrize(
    ("attached", "codes", "told"),
    [("{folder}/side.db", {"IDM101"}, ""), (":memory:", set(), "the schema 'side' beside 'db'")],
    indirect=["attached"],
)
def test_other_schema_is_looked_at_or_told_of(attached: Engine, codes: set[str], told: str) -> None:
    """Goal: what a child is about to touch is compared, and where it cannot be, nobody is left to believe so."""
    with Sweep(lambda: book(attached), {"db": attached}, Options(timeout=20.0)) as sweep:
        found = {code for swept in sweep.run() for code in swept.codes}
        assert found == codes
        assert told in " ".join(sweep.strangers)
        assert bool(sweep.strangers) == bool(told)


def test_child_whose_parent_is_gone_ends() -> None:
    """Goal: no process turns for ever. Method: one asks, and nobody is at the other end."""
    writing = os.open(os.devnull, os.O_WRONLY)
    answers, answering = os.pipe()
    os.close(answering)
    pid = os.fork()
    if pid == 0:
        _Pipe(writing, answers).ask_for("db", "side")
        os._exit(0)
    os.close(writing)
    os.close(answers)
    deadline = time.monotonic() + 20
    while (done := os.waitpid(pid, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    if done == (0, 0):
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(done[1]) == 1
    assert done[0] == pid
