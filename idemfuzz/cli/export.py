"""`idemfuzz export`: a regression test for a saved finding."""

from __future__ import annotations

import os
from pathlib import Path

import click

from idemfuzz import import_path
from idemfuzz.abc import Unusable


@click.command("export")
@click.argument("which", metavar="ID|FILE")
@click.option("-o", "--output", metavar="FILE", help="Write it there; to a file that is there it is added.")
def command(which: str, output: str | None) -> None:
    """Write a regression test for a saved finding: the marker, the plan, and the values that were found.

    Without -o it is printed. What a marked test found is added to that test's own file, whose imports and fixtures it uses.
    """
    from idemfuzz import corpus
    from idemfuzz.cli.replay import chosen
    from idemfuzz.fuzz.export import exported

    root = corpus.root_of(Path.cwd())
    import_path.include(root)
    import_path.include_here()
    entries, _ = chosen(root, [which])
    if len(entries) > 1:
        told = ", ".join(entry.id for entry in entries)
        raise click.BadParameter(f"{which!r} names {len(entries)} findings: {told}", param_hint="ID|FILE")
    made = exported(entries[0], root)
    home = None if made.beside is None else os.path.relpath(made.beside)
    if output is None:
        if home is not None:
            place = f", to its class {'.'.join(made.owners)}" if made.owners else ""
            click.echo(f"# To be added to {home}{place}:", err=True)
        click.echo(made.text, nl=False)
        return
    path = Path(output)
    if made.beside is not None and path.resolve() != made.beside.resolve():
        raise Unusable(f"the test uses what {home} has; write it there: -o {home}")
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        path.write_text(made.added_to(before) if before.strip() else made.text, encoding="utf-8")
    except Unusable as error:
        raise Unusable(f"nothing is written to {output!r}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"{output!r} cannot be written: {error}") from error
    click.echo(f"{'Added' if before.strip() else 'Written'} to {output}.")
