"""One INSERT that forgives one thing: that the row is there already."""

from __future__ import annotations

from typing import Any

from sqlalchemy import inspect
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.orm import Session

from shop.models import Base


def insert_once(session: Session, model: type[Base], *, key: tuple[str, ...], **values: Any) -> None:
    """Insert a row of `model`, or do nothing if the unique constraint on `key` already has one.

    The database decides, so two executions at once are as safe as two in sequence. Any other
    violation (a NULL where none may be, a missing parent) is still an error: that is the difference
    to catching IntegrityError, and to MySQL's INSERT IGNORE.
    """
    dialect = session.get_bind().dialect.name
    if dialect in {"mysql", "mariadb"}:
        # MariaDB cannot name the key and has no DO NOTHING; "set the id to itself" is its idiom for both.
        row = mysql.insert(model).values(**values)
        session.execute(row.on_duplicate_key_update(id=inspect(model).columns.id))
    else:
        insert = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}[dialect]
        session.execute(insert(model).values(**values).on_conflict_do_nothing(index_elements=key))
