"""Duplicates by hand: what can be seen without idemfuzz, and what running a job twice does not show."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis
from rq import Queue
from shop.context import Shop
from shop.inventory import INVENTORY, Entry, Variant
from shop.jobs import generate_report_mended, send_email_mended, update_status_mended, update_status_right
from shop.models import BARE, Order
from sqlalchemy.orm import Session

Tally = Callable[[], Counter[str]]


def each_job(kind: int) -> pytest.MarkDecorator:
    """Parametrise over the five jobs' variants of one kind, each on its schema."""
    cases = [
        pytest.param(entry.variants[kind].schema, entry, entry.variants[kind], id=entry.variants[kind].name)
        for entry in INVENTORY
    ]
    return pytest.mark.parametrize(("schema", "entry", "variant"), cases)


def run_twice(entry: Entry, variant: Variant, tally: Tally) -> Counter[str]:
    """What the second of two deliveries in sequence added."""
    variant.function(*entry.arguments)
    once = tally()
    variant.function(*entry.arguments)
    return tally() - once


@each_job(0)
def test_naive_jobs_do_it_again(shop: Shop, entry: Entry, variant: Variant, tally: Tally) -> None:
    added = {
        "CreateUserJob": Counter(users=1),
        "SendEmailJob": Counter(mails=1),
        "ProcessPaymentJob": Counter(charges=1, payments=1, points=12),
        "GenerateReportJob": Counter(files=1, reports=1),
        "UpdateStatusJob": Counter(notifications=1),
    }
    assert run_twice(entry, variant, tally) == added[entry.name]


@each_job(1)
def test_twice_in_sequence_four_of_five_mends_look_right(
    shop: Shop, entry: Entry, variant: Variant, tally: Tally
) -> None:
    added = Counter(charges=1, payments=1, points=12) if entry.name == "ProcessPaymentJob" else Counter()
    assert run_twice(entry, variant, tally) == added


@each_job(2)
def test_right_jobs_do_it_once(shop: Shop, entry: Entry, variant: Variant, tally: Tally) -> None:
    assert run_twice(entry, variant, tally) == Counter()


def fail_once(patch: pytest.MonkeyPatch, owner: type, name: str) -> None:
    """Let the next call of a method fail before it does anything, as a lost connection would."""

    def fail(*args: Any, **kwargs: Any) -> None:
        patch.undo()
        raise ConnectionError(f"{owner.__name__}.{name}: the connection was lost")

    patch.setattr(owner, name, fail)


def deliver_until_done(job: Callable[..., None], *arguments: Any) -> None:
    """What a queue with retries does."""
    with pytest.raises(ConnectionError):
        job(*arguments)
    job(*arguments)


@pytest.fixture
def patch() -> pytest.MonkeyPatch:
    """A patch of its own: to undo it must not undo what other fixtures patched."""
    return pytest.MonkeyPatch()


@pytest.mark.parametrize("schema", [BARE])
def test_a_flag_that_could_not_be_set_is_a_second_mail(
    shop: Shop, tally: Tally, patch: pytest.MonkeyPatch
) -> None:
    fail_once(patch, Redis, "set")
    deliver_until_done(send_email_mended, 1, "welcome")
    assert tally()["mails"] == 2


@pytest.mark.parametrize("schema", [BARE])
def test_a_report_row_that_could_not_be_written_is_a_second_file(
    shop: Shop, tally: Tally, patch: pytest.MonkeyPatch
) -> None:
    fail_once(patch, Session, "commit")
    deliver_until_done(generate_report_mended, "2025-03")
    assert (tally()["files"], tally()["reports"]) == (2, 1)


@pytest.mark.parametrize("schema", [BARE])
def test_a_child_that_could_not_be_enqueued_is_lost(
    shop: Shop, tally: Tally, patch: pytest.MonkeyPatch
) -> None:
    fail_once(patch, Queue, "enqueue")
    deliver_until_done(update_status_mended, 2, "shipped")
    with shop.session() as session:
        assert session.get_one(Order, 2).status == "shipped"
    assert tally()["notifications"] == 0


def test_the_outbox_remembers_it(shop: Shop, tally: Tally, patch: pytest.MonkeyPatch) -> None:
    fail_once(patch, Queue, "enqueue")
    deliver_until_done(update_status_right, 2, "shipped")
    assert tally()["notifications"] == 1
