"""A generated job as RQ's workers import it: the environment says which one.

``DIFFERENTIAL_PROGRAM`` is its number among those of ``DIFFERENTIAL_SEED``, ``DIFFERENTIAL_SMTP`` where mails
go, ``DIFFERENTIAL_FOLDER`` where files lie.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from unittest.mock import Mock

from redis import Redis
from sqlalchemy import create_engine

import idemfuzz
from differential.generator import programs
from differential.programs import IN_PROCESS, NAMES, Program, perform_at_once
from differential.reality import Outside, Reality, fill, fill_redis

JOBS = 8

engine = create_engine(os.environ["DATABASE_URL"])
redis = Redis.from_url(os.environ["REDIS_URL"])
host, _, port = os.environ["DIFFERENTIAL_SMTP"].partition(":")
folder = Path(os.environ["DIFFERENTIAL_FOLDER"])
outside = Outside(Mock(name="gateway"), (host, int(port)), folder)


def numbered(seed: int, number: int) -> Program:
    *_, program = programs(random.Random(seed), number + 1, IN_PROCESS)
    return program


program = numbered(int(os.environ["DIFFERENTIAL_SEED"]), int(os.environ["DIFFERENTIAL_PROGRAM"]))


def names(who: str) -> dict[str, str]:
    """What its rows, keys and files are called: no other job's are."""
    return {name: f"{who}-{name}" for name in NAMES}


def setup() -> None:
    everybody = [name for number in range(JOBS) for name in names(f"n{number}").values()]
    with engine.begin() as connection:
        fill(connection, everybody)
    fill_redis(redis, everybody)


def job(who: str) -> None:
    perform_at_once(program.renamed(names(who)), Reality(engine, redis, outside))


idemfuzz.register(job, args=lambda n: (f"n{n}",), stores=[engine, redis, folder], setup=setup)
