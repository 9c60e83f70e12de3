"""The shop under test, on three stacks of real stores.

`shop` is open on the schema with unique keys and holds one user, two orders and nothing else. A
test that wants the schema without them says `@pytest.mark.parametrize("schema", [BARE])`.

A stack whose servers this machine does not have is skipped, with the reason. With
IDEMFUZZ_REQUIRE_SERVERS=1 it fails.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date
from inspect import signature
from pathlib import Path

import fakeredis
import pytest
import redis as redis_py
from rq import Queue
from sqlalchemy import Engine, MetaData, create_engine, func, select

sys.path.insert(0, str(Path(__file__).parents[1]))

from shop.context import Shop, opened
from shop.mail_server import Mailbox, MailServer
from shop.models import KEYED, Order, User
from shop.payments_api import PaymentsAPI

SERVERS = {
    "sqlite+fakeredis": (),
    "postgresql+valkey": ("postgresql", "redis"),
    "mariadb+redis": ("mysql", "redis"),
}


@pytest.fixture(scope="session", params=SERVERS)
def stack(request: pytest.FixtureRequest) -> Iterator[tuple[str, ...]]:
    """The URLs of this stack's servers, which run until the session ends; none for SQLite and fakeredis."""
    from idemfuzz import servers

    with ExitStack() as running:
        try:
            urls = tuple(running.enter_context(servers.database(kind)) for kind in SERVERS[request.param])
        except servers.Unavailable as reason:
            if os.environ.get("IDEMFUZZ_REQUIRE_SERVERS") == "1":
                raise
            pytest.skip(f"{request.param}: {reason}")
        yield urls


@pytest.fixture
def schema() -> MetaData:
    return KEYED


@pytest.fixture
def engine(stack: tuple[str, ...], schema: MetaData, tmp_path: Path) -> Iterator[Engine]:
    """An engine on a database that holds the schema's empty tables."""
    engine = create_engine(stack[0] if stack else f"sqlite:///{tmp_path / 'shop.db'}")
    schema.create_all(engine)
    yield engine
    engine.dispose()
    schema.drop_all(engine)
    engine.dispose()


@pytest.fixture
def redis(stack: tuple[str, ...]) -> Iterator[redis_py.Redis]:
    client = redis_py.Redis.from_url(stack[1]) if stack else fakeredis.FakeRedis()
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    """The report folder, with the staging folder beside it."""
    for name in ("reports", "reports-staging"):
        (tmp_path / name).mkdir()
    return tmp_path / "reports"


@pytest.fixture(scope="session")
def _payments_api() -> Iterator[PaymentsAPI]:
    with PaymentsAPI() as api:
        yield api


@pytest.fixture
def payments(_payments_api: PaymentsAPI) -> PaymentsAPI:
    _payments_api.reset()
    return _payments_api


@pytest.fixture(scope="session")
def _mail_server() -> Iterator[tuple[Mailbox, MailServer]]:
    with MailServer(mailbox := Mailbox()) as server:
        yield mailbox, server


@pytest.fixture
def mailbox(_mail_server: tuple[Mailbox, MailServer]) -> Mailbox:
    _mail_server[0].reset()
    return _mail_server[0]


@pytest.fixture
def shop(
    engine: Engine,
    redis: redis_py.Redis,
    payments: PaymentsAPI,
    mailbox: Mailbox,
    _mail_server: tuple[Mailbox, MailServer],
    reports: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Shop]:
    """An open shop with Grace, her pending order 1 and her paid order 2."""
    if "unique" not in signature(Queue.enqueue_call).parameters:
        pytest.skip("the shop needs RQ 2.8 or newer, which can enqueue with unique=True")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = _mail_server[1]
    shop = Shop(
        engine=engine,
        redis=redis,
        payments_url=payments.url,
        smtp_host=server.hostname,
        smtp_port=server.port,
        reports=reports,
    )
    with shop.session() as session:
        session.add(User(email="grace@example.org", name="Grace"))
        session.flush()
        for status, day in (("pending", 3), ("paid", 14)):
            session.add(Order(user_id=1, total_cents=1250, status=status, ordered_on=date(2025, 3, day)))
            session.flush()
        session.commit()
    with opened(shop):
        yield shop


@pytest.fixture
def tally(shop: Shop, payments: PaymentsAPI, mailbox: Mailbox) -> Callable[[], Counter[str]]:
    """Count what a customer or an accountant would count."""

    def count() -> Counter[str]:
        found = Counter(mails=len(mailbox.inbox), charges=len(payments.charges))
        found["files"] = len(list(shop.reports.iterdir()))
        found["notifications"] = shop.queue("notifications").count
        with shop.session() as session:
            for table in KEYED.sorted_tables:
                found[table.name] = session.scalar(select(func.count()).select_from(table)) or 0
            found["points"] = session.get_one(User, 1).points
        return found

    return count
