"""Guards in SQL statements: which ones a job's statements use, and the same statements without them.

A statement is changed as text, at the places that its tokens give, so that everything else in it stays what the driver
would have got. Where a part goes, its parameters go; a condition is not cut out but made true (``(... OR 1=1)``), so
that its parameters keep their types.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

from idemfuzz.adapters.sqlalchemy.flavour import Key, Table
from idemfuzz.adapters.sqlalchemy.statement import Statement, understand
from idemfuzz.model import Guard, GuardKind, Source

__all__ = ["Guards"]

_DIALECTS = {"sqlite": "sqlite", "postgresql": "postgres", "mysql": "mysql", "mariadb": "mysql"}
_LEVELS = ("READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
_ROW_LOCK = re.compile(
    r"\bFOR\s+(?P<how>NO\s+KEY\s+UPDATE|UPDATE|KEY\s+SHARE|SHARE)\b(?:\s+OF\s+[\w.\"`]+(?:\s*,\s*[\w.\"`]+)*)?"
    r"(?:\s+(?:NOWAIT|SKIP\s+LOCKED))?|\b(?P<old>LOCK\s+IN\s+SHARE\s+MODE)\b",
    re.I,
)
_TABLE_LOCK = re.compile(r"^\s*LOCK\s+(?:TABLE\s+)?(?:ONLY\s+)?[\"\w.]+", re.I)
_BEGIN_LOCKED = re.compile(r"^\s*BEGIN\s+(IMMEDIATE|EXCLUSIVE)\b", re.I)
_LOCKS = re.compile(r"pg_(?:try_)?advisory_(?:xact_)?lock(?:_shared)?|get_lock", re.I)
_UNLOCKS = re.compile(r"pg_advisory_unlock(?:_shared)?|release_lock", re.I)
_CONDITION_ENDS = {"RETURNING", "ORDER BY", "ORDER", "LIMIT", ";", "GROUP BY", "GROUP"}


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    """As it is written; of a quoted name, what is within the quotes."""
    start: int
    end: int
    depth: int
    literal: bool

    @property
    def word(self) -> str:
        return "" if self.literal else self.text.upper()


@dataclass(frozen=True, slots=True)
class _Part:
    """One of the conditions that a WHERE joins by AND."""

    start: int
    end: int
    columns: frozenset[str]
    absent: bool
    """Whether it asks that something does not exist."""


Edit = tuple[int, int, str]
"""From, to (exclusive), and what stands there then."""


class Guards:
    """What the statements of one SQL store's deliveries use, and what is taken away of it."""

    def __init__(self, store: str, backend: str, tables: Callable[[], Mapping[str, Table]]) -> None:
        self.uses = 0
        self._store = store
        self._dialect = _DIALECTS[backend]
        self._tables = tables
        self._seen: dict[str, Source | None] = {}
        self._levels: dict[str, Source | None] = {}
        self._commits: Counter[Hashable] = Counter()
        self.commits_max = 0
        """How often the busiest delivery has committed something."""
        self._away: tuple[Guard, ...] = ()
        self._keys_away: list[tuple[str, Key]] = []
        self._rewritten: dict[str, tuple[str | None, Sequence[int] | None, bool]] = {}
        """What becomes of a statement (None: nothing), which of its parameters it keeps (None: all), whether that counts."""

    # -- what was seen -------------------------------------------------------------------------------------

    def note(self, sql: str, source: Source | None) -> None:
        """A delivery is about to execute this."""
        if sql not in self._seen:
            self._seen[sql] = source

    def note_commit(self, scope: Hashable) -> None:
        """A delivery commits something that it has written."""
        self._commits[scope] += 1
        self.commits_max = max(self.commits_max, self._commits[scope])

    def forget_commits(self, scope: Hashable) -> None:
        """The delivery has ended."""
        self._commits.pop(scope, None)

    def found(self) -> list[Guard]:
        """Each guard once, with the line that was seen first."""
        found: dict[Guard, None] = {}
        statements = [(sql, understand(sql), source) for sql, source in self._seen.items()]
        written = _written(statements, self._dialect)
        for sql, statement, source in statements:
            for kind, name, mark in self._uses_of(sql, statement, written):
                found.setdefault(Guard(kind, self._store, name, mark, source))
        for level, source in self._levels.items():
            found.setdefault(Guard(GuardKind.ISOLATION, self._store, level, level, source))
        return list(found)

    def _uses_of(
        self, sql: str, statement: Statement, written: Mapping[str, frozenset[str]]
    ) -> Iterator[tuple[GuardKind, str, str]]:
        table = self._table_of(statement)
        if table is not None and statement.verb in ("insert", "replace", "update"):
            for columns, keys in _grouped(table.keys).items():
                if _concerns(columns, sql, statement, table, self._dialect):
                    yield GuardKind.UNIQUE, _key_name(table, columns, keys), _key_mark(table, keys)
        if table is not None and statement.verb in ("update", "insert"):
            for part in _conditions(sql, statement, table, self._dialect):
                if _is_guard(part, statement, table, written.get(table.name, frozenset())):
                    yield GuardKind.CONDITION, *_condition_name(statement, part)
        lock = _row_lock(sql, self._dialect)
        if lock is not None:
            how = " ".join((lock["how"] or lock["old"]).upper().split())
            how = how if lock["old"] else f"FOR {how}"
            yield GuardKind.ROW_LOCK, f"{how} of {statement.table}", f"{how}|{statement.table}"
        if found := _BEGIN_LOCKED.match(sql):
            yield GuardKind.ROW_LOCK, f"BEGIN {found[1].upper()}", "BEGIN"
        if _TABLE_LOCK.match(sql):
            yield GuardKind.ROW_LOCK, " ".join(sql.split())[:80], "LOCK TABLE"
        for name, _, _ in _calls(sql, self._dialect, _LOCKS):
            yield GuardKind.ADVISORY_LOCK, name.lower(), name.lower()

    # -- what is taken away --------------------------------------------------------------------------------

    def take(self, away: Collection[Guard]) -> None:
        """From now on statements are executed without these; none: as they are."""
        self.uses = 0
        self._away = tuple(guard for guard in away if guard.kind is not GuardKind.UNIQUE)
        self._keys_away = [
            entry for guard in away if guard.kind is GuardKind.UNIQUE for entry in self.keys_of(guard)
        ]
        self._rewritten.clear()

    def keys_of(self, guard: Guard) -> list[tuple[str, Key]]:
        """The unique keys, with their tables, that one guard stands for."""
        name, _, keys = guard.mark.partition("|")
        table = self._tables()[name]
        return [(name, key) for key in table.keys if key.name in keys.split("|")]

    @property
    def active(self) -> bool:
        return bool(self._away or self._keys_away)

    def rewrite(self, sql: str, parameters: Any, *, many: bool) -> tuple[str, Any]:
        """A statement, with its parameters, as it is without the guards that are away."""
        known = self._rewritten.get(sql)
        if known is None:
            known = self._rewritten[sql] = (*self._without(sql), self._meets_key(sql))
        text, kept, meets_key = known
        self.uses += meets_key or text is not None
        if text is None:
            return sql, parameters
        if kept is None or not parameters:
            return text, parameters
        if many:
            return text, [_some(one, kept) for one in parameters]
        return text, _some(parameters, kept)

    def level(self, level: str, default: str | None, source: Source | None) -> str:
        """The isolation level that a delivery gets where it asks for ``level``."""
        if default is None or level not in _LEVELS or default not in _LEVELS:
            return level
        if _LEVELS.index(level) <= _LEVELS.index(default):
            return level
        self._levels.setdefault(level, source)
        if any(guard.kind is GuardKind.ISOLATION and guard.mark == level for guard in self._away):
            self.uses += 1
            return default
        return level

    def _table_of(self, statement: Statement) -> Table | None:
        """By its full name where it has one, which a table of the default schema has not."""
        tables = self._tables()
        return tables.get(f"{statement.schema}.{statement.table}") or tables.get(statement.table)

    def _meets_key(self, sql: str) -> bool:
        """Whether a key that is away would have looked at this, whether the statement says what to do then or not."""
        statement = understand(sql)
        table = self._table_of(statement)
        return table is not None and any(
            table.name == name
            and statement.verb in ("insert", "replace", "update")
            and _concerns(tuple(sorted(key.columns)) or ("",), sql, statement, table, self._dialect)
            for name, key in self._keys_away
        )

    def _without(self, sql: str) -> tuple[str | None, Sequence[int] | None]:
        text = sql
        places = _placeholders(_tokens(sql, self._dialect))
        kept = list(range(len(places)))
        for edits in self._passes(sql):
            for start, end, instead in sorted(edits(text), reverse=True):
                gone = [
                    number
                    for number, place in enumerate(_placeholders(_tokens(text, self._dialect)))
                    if start <= place < end and not instead
                ]
                text = text[:start] + instead + text[end:]
                kept = [place for number, place in enumerate(kept) if number not in gone]
        if text == sql:
            return None, None
        return text, None if len(kept) == len(places) else kept

    def _passes(self, sql: str) -> Iterator[Callable[[str], list[Edit]]]:
        statement = understand(sql)
        inserted = self._table_of(statement) if statement.verb == "insert" else None
        for name, key in self._keys_away:
            if inserted is not None and inserted.name == name:
                yield lambda text, key=key: _conflict_clause(text, key, self._dialect)  # type: ignore[misc]
        for guard in self._away:
            if guard.kind is GuardKind.CONDITION:
                table = self._table_of(statement)
                if table is not None and statement.verb in ("update", "insert"):
                    yield (
                        lambda text, guard=guard, table=table: [  # type: ignore[misc]
                            (part.start, part.end, f"({text[part.start : part.end]} OR 1=1)")
                            for part in _conditions(text, statement, table, self._dialect)
                            if _condition_name(statement, part)[1] == guard.mark
                        ]
                    )
            elif guard.kind is GuardKind.ROW_LOCK:
                yield lambda text, guard=guard: _unlocked(text, statement, guard, self._dialect)  # type: ignore[misc]
            elif guard.kind is GuardKind.ADVISORY_LOCK:
                wanted = re.compile(f"(?:{re.escape(guard.mark)}|{_UNLOCKS.pattern})", re.I)
                yield (
                    lambda text, wanted=wanted: [  # type: ignore[misc]
                        (start, end, _succeeding(name, text[start:end]))
                        for name, start, end in _calls(text, self._dialect, wanted)
                    ]
                )


