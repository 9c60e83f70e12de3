"""`idemfuzz baseline`: accept known findings for a while."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

import click

from idemfuzz.abc import Unusable

_DAYS = 90


def _date(context: click.Context, parameter: click.Parameter, value: str | None) -> datetime.date | None:
    if value is None:
        return None
    today = datetime.date.today()
    try:
        if value.endswith("d") and value[:-1].isdecimal():
            return today + datetime.timedelta(days=int(value[:-1]))
        return datetime.date.fromisoformat(value)
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(
            f"{value!r} is no date; expected 2027-01-31, or 90d for days from now"
        ) from error


@click.command("baseline")
@click.argument("which", nargs=-1, metavar="[ID|FILE]...")
@click.option("--reason", metavar="TEXT", help="Why it is accepted.")
@click.option("--until", callback=_date, metavar="DATE|DAYSd", help=f"The last day [{_DAYS}d].")
@click.option("--remove", is_flag=True, help="Accept these no longer; without an ID, what has expired.")
def command(which: tuple[str, ...], reason: str | None, until: datetime.date | None, remove: bool) -> None:
    """Accept saved findings, with a reason and an end; without an ID, list what is accepted.

    Accepted findings fail no test and no run until then; they are shown as notes. They stand in idemfuzz-baseline.json, which belongs
    under version control.
    """
    from idemfuzz import baseline, corpus
    from idemfuzz.cli.replay import chosen

    root = corpus.root_of(Path.cwd())
    accepted = {one.id: one for one in baseline.read(root)}
    if remove:
        gone = [one for one in accepted.values() if (one.id in which if which else one.expired())]
        unknown = [text for text in which if text not in accepted]
        if unknown:
            raise click.BadParameter(f"{unknown[0]!r} is not accepted", param_hint="ID")
        baseline.write([one for one in accepted.values() if one not in gone], root)
        click.echo(f"{len(gone)} no longer accepted.")
        return
    if not which:
        if not accepted:
            click.echo("Nothing is accepted.")
        for one in accepted.values():
            over = "  EXPIRED" if one.expired() else ""
            click.echo(f"{one.id}  {one.code} of {one.target}  until {one.until}{over}\n  {one.reason}")
        return
    if not reason or not reason.strip():
        raise click.UsageError("--reason is needed: say why it is accepted, for whoever finds it later")
    last = until or datetime.date.today() + datetime.timedelta(days=_DAYS)
    if last < datetime.date.today():
        raise Unusable(f"--until {last} is over already")
    entries, _ = chosen(root, which)
    for entry in entries:
        if not entry.id:
            raise Unusable(
                f"{entry.path} is of an older format without an id; find it again with idemfuzz run"
            )
        accepted[entry.id] = baseline.Accepted(
            entry.id, entry.target, entry.code, reason.strip(), last, entry.summary
        )
    path = baseline.write(accepted.values(), root)
    for entry in entries:
        click.echo(f"Accepted until {last}: {entry.code} of {entry.target} [{entry.id}]")
    click.echo(f"Written to {os.path.relpath(path)}; keep it under version control.")
