"""What tests put in the outside's place is seen, however they put it there."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow

JOB = """
from unittest.mock import Mock, patch

def charge(order):
    raise RuntimeError("the outside")

def look_up(order):
    raise RuntimeError("the outside")

def pay(order):
    look_up(order)
    charge(order)

def pay_by(gateway, order):
    gateway.charge(order)
"""


def test_mocks_are_seen_however_they_come(suite, pytester):
    """A decorator, a fixture that yields nothing, a with in the body, monkeypatch, and a mock that is passed in."""
    pytester.makepyfile(jobs=JOB)
    suite(
        """
        from unittest.mock import Mock, patch
        import jobs

        pytestmark = pytest.mark.idempotent(job=[jobs.pay, jobs.pay_by], max_trials=4)

        @pytest.fixture
        def patched():
            with patch("jobs.charge"), patch("jobs.look_up"):
                yield

        @patch("jobs.look_up")
        @patch("jobs.charge")
        def test_decorator(charge, look_up):
            jobs.pay(7)
            assert charge.called

        def test_fixture(patched):
            jobs.pay(7)

        def test_body():
            with patch.object(jobs, "charge"), patch.object(jobs, "look_up"):
                jobs.pay(7)

        def test_monkeypatch(monkeypatch):
            monkeypatch.setattr(jobs, "charge", Mock(name="charge"))
            monkeypatch.setattr(jobs, "look_up", Mock(name="look_up"))
            jobs.pay(7)

        def test_passed():
            jobs.pay_by(Mock(name="charge"), 7)
        """
    ).stdout.re_match_lines([r".*charge: 2 calls instead of 1", r".*5 failed"])