# -- what a statement says -----------------------------------------------------------------------------------


@lru_cache(maxsize=512)
def _tokens(sql: str, dialect: str) -> tuple[_Token, ...]:
    """The statement's tokens with their places; none where it cannot be taken apart."""
    from sqlglot import Dialect
    from sqlglot.errors import SqlglotError

    try:
        read = Dialect.get_or_raise(dialect).tokenize(sql)
    except SqlglotError:
        return ()
    tokens = []
    depth = 0
    for token in read:
        if token.text == ")" and token.token_type.name == "R_PAREN":
            depth -= 1
        literal = token.token_type.name.endswith("STRING")
        tokens.append(_Token(token.text, token.start, token.end + 1, depth, literal))
        if token.text == "(" and token.token_type.name == "L_PAREN":
            depth += 1
    return tuple(tokens)


def _placeholders(tokens: Sequence[_Token]) -> list[int]:
    """Where the positional parameters stand: ``?`` and ``%s``."""
    places = []
    for number, token in enumerate(tokens):
        if token.word == "?":
            places.append(token.start)
        elif token.word == "%" and number + 1 < len(tokens):
            following = tokens[number + 1]
            if following.text == "s" and following.start == token.end:
                places.append(token.start)
    return places


def _some(parameters: Any, kept: Sequence[int]) -> Any:
    if hasattr(parameters, "keys") or not isinstance(parameters, list | tuple):
        return parameters
    return type(parameters)([parameters[place] for place in kept])


