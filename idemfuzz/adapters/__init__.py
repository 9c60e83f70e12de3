"""The vendors' room: every adapter, loaded when it is needed. Nothing else in idemfuzz imports rq, sqlalchemy or redis."""

from __future__ import annotations

import sys
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from idemfuzz.abc import Options, Unusable

_BUILT_IN = {
    "sqlalchemy": ("idemfuzz.adapters.sqlalchemy", "SqlAlchemyAdapter"),
    "redis": ("idemfuzz.adapters.redis", "RedisAdapter"),
    "files": ("idemfuzz.adapters.files", "FilesAdapter"),
    "drivers": ("idemfuzz.adapters.drivers", "DriversTap"),
    "containers": ("idemfuzz.adapters.containers", "ContainersAdapter"),
    "mock": ("idemfuzz.adapters.mock", "MockTap"),
    "fakes": ("idemfuzz.adapters.fakes", "FakesTap"),
    "mail": ("idemfuzz.adapters.mail", "MailTap"),
    "http": ("idemfuzz.adapters.http", "HttpTap"),
    "aws": ("idemfuzz.adapters.aws", "AwsTap"),
    "aws_fakes": ("idemfuzz.adapters.aws_fakes", "AwsFakesTap"),
    "rq": ("idemfuzz.adapters.rq", "RqQueue"),
}
ENTRY_POINTS = "idemfuzz.adapters"


def load_adapters() -> list[Any]:
    """New instances of all adapters, built in and installed; none of them imports its vendor before it must."""
    adapters = [getattr(import_module(module), name)() for module, name in _BUILT_IN.values()]
    return adapters + [point.load()() for point in _installed(tuple(sys.path))]


@lru_cache(maxsize=4)
def _installed(path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Reading the metadata of everything that is installed takes longer than a small search."""
    return tuple(entry_points(group=ENTRY_POINTS))


def is_store(value: object) -> bool:
    """Whether some adapter takes a value for a store, be it one that is refused."""
    for adapter in load_adapters():
        adopt = getattr(adapter, "adopt", None)
        if adopt is not None:
            try:
                if adopt("?", value, Options()) is not None:
                    return True
            except Unusable:
                return True
    return False


def built_in_names() -> tuple[str, ...]:
    """Names of the adapters that idemfuzz itself brings."""
    return tuple(_BUILT_IN)
