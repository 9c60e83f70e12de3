"""Idempotency keys, as people and vendors name them in arguments, bodies, options and headers.

Stripe's ``idempotency_key``, AWS's ``ClientToken`` and ``client_request_token``, a header ``Idempotency-Key``, a
queue's ``MessageDeduplicationId``, and an application's own ``request_id`` or ``external_id`` all say the same: two
calls that carry one value are one call. A header ``X-Request-Id`` is none: it names the attempt, for tracing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["header_names_a_key", "key_in", "names_a_key"]

_NAMES = frozenset(
    {
        *("idempotencykey", "idempotencytoken", "idempotenceid", "idempotentkey", "paypalrequestid"),
        *("clienttoken", "clientrequesttoken", "clientrequestid", "clientidempotencykey"),
        *("requestid", "externalid", "dedupekey", "deduplicationid", "messagededuplicationid", "dedupid"),
    }
)
_HEADERS = ("idempotencykey", "idempotencytoken")
# Standard Webhooks (and Svix, where they come from), CloudEvents: whoever receives the message knows it by this.
_MESSAGE_HEADERS = frozenset({"webhookid", "svixid", "ceid"})
_ATTEMPT_HEADERS = frozenset({"requestid"})
_DEPTH_MAX = 2


def names_a_key(name: str) -> bool:
    """Whether a parameter, a field or a header of this name holds an idempotency key."""
    plain = name.replace("_", "").replace("-", "").lower()
    return plain in _NAMES or plain.endswith(_HEADERS)


def header_names_a_key(name: str) -> bool:
    """The same of a header, where ``Request-Id`` names the attempt, and ``Webhook-Id`` the message."""
    plain = name.replace("_", "").replace("-", "").lower()
    return plain in _MESSAGE_HEADERS or (plain not in _ATTEMPT_HEADERS and names_a_key(name))


def key_in(value: Any, depth: int = 0) -> str | None:
    """The idempotency key among the names of a mapping, or of those inside it, a list or a tuple; None without one."""
    if isinstance(value, Mapping):
        for name, held in value.items():
            if isinstance(name, str) and held and isinstance(held, str | int) and names_a_key(name):
                return str(held)
        inside = list(value.values())
    elif isinstance(value, list | tuple):
        inside = list(value)
    else:
        return None
    if depth == _DEPTH_MAX:
        return None
    return next((key for held in inside if (key := key_in(held, depth + 1)) is not None), None)
