"""A small application and a test file for each option, run by pytester."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
APPLICATION = """
import sqlalchemy as sa

metadata = sa.MetaData()
users = sa.Table("users", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("email", sa.String(80)))
members = sa.Table(
    "members", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("email", sa.String(80), unique=True)
)
state = {"engine": None}


def naive(email):
    with state["engine"].begin() as connection:
        connection.execute(users.insert().values(email=email))


def right(email):
    try:
        with state["engine"].begin() as connection:
            connection.execute(members.insert().values(email=email))
    except sa.exc.IntegrityError:
        pass


def racy(email):
    with state["engine"].begin() as connection:
        if connection.execute(sa.select(users.c.id).where(users.c.email == email)).first() is None:
            connection.execute(users.insert().values(email=email))
"""

CONFTEST = """
import app
import pytest
import sqlalchemy as sa


@pytest.fixture
def engine(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'a.db'}")
    app.metadata.create_all(engine)
    app.state["engine"] = engine
    yield engine
    engine.dispose()
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """Write the application and a test file; returns a function that runs pytest on it in a fresh process."""
    # This idemfuzz, whichever one is installed.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(pytester.path), str(ROOT))))

    def run(tests: str, *arguments: str, ini: str = "") -> pytest.RunResult:
        pytester.makepyfile(app=APPLICATION)
        pytester.makeconftest(CONFTEST)
        pytester.makeini(f"[pytest]\nasyncio_default_fixture_loop_scope = function\n{textwrap.dedent(ini)}")
        head = "import app\nimport idemfuzz\nimport pytest\nimport sqlalchemy as sa\n\n"
        pytester.makepyfile(test_it=head + textwrap.dedent(tests))
        return pytester.runpytest_subprocess(*arguments)

    return run
