"""The lines that a finding shows as its remedy: they speak of the job's own things, and where they can be run, they mend it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, text

from quality.case import MARIADB, POSTGRESQL, SQLITE, Case, World, described
from quality.table import CASES

pytestmark = pytest.mark.slow

INSERTS = [
    "sign_up",
    "sign_up_member",
    "import_contacts",
    "tag_article",
    "check_then_insert",
    "take_seat",
    "save_document",
    "note_login",
    "lock_no_row",
    "lease_runs_out",
    "insert_where_not_exists",
]
"""Bugs of which the printed key and the printed INSERT are the whole mend."""

PRINTED = {
    "credit": ["CREATE TABLE processed_jobs", 'f"credit:{job_id}"', "UPDATE accounts SET balance = ..."],
    "take_stock": ['f"take_stock:{order_id}"', "UPDATE products SET stock = ... WHERE sku = :sku;"],
    "keep_balance": ["SET value = value + :change", "version = version + 1"],
    "continue_story": [
        "ON story (order_id, what)",
        "INTO story (order_id, version, what)",
        "(order_id, what)",
    ],
    "pack_order": ["ON order_lines (order_id, sku)", "INTO order_lines (order_id, sku)"],
    "place_order": ["uq_baskets_customer ON baskets (customer)"],
    "flag_before_insert": ["INTO receipts (order_id, text)", "CONFLICT (order_id) DO NOTHING"],
    "flag_before_call": [
        'gateway.charge(..., idempotency_key=f"flag_before_call-{order_id}")',
        "only after it",
    ],
    "charge_by_gateway": ['idempotency_key=f"charge_by_gateway-{order_id}"'],
    "charge_and_record": ['headers={"Idempotency-Key": f"charge_and_record-{order_id}"}'],
    "ship": ['message["Message-ID"] = f"<ship-{order_id}@example.org>"'],
    "finish_order": ['queue.enqueue(send_invoice, ..., job_id=f"send_invoice-for-finish_order-{order_id}"'],
    "lock_without_ttl": ['redis.set(f"lock:{report}", token, nx=True, ex=60)'],
    "release_in_finally": ["== ARGV[1]", 'release(keys=[f"lock:{order_id}"], args=[token])'],
    "count_download": ["redis.call('INCRBY', KEYS[2], ...)", 'f"downloads:{document}"', "{job_id}"],
    "keep_score": ['redis.incrby("score", change)'],
    "guard_row_first": ["engine.begin()", "# INSERT INTO imports", "writes to contacts"],
    "counter_without_expiry": ["redis.pipeline(transaction=True)", "# INCRBY limit:ada 1"],
    "record_failed_payment": ["raise  # it may be done all the same"],
    "best_effort_write": ["raise  # the queue delivers again"],
    "export_under_new_name": ["os.replace(temporary, path)"],
}
"""Name -> what its snippet says, in this order."""


def cases(names: Sequence[str], *stacks: str) -> list[Any]:
    return [
        pytest.param(case, stack, id=f"{case.name}-{stack}")
        for case in CASES
        for stack in (stacks or case.stacks[:1])
        if case.name in names and stack in case.stacks and "*" not in case.missed and stack not in case.missed
    ]


@pytest.mark.parametrize(("case", "stack"), cases(INSERTS, SQLITE, POSTGRESQL, MARIADB), indirect=True)
def test_the_printed_sql_mends_the_job(case: Case, stack: Any, world: World) -> None:
    """Goal: each dialect's lines are ones that it takes, and after them the planted finding is gone.

    Method: run the DDL as printed, put the printed INSERT in the place of the job's own, and search again.
    """
    finding = case.finding(case.check(world, max_trials=case.trials))
    *definitions, insertion = [line.removesuffix(";") for line in finding.snippet.splitlines()]
    with world.engine.begin() as connection:
        for definition in definitions:
            connection.execute(text(definition))
    with inserting_as(world.engine, insertion) as used:
        report = case.check(world, max_trials=case.trials * 4)
    assert used, insertion
    assert case.code not in report.codes, f"{finding.snippet}\n{described(report)}"


@contextmanager
def inserting_as(engine: Any, insertion: str) -> Iterator[list[str]]:
    """Inserts into the table of ``insertion`` say how they end, and with which word they begin, as it does."""
    head, table = re.match(r"(INSERT (?:IGNORE )?INTO) ([\w\"`]+)", insertion).groups()  # type: ignore[union-attr]
    tail = insertion.partition(" ON CONFLICT ")[1:]
    used: list[str] = []

    def rewrite(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> tuple[str, Any]:
        if re.match(rf"INSERT INTO {table}\b", statement):
            used.append(statement)
            kept, returning, columns = statement.partition(" RETURNING ")
            statement = re.sub(r"^INSERT INTO", head, kept) + "".join(tail) + returning + columns
        return statement, parameters

    event.listen(engine, "before_cursor_execute", rewrite, retval=True)
    try:
        yield used
    finally:
        event.remove(engine, "before_cursor_execute", rewrite)


@pytest.mark.parametrize(("case", "stack"), cases(list(PRINTED)), indirect=True)
def test_the_snippet_is_in_the_jobs_own_words(case: Case, stack: Any, world: World) -> None:
    """Goal: tables, columns, keys and arguments are the job's; no value of an argument is printed as if it were a constant."""
    finding = case.finding(case.check(world, max_trials=case.trials))
    at = 0
    for expected in PRINTED[case.name]:
        assert expected in finding.snippet[at:], finding.snippet
        at = finding.snippet.index(expected, at)


def test_each_name_is_a_planted_bug() -> None:
    assert {*INSERTS, *PRINTED} <= {case.name for case in CASES}
