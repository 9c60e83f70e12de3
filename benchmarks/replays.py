"""Does every finding of the examples show again in a fresh process, each time? (target: 100 of 100)

Each of the fifteen variants is searched on each stack. All findings' plans are then replayed from their text by 20
fresh processes per stack (--repeats 100 for the target, which takes ten minutes), two at a time, each with new databases, and each in another
order. In the strict sample (a duplicate, an overlap and a fault per stack) each of ten replays has a process of its own. A replay counts if idemfuzz
confirms what it shows and the finding's code is among it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks.shop import STACKS, VARIANTS, opened_stack
from benchmarks.stores import Settings
from benchmarks.table import Table, Target
from idemfuzz import servers
from idemfuzz.model import Finding

_STRICT = 10
_AT_ONCE = 2

Told = tuple[str, str, str]
"""A finding as a fresh process is told it: variant, code, plan."""


def measure(settings: Settings) -> Table:
    table = Table("Replays", ("job", "stack", "finding", "plan", "reproduced", "strict: one process each"))
    processes = 0
    least = 1.0
    for stack, parts in STACKS.items():
        if not settings.wanted(parts[:1]):
            continue
        try:
            found = _findings(stack, settings)
        except servers.Unavailable as reason:
            settings.missing[str(reason)] = None
            continue
        times = settings.times(20)
        strictly = min(times, _STRICT)
        shown, strict, sample = Counter[Told](), Counter[Told](), _sample(found)
        orders = [found[at:] + found[:at] for at in (n % max(1, len(found)) for n in range(times))]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for reproduced in pool.map(partial(_replayed, stack), orders):
                shown.update(reproduced)
            alone_ones = [[told] for told in sample for _ in range(strictly)]
            for reproduced in pool.map(partial(_replayed, stack), alone_ones):
                strict.update(reproduced)
        processes += times + len(alone_ones)
        for told in found:
            name, code, plan = told
            alone = f"{strict[told]} of {strictly}" if told in sample else ""
            least = min(least, shown[told] / times, strict[told] / strictly if told in sample else 1.0)
            table.rows.append((name, stack, code, f"`{plan}`", f"{shown[told]} of {times}", alone))
    table.notes.append(f"{processes} fresh processes; {len(table.rows)} findings.")
    table.targets.append(
        Target(
            f"a finding reproduces in a fresh process ({len(table.rows)} findings)",
            "10/10 same run",
            "100/100",
            f"{processes} processes; {'every replay of each' if least == 1.0 else f'{least:.0%} of the worst'}",
            least == 1.0 and settings.times(20) >= 100,
            f"{settings.times(20)} of 100 replays of each were asked for" if least == 1.0 else "",
        )
    )
    return table


def _findings(stack: str, settings: Settings) -> list[Told]:
    with opened_stack(stack) as shop:
        for version in shop.versions:
            settings.servers[version.rpartition(" ")[0]] = version.rpartition(" ")[2]
        return [
            (name, finding.code, str(finding.counterexample.plan))
            for name in VARIANTS
            for finding in shop.check(name).findings
        ]


def _sample(found: Sequence[Told]) -> list[Told]:
    """The last finding of each mechanism: duplicate, overlap, fault."""
    kinds = {("overlap" if "order=" in t[2] else "fault" if "@" in t[2] else "duplicate"): t for t in found}
    return list(kinds.values())


def _replayed(stack: str, found: Sequence[Told]) -> list[Told]:
    """Those of ``found`` that one fresh process reproduced."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.replays", stack],
        input=json.dumps(found),
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the replaying process failed: {done.stderr}")
    shown = json.loads(done.stdout.splitlines()[-1])
    return [told for told, reproduced in zip(found, shown, strict=True) if reproduced]


def _replay(stack: str, found: Sequence[Told]) -> list[bool]:
    """In the fresh process."""
    with opened_stack(stack) as shop:
        return [
            any(_shows(finding, code) for finding in shop.check(name, plan=plan).findings)
            for name, code, plan in found
        ]


def _shows(finding: Finding, code: str) -> bool:
    """A search tells of a plan what no simpler one showed; a replay puts the gravest first, and the rest besides."""
    told = (finding.code, *(line.partition(" ")[0] for line in finding.also))
    return code in told and finding.counterexample.shown == finding.counterexample.tried


if __name__ == "__main__":
    print(json.dumps(_replay(sys.argv[1], json.load(sys.stdin))))
