"""The right jobs of tests/safe as marked tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import fakeredis
import pytest
from safe.case import SQLITE, Case, World
from safe.table import CASES
from sqlalchemy import create_engine


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Any]:
    engine = create_engine(f"sqlite:///{tmp_path / 'right.db'}")
    yield engine
    engine.dispose()


@pytest.fixture
def redis() -> Any:
    return fakeredis.FakeRedis(server=fakeredis.FakeServer())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def gateway() -> Mock:
    return Mock(name="gateway")


def _lines() -> list[Any]:
    # What a case hands in besides its stores is made with its world, and a marker can name fixtures only.
    known = {"db", "redis", "folder", "gateway"}
    return [
        pytest.param(
            one,
            id=one.title,
            marks=pytest.mark.idempotent(job=one.job, stores=one.uses.split(), **one.options),
        )
        for one in CASES
        if SQLITE in one.on and not one.alarms and set(one.uses.split()) <= known
    ]


@pytest.fixture
def world(case: Case, db: Any, redis: Any, folder: Path, gateway: Mock) -> Iterator[World]:
    made = World(SQLITE, db, redis, folder, gateway)
    case.create(made)
    with nullcontext() if case.around is None else case.around(made):
        yield made


@pytest.mark.parametrize("case", _lines())
def test_right(case: Case, world: World, db: Any, redis: Any, folder: Any, gateway: Any) -> None:
    case.scenario(world)
