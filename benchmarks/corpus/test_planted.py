"""The planted bugs of tests/quality as marked tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from quality.case import NOT_STORES, SQLITE, Case, World
from quality.conftest import case, make_stack, smtp, stack, url, world
from quality.table import CASES

__all__ = ["case", "make_stack", "smtp", "stack", "url", "world"]


@pytest.fixture
def engine(world: World) -> Any:
    return world.engine


@pytest.fixture
def redis(world: World) -> Any:
    return world.redis


@pytest.fixture
def folder(world: World) -> Path | None:
    return world.folder


@pytest.fixture
def gateway(world: World) -> Any:
    return world.gateway


@pytest.fixture
def sent(world: World) -> list[Any]:
    return world.sent


def _lines() -> list[Any]:
    return [
        pytest.param(
            one,
            SQLITE,
            id=f"{one.kind}-{one.name}",
            marks=pytest.mark.idempotent(
                job=one.job, stores=[name for name in one.needs if name not in NOT_STORES], **one.options
            ),
        )
        for one in CASES
        if SQLITE in one.stacks and not one.missed
    ]


@pytest.mark.parametrize(("case", "stack"), _lines(), indirect=True)
def test_planted(
    case: Case, world: World, engine: Any, redis: Any, folder: Any, gateway: Any, sent: Any
) -> None:
    case.scenario(world)
