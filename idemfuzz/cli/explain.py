"""`idemfuzz explain`: what the code of a finding means, and what to do."""

from __future__ import annotations

import textwrap
from difflib import get_close_matches

import click

from idemfuzz.cli import EXIT_UNUSABLE

_FAMILIES = {
    "1": "Duplicated",
    "2": "Lost or torn",
    "3": "Stuck",
    "4": "Noise: notes that fail nothing by themselves",
    "5": "The queue's doings: notes of a stress run",
    "9": "Doubts of idemfuzz itself: nothing can be claimed",
}


@click.command("explain")
@click.argument("code", required=False)
def command(code: str | None) -> None:
    """Say what the CODE of a finding means; without CODE, list all."""
    from idemfuzz.diagnose import CODES

    if code is None:
        _list_all()
        return
    wanted = code.strip().upper()
    wanted = f"IDM{wanted}" if wanted.isdigit() else wanted
    entry = CODES.get(wanted)
    if entry is None:
        nearest = get_close_matches(wanted, CODES, n=3, cutoff=0.5) or list(CODES)[:3]
        near = ", ".join(f"{name} ({CODES[name].title})" for name in nearest)
        click.echo(
            f"Error: there is no code {code!r}. Nearest: {near}. All of them: idemfuzz explain", err=True
        )
        raise click.exceptions.Exit(EXIT_UNUSABLE)
    click.echo(f"{click.style(entry.code, bold=True)}  {click.style(entry.title, bold=True)}")
    click.echo(click.style(f"{_FAMILIES[entry.code[3]]}\n", dim=True))
    for label, text in (("Meaning", entry.meaning), ("Remedy", entry.remedy)):
        _show(label, text)


def _list_all() -> None:
    from idemfuzz.diagnose import CODES

    for digit, family in _FAMILIES.items():
        click.secho(family, bold=True)
        for entry in CODES.values():
            if entry.code[3] == digit:
                click.echo(f"  {entry.code}  {entry.title}")
        click.echo()
    click.echo("What one means, and what to do: idemfuzz explain IDM101")


def _show(label: str, text: str) -> None:
    text = text if text.endswith(".") else text + "."
    lines = textwrap.wrap(text, 78, break_on_hyphens=False)
    click.echo(f"{click.style(label, bold=True)}")
    for line in lines:
        click.echo(f"  {line}")
    click.echo()
