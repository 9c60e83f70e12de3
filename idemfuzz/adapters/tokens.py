"""Random tokens inside names: ``session:hV3k-9Qd_2xWmZ7aYb1cT`` is about ``session:*``.

A token in URL-safe base64 may have hyphens and underscores in it, other ones each time: taken for separators, they would
make another name of each. So a whole run of such signs is a token or none.
"""

from __future__ import annotations

import re

__all__ = ["without_tokens"]

_RUN = re.compile(r"(?<![\w-])[A-Za-z0-9_-]{20,}(?![\w-])")
# Letters of both cases (base64, a nano id), or letters among digits (a ULID, base 32 and 36).
_MIXED = re.compile(r"(?=.*[A-Z])(?=.*[a-z])|(?=[A-Za-z0-9]+\Z)(?=.*[A-Za-z])(?=.*[0-9])|[A-Z]+\Z")
# What people write: words, abbreviations, numbers and times, each between separators, and words in camel case.
_WORD = r"(?:(?:[A-Z]?[a-z]+|[A-Z]{1,19}|[a-z]*(?:[A-Z][a-z]{2,})+)\d*|\d+(?:T\d+)?)"
_WORDS = re.compile(rf"[-_]*{_WORD}(?:[-_]+{_WORD})*[-_]*\Z")


def without_tokens(name: str) -> str:
    """The name with ``*`` in the place of each random token."""
    return _RUN.sub(lambda run: "*" if _MIXED.match(run[0]) and not _WORDS.match(run[0]) else run[0], name)
