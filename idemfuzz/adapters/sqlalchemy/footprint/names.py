"""What the names in a statement mean: tables, views, columns, as each database folds their case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from idemfuzz.adapters.sqlalchemy.flavour import Column, Link, Table

if TYPE_CHECKING:
    from sqlglot import exp

_CATALOGUES = frozenset({"information_schema", "pg_catalog"})


class Names:
    """For one state of the schema."""

    def __init__(
        self, backend: str, tables: Mapping[str, Table], views: frozenset[str], schema: str | None
    ) -> None:
        self._backend = backend
        self._schema = schema
        self.tables = {self.fold_table(name): table for name, table in tables.items()}
        """By their names as `fold_table` has them."""
        self._views = {self.fold_table(name) for name in views}
        self.columns = {
            table.name: {self._known_column(c.name): c for c in table.columns} for table in tables.values()
        }
        """By a table's own name, then as `fold_column` has them."""
        self._children: dict[str, list[tuple[Table, Link]]] = {}
        for table in tables.values():
            for link in table.links:
                self._children.setdefault(self.fold_table(link.parent), []).append((table, link))

    def children_of(self, table: Table) -> Sequence[tuple[Table, Link]]:
        """The tables whose foreign keys refer to this one."""
        return self._children.get(self.fold_table(table.name), ())

    def table(self, node: exp.Table) -> Table | None:
        db = node.args.get("db")
        if node.args.get("catalog"):
            return None
        name = self._fold_identifier(node.this)
        schema = None if db is None else self._fold_identifier(db)
        return self.tables.get(name if schema in (None, self._schema) else f"{schema}.{name}")

    def is_view(self, node: exp.Table) -> bool:
        db = node.args.get("db")
        if db is not None and self._fold_identifier(db).lower() in _CATALOGUES:
            return True
        name = self._fold_identifier(node.this)
        return db is None and (name in self._views or name.startswith(("sqlite_", "pg_")))

    def column(self, node: Any, table: Table, source: exp.Table | None, *, alone: bool) -> Column | None:
        from sqlglot import exp

        if not isinstance(node, exp.Column) or not isinstance(node.this, exp.Identifier):
            return None
        if node.args.get("db") or node.args.get("catalog"):
            return None
        qualifier = node.args.get("table")
        if qualifier is None:
            if not alone:
                return None
        elif source is None or self._fold_identifier(qualifier) != self._called(source):
            return None
        column = self.columns[table.name].get(self.fold_column(node.this))
        return column if column is not None and column.kind is not None else None

    def _called(self, node: exp.Table) -> str:
        alias = node.args.get("alias")
        return self._fold_identifier(alias.this if alias is not None else node.this)

    def _fold_identifier(self, node: Any) -> str:
        name = str(node.name)
        if self._backend == "postgresql":
            return name if node.args.get("quoted") else name.lower()
        return self.fold_table(name)

    def fold_table(self, name: str) -> str:
        return name.lower() if self._backend == "sqlite" else name

    def fold_column(self, node: Any) -> str:
        name = str(node.name)
        if self._backend == "postgresql":
            return name if node.args.get("quoted") else name.lower()
        return name.lower()

    def _known_column(self, name: str) -> str:
        return name if self._backend == "postgresql" else name.lower()