def _names(tokens: Sequence[_Token], table: Table) -> Iterator[tuple[int, str]]:
    """Where a column of the table is named."""
    columns = {column.name.lower(): column.name for column in table.columns}
    for number, token in enumerate(tokens):
        column = None if token.literal else columns.get(token.text.lower())
        if column is None:
            continue
        after = tokens[number + 1].text if number + 1 < len(tokens) else ""
        before = tokens[number - 1] if number else None
        # A qualifier, a function, or the name of a parameter: %(name)s, :name.
        if after in (".", "(") or (before is not None and before.text == ":" and before.end == token.start):
            continue
        if before is not None and before.text == "(" and number > 1:
            sign = tokens[number - 2]
            if sign.text == "%" and sign.end == before.start:
                continue
        yield number, column


def _clause(tokens: Sequence[_Token], word: str, start: int = 0) -> int | None:
    """The number of the first token at the outermost level that is this word."""
    return next(
        (n for n in range(start, len(tokens)) if tokens[n].depth == 0 and tokens[n].word == word), None
    )


def _set_columns(sql: str, table: Table, dialect: str) -> frozenset[str]:
    """The columns that an UPDATE gives a value."""
    tokens = _tokens(sql, dialect)
    start = _clause(tokens, "SET")
    if start is None:
        return frozenset()
    end = _clause(tokens, "WHERE", start) or len(tokens)
    found = set()
    for number, column in _names(tokens[start:end], table):
        place = start + number
        follows = tokens[place + 1].text if place + 1 < len(tokens) else ""
        before = tokens[place - 1]
        if before.text == ".":
            before = tokens[place - 3]
        if tokens[place].depth == 0 and follows == "=" and before.word in ("SET", ","):
            found.add(column)
    return frozenset(found)


