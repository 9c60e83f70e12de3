"""The verdict of idemfuzz on each of the fifteen variants, on each stack of stores."""

from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis
from rq import Queue, SimpleWorker
from shop.context import Shop
from shop.inventory import VIOLATED, Entry, Variant, variants
from shop.jobs import create_user_naive, create_user_right, update_status_naive, update_status_right
from shop.mail_server import Mailbox
from shop.models import BARE, KEYED
from shop.payments_api import PaymentsAPI
from sqlalchemy import Engine

import idemfuzz

Judge = Callable[..., idemfuzz.Report]


@pytest.fixture
def judge(
    shop: Shop, engine: Engine, redis: Redis, reports: Path, payments: PaymentsAPI, mailbox: Mailbox
) -> Judge:
    """Check a job in this shop. The servers forget between trials, since nothing else would make them."""

    def check(deliver: Callable[[], object], job: Callable[..., None]) -> idemfuzz.Report:
        def scenario() -> None:
            payments.reset()
            mailbox.reset()
            deliver()

        return idemfuzz.check(scenario, job=job, stores={"db": engine, "redis": redis, "files": reports})

    return check


def codes(report: idemfuzz.Report) -> set[str]:
    return {finding.code for finding in report.findings}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("schema", "entry", "variant"),
    [pytest.param(variant.schema, entry, variant, id=variant.name) for entry, variant in variants()],
)
def test_verdict(judge: Judge, entry: Entry, variant: Variant) -> None:
    report = judge(lambda: variant.function(*entry.arguments), variant.function)

    assert report.verdict == variant.verdict, report.findings
    for expected in variant.findings:
        assert any(code.startswith(expected) for code in codes(report)), report.findings
    assert bool(report.findings) == (variant.verdict == VIOLATED)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("schema", "job", "verdict"), [(BARE, create_user_naive, "violated"), (KEYED, create_user_right, "holds")]
)
def test_verdict_through_a_synchronous_queue(
    judge: Judge, redis: Redis, job: Callable[..., None], verdict: str
) -> None:
    queue = Queue("users", connection=redis, is_async=False)
    report = judge(lambda: queue.enqueue(job, "ada@example.org", "Ada"), job)
    assert report.verdict == verdict, report.findings


@pytest.mark.slow
@pytest.mark.parametrize(
    ("schema", "job", "verdict"),
    [(BARE, update_status_naive, "violated"), (KEYED, update_status_right, "holds")],
)
def test_verdict_through_a_worker(judge: Judge, redis: Redis, job: Callable[..., None], verdict: str) -> None:
    queue = Queue("orders", connection=redis)

    def deliver() -> None:
        queue.enqueue(job, 2, "shipped")
        SimpleWorker([queue], connection=redis).work(burst=True)

    report = judge(deliver, job)
    assert report.verdict == verdict, report.findings
