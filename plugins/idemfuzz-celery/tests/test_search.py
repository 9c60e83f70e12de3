"""A search finds the task that is wrong and passes the one that is right, from both front ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import idemfuzz
import pytest
import shop
from sqlalchemy import create_engine, text


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Any]:
    engine = create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    with engine.begin() as connection:
        connection.execute(text("create table users (id integer primary key, email text)"))
        connection.execute(text("create table once (email text primary key)"))
    shop.WORLD["engine"] = engine
    yield engine
    engine.dispose()


RUNS = {
    "called": lambda task, *args: task(*args),
    "applied": lambda task, *args: task.apply(args),
    "run": lambda task, *args: task.run(*args),
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_the_wrong_task_is_found(engine: Any, run: Any) -> None:
    report = idemfuzz.check(
        lambda: run(shop.create_user, "ada@example.org"), job=shop.create_user, stores={"db": engine}
    )
    assert report.verdict is idemfuzz.Verdict.VIOLATED
    assert "IDM101" in report.codes
    assert "Celery" in report.findings[0].cause


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_the_right_task_holds(engine: Any, run: Any) -> None:
    report = idemfuzz.check(
        lambda: run(shop.create_user_once, "ada@example.org"),
        job=shop.create_user_once,
        stores={"db": engine},
    )
    assert report.holds, report


def test_an_eager_task_is_found_without_being_named(engine: Any, eager: None) -> None:
    report = idemfuzz.check(lambda: shop.create_user.delay("ada@example.org"), stores={"db": engine})
    assert "IDM101" in report.codes
    assert report.certificate.jobs == ("shop.create_user",)


def test_a_child_that_is_enqueued_again_is_found(engine: Any) -> None:
    report = idemfuzz.check(lambda: shop.welcome.apply(("ada@example.org",)), stores={"db": engine})
    assert report.verdict is idemfuzz.Verdict.VIOLATED
    assert "IDM106" in report.codes or any("record" in finding.summary for finding in report.findings)


@pytest.mark.parametrize(
    ("task", "verdict"), [(shop.create_user, "violated"), (shop.create_user_once, "holds")]
)
def test_a_worker_runs_the_search(engine: Any, worker: Any, task: Any, verdict: str) -> None:
    report = idemfuzz.check(
        lambda: task.delay("ada@example.org").get(timeout=10, interval=0.002),
        stores={"db": engine},
        faults=["duplicate", "overlap", "kill"],
    )
    assert str(report.verdict) == verdict, report


@pytest.mark.idempotent(job=shop.create_user_once)
def test_a_marked_test_of_the_right_task_passes(engine: Any, eager: None) -> None:
    shop.create_user_once.delay("ada@example.org")
    with engine.connect() as connection:
        assert connection.scalar(text("select count(*) from once")) == 1


def test_a_marked_test_of_the_wrong_task_fails(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        from celery import Celery

        app = Celery("app", broker="memory://", set_as_current=False)
        app.conf.task_always_eager = True
        SENT = []

        @app.task(name="app.note")
        def note(text):
            SENT.append(text)

        @pytest.fixture
        def sent():
            return SENT

        @pytest.mark.idempotent(job=note)
        def test_note(sent):
            note.delay("hello")
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*IDM1*"])