def _inserted_columns(sql: str, table: Table, dialect: str) -> frozenset[str]:
    """The columns that an INSERT names; all where it names none."""
    tokens = _tokens(sql, dialect)
    everything = frozenset(column.name for column in table.columns)
    into = _clause(tokens, "INTO")
    if into is None:
        return everything
    for number in range(into + 1, len(tokens)):
        if (
            tokens[number].word in ("VALUES", "SELECT", "SET", "DEFAULT", "WITH")
            and tokens[number].depth == 0
        ):
            if tokens[number].word == "DEFAULT":
                return frozenset()
            if tokens[number].word == "SET":
                return _set_columns(sql, table, dialect)
            return everything
        if tokens[number].text == "(" and tokens[number].depth == 0:
            inside = []
            for token in tokens[number + 1 :]:
                if token.depth == 0:
                    break
                inside.append(token)
            if inside and inside[0].word in ("SELECT", "WITH"):
                return everything
            return frozenset(column for _, column in _names(inside, table))
    return everything


def _written(
    statements: Sequence[tuple[str, Statement, Source | None]], dialect: str
) -> dict[str, frozenset[str]]:
    """Table -> the columns that the job's UPDATEs give values; ``*`` stands for a table that it inserts into."""
    written: dict[str, frozenset[str]] = {}
    for sql, statement, _ in statements:
        if statement.verb == "update":
            tokens = _tokens(sql, dialect)
            start = _clause(tokens, "SET") or 0
            end = _clause(tokens, "WHERE", start) or len(tokens)
            names = {
                token.text
                for number, token in enumerate(tokens[start:end], start)
                if token.depth == 0
                and number + 1 < end
                and tokens[number + 1].text == "="
                and not token.literal
            }
            written[statement.table] = written.get(statement.table, frozenset()) | names
    return written


