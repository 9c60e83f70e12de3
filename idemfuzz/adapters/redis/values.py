"""Keys and values as plain Python, in a form in which equal contents are equal."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

from idemfuzz.adapters.tokens import without_tokens
from idemfuzz.model import Opaque

__all__ = ["content", "pattern", "queries", "text"]

_UUID = re.compile(r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")
_TOKEN = re.compile(r"[0-9A-Za-z]+")
_HEX = re.compile(r"(?=.*[0-9])[0-9a-fA-F]{8,}\Z")


def text(value: bytes) -> str | bytes:
    """A str where the bytes are UTF-8, else the bytes."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value


def pattern(key: str | bytes) -> str:
    """What a key is about: ``sent:17`` is ``sent:*``; UUIDs and random tokens become ``*``, too."""
    name = key if isinstance(key, str) else key.decode("utf-8", "backslashreplace")
    return _TOKEN.sub(_generic, without_tokens(_UUID.sub("*", name)))


def _generic(token: re.Match[str]) -> str:
    word = token[0]
    return "*" if word.isdigit() or _HEX.match(word) else word


def queries(kind: bytes, key: bytes) -> list[tuple[Any, ...]]:
    """The commands whose replies `content` needs for a key of this type."""
    match kind:
        case b"string":
            return [("GET", key)]
        case b"list":
            return [("LRANGE", key, 0, -1)]
        case b"set":
            return [("SMEMBERS", key)]
        case b"hash":
            return [("HGETALL", key)]
        case b"zset":
            return [("ZRANGE", key, 0, -1, "WITHSCORES")]
        case b"stream":
            return [("XRANGE", key, "-", "+"), ("XINFO", "GROUPS", key)]
        case b"ReJSON-RL":
            return [("JSON.GET", key)]
        case _:
            return []


def content(kind: bytes, replies: Sequence[Any], dump: bytes | None) -> dict[str, Any]:
    """The fields of a key's Fact: ``value``, and for a stream with consumer groups ``groups``.

    A type that is not known (a module's) is told apart by a digest of its DUMP.
    """
    match kind:
        case b"string":
            return {"value": text(_uncached(replies[0]))}
        case b"list":
            return {"value": [text(item) for item in replies[0]]}
        case b"set":
            return {"value": [text(member) for member in sorted(replies[0])]}
        case b"hash":
            return {"value": {text(name): text(value) for name, value in sorted(_pairs(replies[0]))}}
        case b"zset":
            return {"value": [[text(member), _score(score)] for member, score in _pairs(replies[0])]}
        case b"stream":
            entries, groups = replies
            fields: dict[str, Any] = {
                "value": [
                    [Opaque(_ascii(number)), {text(name): text(value) for name, value in _pairs(parts or [])}]
                    for number, parts in entries
                ]
            }
            if groups and not isinstance(groups, Exception):
                fields["groups"] = _groups(groups, [_ascii(number) for number, _ in entries])
            return fields
        case b"ReJSON-RL":
            return {"value": json.loads(replies[0])}
        case _:
            return {"value": f"sha1 of DUMP: {hashlib.sha1(dump or b'').hexdigest()}"}


def _groups(groups: Sequence[Any], entries: list[str]) -> dict[str | bytes, dict[str, int]]:
    """Per consumer group: how many entries are delivered but not acknowledged, and how many not delivered."""
    described = {}
    for group in groups:
        fields = dict(_pairs(group))
        last = _order(_ascii(fields[b"last-delivered-id"]))
        described[text(fields[b"name"])] = {
            "pending": int(fields[b"pending"]),
            "undelivered": sum(1 for number in entries if _order(number) > last),
        }
    return described


def _score(value: bytes) -> float | str | bytes:
    try:
        return float(value)
    except ValueError:
        # fakeredis keeps places (GEOADD) under their geohash in letters.
        return text(value)


def _order(entry: str) -> tuple[int, ...]:
    return tuple(int(part) for part in entry.split("-"))


def _pairs(flat: Any) -> list[tuple[Any, Any]]:
    if isinstance(flat, dict):
        return list(flat.items())
    return list(zip(flat[::2], flat[1::2], strict=True))


def _ascii(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _uncached(value: bytes) -> bytes:
    """A HyperLogLog caches its last count within its value; PFCOUNT, which is a read, changes that."""
    return value[:8] + bytes(8) + value[16:] if value.startswith(b"HYLL") and len(value) > 16 else value
