"""What a request says, made plain and comparable: secrets masked, bytes as digests, ids in a path as ``*``."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from idemfuzz.adapters.tokens import without_tokens

__all__ = ["MASK", "SECRET", "TEXT_CHARACTERS_MAX", "digest", "masked", "octets", "pattern", "shown_body"]

TEXT_CHARACTERS_MAX = 65_536
MASK = "***"
SECRET = re.compile(
    r"passw(or)?d|passwd|secret|credential|authorization|api[-_]?key|access[-_]?key|private[-_]?key"
    r"|(access|auth|refresh|id|session|bearer)[-_]?token|^token$|signature|^sig$|card[-_]?number|^cvv$|^cvc$",
    re.IGNORECASE,
)
_VARIABLE = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    r"|(?<![0-9a-z])(?=[0-9a-z]*[0-9])(?=[0-9a-z]*[a-z])[0-9a-z]{16,}(?![0-9a-z])"
    r"|(?<![0-9a-z])(?=[0-9a-f]*[0-9])[0-9a-f]{8,}(?![0-9a-z])"
    r"|[0-9]+",
    re.IGNORECASE,
)


def pattern(path: str) -> str:
    """The path with its ids replaced by ``*``; a version such as ``v1`` stays."""
    segments = (
        s if re.fullmatch(r"v\d{1,3}", s) else _VARIABLE.sub("*", without_tokens(s)) for s in path.split("/")
    )
    return "/".join(re.sub(r"\*(?:[-_.:T]?\*)+", "*", s) for s in segments) or "/"


def shown_body(body: object, characters_max: int = 200) -> str:
    if body is None:
        return ""
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    return f" {text}" if len(text) <= characters_max else f" {text[: characters_max - 1]}…"


def masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: MASK if isinstance(inner, str) and SECRET.search(name) else masked(inner)
            for name, inner in value.items()
        }
    return [masked(inner) for inner in value] if isinstance(value, list) else value


def digest(data: bytes) -> str:
    return f"<{len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()[:16]}>"


def octets(body: object) -> bytes | None:
    """The body's bytes; None for a stream, which can be read only once, and not by us."""
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode()
    return bytes(body) if isinstance(body, bytes | bytearray | memoryview) else None
