"""A small project with jobs and tests, and `idemfuzz` in a fresh process in it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

JOBS = """
import sqlalchemy as sa

import idemfuzz

metadata = sa.MetaData()
users = sa.Table("users", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("email", sa.String(80)))
members = sa.Table("members", metadata, sa.Column("email", sa.String(80), primary_key=True))
engine = sa.create_engine("sqlite:///test_shop.db")
metadata.create_all(engine)


def naive(email="a@b"):
    with engine.begin() as connection:
        connection.execute(users.insert().values(email=email))


def right(email="a@b"):
    try:
        with engine.begin() as connection:
            connection.execute(members.insert().values(email=email))
    except sa.exc.IntegrityError:
        pass


idemfuzz.register(naive, stores=[engine])
idemfuzz.register(right, stores=[engine])
"""

TESTS = """
import pytest
import jobs


@pytest.fixture
def engine():
    return jobs.engine


@pytest.mark.idempotent(job=jobs.naive)
def test_naive(engine):
    jobs.naive()


@pytest.mark.idempotent(job=jobs.right)
def test_right(engine):
    jobs.right()


def test_plain():
    raise AssertionError("an unmarked test must not run")
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment() -> dict[str, str]:
    """Ours, without what would change how the inner pytest behaves."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    kept.pop("COLUMNS", None)
    return {**kept, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "jobs.py").write_text(JOBS)
    (tmp_path / "test_jobs.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


@pytest.fixture
def idemfuzz(project: Path, environment: dict[str, str]) -> Run:
    """Run ``idemfuzz`` with arguments in the project."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "idemfuzz.cli", *arguments],
            cwd=project,
            env={**environment, **variables},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run
