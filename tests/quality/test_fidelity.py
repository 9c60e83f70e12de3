"""A real SIGKILL at each point of each planted bug, and the simulated one: the same verdicts."""

from __future__ import annotations

import pytest
from nightly import some_of

from idemfuzz.testing.fidelity import compared
from quality.case import MARIADB, POSTGRESQL, Case, World
from quality.table import CASES

LINES = [
    pytest.param(case, stack, id=f"{case.kind}-{case.name}")
    for case in CASES
    # An assertion of the test's body is made in each child, and sees what this one has done alone.
    if case.asserts is None
    and (stack := next((s for s in (POSTGRESQL, MARIADB) if s in case.stacks), None)) is not None
]


@pytest.mark.slow
@pytest.mark.parametrize(("case", "stack"), some_of(LINES, 5), indirect=True)
def test_real_kills_agree_with_simulated_ones(case: Case, world: World) -> None:
    """Goal: a simulation is believed where reality agrees. Method: each point killed both ways, on servers."""
    points = compared(
        lambda: case.scenario(world), case.stores(world), job=case.job, **{**case.options, "timeout": 5.0}
    )
    assert points
    assert not [str(point) for point in points if not point.agrees]
