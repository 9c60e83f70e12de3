"""What the jobs here write in each database's own words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import mysql, postgresql, sqlite


def add_if_new(connection: Connection, table: Table, **values: Any) -> bool:
    """ON CONFLICT DO NOTHING, or INSERT IGNORE; whether a row was inserted."""
    name = connection.dialect.name
    if name in ("mysql", "mariadb"):
        statement: Any = mysql.insert(table).prefix_with("IGNORE").values(**values)
    else:
        dialect: Any = {"sqlite": sqlite, "postgresql": postgresql}[name]
        statement = dialect.insert(table).values(**values).on_conflict_do_nothing()
    return connection.execute(statement).rowcount == 1


def upsert(
    connection: Connection, table: Table, values: Mapping[str, Any], changes: Mapping[str, Any]
) -> None:
    """ON CONFLICT DO UPDATE over the primary key, or ON DUPLICATE KEY UPDATE."""
    name = connection.dialect.name
    if name in ("mysql", "mariadb"):
        statement: Any = mysql.insert(table).values(**values).on_duplicate_key_update(**changes)
    else:
        dialect: Any = {"sqlite": sqlite, "postgresql": postgresql}[name]
        keys = [column.name for column in table.primary_key]
        statement = dialect.insert(table).values(**values)
        statement = statement.on_conflict_do_update(index_elements=keys, set_=dict(changes))
    connection.execute(statement)
