"""Generated jobs under a real SIGKILL at each of their points: the verdict is the simulation's."""

from __future__ import annotations

import random
from typing import Any

import pytest

from differential.generator import PROGRAMS, SEED, programs
from differential.programs import IN_PROCESS
from differential.reality import Outside, fill, fill_redis
from differential.test_verdicts import job
from idemfuzz.testing.fidelity import compared


@pytest.mark.slow
@pytest.mark.parametrize("stacks", ["postgresql+valkey", "mariadb+redis"], indirect=True)
def test_real_kills_agree_with_simulated_ones(stacks: Any, outside: Outside) -> None:
    """Goal: a simulation is believed where reality agrees with it, also where nobody thought of the job."""
    with stacks.engine.begin() as connection:
        fill(connection)
    fill_redis(stacks.redis)
    stores = {"db": stacks.engine, "redis": stacks.redis, "folder": outside.folder}
    points, wrong = 0, []
    for number, program in enumerate(programs(random.Random(SEED), PROGRAMS // 4, IN_PROCESS)):
        killed = compared(lambda: job(stacks.engine, stacks.redis, outside, program), stores, job=job)  # noqa: B023
        points += len(killed)
        wrong += [f"{number}: {program}\n  {point}" for point in killed if not point.agrees]
    assert points >= PROGRAMS // 4
    assert not wrong, "\n".join(wrong)
