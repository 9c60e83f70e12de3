"""Right jobs get the verdict "holds", with no finding and no doubt, on every store that they apply to.

Each change is held against every third line, and the night against all of them.
"""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from nightly import some_of

import idemfuzz
from safe import guards
from safe.case import World
from safe.conftest import STACKS
from safe.table import CASES, Case


def _marks(case: Case, store: str) -> list[pytest.MarkDecorator]:
    reason = case.alarms.get(store) or case.alarms.get("*")
    return [] if reason is None else [pytest.mark.xfail(strict=True, reason=reason)]


LINES = [
    pytest.param(case, store, STACKS[store], marks=_marks(case, store), id=f"{case.title}-{store}")
    for case in CASES
    for store in case.on
]


@pytest.mark.slow
@pytest.mark.parametrize(("case", "store", "stacks"), some_of(LINES, 3), indirect=["store", "stacks"])
def test_right_job_holds(case: Case, world: World) -> None:
    """Goal: no false alarm, no false doubt, no note that is out of place. Method: the table, line by line."""
    case.create(world)
    handed = {name: getattr(world, name) for name in case.uses.split() if hasattr(world, name)}
    handed |= {name: value for name, value in world.extra.items() if name in case.uses.split()}

    with case.around(world) if case.around is not None else nullcontext():
        report = idemfuzz.check(lambda: case.scenario(world), job=case.job, stores=handed, **case.options)

    shown = [f"{f.code} {f.summary} [{f.counterexample.plan}]" for f in report.findings]
    assert report.verdict == "holds", shown or report.notes
    assert not shown
    assert {note.code for note in report.notes} <= set(case.notes), report.notes
    # The pass is no empty one.
    certificate = report.certificate
    assert certificate.effects
    assert certificate.redeliveries or case.options.get("faults")
    assert not [covered for covered in certificate.coverage if covered.skipped]


@pytest.mark.parametrize(("store", "stacks"), [("sqlite", STACKS["sqlite"])], indirect=True)
def test_noise_is_an_error_if_strict(world: World) -> None:
    """Goal: a duplicate that raises though the state is right passes with a note, and fails where that is asked for."""
    case = next(case for case in CASES if case.job is guards.subscribe_loudly)
    case.create(world)

    def check(**options: bool) -> idemfuzz.Report:
        return idemfuzz.check(lambda: case.scenario(world), job=case.job, stores={"db": world.db}, **options)

    lenient, strict = check(), check(strict=True)
    assert lenient.verdict == "holds"
    assert {note.code for note in lenient.notes} == {"IDM401"}
    assert strict.verdict == "violated"
    assert [finding.code for finding in strict.findings] == ["IDM401"]


def test_there_are_enough_of_them() -> None:
    """Goal: the suite does not shrink unnoticed."""
    assert len({case.title for case in CASES}) == len(CASES) >= 100
    assert len(LINES) >= 330
