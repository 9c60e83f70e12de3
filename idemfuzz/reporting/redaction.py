"""Redaction: passwords never reach a report.

What is hidden: the password in a URL; what stands behind ``password=`` or ``"secret":``; bearer tokens; every
value of a column or field that is named like a secret, wherever else in the report the same value shows; and
the values of a statement that names such a column. A secret in a field with another name is not recognised.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any, TypeVar

from idemfuzz.model import Difference, Fact, Plan, Report

HIDDEN = "***"
_SHORTEST = 4
_NAME = r"[a-z_]*(?:passw(?:or)?d|passphrase|secret|api_?key|private_?key)[a-z_]*|pwd"
_SECRET_NAME = re.compile(rf"(?:{_NAME})\Z", re.I)
_MENTION = re.compile(rf"\b(?:{_NAME})\b", re.I)
_URL = re.compile(r"(?P<head>\b[a-z][a-z0-9+.-]*://[^\s/:@'\"]*):(?P<secret>[^\s/@'\"]+)@", re.I)
_ASSIGNED = re.compile(
    rf"(?P<head>\b(?:{_NAME})['\"]?\s*[=:]\s*)"
    r"(?P<secret>'[^']*'|\"[^\"]*\"|(?![?:$]|%[s(]|None\b|null\b)[^\s,;&)\]}'\"]+)",
    re.I,
)
_BEARER = re.compile(r"(?P<head>\bbearer\s+)(?P<secret>[\w.~+/=-]{8,})", re.I)
_VERBS = "insert|replace|update|delete|select|with"
_STATEMENT = re.compile(rf"(?P<sql>(?:{_VERBS})\b.*?) (?P<values>\[.*)\Z", re.I | re.S)
_COLUMNS = re.compile(r"\A(?:insert|replace)\s+into\s+\S+\s+\((?P<columns>[^)]*)\)", re.I)

T = TypeVar("T")


def redacted(report: Report) -> Report:
    """The same report without passwords; plans stay as they are, so that they still replay."""
    secrets = sorted(set(_secrets(report)), key=len, reverse=True)
    return _walk(report, secrets)


def redact(text: str) -> str:
    """One text without the passwords that its own form gives away."""
    text = _URL.sub(rf"\g<head>:{HIDDEN}@", text)
    text = _hide_values(text)
    text = _ASSIGNED.sub(rf"\g<head>{HIDDEN}", text)
    return _BEARER.sub(rf"\g<head>{HIDDEN}", text)


def _walk(value: T, secrets: list[str]) -> T:
    found: Any = value
    if isinstance(value, str) and not isinstance(value, Enum):
        found = _without(value, secrets)
    elif isinstance(value, Plan | Enum):
        pass
    elif isinstance(value, Fact):
        hidden = {name: _field(name, inner, secrets) for name, inner in value.fields.items()}
        once = None if value.once is None else _without(value.once, secrets)
        found = replace(value, group=_without(value.group, secrets), fields=hidden, once=once)
    elif is_dataclass(value) and not isinstance(value, type):
        changed = {f.name: _walk(getattr(value, f.name), secrets) for f in fields(value)}
        found = replace(value, **changed)
    elif isinstance(value, Mapping):
        found = {key: _field(str(key), inner, secrets) for key, inner in value.items()}
    elif isinstance(value, list | tuple | set | frozenset):
        found = type(value)(_walk(inner, secrets) for inner in value)
    return found  # type: ignore[no-any-return]


def _field(name: str, value: Any, secrets: list[str]) -> Any:
    if _SECRET_NAME.match(name) and isinstance(value, str | bytes) and value:
        return HIDDEN
    return _walk(value, secrets)


def _without(text: str, secrets: list[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return redact(text)


def _secrets(report: Report) -> Iterator[str]:
    """Values of fields that are named like a secret, and are long enough to be told from ordinary text."""
    for finding in report.findings:
        for difference in finding.differences:
            yield from _of_difference(difference)


def _of_difference(difference: Difference) -> Iterator[str]:
    for fact in (difference.expected, difference.actual):
        if fact is not None:
            yield from _of_mapping(fact.fields)


def _of_mapping(mapping: Mapping[Any, Any]) -> Iterator[str]:
    for name, value in mapping.items():
        if isinstance(value, Mapping):
            yield from _of_mapping(value)
        elif _SECRET_NAME.match(str(name)):
            text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            if isinstance(text, str) and len(text) >= _SHORTEST:
                yield text


def _hide_values(text: str) -> str:
    """Of a statement that names a secret column: its value where it can be told, else all values."""
    match = _STATEMENT.match(text)
    if match is None:
        return text
    sql = match["sql"]
    judged = sql.partition(" WHERE ")[2] if sql.lower().startswith("select") else sql
    if not _MENTION.search(judged):
        return text
    return f"{sql} {_aligned(sql, match['values']) or f'[{HIDDEN}]'}"


def _aligned(sql: str, values: str) -> str | None:
    columns = _COLUMNS.match(sql)
    if columns is None:
        return None
    names = [name.strip().strip('"`') for name in columns["columns"].split(",")]
    try:
        given = ast.literal_eval(values)
    except (ValueError, SyntaxError):
        return None
    if not isinstance(given, list) or len(given) != len(names):
        return None
    pairs = zip(names, given, strict=True)
    return repr([HIDDEN if _SECRET_NAME.match(name) else value for name, value in pairs])
