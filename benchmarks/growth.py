"""How does the cost of a search grow with the steps of a job, and with the deliveries that overlap?

*steps*: a right job that writes n keys of its own (Redis), or n rows with keys of its own in one transaction (SQL),
searched with default bounds. *deliveries*: a right job of two steps (Redis: it reads a key and writes it) whose 2, 3 and
4 deliveries overlap;
only the interleavings, with a budget that lets them end. ms per trial says whether a trial pays for more than what it
does; trials say how many the bounds ask for. One search each, the fastest of 2 unless --repeats says otherwise.
With --write, the same figures become the plot below, if matplotlib is installed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from redis import Redis
from sqlalchemy import Engine, insert, select

from benchmarks import jobs
from benchmarks.stores import Settings
from benchmarks.table import Table
from benchmarks.three_jobs import search
from idemfuzz import Report
from idemfuzz.abc import Options

PLOT = Path(__file__).parents[1] / "docs" / "growth.svg"
_STEPS = (2, 4, 8, 16)
_DELIVERIES = (2, 3, 4)
_STORES = ("sqlite-memory", "postgresql", "redis")

Series = dict[str, list[tuple[int, Report, float]]]


def measure(settings: Settings) -> Table:
    columns = ("grows", "store", "n", "verdict", "trials", "exhaustive", "seconds", "ms per trial")
    table = Table("Growth", columns)
    steps: Series = {}
    deliveries: Series = {}
    for name, store in settings.opened(_STORES):
        if isinstance(store, Engine):
            jobs.TABLES.create_all(store)
        steps[name] = [(n, *_fastest(_writing(n), store, Options(), settings.times(2))) for n in _STEPS]
        if not isinstance(store, Engine):
            deliveries[name] = [
                (n, *_fastest(_read_and_write, store, _overlapping(n), settings.times(2)))
                for n in _DELIVERIES
            ]
    for what, series in (("steps", steps), ("deliveries", deliveries)):
        for name, found in series.items():
            table.rows += [_row(what, name, *one) for one in found]
    if settings.write:
        table.notes.append(_plotted(steps, deliveries))
    return table


def _overlapping(number: int) -> Options:
    return Options(faults=frozenset({"overlap"}), overlapping=number, max_trials=20_000)


def _fastest(job: Callable[[Any], None], store: Any, options: Options, repeats: int) -> tuple[Report, float]:
    searches = [search(job, store, options) for _ in range(repeats)]
    report, _, seconds = min(searches, key=lambda one: one[2])
    return report, seconds


def _row(what: str, name: str, n: int, report: Report, seconds: float) -> tuple[str, ...]:
    certificate = report.certificate
    return (
        what,
        name,
        str(n),
        str(report.verdict),
        str(certificate.trials),
        "yes" if certificate.exhaustive else "no",
        f"{seconds:.2f}",
        f"{seconds / certificate.trials * 1000:.2f}",
    )


def _read_and_write(client: Redis) -> None:
    client.get("done")
    client.set("done", "order-1")


def _writing(number: int) -> Callable[[Any], None]:
    def write(store: Engine | Redis) -> None:
        if isinstance(store, Redis):
            for index in range(number):
                store.set(f"grown:{index}", "done")
            return
        with store.begin() as connection:
            for index in range(number):
                ref = f"order-{index}"
                found = select(jobs.ORDERED.c.ref).where(jobs.ORDERED.c.ref == ref).with_for_update()
                if not connection.scalar(found):
                    connection.execute(_new(store, ref))

    return write


def _new(engine: Engine, ref: str) -> Any:
    from sqlalchemy.dialects import postgresql, sqlite

    kind: Any = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}.get(engine.dialect.name, insert)
    return kind(jobs.ORDERED).values(ref=ref, cents=1250).on_conflict_do_nothing()


def _plotted(steps: Series, deliveries: Series) -> str:
    """Draw `PLOT`; the Markdown that shows it."""
    try:
        import matplotlib
    except ImportError:
        return "The plot is of an earlier run: matplotlib is not installed here."
    matplotlib.use("svg")
    # The same figures give the same file.
    matplotlib.rcParams["svg.hashsalt"] = "idemfuzz"
    from matplotlib import pyplot

    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    for name, found in steps.items():
        numbers = [n for n, _, _ in found]
        left.plot(numbers, [seconds for _, _, seconds in found], marker="o", label=name)
        per_trial = [seconds / report.certificate.trials * 1000 for _, report, seconds in found]
        middle.plot(numbers, per_trial, marker="o", label=name)
    for name, found in deliveries.items():
        numbers = [n for n, _, _ in found]
        right.plot(numbers, [report.certificate.trials for _, report, _ in found], marker="o", label=name)
    left.set(title="default search", xlabel="steps of the job", ylabel="seconds", xscale="log", yscale="log")
    middle.set(title="one trial", xlabel="steps of the job", ylabel="ms", xscale="log", yscale="log")
    right.set(title="all interleavings of two steps", xlabel="deliveries", ylabel="trials", yscale="log")
    left.set_xticks(_STEPS, _STEPS)
    middle.set_xticks(_STEPS, _STEPS)
    right.set_xticks(_DELIVERIES)
    for axes in (left, middle, right):
        axes.grid(alpha=0.3)
        axes.minorticks_off()
        axes.legend(fontsize="small")
    figure.savefig(PLOT, metadata={"Date": None})
    pyplot.close(figure)
    return f"![cost against steps and deliveries]({PLOT.name})"
