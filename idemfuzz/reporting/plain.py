"""Values as JSON can hold them, for reports and for the way from a worker process to a stress run.

What JSON does not know is tagged; `json_report` lists the tags. Nothing is read back.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import math
import uuid
from collections.abc import Mapping
from enum import Enum
from typing import Any

from idemfuzz.model import Opaque

__all__ = ["plain"]

_DEPTH_MAX = 40


def plain(value: Any, depth: int = 0) -> Any:
    """A value that JSON can hold; what it does not know is tagged, or shown as text."""
    if isinstance(value, Enum):
        return plain(value.value, depth)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if depth > _DEPTH_MAX:
        return {"text": repr(value)[:1000]}
    return _tagged(value, depth)


def _tagged(value: Any, depth: int) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return {"bytes": base64.b64encode(bytes(value)).decode("ascii")}
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return {"datetime": value.isoformat()}
    if isinstance(value, datetime.timedelta):
        return {"seconds": value.total_seconds()}
    if isinstance(value, decimal.Decimal):
        return {"decimal": str(value)}
    if isinstance(value, uuid.UUID):
        return {"uuid": str(value)}
    if isinstance(value, Opaque):
        return {"generated": plain(value.value, depth + 1)}
    if isinstance(value, Mapping):
        return {_key(key): plain(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner, depth + 1) for inner in value]
    if isinstance(value, set | frozenset):
        return {"set": [plain(inner, depth + 1) for inner in sorted(value, key=repr)]}
    return {"text": repr(value)[:1000]}


def _key(key: Any) -> str:
    return key if isinstance(key, str) else repr(key)
