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

def pay_by_key(gateway, order):
    gateway.charge(order, f"order-{order}")

class Gateway:
    def charge(self, order):
        raise RuntimeError("the outside")

def pay_by_class(order):
    Gateway().charge(order)

async def pay_later(gateway, order):
    await gateway.charge(order)

def note_down(folder, gateway):
    (folder / "note").write_text(str(gateway.get_status(7)))
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


FAKES = """
import jobs

class FakeGateway:
    def __init__(self):
        self.charges = []

    def charge(self, order):
        self.charges.append(order)
        return {"id": "ch_1"}

class CountingFake:
    count = 0

    def __init__(self):
        self.count = 0

    def charge(self, order):
        self.count += 1

@pytest.fixture
def gateway():
    return FakeGateway()
"""


def test_fakes_written_by_hand_are_seen(suite, pytester):
    """Goal: a charge made twice is found whatever stands for the gateway, and each trial begins with an empty record."""
    pytester.makepyfile(jobs=JOB)
    every = "[jobs.pay, jobs.pay_by, jobs.pay_by_class, jobs.pay_later]"
    result = suite(
        FAKES
        + f"pytestmark = pytest.mark.idempotent(job={every}, max_trials=4)"
        + """

OUTBOX = []

def record(order):
    OUTBOX.append(order)

@pytest.fixture
def recorded(monkeypatch):
    monkeypatch.setattr(jobs, "charge", record)
    monkeypatch.setattr(jobs, "look_up", lambda order: None)

def test_fixture(gateway):
    jobs.pay_by(gateway, 7)
    assert gateway.charges

def test_made_in_the_body():
    jobs.pay_by(FakeGateway(), 7)

def test_class_in_its_place(monkeypatch):
    monkeypatch.setattr(jobs, "Gateway", FakeGateway)
    jobs.pay_by_class(7)

def test_method_in_its_place(monkeypatch):
    monkeypatch.setattr(jobs.Gateway, "charge", lambda self, order: {"id": "ch_1"})
    jobs.pay_by_class(7)

def test_function_by_a_fixture(recorded):
    before = len(OUTBOX)
    jobs.pay(7)
    assert before == 0

def test_function_in_the_body(monkeypatch):
    calls = []
    monkeypatch.setattr(jobs, "charge", lambda order: calls.append(order))
    monkeypatch.setattr(jobs, "look_up", lambda order: None)
    jobs.pay(7)

def test_counter():
    fake = CountingFake()
    jobs.pay_by(fake, 7)

@pytest.mark.asyncio
async def test_coroutine(monkeypatch):
    class Later:
        async def charge(self, order):
            return {"id": "ch_1"}
    monkeypatch.setattr(jobs, "Gateway", Later)
    await jobs.pay_later(jobs.Gateway(), 7)
"""
    )
    result.stdout.re_match_lines([r".*charge: 2 calls instead of 1", r".*8 failed"])


def test_fakes_that_know_better_are_silent(suite, pytester):
    """Goal: no alarm for a fake that knows the key, a key in the arguments, a read, or a factory with real work behind it."""
    pytester.makepyfile(jobs=JOB)
    result = suite(
        FAKES
        + """
class FakeThatKnows:
    def __init__(self):
        self.charges = {}

    def charge(self, order, key):
        self.charges.setdefault(key, order)

class FakeWithKey:
    def __init__(self):
        self.calls = []

    def charge(self, order, request_id):
        self.calls.append((order, request_id))

class FakeThatReads:
    def __init__(self):
        self.calls = []

    def get_status(self, order):
        self.calls.append(order)
        return "paid"

@pytest.mark.idempotent(job=jobs.pay_by_key)
def test_known():
    jobs.pay_by_key(FakeThatKnows(), 7)

@pytest.mark.idempotent(job=jobs.pay_by_key)
def test_keyed():
    jobs.pay_by_key(FakeWithKey(), 7)

@pytest.mark.idempotent(job=jobs.note_down)
def test_reads(tmp_path):
    jobs.note_down(tmp_path, FakeThatReads())

@pytest.mark.idempotent(job=app.right)
def test_real_work_behind_it(engine, monkeypatch):
    state = app.state["engine"]
    monkeypatch.setattr(app, "users", app.users)
    class Engines(dict):
        def __getitem__(self, name):
            return self.open(name)
        def open(self, name):
            return state
    monkeypatch.setattr(app, "state", Engines())
    app.right("ada")

@pytest.mark.idempotent(job=jobs.pay)
def test_work_in_a_function(engine, monkeypatch):
    monkeypatch.setattr(jobs, "charge", lambda order: app.right(f"{order}@example.org"))
    monkeypatch.setattr(jobs, "look_up", lambda order: None)
    jobs.pay(7)
"""
    )
    result.assert_outcomes(passed=5)


