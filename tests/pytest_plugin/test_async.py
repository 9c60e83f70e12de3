"""Coroutine jobs under pytest: every way in, and the event loops of the plugins that bring one."""

from __future__ import annotations

import os
import re
import shlex
import sys
import textwrap

import pytest

for _needed in ("greenlet", "aiosqlite", "pytest_asyncio"):
    pytest.importorskip(_needed)

APPLICATION = """
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

metadata = sa.MetaData()
users = sa.Table("users", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("email", sa.String(80)))
members = sa.Table(
    "members", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("email", sa.String(80), unique=True)
)


async def create(engine):
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)


async def naive(engine, email):
    async with engine.begin() as connection:
        await connection.execute(users.insert().values(email=email))


async def right(engine, email):
    try:
        async with engine.begin() as connection:
            await connection.execute(members.insert().values(email=email))
    except sa.exc.IntegrityError:
        pass


async def racy(engine, email):
    async with engine.begin() as connection:
        if (await connection.execute(sa.select(users.c.id).where(users.c.email == email))).first() is None:
            await connection.execute(users.insert().values(email=email))
"""

ON_PYTEST_ASYNCIO = """
import app
import pytest_asyncio


@pytest_asyncio.fixture
async def engine(tmp_path):
    engine = app.create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}")
    await app.create(engine)
    yield engine
    await engine.dispose()
"""

ON_ANYIO = """
import app
import pytest


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
async def engine(tmp_path, anyio_backend):
    engine = app.create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}")
    await app.create(engine)
    yield engine
    await engine.dispose()
"""

