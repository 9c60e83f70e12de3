"""Registered jobs whose bug hangs on arguments or state, and right ones, each with stores of its own."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import fakeredis
from fuzz.planted import PLANTED, RIGHT, Planted, Stores, metadata
from sqlalchemy import create_engine

import idemfuzz

_folder = tempfile.TemporaryDirectory(prefix="idemfuzz-campaign-")


def _register(planted: Planted) -> None:
    engine = create_engine(f"sqlite:///{Path(_folder.name) / planted.name}.db")
    metadata.create_all(engine)
    stores = Stores(engine, fakeredis.FakeRedis(server=fakeredis.FakeServer()))

    def job(*args: Any) -> None:
        planted.job(stores, *args)

    # Not `wraps`: the search would see through to a job that has one parameter more.
    job.__name__, job.__qualname__ = planted.name, planted.name
    job.__module__ = __name__
    globals()[planted.name] = job
    idemfuzz.register(
        job,
        args=list(planted.args),
        state=planted.state,
        setup=None if planted.setup is None else functools.partial(planted.setup, stores),
        stores={"db": stores.engine, "redis": stores.redis},
        **planted.options,
    )


for _planted in (*PLANTED, *RIGHT):
    _register(_planted)
