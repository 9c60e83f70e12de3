"""Lines of the user's code, where the file is still here."""

from __future__ import annotations

import linecache

from idemfuzz.reporting.redaction import redact

__all__ = ["excerpt", "line_at"]

_LINE_MAX = 300


def line_at(file: str, line: int) -> str:
    """One line without its end, and without passwords; empty where it cannot be read."""
    try:
        return redact(linecache.getline(file, line).rstrip("\n"))
    except (ValueError, OSError):
        # The name of a module that was made by exec may be anything.
        return ""


def excerpt(file: str, line: int, around: int = 5) -> list[tuple[int, str]]:
    """The lines around one, each with its number; empty where they cannot be read."""
    if not line_at(file, line):
        return []
    found = [(number, line_at(file, number)) for number in range(max(1, line - around), line + around + 1)]
    while found and not found[-1][1].strip():
        found.pop()
    return [(number, text[:_LINE_MAX]) for number, text in found]
