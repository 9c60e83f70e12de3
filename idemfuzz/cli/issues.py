"""`idemfuzz issues`: texts for an issue tracker, for the summary page of a CI job, and for code scanning."""

from __future__ import annotations

from pathlib import Path

import click

from idemfuzz.abc import Unusable


@click.command("issues")
@click.argument("which", nargs=-1, metavar="[ID|FILE|DIR]...")
@click.option("--into", metavar="DIR", help="Write each into a file of its own, named by its id.")
@click.option("--summary", is_flag=True, help="One table of all instead.")
@click.option("--sarif", metavar="FILE", help="Write all into one file for code scanning instead.")
def command(which: tuple[str, ...], into: str | None, summary: bool, sarif: str | None) -> None:
    """Write saved findings as Markdown: an issue each, whose first line is its title, or one table; or as SARIF.

    One finding that lies in several folders (of shards) is written once. Those that the baseline accepts are left out, unless named by id.
    """
    from idemfuzz import baseline, corpus
    from idemfuzz.cli.replay import chosen
    from idemfuzz.fuzz.issues import issue_of, summary_of

    if (into is not None) + summary + (sarif is not None) > 1:
        raise click.UsageError("choose one of --into, --summary and --sarif")
    root = corpus.root_of(Path.cwd())
    entries, problems = chosen(root, which, may_be_none=True)
    for problem in problems:
        click.echo(f"Note: {problem}", err=True)
    accepted = {one.id for one in baseline.read(root) if not one.expired()}
    named = {entry.id for entry in entries if any(text and entry.id.startswith(text) for text in which)}
    left_out = [entry for entry in entries if entry.id in accepted - named]
    entries = [entry for entry in entries if entry not in left_out]
    if left_out:
        click.echo(f"Note: {len(left_out)} accepted by {baseline.FILE} left out", err=True)
    if sarif is not None:
        from idemfuzz.reporting.json_report import write_text
        from idemfuzz.reporting.sarif import of_corpus

        write_text(Path(sarif), of_corpus(entries))
        click.echo(f"{len(entries)} written to {sarif}.")
        return
    if summary:
        click.echo(summary_of(entries), nl=False)
        return
    if into is None:
        click.echo("\n".join(issue_of(entry) for entry in entries), nl=False)
        return
    folder = Path(into)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for entry in entries:
            (folder / f"{entry.id or 'finding'}.md").write_text(issue_of(entry), encoding="utf-8")
    except OSError as error:
        raise Unusable(f"{into!r} cannot be written to: {error}") from error
    click.echo(f"{len(entries)} written to {into}.")
