"""Redaction: passwords never reach a report.

What is hidden: the password in a URL; what stands behind ``password=`` or ``"secret":``; bearer tokens; every
value of a column or field that is named like a secret, wherever else in the report the same value shows; and
the values of a statement that names such a column. A secret in a field with another name is not recognised, unless
it is named: ``redact=`` takes columns (``email``, ``users.email``, ``db.users.email``), tables, keys (``session:*``), paths, and
``re:`` with a regular expression for whatever text it matches.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from fnmatch import fnmatchcase, translate
from functools import lru_cache
from typing import Any, TypeVar

from idemfuzz.model import Event, Fact, Opaque, Plan, Report

__all__ = ["HIDDEN", "redact", "redacted"]

HIDDEN = "***"
_SHORTEST = 4
_CUT = 12
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
_STATEMENT = re.compile(rf"(?P<sql>(?:{_VERBS})\b.*?) (?P<values>[\[{{].*)\Z", re.I | re.S)
_STATEMENT_HEAD = re.compile(rf"\(*(?:{_VERBS})\b", re.I)
_COLUMNS = re.compile(r"\A(?:insert|replace)\s+into\s+\S+\s+\((?P<columns>[^)]*)\)", re.I)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Rules:
    """What is hidden beside what is always hidden."""

    names: tuple[str, ...] = ()
    """Patterns with ``*`` and ``?`` for columns, tables, keys and paths."""
    texts: tuple[re.Pattern[str], ...] = ()
    columns: re.Pattern[str] | None = None
    """The last part of each name, as an identifier of a statement."""

    @classmethod
    def of(cls, patterns: Iterable[str]) -> _Rules:
        patterns = tuple(patterns)
        texts = tuple(re.compile(pattern[3:]) for pattern in patterns if pattern.startswith("re:"))
        names = tuple(pattern for pattern in patterns if not pattern.startswith("re:"))
        if not names:
            return cls((), texts)
        columns = "|".join(_glob(name.rpartition(".")[2]) for name in names)
        return cls(names, texts, re.compile(rf"(?<![\w.])(?:{columns})(?![\w])", re.I))

    def hide_fact(self, fact: Fact) -> bool:
        """Whether all that a row, key or file holds is hidden, not which one it is."""
        names = [fact.group, f"{fact.store}.{fact.group}"]
        for identity in ("key", "path"):
            if identity in fact.identity:
                names += [str(fact.fields.get(identity)), f"{fact.store}:{fact.fields.get(identity)}"]
        return self._match(names)

    def hide_field(self, name: str, fact: Fact | None = None) -> bool:
        if _SECRET_NAME.match(name):
            return True
        if not self.names:
            return False
        names = [name]
        # A key's own group is a pattern of keys: what hides its value must not hide which one it is.
        if fact is not None and not (name in ("key", "path") and name in fact.identity):
            names += [f"{fact.group}.{name}", f"{fact.store}.{fact.group}.{name}"]
        return self._match(names)

    def _match(self, names: list[str]) -> bool:
        return any(fnmatchcase(name, pattern) for name in names for pattern in self.names)

    def mentions(self, sql: str) -> bool:
        return bool(_MENTION.search(sql) or (self.columns is not None and self.columns.search(sql)))


_ALWAYS = _Rules()


def _glob(pattern: str) -> str:
    """A pattern as a part of a regular expression that stays within one word."""
    if not pattern:
        return ""
    body = translate(pattern).removeprefix("(?s:").rpartition(")")[0]
    return body.replace(".*", r"[^\s'\"]*")


def redacted(report: Report, patterns: Iterable[str] = ()) -> Report:
    """The same report without passwords, and without what ``patterns`` name; plans stay as they are, so that they replay."""
    rules = _Rules.of(patterns)
    secrets = sorted(set(_secrets(report, rules)), key=len, reverse=True)
    return _walk(report, _Hiding(rules, tuple(secrets)))


def is_secret(name: str) -> bool:
    """Whether a field or argument of this name holds something that is not to be shown."""
    return _SECRET_NAME.match(name) is not None


def redact(text: str) -> str:
    """One text without the passwords that its own form gives away."""
    return _redact(text, _ALWAYS)


def _redact(text: str, rules: _Rules) -> str:
    text = _URL.sub(rf"\g<head>:{HIDDEN}@", text)
    text = _hide_values(text, rules)
    text = _ASSIGNED.sub(rf"\g<head>{HIDDEN}", text)
    text = _BEARER.sub(rf"\g<head>{HIDDEN}", text)
    for pattern in rules.texts:
        text = pattern.sub(HIDDEN, text)
    return text


@dataclass(frozen=True, slots=True)
class _Hiding:
    """The rules, and the values that they have found."""

    rules: _Rules
    secrets: tuple[str, ...]

    def text(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, HIDDEN)
            if len(secret) > _CUT and "…" in text:
                # A long value may stand there cut.
                text = re.sub(re.escape(secret[:_CUT]) + r"[^…]*…", f"{HIDDEN}…", text)
        return _redact(text, self.rules)

    def field(self, name: str, value: Any, fact: Fact | None = None) -> Any:
        if self.rules.hide_field(name, fact) and value is not None and value != "":
            return HIDDEN if not _SECRET_NAME.match(name) or isinstance(value, str | bytes) else value
        return _walk(value, self)

    def fact(self, fact: Fact) -> Fact:
        whole = self.rules.hide_fact(fact)
        hidden = {
            name: HIDDEN if whole and name not in fact.identity else self.field(name, inner, fact)
            for name, inner in fact.fields.items()
        }
        once = None if fact.once is None else self.text(fact.once)
        return replace(fact, group=self.text(fact.group), fields=hidden, once=once)

    def command(self, text: str, store: str) -> str:
        """Of a command that names a hidden key: the key alone."""
        if not self.rules.names or _STATEMENT_HEAD.match(text):
            return text
        return _key_and_rest(self.rules.names, store).sub(rf"\g<head> {HIDDEN}", text)

    def event(self, event: Event) -> Event:
        effect = event.effect
        if effect is None or (detail := self.command(effect.detail, effect.store)) == effect.detail:
            return event
        # What it read there is as secret as what it wrote.
        outcome = HIDDEN if event.outcome else ""
        text = self.command(event.text, effect.store)
        return replace(event, text=text, outcome=outcome, effect=replace(effect, detail=detail))


@lru_cache(maxsize=64)
def _key_and_rest(names: tuple[str, ...], store: str) -> re.Pattern[str]:
    """A key or path as a word of a command, and all that follows it."""
    own = f"{store}:"
    keys = {_glob(name) for name in names} | {_glob(n.removeprefix(own)) for n in names if n.startswith(own)}
    return re.compile(rf"(?P<head>(?:^|[ \[(,;'\"])(?:{'|'.join(sorted(keys))}))(?=[ '\"]).*", re.S)


def _walk(value: T, hiding: _Hiding) -> T:
    found: Any = value
    if isinstance(value, str) and not isinstance(value, Enum):
        found = hiding.text(value)
    elif isinstance(value, Plan | Enum):
        pass
    elif isinstance(value, Fact):
        found = hiding.fact(value)
    elif is_dataclass(value) and not isinstance(value, type):
        one: Any = hiding.event(value) if isinstance(value, Event) else value
        found = replace(one, **{f.name: _walk(getattr(one, f.name), hiding) for f in fields(one)})
    elif isinstance(value, Mapping):
        found = {key: hiding.field(str(key), inner) for key, inner in value.items()}
    elif isinstance(value, list | tuple | set | frozenset):
        found = type(value)(_walk(inner, hiding) for inner in value)
    return found  # type: ignore[no-any-return]


def _secrets(report: Report, rules: _Rules) -> Iterator[str]:
    """Values that are hidden where they stand, and are long enough to be told from ordinary text."""
    for fact in _facts(report):
        whole = rules.hide_fact(fact)
        for name, value in fact.fields.items():
            if whole and name not in fact.identity:
                yield from _texts(value)
            else:
                yield from _of_field(name, value, rules, fact)


def _facts(report: Report) -> Iterator[Fact]:
    for finding in report.findings:
        for difference in finding.differences:
            yield from (fact for fact in (difference.expected, difference.actual) if fact is not None)
        for delta in (finding.counterexample.reference, finding.counterexample.changes):
            yield from (*delta.added, *delta.removed)


def _of_field(name: str, value: Any, rules: _Rules, fact: Fact | None = None) -> Iterator[str]:
    if rules.hide_field(name, fact):
        yield from _texts(value) if not _SECRET_NAME.match(name) or isinstance(value, str | bytes) else ()
    elif isinstance(value, Mapping):
        for inner, part in value.items():
            yield from _of_field(str(inner), part, rules)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _of_field("", part, rules)


def _texts(value: Any) -> Iterator[str]:
    """A value as it may stand in a text."""
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
        return
    if isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from _texts(inner)
        return
    if isinstance(value, Opaque):
        value = value.value
    if value is None or isinstance(value, bool):
        return
    shown = {value.decode("utf-8", "replace")} if isinstance(value, bytes) else {str(value)}
    if not isinstance(value, str):
        shown.add(repr(value))
    yield from (text for text in shown if len(text) >= _SHORTEST)


def _hide_values(text: str, rules: _Rules) -> str:
    """Of a statement that names a secret column: its value where it can be told, else all values."""
    match = _STATEMENT.match(text)
    if match is None:
        return text
    sql = match["sql"]
    judged = sql.partition(" WHERE ")[2] if sql.lower().startswith("select") else sql
    if not rules.mentions(judged):
        return text
    return f"{sql} {_aligned(sql, match['values'], rules) or f'[{HIDDEN}]'}"


def _aligned(sql: str, values: str, rules: _Rules) -> str | None:
    try:
        given = ast.literal_eval(values)
    except (ValueError, SyntaxError):
        return None

    def hidden(name: str) -> bool:
        return bool(_SECRET_NAME.match(name) or (rules.columns is not None and rules.columns.fullmatch(name)))

    if isinstance(given, dict):
        # A parameter is named like its column, or like that and a number.
        pairs = {name: hidden(re.sub(r"_\d+\Z", "", str(name))) for name in given}
        shown: Any = {name: HIDDEN if pairs[name] else value for name, value in given.items()}
        return repr(shown) if any(pairs.values()) else None
    columns = _COLUMNS.match(sql)
    if columns is None:
        return None
    names = [name.strip().strip('"`') for name in columns["columns"].split(",")]
    if not isinstance(given, list) or len(given) != len(names) or not any(map(hidden, names)):
        return None
    return repr([HIDDEN if hidden(name) else value for name, value in zip(names, given, strict=True)])
