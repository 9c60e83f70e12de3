"""The stores that planted jobs work on, and a registration for each line of the table."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fakeredis
import pytest
from sqlalchemy import create_engine

from fuzz.planted import Planted, Stores, metadata
from idemfuzz.api import Registration


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    engine = create_engine(f"sqlite:///{tmp_path / 'test.db'}")
    metadata.create_all(engine)
    yield Stores(engine, fakeredis.FakeRedis(server=fakeredis.FakeServer()))
    engine.dispose()


@pytest.fixture
def registered(stores: Stores) -> Callable[[Planted], Registration]:
    """A line of the table as a registered job."""

    def make(planted: Planted) -> Registration:
        @functools.wraps(planted.job)
        def job(*args: Any, **kwargs: Any) -> None:
            planted.job(stores, *args, **kwargs)

        del job.__wrapped__  # type: ignore[attr-defined]
        setup = None if planted.setup is None else functools.partial(planted.setup, stores)
        handed = {"db": stores.engine, "redis": stores.redis}
        return Registration(
            job,
            list(planted.args),
            stores=handed,
            setup=setup,
            name=planted.name,
            options=planted.options,
            module=__name__,
            state=planted.state,
        )

    return make
