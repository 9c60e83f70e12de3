"""`idemfuzz issues`: texts for an issue tracker, and for the summary page of a CI job."""

from __future__ import annotations

from pathlib import Path

import click

from idemfuzz.abc import Unusable


@click.command("issues")
@click.argument("which", nargs=-1, metavar="[ID|FILE|DIR]...")
@click.option("--into", metavar="DIR", help="Write each into a file of its own, named by its id.")
@click.option("--summary", is_flag=True, help="One table of all instead.")
def command(which: tuple[str, ...], into: str | None, summary: bool) -> None:
    """Write saved findings as Markdown: an issue each, whose first line is its title, or one table.

    One finding that lies in several folders (of shards) is written once.
    """
    from idemfuzz.cli.replay import chosen
    from idemfuzz.fuzz.issues import issue_of, summary_of

    if into is not None and summary:
        raise click.UsageError("--into and --summary cannot be combined")
    entries, problems = chosen(Path.cwd(), which, may_be_none=True)
    for problem in problems:
        click.echo(f"Note: {problem}", err=True)
    unique = list({entry.id or str(entry.path): entry for entry in entries}.values())
    if summary:
        click.echo(summary_of(unique), nl=False)
        return
    if into is None:
        click.echo("\n".join(issue_of(entry) for entry in unique), nl=False)
        return
    folder = Path(into)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for entry in unique:
            (folder / f"{entry.id or 'finding'}.md").write_text(issue_of(entry), encoding="utf-8")
    except OSError as error:
        raise Unusable(f"{into!r} cannot be written to: {error}") from error
    click.echo(f"{len(unique)} written to {into}.")
