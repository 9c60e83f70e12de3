"""`@given` on marked tests: beside ordinary ones, with settings of its own, with assume; and jobs registered with strategies."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.slow

PICKY = """
from hypothesis import assume, given, settings, strategies as st

def picky(email: str):
    (app.naive if len(email) > 3 else app.right)(email)
"""


def test_a_finding_shrinks_beside_ordinary_tests_that_keep_their_settings(suite, pytester):
    """Goal: one suite for both. Method: an ordinary test still has its deadline and its 100 examples."""
    result = suite(
        PICKY
        + """
seen = []
deadline = settings.default.deadline  # Hypothesis' own: it has none in CI.

@settings(deadline=deadline)
@given(st.integers())
def test_ordinary(number):
    seen.append(number)
    assert settings.default.deadline == deadline

def test_counted():
    assert len(seen) >= 100

@pytest.mark.idempotent(job=picky)
@given(st.text(alphabet="ab", max_size=9))
def test_picky(engine, email):
    picky(email)
""",
        "-p",
        "no:randomly",
    )
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*Found with*email='aaaa'*", "*IDM101*", "*idemfuzz replay *"])
    (saved,) = pytester.path.glob(".idemfuzz/*/*.json")
    assert json.loads(saved.read_text())["example"] == {
        "args": [],
        "kwargs": {"email": "aaaa"},
        "state": None,
    }


def test_settings_of_its_own_are_kept_and_a_short_deadline_does_not_matter(suite):
    """Goal: `@settings` needs no ritual. Method: a deadline that no search meets, a function-scoped fixture, assume."""
    result = suite(
        PICKY
        + """
@pytest.mark.idempotent(job=picky)
@settings(max_examples=60, deadline=1)
@given(st.text(alphabet="ab", max_size=3))
def test_right(engine, email):
    picky(email)
    assert settings.default.max_examples == 60

@pytest.mark.idempotent(job=picky)
@settings(max_examples=40, deadline=1)
@given(st.text(alphabet="ab", min_size=1, max_size=9))
def test_picky(engine, email):
    assume(email != "aaaa")
    picky(email)
"""
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*Found with*email='aaab'*"])


def test_what_draws_while_the_test_runs_is_refused(suite):
    result = suite(
        PICKY
        + """
@pytest.mark.idempotent(job=picky)
@given(st.data())
def test_data(engine, data):
    picky(data.draw(st.text()))
"""
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*data is a DataObject of Hypothesis, which draws while the test runs*"])


def test_strategies_of_a_registration_and_types_are_drawn_from(suite, pytester):
    """Goal: arguments and state of registered jobs. Method: strategies, a state with its setup, and mere types."""
    suite("def test_nothing(): ...")
    (pytester.path / "jobs.py").write_text(
        """
import app, idemfuzz
import sqlalchemy as sa
from hypothesis import strategies as st

engine = sa.create_engine("sqlite:///test_jobs.db")
app.metadata.create_all(engine)
app.state["engine"] = engine

def crowded(email):
    with engine.begin() as connection:
        there = connection.execute(sa.select(sa.func.count()).select_from(app.users)).scalar_one()
    (app.naive if there > 1 else app.right)(email)

def fill(emails):
    for email in emails:
        app.naive(email)

def typed(number: int):
    (app.naive if number > 5 else app.right)(str(number))

def untyped(number):
    app.naive(number)

idemfuzz.register(crowded, args=["x"], state=st.lists(st.just("y"), max_size=5), setup=fill, stores=[engine])
"""
    )
    result = pytester.runpytest_subprocess("--idemfuzz-module", "jobs")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*Found with*email='x', state=?'y', 'y'?*"])
    result = pytester.runpytest_subprocess("--idemfuzz-module", "jobs:typed")
    result.stdout.fnmatch_lines(["*Found with*number=6*"])
    result = pytester.runpytest_subprocess("--idemfuzz-module", "jobs:untyped")
    result.stdout.fnmatch_lines(["*its parameter 'number' has no type to draw from*"])


def test_a_state_without_a_setup_is_refused():
    import idemfuzz

    with pytest.raises(idemfuzz.Unusable, match="without setup"):
        idemfuzz.register(print, state=1)
    with pytest.raises(idemfuzz.Unusable, match="cannot be called with it"):
        idemfuzz.register(print, state=1, setup=lambda: None)


def test_an_async_test_with_settings_of_its_own_is_searched(suite):
    result = suite(
        PICKY
        + """
import pytest

@pytest.mark.idempotent(job=picky)
@settings(max_examples=60, deadline=1)
@given(email=st.text(alphabet="ab", max_size=9))
@pytest.mark.asyncio
async def test_picky(engine, email):
    picky(email)
""",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*Found with*email='aaaa'*", "*IDM101*"])
