"""Does the simulated kill mean what a real SIGKILL means? The same points, once each way, and the same verdicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from idemfuzz.api import check, make_options
from idemfuzz.model import Plan, Report, Verdict
from idemfuzz.stress.kill_sweep import Sweep, Swept

__all__ = ["Compared", "compared"]

_SHARED = ("ignore", "strict", "attempts", "allow", "timeout")


@dataclass(frozen=True, slots=True)
class Compared:
    """One point, killed really and by the search."""

    swept: Swept
    report: Report

    @property
    def plan(self) -> Plan:
        return self.swept.plan

    @property
    def agrees(self) -> bool:
        """Whether both find something wrong, or neither does, and what is wrong goes by a common name."""
        if not self.swept.problems:
            return self.report.verdict is Verdict.HOLDS
        also = {text.partition(" ")[0] for finding in self.report.findings for text in finding.also}
        return bool(self.swept.codes & {*self.report.codes, *also})

    def __str__(self) -> str:
        real = ", ".join(sorted(f"{p.code} {p.store}: {p.group}" for p in self.swept.problems)) or "holds"
        notes = ", ".join(f"{note.code} {note.text}" for note in self.report.notes)
        simulated = ", ".join(f"{f.code} {f.summary}" for f in self.report.findings) or str(
            self.report.verdict
        )
        return f"{self.plan}: really {real}; simulated {simulated}" + (f" ({notes})" if notes else "")


def compared(
    scenario: Callable[[], Any], stores: Mapping[str, object], *, job: Any = None, **options: Any
) -> Sequence[Compared]:
    """Kill the scenario's job at each of its points, really and in the search, and give both verdicts.

    A point that the real execution does not reach again is left out.

    Raises:
        Unusable: a store lives in this process, or the job fails when nothing goes wrong.
    """
    given = {name: value for name, value in options.items() if name in _SHARED}
    with Sweep(scenario, stores, make_options(given)) as sweep:
        swept = [one for one in sweep.run() if one.reached]
    if check(scenario, job=job, stores=stores, plan="v1:x1", **given).certificate.calls > 1:
        # A real kill ends the whole scenario: where that makes several calls, the whole is the job.
        job = scenario
    return [
        Compared(one, check(scenario, job=job, stores=stores, plan=str(one.plan), **given)) for one in swept
    ]