OUTBOXES = """
import jobs

class Outbox:
    sent = []
    seen = set()
    count = 0

    @classmethod
    def charge(cls, order):
        cls.sent.append(order)

    @staticmethod
    def push(order):
        Outbox.sent.append(order)

    @classmethod
    def tally(cls, order):
        cls.count += 1

    def charge_once(self, order, key):
        self.seen.add(key)

    @classmethod
    def push_once(cls, order, key):
        if key not in cls.seen:
            cls.seen.add(key)
            cls.sent.append(order)

    @staticmethod
    def rate(order):
        return 3

class FakeGateway(Outbox):
    pass

def record(order):
    Outbox.sent.append(order)
"""

OUTBOX_JOBS = """
def charge(order, key=None):
    raise RuntimeError("the outside")

class Gateway:
    @classmethod
    def charge(cls, order):
        raise RuntimeError("the outside")

    @staticmethod
    def push(order):
        raise RuntimeError("the outside")

def pay(order):
    charge(order)

def pay_by_key(order):
    charge(order, f"order-{order}")

def pay_by_class(order):
    Gateway.charge(order)

def pay_by_push(order):
    Gateway.push(order)

def pay_by_tally(order):
    Gateway.tally(order)

def push_by_key(order):
    Gateway.push_once(order, f"order-{order}")

def pay_at_rate(folder, order):
    (folder / "price").write_text(str(Gateway.rate(order)))
"""


def test_outboxes_of_classes_are_seen(suite, pytester):
    """Class and static methods, bound ones and `append` itself, by monkeypatch or by a `with` in a fixture."""
    pytester.makepyfile(jobs=OUTBOX_JOBS)
    result = suite(
        OUTBOXES
        + """
from unittest.mock import patch

every = [jobs.pay, jobs.pay_by_class, jobs.pay_by_push, jobs.pay_by_tally]
pytestmark = pytest.mark.idempotent(job=every, max_trials=4)

@pytest.fixture
def function_by_with():
    with patch("jobs.charge", new=record):
        yield

@pytest.fixture
def class_by_with():
    with patch("jobs.Gateway", new=FakeGateway):
        yield

@pytest.fixture
def several_by_with():
    with patch.multiple("jobs", charge=record):
        yield

def test_function(function_by_with):
    jobs.pay(7)

def test_several(several_by_with):
    jobs.pay(7)

def test_class_method(class_by_with):
    jobs.pay_by_class(7)

def test_static_method(class_by_with):
    jobs.pay_by_push(7)

def test_counter(class_by_with):
    jobs.pay_by_tally(7)

def test_class_method_in_its_place(monkeypatch):
    monkeypatch.setattr(jobs.Gateway, "charge", classmethod(lambda cls, order: Outbox.sent.append(order)))
    jobs.pay_by_class(7)

def test_static_method_in_its_place(monkeypatch):
    monkeypatch.setattr(jobs.Gateway, "push", staticmethod(lambda order: None))
    jobs.pay_by_push(7)

def test_bound_method(monkeypatch):
    monkeypatch.setattr(jobs, "charge", Outbox.charge)
    jobs.pay(7)

def test_append(monkeypatch):
    sent = []
    monkeypatch.setattr(jobs, "charge", lambda order: None)
    monkeypatch.setattr(jobs.Gateway, "push", sent.append)
    jobs.pay_by_push(7)
"""
    )
    result.stdout.re_match_lines([r".*: 2 calls instead of 1", r".*9 failed"])


def test_outboxes_of_classes_that_know_better_are_silent(suite, pytester):
    """Goal: no alarm for a class that has seen the key, whichever worker comes, nor for a helper of a fake."""
    pytester.makepyfile(jobs=OUTBOX_JOBS)
    result = suite(
        OUTBOXES
        + """
from unittest.mock import patch

pytestmark = pytest.mark.idempotent(job=[jobs.pay_by_key, jobs.push_by_key, jobs.pay_at_rate])

@pytest.fixture
def gateway():
    with patch("jobs.Gateway", new=FakeGateway), patch("jobs.charge", new=FakeGateway().charge_once):
        yield

def test_seen_by_an_object(gateway):
    jobs.pay_by_key(7)

def test_seen_by_a_class(gateway):
    jobs.push_by_key(7)

def test_helper(gateway, tmp_path):
    jobs.pay_at_rate(tmp_path, 7)
"""
    )
    result.assert_outcomes(passed=3)
