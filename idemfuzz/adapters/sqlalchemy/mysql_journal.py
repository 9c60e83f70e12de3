"""The journal of MariaDB and MySQL: for each table one of ours with the same columns, filled by triggers.

The same columns, so that an image is read just as the row itself. No key and no AUTO_INCREMENT, so that two deliveries
that write to it never wait for each other, and ``LAST_INSERT_ID()`` stays what it was. InnoDB's cascades fire no trigger: a table that
one may change has its parents journaled, too, and is read in full when a parent's row went away or got another key.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from idemfuzz.adapters.sqlalchemy.flavour import Table
from idemfuzz.adapters.sqlalchemy.journal import OURS, Entry

Run = Callable[..., list[tuple[Any, ...]]]
_DELETED, _REKEYED = -1, 3
"""Signs of an entry that a cascade may follow; an update that keeps all keys has -2 and 2."""
_QUIET = f"{OURS}quiet"
_EVENTS = ("insert", "update", "delete")
_DIRECT_MAX = 2
"""So many journals are read without asking first which of them have entries."""


class MysqlJournal:
    """On some tables of the database, from `start` to `stop`."""

    def __init__(self, run: Run, tables: Mapping[str, Table]) -> None:
        self._run = run
        self._tables = tables
        self._numbers: dict[str, int] = {}
        self._quiet = False
        self._following = itertools.count(1)
        self._parents: dict[str, frozenset[str]] = {}
        """Table -> the tables whose rows, when they go away or get another key, change its own."""
        self._entries: dict[str, int] = {}
        """Table -> how many entries the last look has seen."""
        self._prints: dict[str, Any] = {}

    @property
    def followed(self) -> frozenset[str]:
        return frozenset(self._numbers)

    @property
    def unsure(self) -> frozenset[str]:
        return frozenset(name for name in self._numbers if self._parents.get(name))

    def start(
        self, names: Collection[str], possible: Mapping[str, str], error: type[Exception]
    ) -> dict[str, str]:
        """Put triggers on these tables and their parents; returns what is left out, and why.

        ``possible``: table -> why it cannot have triggers, empty if it can.
        """
        self._parents = {
            name: frozenset(link.parent for link in table.links if link.on_delete or link.on_update)
            for name, table in self._tables.items()
        }
        refused: dict[str, str] = {}
        for name in self._with_parents(names):
            why = possible.get(name, "it is in another database")
            if not why:
                try:
                    self._put_on(name)
                    continue
                except error as reason:
                    why = str(reason.args[-1])
            refused[name] = why
        while lost := [n for n in self._numbers if not self._parents[n] <= self.followed]:
            for name in lost:
                refused[name] = "rows of a table without journal cascade to it"
                self._take_off(name)
        self._prints = self._read_prints()
        return {name: why for name, why in refused.items() if name in self._tables}

    def _with_parents(self, names: Iterable[str]) -> list[str]:
        found: list[str] = []
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.append(name)
                waiting += self._parents.get(name, ())
        return found

    def _put_on(self, name: str) -> None:
        self._numbers[name] = number = next(self._following)
        try:
            self._run(
                f"CREATE TABLE {_journal(number)} ENGINE=InnoDB AS SELECT 0 AS `{OURS}sign`, t.* FROM {_quoted(name)} t LIMIT 0"
            )
            listed = self._run(
                "SELECT column_name FROM information_schema.columns WHERE table_schema = DATABASE() "
                "AND table_name = %s ORDER BY ordinal_position",
                (f"{OURS}journal_{number}",),
            )
            columns = [column for (column,) in listed][1:]
            keys = {c for t in self._tables.values() for k in t.links if k.parent == name for c in k.referred}
            changed = " OR ".join(
                f"NOT (BINARY OLD.{_quoted(key)} <=> BINARY NEW.{_quoted(key)})" for key in sorted(keys)
            )
            sign = f"IF({changed}, {_REKEYED}, 2)" if changed else "2"
            rows = {
                "insert": [("1", "NEW")],
                "update": [("-2", "OLD"), (sign, "NEW")],
                "delete": [(str(_DELETED), "OLD")],
            }
            for event in _EVENTS:
                values = (
                    f"({', '.join([sign, *(f'{row}.{_quoted(column)}' for column in columns)])})"
                    for sign, row in rows[event]
                )
                self._run(
                    f"CREATE TRIGGER {_trigger(number, event)} AFTER {event} ON {_quoted(name)} FOR EACH ROW "
                    f"IF @{_QUIET} IS NULL THEN INSERT INTO {_journal(number)} VALUES {', '.join(values)}; END IF"
                )
        except BaseException:
            self._take_off(name)
            raise

    def _take_off(self, name: str) -> None:
        number = self._numbers.pop(name)
        for event in _EVENTS:
            self._run(f"DROP TRIGGER IF EXISTS {_trigger(number, event)}")
        self._run(f"DROP TABLE IF EXISTS {_journal(number)}")

    def make_way(self, cursor: Any, table: str) -> None:
        """A column that is about to go away or to get another name must not be named by a trigger."""
        for event in _EVENTS:
            cursor.execute(f"DROP TRIGGER IF EXISTS {_trigger(self._numbers[table], event)}")

    def entries(self, run: Run | None = None) -> tuple[list[Entry], set[str]]:
        """All entries, and the tables that a cascade may have changed besides."""
        run = run or self._run
        names = list(self._numbers)
        if len(names) > _DIRECT_MAX:
            asked = ", ".join(f"EXISTS(SELECT 1 FROM {_journal(self._numbers[name])})" for name in names)
            names = [name for name, there in zip(names, run(f"SELECT {asked}")[0], strict=True) if there]
        found: list[Entry] = []
        self._entries = {}
        moved: set[str] = set()
        for name in names:
            rows = run(f"SELECT * FROM {_journal(self._numbers[name])}")
            if not rows:
                continue
            self._entries[name] = len(rows)
            found += [(name, 1 if row[0] > 0 else -1, row[1:], None) for row in rows]
            if any(row[0] in (_DELETED, _REKEYED) for row in rows):
                moved.add(name)
        unseen: set[str] = set()
        while more := {n for n in self.unsure - unseen if not self._parents[n].isdisjoint(moved | unseen)}:
            unseen |= more
        return found, unseen

    def hush(self, *, quiet: bool) -> None:
        """From now on, what our own session writes is (not) journaled."""
        if quiet is not self._quiet:
            self._run(f"SET @{_QUIET} = {1 if quiet else 'NULL'}")
            self._quiet = quiet

    def forget(self) -> list[str]:
        """The statements that remove what the last look has seen: entries stand in the order in which they were written."""
        return [
            f"DELETE FROM {_journal(self._numbers[name])} LIMIT {count}"
            for name, count in self._entries.items()
        ]

    def strayed(self) -> list[str]:
        now = self._read_prints()
        return [name for name, known in sorted(self._prints.items()) if now[name] != known]

    def _read_prints(self) -> dict[str, Any]:
        """A checksum over all rows, in no order, and their number."""
        names = list(self._numbers)
        if not names:
            return {}
        sums = self._run(f"CHECKSUM TABLE {', '.join(map(_quoted, names))} EXTENDED")
        counts = self._run(f"SELECT {', '.join(f'(SELECT COUNT(*) FROM {_quoted(n)})' for n in names)}")[0]
        return {name: (total, count) for name, (_, total), count in zip(names, sums, counts, strict=True)}


def clear_away(run: Run) -> None:
    """Remove what is ours, whoever put it there."""
    pattern = OURS.replace("_", r"\_") + "%"
    for (name,) in run(
        "SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = DATABASE() AND trigger_name LIKE %s",
        (pattern,),
    ):
        run(f"DROP TRIGGER IF EXISTS {_quoted(name)}")
    for (name,) in run(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name LIKE %s",
        (pattern,),
    ):
        run(f"DROP TABLE IF EXISTS {_quoted(name)}")


def _journal(number: int) -> str:
    return f"`{OURS}journal_{number}`"


def _trigger(number: int, event: str) -> str:
    return f"`{OURS}{number}_{event}`"


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
