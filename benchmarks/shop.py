"""The example shop, open on a stack of stores, without pytest."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

from shop.context import Shop
from shop.context import opened as shop_opened
from shop.inventory import Entry, Variant, variants
from shop.mail_server import Mailbox, MailServer
from shop.models import Order, User
from shop.payments_api import PaymentsAPI

from benchmarks.stores import opened
from idemfuzz import Report, check

STACKS = {
    "sqlite+fakeredis": ("sqlite-file", "fakeredis"),
    "postgresql+valkey": ("postgresql", "valkey"),
    "mariadb+redis": ("mariadb", "redis"),
}
VARIANTS: dict[str, tuple[Entry, Variant]] = {variant.name: (entry, variant) for entry, variant in variants()}


@dataclass(slots=True)
class Stack:
    """Servers and stores that stay; `check` opens a new shop in them."""

    engine: Any
    redis: Any
    payments: PaymentsAPI
    mailbox: Mailbox
    mail: MailServer
    versions: list[str]

    def check(self, name: str, **options: Any) -> Report:
        """Search one variant, or run one ``plan`` of it, from a shop as the examples' tests begin with."""
        entry, variant = VARIANTS[name]

        def scenario() -> None:
            self.payments.reset()
            self.mailbox.reset()
            variant.function(*entry.arguments)

        with self._shop(variant) as shop:
            stores = {"db": self.engine, "redis": self.redis, "files": shop.reports}
            return check(scenario, job=variant.function, stores=stores, name=name, **options)

    @contextmanager
    def _shop(self, variant: Variant) -> Iterator[Shop]:
        with ExitStack() as leaving:
            folder = Path(leaving.enter_context(tempfile.TemporaryDirectory()))
            for part in ("reports", "reports-staging"):
                (folder / part).mkdir()
            variant.schema.create_all(self.engine)
            leaving.callback(self.engine.dispose)
            leaving.callback(variant.schema.drop_all, self.engine)
            self.redis.flushdb()
            leaving.callback(self.redis.flushdb)
            host, port = self.mail.hostname, self.mail.port
            shop = Shop(
                engine=self.engine,
                redis=self.redis,
                payments_url=self.payments.url,
                smtp_host=host,
                smtp_port=port,
                reports=folder / "reports",
            )
            _fill(shop)
            yield leaving.enter_context(shop_opened(shop))


@contextmanager
def opened_stack(name: str) -> Iterator[Stack]:
    """The servers of a stack, with the two outside services.

    Raises:
        idemfuzz.servers.Unavailable: this machine lacks one.
    """
    os.environ["NO_PROXY"] = "127.0.0.1"
    sql, keys = STACKS[name]
    with opened(sql) as (engine, one), opened(keys) as (client, other), PaymentsAPI() as payments:
        with MailServer(mailbox := Mailbox()) as mail:
            versions = [version for version in (one, other) if version]
            yield Stack(engine, client, payments, mailbox, mail, versions)


def _fill(shop: Shop) -> None:
    """Grace, her pending order 1 and her paid order 2."""
    with shop.session() as session:
        session.add(User(email="grace@example.org", name="Grace"))
        session.flush()
        for status, day in (("pending", 3), ("paid", 14)):
            session.add(Order(user_id=1, total_cents=1250, status=status, ordered_on=date(2025, 3, day)))
            session.flush()
        session.commit()
