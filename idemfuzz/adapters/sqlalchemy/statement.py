"""What a statement is, told from its text: its verb, its table, and whether it writes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_VERB = re.compile(r"\(*\s*([a-z]+)", re.I)
_COMMENT = re.compile(r"/\*.*?\*/|--[^\n]*", re.S)
_NAME = r"[`\"\[]?(?P<{0}>[\w$]+)[`\"\]]?(?:\s*\.\s*[`\"\[]?(?P<{0}_in>[\w$]+)[`\"\]]?)?"
_TARGET = re.compile(
    r"\b(?:insert\s+(?:or\s+\w+\s+|ignore\s+)?into|replace\s+into|update(?:\s+only|\s+or\s+\w+)?|delete\s+from|truncate(?:\s+table)?|merge\s+into)\s+"
    + _NAME.format("table"),
    re.I,
)
_FROM = re.compile(r"\bfrom\s+" + _NAME.format("table"), re.I)
_WRITE = re.compile(r"\b(insert|update|delete|replace|merge)\b", re.I)
_EFFECTIVE = re.compile(
    r"\bfor\s+(no\s+key\s+)?(update|share|key\s+share)\b|\block\s+in\s+share\s+mode\b"
    r"|\b(nextval|setval|pg_(try_)?advisory\w*|pg_notify|get_lock|release_lock|last_insert_id\s*\()",
    re.I,
)
_SESSION = re.compile(
    r"(?:\b(?:pg_(?:try_)?advisory_lock|get_lock|listen\b|prepare\b|create\s+temp)|^set\s+(?!local|transaction))",
    re.I,
)
_RESHAPING = re.compile(r"\b(?:alter|drop|rename|truncate|cluster|vacuum)\b|\bcreate\s+or\s+replace\b", re.I)
_WANDERING = re.compile(r"\bsearch_path\b|^use\b", re.I)
_DDL = ("create", "alter", "drop", "rename")
_READS = (
    "select",
    "show",
    "explain",
    "pragma",
    "describe",
    "desc",
    "values",
    "table",
    "set",
    "use",
    "checkpoint",
)


@dataclass(frozen=True, slots=True)
class Statement:
    verb: str
    schema: str
    """The schema that its table is said to be in."""
    table: str
    writes: bool
    """Changes rows, locks, sequences: something that another Execution may see."""
    session: bool
    """Leaves something in the connection (a session lock, a setting) that only its end takes away."""
    defines: bool
    """Changes the schema."""
    wanders: bool
    """Changes where names without a schema lead to."""
    reshapes: bool
    """May change a table that is there other than row by row."""
    text: str

    def names(self, table: str) -> bool:
        """Whether the text has the table's name somewhere."""
        return mentions(self.text, table)

    @property
    def label(self) -> str:
        return f"{self.verb}.{self.table}" if self.table else self.verb


def mentions(text: str, name: str) -> bool:
    """Whether a text has this name somewhere, as a whole word."""
    return re.search(rf"(?<![\w$]){re.escape(name)}(?![\w$])", text, re.I) is not None


@lru_cache(maxsize=4096)
def understand(sql: str) -> Statement:
    """Read one statement; what is not understood counts as a write."""
    text = " ".join(_COMMENT.sub(" ", sql).split())
    first = _VERB.match(text)
    verb = first[1].lower() if first else ""
    schema = table = ""
    writes = verb not in _READS
    if verb == "with":
        inner = _WRITE.search(text)
        writes = inner is not None
        verb = inner[1].lower() if inner else "select"
    target = _TARGET.search(text) if writes else _FROM.search(text)
    if target is not None:
        table = target["table_in"] or target["table"]
        schema = target["table"] if target["table_in"] else ""
    if verb in ("savepoint", "release"):
        schema, table, writes = "", "", True
    elif verb == "rollback":
        verb = "rollback-to" if " to " in f"{text.lower()} " else verb
        schema = table = ""
    elif not writes and _EFFECTIVE.search(text):
        writes = True
    return Statement(
        verb,
        schema,
        table,
        writes,
        session=bool(_SESSION.search(text)),
        defines=verb in _DDL,
        wanders=_WANDERING.search(text) is not None,
        reshapes=_RESHAPING.search(text) is not None,
        text=text,
    )


def shown(statement: Statement, parameters: Any, limit: int = 160) -> str:
    """The statement and its values on one line."""
    text = statement.text if len(statement.text) <= limit else statement.text[: limit - 1] + "…"
    if not parameters:
        return text
    values = repr(dict(parameters) if hasattr(parameters, "keys") else list(parameters))
    return f"{text} {values if len(values) <= limit else values[: limit - 1] + '…'}"
