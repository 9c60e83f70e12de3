"""Facts as plain values, for the way from a worker process to the run."""

from __future__ import annotations

from typing import Any

from idemfuzz.model import Fact, FactKind
from idemfuzz.reporting.plain import plain

__all__ = ["fact_from_json", "fact_to_json"]


def fact_to_json(fact: Fact) -> dict[str, Any]:
    """A Fact as plain values; what JSON does not know is tagged, and stays so."""
    return {
        "store": fact.store,
        "kind": str(fact.kind),
        "group": fact.group,
        "fields": plain(fact.fields),
        "identity": list(fact.identity),
        "generated": dict(fact.generated),
        "expires": fact.expires,
        "once": fact.once,
    }


def fact_from_json(given: dict[str, Any]) -> Fact:
    return Fact(
        given["store"],
        FactKind(given["kind"]),
        given["group"],
        given["fields"],
        tuple(given["identity"]),
        given["generated"],
        given["expires"],
        given["once"],
    )
