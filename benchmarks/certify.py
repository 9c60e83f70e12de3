"""How long does it take to certify a right job?

The five right jobs of `examples/` on three stacks of stores, with default bounds: the time of the whole search.
Medians (smallest to largest) of 3 searches unless --repeats says otherwise.
"""

from __future__ import annotations

from benchmarks.shop import STACKS, VARIANTS, opened_stack
from benchmarks.stores import Settings
from benchmarks.table import Table, spread
from idemfuzz import servers


def measure(settings: Settings) -> Table:
    table = Table(
        "Certifying the right jobs",
        ("stack", "job", "verdict", "exhaustive", "effects", "trials", "executions", "seconds", "trials/s"),
    )
    for stack, parts in STACKS.items():
        if not settings.wanted(parts[:1]):
            continue
        try:
            with opened_stack(stack) as shop:
                for version in shop.versions:
                    settings.servers[version.rpartition(" ")[0]] = version.rpartition(" ")[2]
                for name in (name for name in VARIANTS if name.endswith("_right")):
                    reports = [shop.check(name) for _ in range(settings.times(3))]
                    certificate = reports[-1].certificate
                    seconds = [report.certificate.seconds for report in reports]
                    table.rows.append(
                        (
                            stack,
                            name,
                            ", ".join({str(report.verdict) for report in reports}),
                            "yes" if certificate.exhaustive else "no",
                            str(certificate.effects),
                            str(certificate.trials),
                            str(certificate.executions),
                            spread(seconds, "{:.2f}"),
                            f"{certificate.trials / seconds[-1]:.0f}",
                        )
                    )
        except servers.Unavailable as reason:
            settings.missing[str(reason)] = None
    return table
