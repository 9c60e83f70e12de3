"""The fifteen variants of the example shop as marked tests."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

_EXAMPLES = Path(__file__).parents[2] / "examples"
_spec = spec_from_file_location("shop_fixtures", _EXAMPLES / "tests" / "conftest.py")
assert _spec is not None
assert _spec.loader is not None
_fixtures = module_from_spec(_spec)
sys.modules["shop_fixtures"] = _fixtures
_spec.loader.exec_module(_fixtures)
_NAMES = (
    "_mail_server",
    "_payments_api",
    "engine",
    "mailbox",
    "payments",
    "redis",
    "reports",
    "schema",
    "shop",
    "stack",
)
globals().update({name: getattr(_fixtures, name) for name in _NAMES})

from shop.inventory import variants  # noqa: E402  (the fixtures put the examples on the path)


def _lines() -> list[Any]:
    return [
        pytest.param(
            variant.schema,
            entry.arguments,
            variant.function,
            "sqlite+fakeredis",
            id=variant.name,
            marks=pytest.mark.idempotent(job=variant.function, stores=["engine", "redis", "reports"]),
        )
        for entry, variant in variants()
    ]


@pytest.mark.parametrize(("schema", "arguments", "job", "stack"), _lines(), indirect=["stack"])
def test_variant(
    schema: Any,
    arguments: Any,
    job: Any,
    shop: Any,
    engine: Any,
    redis: Any,
    reports: Any,
    payments: Any,
    mailbox: Any,
) -> None:
    payments.reset()
    mailbox.reset()
    job(*arguments)
