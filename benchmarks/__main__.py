"""`python -m benchmarks`: measure, show, and with --write put the tables into docs/results.md."""

from __future__ import annotations

import inspect
import shlex
import sys
from importlib import import_module
from pathlib import Path

import click
from rich.console import Console

from benchmarks import BENCHMARKS
from benchmarks.machine import described
from benchmarks.page import Page
from benchmarks.stores import STORES, Settings

PAGE = Path(__file__).parents[1] / "docs" / "results.md"


def _listed(context: click.Context, parameter: click.Parameter, value: str | None) -> frozenset[str] | None:
    if value is None:
        return None
    stores = frozenset(value.split(","))
    if unknown := stores - set(STORES):
        raise click.BadParameter(f"{', '.join(sorted(unknown))} is none of {', '.join(STORES)}")
    return stores


@click.command(name="benchmarks")
@click.argument("names", nargs=-1, metavar="[NAME]...", type=click.Choice(BENCHMARKS))
@click.option(
    "--stores",
    metavar="STORE,...",
    callback=_listed,
    help=f"Only these: {', '.join(STORES)}.  [default: all]",
)
@click.option("--repeats", type=click.IntRange(min=1), help="Repetitions instead of each benchmark's own.")
@click.option("--write", is_flag=True, help=f"Put the tables into {PAGE.parent.name}/{PAGE.name}.")
def main(names: tuple[str, ...], stores: frozenset[str] | None, repeats: int | None, write: bool) -> None:
    """Measure what is named; all without a NAME."""
    console = Console()
    if not console.is_terminal:
        console.width = 180
    page = Page(PAGE) if write else None
    options = [argument for argument in sys.argv[1:] if argument not in (*BENCHMARKS, "--write")]
    for name in names or BENCHMARKS:
        command = shlex.join(["python", "-m", "benchmarks", name, *options])
        module = import_module(f"benchmarks.{name}")
        question, _, method = (inspect.getdoc(module) or "").partition("\n\n")
        settings = Settings(stores, repeats, write)
        with console.status(f"{name}: {question}"):
            table = module.measure(settings)
        console.print(table.shown(question))
        for missing in settings.missing:
            console.print(f"[yellow]left out[/]: {missing}")
        if page is not None:
            page.put(
                name, table.markdown(question, method), command, described(settings.servers), table.targets
            )
    if page is not None:
        console.print(f"written to {PAGE}")


if __name__ == "__main__":
    main()
