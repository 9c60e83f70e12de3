"""`idemfuzz inventory`: every job of an application, what in it may not be repeated, its test and its last verdict."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click

from idemfuzz import import_path
from idemfuzz.abc import Unusable
from idemfuzz.cli import EXIT_FOUND, EXIT_HOLDS

if TYPE_CHECKING:
    from idemfuzz.inventory import Inventory


@click.command("inventory")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@click.option(
    "--import",
    "modules",
    multiple=True,
    metavar="MODULE",
    help="Import a module, too, and ask the queues' adapters for its jobs.",
)
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
@click.option("--markdown", "as_markdown", is_flag=True, help="A table in Markdown.")
@click.option(
    "--fail-under",
    type=click.FloatRange(0, 100),
    metavar="PERCENT",
    help="End with 1 if fewer of a hundred jobs hold.",
)
@click.option(
    "-v", "--verbose", is_flag=True, help="Where each job is handed over, and where its operations stand."
)
def command(
    paths: tuple[Path, ...],
    modules: tuple[str, ...],
    as_json: bool,
    as_markdown: bool,
    fail_under: float | None,
    verbose: bool,
) -> None:
    """List every job below each PATH: a folder or file of an application's source, with its tests if they are there.

    The source is read, not imported. Verdicts are those of the last test runs, from .idemfuzz/verdicts.json here.
    """
    from idemfuzz.inventory import take_inventory
    from idemfuzz.inventory.rendering import markdown, sentence, to_json

    if as_json and as_markdown:
        raise click.UsageError("--json and --markdown are two formats; choose one")
    inventory = take_inventory(paths, Path.cwd(), imported=list(imported_jobs(modules)))
    if as_json:
        click.echo(json.dumps(to_json(inventory), indent=2, ensure_ascii=False))
    elif as_markdown:
        click.echo(markdown(inventory), nl=False)
    else:
        for line in _lines(inventory, verbose=verbose):
            click.echo(line)
        click.echo(sentence(inventory))
    if fail_under is not None and inventory.percent < fail_under:
        click.echo(
            f"{inventory.percent:.0f} % of the jobs hold, --fail-under asks for {fail_under:g} %", err=True
        )
        raise click.exceptions.Exit(EXIT_FOUND)
    raise click.exceptions.Exit(EXIT_HOLDS)


def imported_jobs(modules: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Name and queue of the jobs that the adapters find in imported modules.

    Raises:
        Unusable: a module cannot be imported.
    """
    if not modules:
        return
    from idemfuzz.adapters import load_adapters

    import_path.include_here()
    queues = [adapter for adapter in load_adapters() if hasattr(adapter, "interruption")]
    for name in modules:
        try:
            module = import_module(name)
        except Exception as error:
            raise Unusable(f"--import {name!r}: {type(error).__name__}: {error}") from error
        for value in list(vars(module).values()):
            for queue in queues:
                for function in queue.functions(value):
                    yield f"{function.__module__}.{function.__qualname__}", queue.name


def _lines(inventory: Inventory, *, verbose: bool) -> Iterator[str]:
    from idemfuzz.inventory.rendering import age, strategy

    for entry in inventory.entries:
        mark = (
            "✓"
            if entry.holds
            else "✗"
            if entry.last is not None and entry.last.verdict == "violated"
            else "?"
        )
        when = f", {age(entry.last.at)}" if entry.last is not None else ""
        yield f"{mark} {entry.job.name}  {entry.status}{when}"
        where = (
            f"{entry.job.file}:{entry.job.line}" if entry.job.file else "not among the files that were read"
        )
        yield f"    at        {where} ({entry.job.queue})"
        open_ones = [op for op in entry.operations if not op.guarded]
        if verbose:
            for seen in entry.job.seen:
                yield f"    enqueued  {seen}"
            for operation in open_ones:
                yield f"    repeats   {operation}"
        elif open_ones:
            yield f"    repeats   {'; '.join(dict.fromkeys(op.what for op in open_ones))}"
        yield f"    strategy  {strategy(entry)}"
        yield f"    test      {', '.join(entry.tests) or 'no marked test'}"
        if entry.last is not None:
            yield f"    verdict   {entry.last.headline}"
        yield ""
    for enqueued in inventory.unknown:
        yield f"? {enqueued}: the text does not tell which job is handed over"
    for path, why in inventory.unreadable:
        yield f"? {path}: cannot be read: {why}"
