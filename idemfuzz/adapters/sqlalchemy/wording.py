"""What a remedy needs, in the SQL of one dialect, for a person to copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy.engine import Dialect

__all__ = ["SqlWording"]

_IDENTIFIER_LENGTH_MAX = 60
"""PostgreSQL cuts longer names of indexes, MariaDB refuses them."""


class SqlWording:
    """Statements as this dialect takes them, with names quoted where it asks for that (`idemfuzz.abc.Wording`)."""

    def __init__(self, dialect: Dialect) -> None:
        self._quote = dialect.identifier_preparer.quote
        self._is_mysql = dialect.name in ("mysql", "mariadb")

    def name(self, identifier: str) -> str:
        return str(self._quote(identifier))

    def unique_key(self, table: str, columns: Sequence[str]) -> str:
        index = f"uq_{table.rpartition('.')[2]}_{columns[0]}"[:_IDENTIFIER_LENGTH_MAX]
        return f"CREATE UNIQUE INDEX {self.name(index)} ON {self._place(table)} ({self._names(columns)})"

    def insert_once(self, table: str, columns: Sequence[str], key: Sequence[str]) -> str:
        values = ", ".join(f":{column}" for column in columns)
        row = f"{self._place(table)} ({self._names(columns)}) VALUES ({values})"
        # MariaDB and MySQL have no ON CONFLICT; the row count of their ON DUPLICATE KEY UPDATE does not tell a new row
        # from an old one where the driver counts the rows found.
        if self._is_mysql:
            return f"INSERT IGNORE INTO {row}"
        return f"INSERT INTO {row} ON CONFLICT ({self._names(key)}) DO NOTHING"

    def marks(self, table: str, column: str) -> str:
        return f"CREATE TABLE {self._place(table)} ({self.name(column)} VARCHAR(200) PRIMARY KEY)"

    def update(self, table: str, values: Mapping[str, str], where: Sequence[str]) -> str:
        changes = ", ".join(f"{self.name(column)} = {expression}" for column, expression in values.items())
        condition = f" WHERE {' AND '.join(where)}" if where else ""
        return f"UPDATE {self._place(table)} SET {changes}{condition}"

    def _place(self, table: str) -> str:
        return ".".join(map(self.name, table.split(".")))

    def _names(self, columns: Sequence[str]) -> str:
        return ", ".join(self.name(column) for column in columns)