ON_NOTHING = """
import asyncio
import app
import pytest


@pytest.fixture
def engine(tmp_path):
    engine = app.create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}")
    asyncio.run(app.create(engine))
    yield engine
    asyncio.run(engine.dispose())
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """Write the application, its fixtures and a test file; returns a function that runs pytest in a fresh process."""
    monkeypatch.setenv("PYTHONPATH", str(pytester.path), prepend=os.pathsep)

    def run(fixtures: str, tests: str, *arguments: str, mode: str = "strict") -> pytest.RunResult:
        pytester.makepyfile(app=APPLICATION)
        pytester.makeconftest(fixtures)
        plugin = "no:asyncio" not in arguments
        scope = f"asyncio_default_fixture_loop_scope = function\nasyncio_mode = {mode}" if plugin else ""
        pytester.makeini(f"[pytest]\n{scope}\n")
        head = "import asyncio\nimport app\nimport idemfuzz\nimport pytest\n\n"
        pytester.makepyfile(test_it=head + textwrap.dedent(tests))
        return pytester.runpytest_subprocess("-W", "error", *arguments)

    return run


def test_pytest_asyncio_in_strict_mode(suite):
    result = suite(
        ON_PYTEST_ASYNCIO,
        """
        @pytest.mark.asyncio
        @pytest.mark.idempotent(job=app.right)
        async def test_right(engine):
            await app.right(engine, "a@b")

        @pytest.mark.asyncio
        @pytest.mark.idempotent(job=app.racy)
        async def test_racy(engine):
            await app.racy(engine, "a@b")

        @pytest.mark.asyncio
        async def test_other(engine):
            await asyncio.sleep(0)
        """,
    )
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines_random(
        ["*IDM101*", "*order=1+engine.select.users#1,2*", "*test_right  holds*interleavings (all)*"]
    )


def test_pytest_asyncio_in_auto_mode(suite):
    """Goal: no marker of the plugin's own is needed. Method: the job is known by its registration."""
    result = suite(
        ON_PYTEST_ASYNCIO,
        """
        idemfuzz.register(app.naive)

        @pytest.mark.idempotent
        async def test_naive(engine):
            await asyncio.create_task(app.naive(engine, "a@b"))
        """,
        mode="auto",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*IDM101*"])


def test_anyio(suite):
    pytest.importorskip("anyio")
    result = suite(
        ON_ANYIO,
        """
        pytestmark = pytest.mark.anyio

        @pytest.mark.idempotent(job=app.right)
        async def test_right(engine):
            await app.right(engine, "a@b")

        @pytest.mark.idempotent(job=app.racy)
        async def test_racy(engine):
            await app.racy(engine, "a@b")

        async def test_other(engine):
            await asyncio.sleep(0)
        """,
        "-p",
        "no:asyncio",
        "-p",
        "anyio",
    )
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines_random(["*IDM101*", "*test_right*holds*"])


def test_a_synchronous_test_that_runs_the_loop_itself(suite):
    result = suite(
        ON_NOTHING,
        """
        @pytest.mark.idempotent(job=app.right)
        def test_right(engine):
            asyncio.run(app.right(engine, "a@b"))

        @pytest.mark.idempotent
        def test_delivered(engine, deliver):
            async def scenario():
                await deliver(app.racy, engine, "a@b")

            asyncio.run(scenario())
        """,
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*order=1+engine.select.users#1,2*"])


def test_a_scenario_sees_what_its_job_returned_or_raised(suite):
    """Goal: the first success is the job's answer, and its exception is a plain one. Method: assertions of a scenario."""
    result = suite(
        ON_PYTEST_ASYNCIO,
        """
        async def answering(engine):
            await app.right(engine, "a@b")
            return 42

        async def failing(engine):
            await app.right(engine, "a@b")
            raise LookupError("no such order")

        @pytest.mark.asyncio
        @pytest.mark.idempotent(job=answering)
        async def test_returned(engine):
            assert asyncio.iscoroutinefunction(answering)
            assert await asyncio.gather(answering(engine), answering(engine)) == [42, 42]

        @pytest.mark.asyncio
        @pytest.mark.idempotent(job=failing)
        async def test_raised(engine):
            with pytest.raises(LookupError, match="no such order"):
                await failing(engine)
        """,
    )
    result.stdout.fnmatch_lines_random(["*test_returned  holds*"])
    assert "did not raise" not in result.stdout.str().lower()


def test_registered_jobs(suite):
    result = suite(
        ON_NOTHING,
        """
        engine = app.create_async_engine("sqlite+aiosqlite:///registered.db")

        async def prepare():
            async with engine.begin() as connection:
                await connection.execute(app.members.delete())

        asyncio.run(app.create(engine))
        asyncio.run(engine.dispose())
        idemfuzz.register(app.right, args=(engine, "a@b"), stores={"db": engine}, setup=prepare)
        idemfuzz.register(app.naive, args=(engine, "a@b"), stores={"db": engine})
        """,
        "--idemfuzz",
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines_random(["*IDM101*", "*app:right*holds*"])


def test_a_module_and_a_coroutine_function(suite, pytester: pytest.Pytester):
    """Goal: `idemfuzz run module:function` takes coroutine functions, too."""
    suite(ON_NOTHING, "")
    pytester.makepyfile(
        jobs="""
        import asyncio
        import app

        engine = app.create_async_engine("sqlite+aiosqlite:///module.db")
        asyncio.run(app.create(engine))
        asyncio.run(engine.dispose())

        async def welcome():
            await app.naive(engine, "a@b")
        """
    )
    done = pytester.run(sys.executable, "-m", "idemfuzz.cli", "run", "jobs:welcome")
    assert done.ret == 1, done.stdout.str() + done.stderr.str()
    done.stdout.fnmatch_lines(["*IDM101*"])


def test_the_printed_command_shows_the_finding_in_a_fresh_process(suite, pytester: pytest.Pytester):
    """Goal: determinism. Method: the command of the finding, in other processes, shows it each time."""
    result = suite(
        ON_PYTEST_ASYNCIO,
        """
        @pytest.mark.asyncio
        @pytest.mark.idempotent(job=app.racy)
        async def test_racy(engine):
            await app.racy(engine, "a@b")
        """,
    )
    command = re.search(r"Replay +(idemfuzz .*)", result.stdout.str())
    assert command is not None, result.stdout.str()
    for _ in range(2):
        again = pytester.run(sys.executable, "-m", "idemfuzz.cli", *shlex.split(command[1])[1:])
        assert again.ret == 1
        again.stdout.fnmatch_lines(["*IDM101*", "*3 of 3 times*"])


def test_an_async_test_that_nobody_runs_is_refused(suite):
    result = suite(
        ON_NOTHING,
        """
        @pytest.mark.idempotent(job=app.right)
        async def test_right(engine):
            await app.right(engine, "a@b")
        """,
        "-p",
        "no:asyncio",
        "-p",
        "no:anyio",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*no plugin runs it*pytest.mark.asyncio*"])


def test_a_search_on_a_running_loop_is_refused(suite):
    result = suite(
        ON_PYTEST_ASYNCIO,
        """
        @pytest.mark.asyncio
        async def test_check(engine):
            async def scenario():
                await app.right(engine, "a@b")

            with pytest.raises(Exception, match="running event loop"):
                idemfuzz.check(scenario, job=app.right, stores=[])
        """,
    )
    result.assert_outcomes(passed=1)
