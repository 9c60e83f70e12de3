"""On every right job that a guard of a known kind holds, the proof names the guard, on every store."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from nightly import some_of

import idemfuzz
from safe.case import MARIADB, POSTGRESQL, SQLITE, World
from safe.conftest import STACKS
from safe.proofs import PROOFS
from safe.table import CASES, Case

LINES = [
    pytest.param(case, store, STACKS[store], id=f"{case.title}-{store}")
    for case in CASES
    for store in case.on
    if store in (SQLITE, POSTGRESQL, MARIADB) and case.title in PROOFS
]


@pytest.mark.slow
@pytest.mark.parametrize(("case", "store", "stacks"), some_of(LINES, 10), indirect=["store", "stacks"])
def test_the_guard_that_carries_is_named(case: Case, store: str, world: World) -> None:
    """Goal: each guard has the role that a person finds by thinking. Method: the table, line by line."""
    case.create(world)
    handed = {name: getattr(world, name) for name in case.uses.split() if hasattr(world, name)}
    handed |= {name: value for name, value in world.extra.items() if name in case.uses.split()}
    options = {"max_trials": 60, **case.options, "prove": True}

    with case.around(world) if case.around is not None else nullcontext():
        report = idemfuzz.check(lambda: case.scenario(world), job=case.job, stores=handed, **options)

    assert report.proof is not None, report.notes
    removals = {" & ".join(sorted(guard.name for guard in r.guards)): r for r in report.proof.removals}
    found = {name: str(removal.role) for name, removal in removals.items()}
    expected = PROOFS[case.title]
    told = [f"{name}: {r.role} {r.why or r.shown} ({r.plan})" for name, r in removals.items()]
    assert found == expected.get(store, expected["*"]), "\n".join(told)


def test_the_table_speaks_of_cases_that_are_there() -> None:
    assert set(PROOFS) <= {case.title for case in CASES}
    assert len(PROOFS) >= 60
