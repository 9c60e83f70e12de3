"""`idemfuzz export`: a regression test for a saved finding."""

from __future__ import annotations

import os
from pathlib import Path

import click

from idemfuzz import import_path
from idemfuzz.abc import Unusable


@click.command("export")
@click.argument("which", metavar="ID|FILE")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Write it there, or to the end of the file of the test that found it.",
)
def command(which: str, output: str | None) -> None:
    """Write a regression test for a saved finding: the marker, the plan, and the values that were found.

    Without -o it is printed. A file that is there is not overwritten; only the test's own file is added to.
    """
    from idemfuzz.cli.replay import chosen
    from idemfuzz.fuzz.export import exported

    import_path.include_here()
    entries, _ = chosen(Path.cwd(), [which])
    if len(entries) > 1:
        told = ", ".join(entry.id for entry in entries)
        raise click.BadParameter(f"{which!r} names {len(entries)} findings: {told}", param_hint="ID|FILE")
    made = exported(entries[0], Path.cwd())
    if output is None:
        if made.beside is not None:
            click.echo(f"# To be added to {os.path.relpath(made.beside)}:", err=True)
        click.echo(made.text, nl=False)
        return
    path = Path(output)
    try:
        if path.exists():
            if made.beside is None or path.resolve() != made.beside.resolve():
                raise Unusable(f"{output!r} is there already, and is not overwritten; name another file")
            before = path.read_text(encoding="utf-8")
            if made.text.strip() in before:
                raise Unusable(f"{output!r} has this test already")
            path.write_text(f"{before.rstrip()}\n\n\n{made.text}", encoding="utf-8")
        elif made.beside is not None:
            raise Unusable(
                f"the test uses what {os.path.relpath(made.beside)} has; write it there: -o {os.path.relpath(made.beside)}"
            )
        else:
            path.write_text(made.text, encoding="utf-8")
    except OSError as error:
        raise Unusable(f"{output!r} cannot be written: {error}") from error
    click.echo(f"Written to {output}.")
