"""The stores of one case: which pair of the common `stacks` it runs on, and what else its test would be given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from sqlalchemy import create_engine

from safe.case import World

STACKS = {
    "sqlite": "sqlite+fakeredis",
    "memory": "sqlite-memory+fakeredis",
    "postgresql": "postgresql+valkey",
    "psycopg2": "postgresql+valkey",
    "mariadb": "mariadb+redis",
}


@pytest.fixture
def store(request: pytest.FixtureRequest) -> str:
    """The name of the store; each test is parametrised with it and, indirectly, with its stack."""
    return str(request.param)


@pytest.fixture
def world(store: str, stacks: Any, tmp_path: Path) -> Iterator[World]:
    """Empty stores of one kind, an empty folder, and a mock of an outside service."""
    db = stacks.engine
    if store == "psycopg2":
        db = create_engine(stacks.engine.url.set(drivername="postgresql+psycopg2"))
    folder = tmp_path / "out"
    folder.mkdir()
    yield World(store, db, stacks.redis, folder, Mock(name="gateway"))
    db.dispose()
