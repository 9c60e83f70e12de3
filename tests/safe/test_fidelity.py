"""A real SIGKILL at each point of each right job: they hold there, too."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from nightly import some_of

from idemfuzz.testing.fidelity import compared
from safe.case import MARIADB, POSTGRESQL, Case, World
from safe.conftest import STACKS
from safe.table import CASES

LINES = [
    pytest.param(case, store, STACKS[store], id=case.title)
    for case in CASES
    if (store := next((s for s in (POSTGRESQL, MARIADB) if s in case.on), None)) is not None
]


@pytest.mark.slow
@pytest.mark.parametrize(("case", "store", "stacks"), some_of(LINES, 5), indirect=["store", "stacks"])
def test_right_job_holds_under_real_kills(case: Case, world: World) -> None:
    """Goal: no false alarm from a real SIGKILL, and none from the simulated one at the same point."""
    case.create(world)
    handed = {name: getattr(world, name) for name in case.uses.split() if hasattr(world, name)}
    handed |= {name: value for name, value in world.extra.items() if name in case.uses.split()}
    with case.around(world) if case.around is not None else nullcontext():
        points = compared(
            lambda: case.scenario(world), handed, job=case.job, **{**case.options, "timeout": 5.0}
        )
    assert points
    assert not [str(point) for point in points if point.swept.problems or not point.agrees]