def _conditions(sql: str, statement: Statement, table: Table, dialect: str) -> list[_Part]:
    """What the WHERE of an UPDATE, or of the SELECT that an INSERT takes its rows from, joins by AND."""
    tokens = _tokens(sql, dialect)
    verb = _clause(tokens, statement.verb.upper())
    after = None if verb is None else _clause(tokens, "SET" if statement.verb == "update" else "SELECT", verb)
    where = None if after is None else _clause(tokens, "WHERE", after)
    if where is None:
        return []
    end = len(tokens)
    for number in range(where + 1, len(tokens)):
        follows = tokens[number + 1].word if number + 1 < len(tokens) else ""
        ends = tokens[number].word in _CONDITION_ENDS or (
            tokens[number].word == "ON" and follows in ("CONFLICT", "DUPLICATE")
        )
        if ends and tokens[number].depth == 0:
            end = number
            break
    conflict = next(
        (n for n in range(verb or 0, where) if tokens[n].word == "CONFLICT" and not tokens[n].depth), None
    )
    if conflict is not None:
        # The WHERE of a DO UPDATE is another thing.
        return []
    parts = [_part(tokens[start:stop], table) for start, stop in _joined(tokens, where + 1, end)]
    return [part for part in parts if part is not None]


def _joined(tokens: Sequence[_Token], start: int, end: int) -> list[tuple[int, int]]:
    """The parts between the ANDs at the outermost level; one part where there is an OR among them."""
    parts = []
    first, between, cases = start, False, 0
    for number in range(start, end):
        token = tokens[number]
        if token.depth:
            continue
        word = token.word
        cases += (word == "CASE") - (word == "END")
        if word == "BETWEEN":
            between = True
        elif word in ("OR", "XOR") and not cases:
            return [(start, end)]
        elif word == "AND" and between:
            between = False
        elif word == "AND" and not cases:
            parts.append((first, number))
            first = number + 1
    return [*parts, (first, end)]


def _part(tokens: Sequence[_Token], table: Table) -> _Part | None:
    if not tokens:
        return None
    words = [token.word for token in tokens if token.text != "("]
    absent = any(pair == ("NOT", "EXISTS") for pair in pairwise(words))
    columns = frozenset(column for _, column in _names(tokens, table))
    return _Part(tokens[0].start, tokens[-1].end, columns, absent)


def _is_guard(part: _Part, statement: Statement, table: Table, written: frozenset[str]) -> bool:
    """Whether a condition can turn a second delivery away: the job itself makes it false, and it is no key."""
    if statement.verb == "insert":
        return part.absent
    return not part.columns <= set(table.key) and bool(part.columns & written)


def _condition_name(statement: Statement, part: _Part) -> tuple[str, str]:
    if statement.verb == "insert":
        return (
            f"INSERT INTO {statement.table} WHERE NOT EXISTS",
            f"{statement.table}|NOT EXISTS|{part.absent}",
        )
    columns = ", ".join(sorted(part.columns))
    return f"UPDATE {statement.table} WHERE {columns}", f"{statement.table}|{columns}"


# -- keys ----------------------------------------------------------------------------------------------------


def _grouped(keys: Sequence[Key]) -> dict[tuple[str, ...], list[Key]]:
    """Keys of the same columns are one guard; one of expressions stands for itself."""
    found: dict[tuple[str, ...], list[Key]] = {}
    for key in keys:
        found.setdefault(tuple(sorted(key.columns)) or ("", key.name), []).append(key)
    return found


def _concerns(columns: tuple[str, ...], sql: str, statement: Statement, table: Table, dialect: str) -> bool:
    """Whether a statement gives a key values of the job's own."""
    if statement.verb == "update":
        changed = _set_columns(sql, table, dialect)
        return bool(columns[0]) and not changed.isdisjoint(columns)
    return not columns[0] or set(columns) <= _inserted_columns(sql, table, dialect)


