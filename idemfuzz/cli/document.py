"""`idemfuzz document`: a page on all jobs, from source, traces and proofs; what people wrote in it stays."""

from __future__ import annotations

from pathlib import Path

import click

from idemfuzz.abc import Unusable
from idemfuzz.cli import EXIT_FOUND, EXIT_HOLDS
from idemfuzz.cli.inventory import imported_jobs


@click.command("document")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@click.option(
    "-o",
    "--output",
    default="JOBS.md",
    show_default=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The page to write or renew.",
)
@click.option(
    "--import",
    "modules",
    multiple=True,
    metavar="MODULE",
    help="Import a module, too, and ask the queues' adapters for its jobs.",
)
@click.option(
    "--check", is_flag=True, help="Write nothing; end with 1 if the page is not what would be written."
)
def command(paths: tuple[Path, ...], output: Path, modules: tuple[str, ...], check: bool) -> None:
    """Write what may not be repeated in each job below each PATH, what holds it, and how it is tested.

    Each job has a region between two marks, which is written anew. Everything around the regions is yours.
    """
    from idemfuzz.inventory import take_inventory
    from idemfuzz.inventory.rendering import documented

    try:
        before = output.read_text(encoding="utf-8") if output.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"cannot read {str(output)!r}: {error}. Name another file with --output") from error
    inventory = take_inventory(paths, Path.cwd(), imported=list(imported_jobs(modules)))
    after = documented(before, inventory)
    if check:
        if after != before:
            click.echo(f"{output} is out of date; run idemfuzz document", err=True)
        raise click.exceptions.Exit(EXIT_FOUND if after != before else EXIT_HOLDS)
    try:
        output.write_text(after, encoding="utf-8")
    except OSError as error:
        raise Unusable(f"cannot write {str(output)!r}: {error}. Name another file with --output") from error
    click.echo(f"{output}: {len(inventory.entries)} job{'' if len(inventory.entries) == 1 else 's'}")
