"""The marker: one test per thing that a user may write."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.slow


def test_right_job_passes_and_its_certificate_is_printed(suite):
    result = suite(
        """
        @pytest.mark.idempotent(job=app.right)
        def test_right(engine):
            app.right("ada@example.org")
            with engine.connect() as connection:
                assert connection.scalar(sa.select(sa.func.count()).select_from(app.members)) == 1
        """,
        "-v",
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*test_right*holds:*", "*search*complete*"])


def test_naive_job_fails_with_code_order_plan_and_command(suite):
    result = suite(
        """
        @pytest.mark.idempotent(job=app.naive)
        def test_naive(engine):
            app.naive("ada@example.org")
        """
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*IDM101*row duplicated*",
            "*app.py:* in naive*",
            "*INSERT INTO users*",
            "*COMMIT*",
            "*v1:x2*",
            "*idemfuzz run test_it.py::test_naive --plan*",
        ]
    )


def test_registered_job_needs_no_naming(suite):
    suite(
        """
        idemfuzz.register(app.naive)

        @pytest.mark.idempotent
        def test_naive(engine):
            app.naive("ada@example.org")
        """
    ).assert_outcomes(failed=1)


def test_job_given_by_its_import_path(suite):
    suite(
        """
        @pytest.mark.idempotent(job="app:naive")
        def test_naive(engine):
            app.naive("ada@example.org")
        """
    ).assert_outcomes(failed=1)


def test_rq_job_decorator_and_queue_in_the_body_need_no_naming(suite):
    pytest.importorskip("fakeredis")
    suite(
        """
        import fakeredis
        from rq import Queue, SimpleWorker
        from rq.decorators import job

        @pytest.fixture
        def redis():
            return fakeredis.FakeRedis()

        @job("default", connection=fakeredis.FakeRedis())
        def decorated(email):
            app.naive(email)

        @pytest.mark.idempotent
        def test_decorated(engine):
            decorated("ada@example.org")

        @pytest.mark.idempotent
        def test_synchronous_queue(engine, redis):
            Queue(is_async=False, connection=redis).enqueue(app.naive, "ada@example.org")

        @pytest.mark.idempotent
        def test_worker(engine, redis):
            queue = Queue(connection=redis)
            queue.enqueue(app.right, "ada@example.org")
            SimpleWorker([queue], connection=redis).work(burst=True)
        """
    ).assert_outcomes(failed=2, passed=1)


def test_classes_and_parametrize(suite):
    suite(
        """
        @pytest.mark.idempotent(job=app.right)
        class TestRight:
            @pytest.mark.parametrize("email", ["a", "b"])
            def test_right(self, engine, email):
                app.right(email)

            @pytest.mark.idempotent(job=app.naive)
            def test_nearer_marker_wins(self, engine):
                app.naive("a")
        """
    ).assert_outcomes(passed=2, failed=1)


def test_given(suite):
    result = suite(
        """
        from hypothesis import given, strategies as st

        def picky(email):
            (app.naive if len(email) > 3 else app.right)(email)

        @pytest.mark.idempotent(job=picky)
        @given(st.text(alphabet="ab", max_size=9))
        def test_picky(engine, email):
            picky(email)

        @pytest.mark.idempotent(job=app.right)
        @given(st.text(alphabet="ab", max_size=9))
        def test_right(engine, email):
            app.right(email)
        """
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*IDM101*", "*email='aaaa'*"])


def test_under_xdist_with_a_json_report(suite, pytester):
    pytest.importorskip("xdist")
    suite(
        """
        @pytest.mark.idempotent(job=app.naive)
        def test_naive(engine):
            app.naive("a")

        @pytest.mark.idempotent(job=app.right)
        @pytest.mark.parametrize("email", ["a", "b", "c"])
        def test_right(engine, email):
            app.right(email)
        """,
        "-n2",
        "--idemfuzz-report=json=report.json",
    ).assert_outcomes(passed=3, failed=1)
    report = json.loads((pytester.path / "report.json").read_text())
    assert sorted(one["verdict"] for one in report["reports"]) == ["holds", "holds", "holds", "violated"]


def test_assertions_of_the_test_hold_in_every_trial(suite):
    result = suite(
        """
        log = []

        @pytest.mark.idempotent(job=app.right)
        def test_right(engine):
            log.append(1)
            app.right("a")
            assert len(log) < 4
        """
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*IDM109*assertion*"])


def test_test_that_fails_plainly_fails_as_it_would_without_idemfuzz(suite):
    result = suite(
        """
        @pytest.mark.idempotent(job=app.right)
        def test_right(engine):
            app.right("a")
            assert 1 == 2, "of its own"
        """
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([">*assert 1 == 2*", "E*of its own*", "*delivered once, without any fault*"])


def test_skip_inside_the_body_skips(suite):
    suite(
        """
        @pytest.mark.idempotent(job=app.right)
        def test_right(engine):
            pytest.skip("not today")
        """
    ).assert_outcomes(skipped=1)


def test_mocks_handed_in_by_fixtures_are_counted_and_reset(suite):
    result = suite(
        """
        from unittest.mock import Mock

        @pytest.fixture
        def mailer():
            return Mock()

        def welcome(mailer):
            mailer.send("ada")

        @pytest.mark.idempotent(job=welcome)
        def test_welcome(mailer):
            welcome(mailer)

        def test_after(mailer):
            assert mailer.mock_calls == []
        """
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*IDM108*"])


def test_stores_behind_fixtures_are_found(suite):
    suite(
        """
        @pytest.fixture
        def client(engine):
            return "a client on the engine"

        @pytest.mark.idempotent(job=app.naive)
        def test_naive(client):
            app.naive("a")
        """
    ).assert_outcomes(failed=1)


def test_deliver_fixture_makes_a_test_a_scenario(suite):
    suite(
        """
        def test_naive(engine, deliver):
            deliver(app.naive, "a")

        def test_right(engine, deliver):
            assert deliver(app.right, "a") is None
        """
    ).assert_outcomes(failed=1, passed=1)


@pytest.mark.parametrize(
    ("options", "outcome"),
    [
        ("job=app.racy", {"failed": 1}),
        ("job=app.racy, faults=['duplicate', 'kill']", {"passed": 1}),
        ("job=app.naive, ignore=['users']", {"failed": 1}),  # Nothing is left to compare: never a pass.
        ("job=app.racy, ignore=['IDM101']", {"passed": 1}),
        ("job=app.racy, stores=['engine']", {"failed": 1}),
        ("job=app.right, deliveries=2, max_trials=5, redelivery_window=60, strict=True", {"passed": 1}),
    ],
)
def test_options(suite, options, outcome):
    suite(
        f"""
        @pytest.mark.idempotent({options})
        def test_it(engine):
            {"app.naive" if "naive" in options else "app.right" if "right" in options else "app.racy"}("a")
        """
    ).assert_outcomes(**outcome)


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("faults=['fire']", "*the faults are*"),
        ("delivery=3", "*unknown option delivery=3*"),
        ("deliveries=0", "*deliveries=0 is not usable*"),
        ("'app:right'", "*takes keyword options only*"),
    ],
)
def test_unusable_marker_is_a_usage_error(suite, marker, message):
    result = suite(
        f"""
        @pytest.mark.idempotent({marker})
        def test_it(engine): ...
        """
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


def test_unknown_store_and_unknown_job_are_explained(suite):
    result = suite(
        """
        @pytest.mark.idempotent(job=app.right, stores=["database"])
        def test_store(engine): ...

        @pytest.mark.idempotent(job="app:wrong")
        def test_job(engine): ...

        @pytest.mark.idempotent(job=app.right)
        async def test_async(engine): ...
        """
    )
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines_random(
        [
            "*'database' is no fixture of this test; its fixtures are engine*",
            "*'app:wrong' cannot be imported*",
            "*async*",
        ]
    )


def test_suite_without_a_marked_test_loads_nothing(suite):
    suite(
        """
        import sys

        def test_plain():
            loaded = {name for name in sys.modules if name.startswith("idemfuzz")}
            assert loaded <= {"idemfuzz", "idemfuzz.pytest_plugin", "idemfuzz.pytest_plugin.hooks"}, loaded
        """
    ).assert_outcomes(passed=1)


def test_randomly_and_asyncio_installed(suite):
    for plugin in ("pytest_randomly", "pytest_asyncio"):
        pytest.importorskip(plugin)
    suite(
        """
        import random

        def shuffled(email):
            random.random()
            app.right(email)

        @pytest.mark.idempotent(job=shuffled)
        def test_right(engine):
            shuffled("a")

        @pytest.mark.asyncio
        async def test_other():
            import asyncio

            assert await asyncio.sleep(0, "a loop runs") == "a loop runs"
        """,
        "-p",
        "randomly",
    ).assert_outcomes(passed=2)
