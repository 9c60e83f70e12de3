"""The job inventory, as data: what each job does, what in it is not idempotent, and which variant holds.

The tests are parametrised over it, and the table in `examples/README.md` is `markdown()` of it, so
neither can say something else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import MetaData

from shop import jobs
from shop.models import BARE, KEYED

HOLDS, VIOLATED = "holds", "violated"


@dataclass(frozen=True, slots=True)
class Variant:
    """One way of writing a job, the schema that it runs on, and the verdict on it.

    `findings` are the codes to be expected. Where the state tells lost work in two ways, the code
    is cut to the family: "IDM20" is IDM201 (lost) or IDM202 (torn).
    """

    function: Callable[..., None]
    schema: MetaData
    verdict: str
    findings: tuple[str, ...]
    because: str

    @property
    def name(self) -> str:
        return self.function.__name__


@dataclass(frozen=True, slots=True)
class Entry:
    """One job: its name, what it is for, and its three variants in the order naive, mended, right."""

    name: str
    description: str
    arguments: tuple[Any, ...]
    not_idempotent: str
    strategy: str
    variants: tuple[Variant, Variant, Variant]


def naive(function: Callable[..., None], *findings: str, because: str) -> Variant:
    return Variant(function, BARE, VIOLATED, findings, because)


def mended(function: Callable[..., None], *findings: str, because: str) -> Variant:
    return Variant(function, BARE, VIOLATED, findings, because)


def right(function: Callable[..., None], *, because: str) -> Variant:
    return Variant(function, KEYED, HOLDS, (), because)


INVENTORY = (
    Entry(
        name="CreateUserJob",
        description="Creates a user",
        arguments=("ada@example.org", "Ada"),
        not_idempotent="INSERT of the user",
        strategy="unique constraint on the email",
        variants=(
            naive(jobs.create_user_naive, "IDM101", because="two deliveries, two users"),
            Variant(jobs.create_user_mended, KEYED, HOLDS, (), because="the database refuses the second"),
            right(jobs.create_user_right, because="the same, and other violations stay errors"),
        ),
    ),
    Entry(
        name="SendEmailJob",
        description="Sends a user a mail",
        arguments=(1, "welcome"),
        not_idempotent="handing over the mail",
        strategy="at least once, with a fixed Message-ID that the receiver knows again",
        variants=(
            naive(jobs.send_email_naive, "IDM104", because="two deliveries, two mails"),
            mended(
                jobs.send_email_mended,
                "IDM104",
                because="killed between mail and flag; or two before the flag",
            ),
            right(jobs.send_email_right, because="copies are the same mail"),
        ),
    ),
    Entry(
        name="ProcessPaymentJob",
        description="Charges an order, writes the payment, gives points",
        arguments=(1,),
        not_idempotent="the charge; INSERT of the payment; `points + n`",
        strategy="transaction id = the order's id, at the provider and at home",
        variants=(
            naive(jobs.process_payment_naive, "IDM105", because="two deliveries, two charges"),
            mended(
                jobs.process_payment_mended, "IDM105", because="a new uuid4 in each run is never found again"
            ),
            right(jobs.process_payment_right, because="one key, one charge; one step from pending to paid"),
        ),
    ),
    Entry(
        name="GenerateReportJob",
        description="Writes a month's sales to a file and a row",
        arguments=("2025-03",),
        not_idempotent="a file with a new name; INSERT of the report",
        strategy="same name, same bytes, rename into place; unique month",
        variants=(
            naive(jobs.generate_report_naive, "IDM101", because="two deliveries, two rows and two files"),
            mended(
                jobs.generate_report_mended,
                "IDM10",
                because="two look before either inserts; or killed after the file",
            ),
            right(jobs.generate_report_right, because="doing it again changes nothing"),
        ),
    ),
    Entry(
        name="UpdateStatusJob",
        description="Sets an order's status and enqueues a notification",
        arguments=(2, "shipped"),
        not_idempotent="enqueueing the child job",
        strategy="conditional UPDATE and outbox row in one transaction; child job id = order and status",
        variants=(
            naive(jobs.update_status_naive, "IDM106", because="two deliveries, two notifications"),
            mended(
                jobs.update_status_mended,
                "IDM20",
                because="killed after the commit: never enqueued; or two look first",
            ),
            right(jobs.update_status_right, because="what is owed is in the database until it is enqueued"),
        ),
    ),
)


def variants() -> Iterator[tuple[Entry, Variant]]:
    """All fifteen, each with its job."""
    for entry in INVENTORY:
        for variant in entry.variants:
            yield entry, variant


def markdown() -> str:
    """The inventory as the README's table."""
    head = ["Job", "What it does", "Not idempotent", "Strategy", "naive", "mended", "right"]
    rows = [head, ["---"] * len(head)]
    for entry in INVENTORY:
        cells = [f"`{entry.name}`", entry.description, entry.not_idempotent, entry.strategy]
        rows.append(cells + [_verdict(variant) for variant in entry.variants])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _verdict(variant: Variant) -> str:
    codes = ", ".join(code.ljust(6, "x") for code in variant.findings)
    return f"**{variant.verdict}** {codes}".rstrip() + f": {variant.because}"
