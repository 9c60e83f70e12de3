"""Guards are found in SQL statements, and taken out of them, as text."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("sqlglot")

from idemfuzz.adapters.sqlalchemy.flavour import Column, Key, Table
from idemfuzz.adapters.sqlalchemy.guards import Guards
from idemfuzz.model import Guard, GuardKind

ORDERS = Table(
    "orders",
    tuple(Column(name) for name in ("id", "number", "status", "version", "paid_at")),
    ("id",),
    keys=(Key("orders_pkey", ("id",)), Key("orders_number_key", ("number",))),
)


def guards_of(dialect: str, *statements: str) -> tuple[Guards, dict[str, Guard]]:
    guards = Guards("db", dialect, lambda: {"orders": ORDERS})
    for statement in statements:
        guards.note(statement, None)
    return guards, {guard.name: guard for guard in guards.found()}


def without(dialect: str, name: str, sql: str, parameters: Any = None) -> tuple[str, Any]:
    guards, found = guards_of(dialect, sql)
    guards.take([found[name]])
    text, values = guards.rewrite(sql, parameters, many=False)
    assert guards.uses == 1
    return " ".join(text.split()), values


@pytest.mark.parametrize(
    ("dialect", "sql", "parameters", "expected", "kept"),
    [
        (
            "sqlite",
            "INSERT INTO orders (number, status) VALUES (?, ?) ON CONFLICT (number) DO UPDATE SET status = ? RETURNING id",
            ("A-1", "new", "old"),
            "INSERT INTO orders (number, status) VALUES (?, ?) RETURNING id",
            ("A-1", "new"),
        ),
        (
            "postgresql",
            "INSERT INTO orders (number) VALUES (%(number)s::VARCHAR) ON CONFLICT ON CONSTRAINT orders_number_key DO NOTHING",
            {"number": "A-1"},
            "INSERT INTO orders (number) VALUES (%(number)s::VARCHAR)",
            {"number": "A-1"},
        ),
    ],
)
def test_on_conflict_goes_with_the_key_that_it_needs(
    dialect: str, sql: str, parameters: Any, expected: str, kept: Any
) -> None:
    """Goal: without the key the statement is a plain INSERT, and its parameters are those that are left."""
    assert without(dialect, "UNIQUE(orders.number)", sql, parameters) == (expected, kept)


def test_on_conflict_of_another_key_stays() -> None:
    sql = "INSERT INTO orders (id, number) VALUES (?, ?) ON CONFLICT (id) DO NOTHING"
    assert without("sqlite", "UNIQUE(orders.number)", sql, (1, "A-1")) == (sql, (1, "A-1"))


def test_many_rows_lose_the_same_parameters() -> None:
    sql = "INSERT INTO orders (number) VALUES (%s) ON CONFLICT (number) DO UPDATE SET status = %s"
    guards, found = guards_of("postgresql", sql)
    guards.take([found["UNIQUE(orders.number)"]])
    text, values = guards.rewrite(sql, [("A-1", "x"), ("A-2", "y")], many=True)
    assert text.rstrip() == "INSERT INTO orders (number) VALUES (%s)"
    assert values == [("A-1",), ("A-2",)]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (
            "UPDATE orders SET status=%(status)s WHERE orders.id = %(id_1)s AND orders.status = %(status_1)s",
            "UPDATE orders SET status=%(status)s WHERE orders.id = %(id_1)s AND (orders.status = %(status_1)s OR 1=1)",
        ),
        (
            "UPDATE orders SET status='x' WHERE id = 1 AND (status = 'a AND b' OR status IS NULL) RETURNING id",
            "UPDATE orders SET status='x' WHERE id = 1 AND ((status = 'a AND b' OR status IS NULL) OR 1=1) RETURNING id",
        ),
        (
            "UPDATE orders SET status='x' WHERE status BETWEEN 'a' AND 'b' AND id = 1",
            "UPDATE orders SET status='x' WHERE (status BETWEEN 'a' AND 'b' OR 1=1) AND id = 1",
        ),
        (
            "UPDATE orders SET status='x' WHERE id = 1 AND CASE WHEN status = 'a' AND id > 0 THEN 1 ELSE 0 END = 1",
            "UPDATE orders SET status='x' WHERE id = 1 AND CASE WHEN status = 'a' AND id > 0 THEN 1 ELSE 0 END = 1",
        ),
    ],
)
def test_a_condition_is_made_true(sql: str, expected: str) -> None:
    """Goal: what the job itself makes false is a guard, the key is not; parameters and everything else stay."""
    guards, found = guards_of("postgresql", sql)
    assert "PRIMARY KEY(orders.id)" not in found
    if sql != expected:
        guards.take([found["UPDATE orders WHERE status"]])
    assert guards.rewrite(sql, None, many=False)[0] == expected


def test_a_condition_on_what_nobody_changes_is_no_guard() -> None:
    _, found = guards_of("sqlite", "UPDATE orders SET paid_at = 1 WHERE number = ? AND status = 'open'")
    assert found == {}


def test_the_parameters_name_is_no_column() -> None:
    _, found = guards_of(
        "postgresql", "UPDATE orders SET version = 1 WHERE id = %(status)s AND number = %(version)s"
    )
    assert found == {}


@pytest.mark.parametrize(
    ("dialect", "sql", "name", "expected"),
    [
        (
            "postgresql",
            "SELECT id FROM orders WHERE id = 1 FOR UPDATE",
            "FOR UPDATE of orders",
            "SELECT id FROM orders WHERE id = 1",
        ),
        (
            "postgresql",
            "SELECT id FROM orders o FOR NO KEY UPDATE OF o SKIP LOCKED",
            "FOR NO KEY UPDATE of orders",
            "SELECT id FROM orders o",
        ),
        (
            "mysql",
            "SELECT id FROM orders LOCK IN SHARE MODE",
            "LOCK IN SHARE MODE of orders",
            "SELECT id FROM orders",
        ),
        ("sqlite", "BEGIN IMMEDIATE", "BEGIN IMMEDIATE", "BEGIN"),
        (
            "postgresql",
            "SELECT pg_try_advisory_xact_lock(hashtext(%(a)s), 2) AS got",
            "pg_try_advisory_xact_lock",
            "SELECT ((hashtext(%(a)s))::bigint IS NOT NULL AND ( 2)::bigint IS NOT NULL) AS got",
        ),
        (
            "mysql",
            "SELECT get_lock('a,)', 10)",
            "get_lock",
            "SELECT (('a,)') IS NOT NULL AND ( 10) IS NOT NULL)",
        ),
    ],
)
def test_locks_are_not_taken(dialect: str, sql: str, name: str, expected: str) -> None:
    assert without(dialect, name, sql)[0] == expected


def test_a_lock_clause_inside_a_text_is_none() -> None:
    _, found = guards_of("postgresql", "SELECT id FROM orders WHERE status = 'FOR UPDATE'")
    assert found == {}


def test_not_exists_of_an_insert_is_made_true() -> None:
    sql = "INSERT INTO orders (status) SELECT ? WHERE NOT (EXISTS (SELECT id FROM orders WHERE status = ?))"
    text, values = without("sqlite", "INSERT INTO orders WHERE NOT EXISTS", sql, ("a", "b"))
    assert text == (
        "INSERT INTO orders (status) SELECT ? WHERE (NOT (EXISTS (SELECT id FROM orders WHERE status = ?)) OR 1=1)"
    )
    assert values == ("a", "b")


def test_a_key_counts_only_where_the_job_gives_its_values() -> None:
    _, found = guards_of("sqlite", "INSERT INTO orders (status) VALUES ('new')")
    assert found == {}
    _, found = guards_of("sqlite", "INSERT INTO orders VALUES (1, 'A-1', 'new', 1, NULL)")
    assert set(found) == {"PRIMARY KEY(orders.id)", "UNIQUE(orders.number)"}


def test_a_stronger_isolation_level_is_a_guard() -> None:
    guards, _ = guards_of("postgresql")
    assert guards.level("SERIALIZABLE", "READ COMMITTED", None) == "SERIALIZABLE"
    assert guards.level("AUTOCOMMIT", "READ COMMITTED", None) == "AUTOCOMMIT"
    (guard,) = guards.found()
    assert (guard.kind, guard.name) == (GuardKind.ISOLATION, "SERIALIZABLE")
    guards.take([guard])
    assert guards.level("SERIALIZABLE", "READ COMMITTED", None) == "READ COMMITTED"