def _key_name(table: Table, columns: tuple[str, ...], keys: Sequence[Key]) -> str:
    if not columns[0]:
        return f"UNIQUE({table.name}: {keys[0].name})"
    kind = "PRIMARY KEY" if set(columns) == set(table.key) else "UNIQUE"
    return f"{kind}({table.name}.{', '.join(keys[0].columns)})"


def _key_mark(table: Table, keys: Sequence[Key]) -> str:
    return "|".join([table.name, *sorted(key.name for key in keys)])


def _conflict_clause(sql: str, key: Key, dialect: str) -> list[Edit]:
    """ON CONFLICT for this key: without it, the database would refuse the statement."""
    tokens = _tokens(sql, dialect)
    for number, token in enumerate(tokens[:-2]):
        if token.depth or token.word != "ON" or tokens[number + 1].word != "CONFLICT":
            continue
        target = tokens[number + 2 :]
        if target[0].text == "(":
            inside = target[1 : next((n for n, t in enumerate(target) if n and not t.depth), 1)]
            names = {t.text for t in inside if not t.literal} - {","}
            meant = names == set(key.columns) if key.columns else "(" in names
        elif target[0].word == "ON":
            meant = len(target) > 2 and target[2].text == key.name
        else:
            # Without a target it is about all keys, and stands without this one.
            meant = False
        if not meant:
            return []
        end = next((t.start for t in target if not t.depth and t.word in ("RETURNING", ";")), len(sql))
        return [(token.start, end, "")]
    return []


# -- locks ---------------------------------------------------------------------------------------------------


def _row_lock(sql: str, dialect: str) -> re.Match[str] | None:
    """A lock clause that stands in the statement itself, not in one of its texts."""
    starts = {token.start for token in _tokens(sql, dialect) if not token.literal}
    return next((found for found in _ROW_LOCK.finditer(sql) if found.start() in starts), None)


def _unlocked(sql: str, statement: Statement, guard: Guard, dialect: str) -> list[Edit]:
    if guard.mark == "BEGIN":
        return [(0, found.end(), "BEGIN")] if (found := _BEGIN_LOCKED.match(sql)) else []
    if guard.mark == "LOCK TABLE":
        return (
            [(0, len(sql), "SELECT 1")]
            if _TABLE_LOCK.match(sql) and " ".join(sql.split())[:80] == guard.name
            else []
        )
    how, _, table = guard.mark.partition("|")
    lock = _row_lock(sql, dialect)
    if lock is None or statement.table != table:
        return []
    said = " ".join((lock["how"] or lock["old"]).upper().split())
    return [(lock.start(), lock.end(), " ")] if how in (said, f"FOR {said}") else []


def _calls(sql: str, dialect: str, names: re.Pattern[str]) -> list[tuple[str, int, int]]:
    """Calls of functions with such a name: the name, and where the call begins and ends."""
    tokens = _tokens(sql, dialect)
    found = []
    for number, token in enumerate(tokens[:-1]):
        if token.literal or not names.fullmatch(token.text) or tokens[number + 1].text != "(":
            continue
        depth = tokens[number + 1].depth
        closing = next((t for t in tokens[number + 2 :] if t.text == ")" and t.depth == depth), None)
        if closing is not None:
            found.append((token.text, token.start, closing.end))
    return found


def _succeeding(name: str, call: str) -> str:
    """The same call as one that takes no lock and says that it has got it; its arguments are evaluated."""
    inside = call[call.index("(") + 1 : -1]
    if name.lower().startswith("pg_"):
        return "(" + " AND ".join(f"({part})::bigint IS NOT NULL" for part in _arguments(inside)) + ")"
    return "(" + " AND ".join(f"({part}) IS NOT NULL" for part in _arguments(inside)) + ")"


def _arguments(text: str) -> list[str]:
    parts, depth, first, quoted = [], 0, 0, False
    for place, sign in enumerate(text):
        quoted ^= sign == "'"
        depth += 0 if quoted else (sign == "(") - (sign == ")")
        if sign == "," and not depth and not quoted:
            parts.append(text[first:place])
            first = place + 1
    return [*parts, text[first:]]
