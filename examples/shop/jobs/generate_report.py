"""GenerateReportJob: a closed month's sales become a file in the report folder and a row that points to it.

Not idempotent: the file, whose name is new in each run; the INSERT into `reports`.

Strategy: make the second run do the same rather than nothing. Same month, same bytes, same file
name; the file appears whole, by a rename, or not at all; and the row is kept single by its key.
Then it does not matter how many runs there were, nor who came last.

Constraints and keys: right: `UNIQUE (month)` on `reports`; no Redis key. A worker that is killed
while it writes leaves an unfinished file in the staging folder, which is litter to be swept
(whatever is older than a day), never a report.

Test notes: two in sequence never show the mended job's fault. It takes two workers that both look
before either has inserted, or a crash between file and row.
"""

from __future__ import annotations

import hashlib
import os
from datetime import date
from pathlib import Path
from uuid import uuid4

from sqlalchemy import select

from shop.context import Shop, current_shop
from shop.insert_once import insert_once
from shop.models import Order, Report


def _sales(shop: Shop, month: str) -> bytes:
    """The month's paid orders as CSV: from the data alone, in a fixed order, with no "generated at"."""
    year, number = map(int, month.split("-"))
    start, end = date(year, number, 1), date(year + number // 12, number % 12 + 1, 1)
    orders = (
        select(Order)
        .where(Order.ordered_on >= start, Order.ordered_on < end, Order.status != "pending")
        .order_by(Order.id)
    )
    with shop.session() as session:
        lines = [f"{order.id},{order.ordered_on},{order.total_cents}\n" for order in session.scalars(orders)]
    return "".join(["order,date,cents\n", *lines]).encode()


def _generate(shop: Shop, month: str) -> None:
    content = _sales(shop, month)
    filename = f"sales-{month}-{uuid4()}.csv"
    (shop.reports / filename).write_bytes(content)
    with shop.session() as session:
        session.add(Report(month=month, filename=filename, sha256=hashlib.sha256(content).hexdigest()))
        session.commit()


def generate_report_naive(month: str) -> None:
    """Each delivery is another file and another row."""
    _generate(current_shop(), month)


def generate_report_mended(month: str) -> None:
    """Look whether the report is there, then generate it: while one looks, the other may be generating."""
    shop = current_shop()
    with shop.session() as session:
        if session.scalar(select(Report).filter_by(month=month)):
            return
    _generate(shop, month)


def generate_report_right(month: str) -> None:
    """The same name and bytes every time, published by a rename; then the row, unless it is there."""
    shop = current_shop()
    content = _sales(shop, month)
    filename = f"sales-{month}.csv"
    _publish(shop, filename, content)
    row = {"month": month, "filename": filename, "sha256": hashlib.sha256(content).hexdigest()}
    with shop.session() as session:
        insert_once(session, Report, key=("month",), **row)
        session.commit()


def _publish(shop: Shop, filename: str, content: bytes) -> Path:
    """Write to a file of one's own, then rename it into place: readers see a whole report or none."""
    staged = shop.staging / f"{uuid4()}.tmp"
    staged.write_bytes(content)
    published = shop.reports / filename
    os.replace(staged, published)
    return published
