"""A statement as the parser reads it, with its placeholders, where server and parser surely agree."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

PLANS_MAX = 4096
_DIALECTS = {"sqlite": "sqlite", "postgresql": "postgres", "mysql": "mysql", "mariadb": "mysql"}
# Texts that a server may read in another way than the parser: escapes, comments that are executed, quotes by mode.
_SLIPPERY = {
    "sqlite": re.compile(r"\x00"),
    "postgresql": re.compile(r"\x00|\\|\$\w*\$"),
    "mysql": re.compile(r'\x00|\\|/\*M?!|"'),
}
_QUOTED = r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|--[^\n]*|/\*.*?\*/"""
_PERCENT = re.compile(
    rf"(?P<quoted>{_QUOTED})|(?P<percent>%%)|%\((?P<name>[^)]+)\)[sbt]|(?P<place>%[sbt])", re.S
)
_QMARK = re.compile(
    rf"(?P<quoted>{_QUOTED})|(?P<percent>(?!))|[:@$](?P<name>[A-Za-z_]\w*)|(?P<place>\?(?!\d))|(?P<bad>\?\d)",
    re.S,
)
# asyncpg's, numbered from 1.
_DOLLAR = re.compile(
    rf"(?P<quoted>{_QUOTED})|(?P<percent>(?!))|(?P<name>(?!))|\$(?P<number>\d+)",
    re.S,
)
_PLACEHOLDER = re.compile(r"(?<!%)(?:%%)*%(?:\([^)]+\))?[sbt]")
_REPLACE = re.compile(r"^\s*replace\s+(?:into\s+)?", re.I)

_parsing = threading.Lock()


@dataclass(frozen=True, slots=True)
class Parsed:
    tree: Any
    parameters: Mapping[str, Hashable]
    replaces: bool


def _numbered(sql: str, backend: str) -> bool:
    return backend == "postgresql" and any(match["number"] for match in _DOLLAR.finditer(sql))


@lru_cache(maxsize=PLANS_MAX)
def parse(sql: str, backend: str) -> Parsed | None:
    """The tree of one statement; None if it is not understood for certain."""
    if backend not in _DIALECTS or _SLIPPERY[backend].search(sql):
        return None
    parameters: dict[str, Hashable] = {}
    unsure = False

    def replace(match: re.Match[str]) -> str:
        nonlocal unsure
        found = match.groupdict()
        if found["quoted"] is not None:
            # Drivers that format the text look for marks in quotes, too.
            unsure |= backend != "sqlite" and _PLACEHOLDER.search(found["quoted"]) is not None
            return match[0]
        if found["percent"] is not None:
            return "%"
        unsure |= found.get("bad") is not None
        name = f"idemfuzz_{len(parameters)}"
        place = int(found["number"]) - 1 if found.get("number") else len(parameters)
        parameters[name] = found["name"] if found["name"] is not None else place
        return f":{name}"

    marks = _QMARK if backend == "sqlite" else _DOLLAR if _numbered(sql, backend) else _PERCENT
    text = marks.sub(replace, sql)
    # Places are counted, names are not: a statement with both is nobody's.
    if unsure or len({type(place) for place in parameters.values()}) > 1:
        return None
    replaces = _REPLACE.match(text) is not None
    if replaces:
        text = _REPLACE.sub("INSERT INTO ", text, count=1)
    import sqlglot
    from sqlglot.errors import SqlglotError

    with _parsing:
        # It warns of what it does not understand, which is none of the user's business.
        logger = logging.getLogger("sqlglot")
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            trees = sqlglot.parse(text, read=_DIALECTS[backend])
        except (SqlglotError, RecursionError):
            return None
        finally:
            logger.setLevel(level)
    if len(trees) != 1 or trees[0] is None:
        return None
    return Parsed(trees[0], parameters, replaces)
