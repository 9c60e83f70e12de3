"""`idemfuzz demo`: real jobs, judged on real databases."""

from __future__ import annotations

import click

from idemfuzz.cli import EXIT_FOUND, EXIT_HOLDS, EXIT_UNUSABLE

_CHOICES = ("sqlite", "postgresql", "mariadb", "all")


@click.command("demo")
@click.option(
    "--store",
    "store",
    type=click.Choice(_CHOICES),
    help="On this one alone, or on all; by default on SQLite, then on PostgreSQL.",
)
def command(store: str | None) -> None:
    """Watch six jobs being judged: three as they are often written, and the same three right.

    Ends with 0 when every verdict is the expected one, with 2 when none could be had. A server that is not here is
    left out, with the mend.
    """
    from idemfuzz.demo.show import STACKS, demonstrate
    from idemfuzz.reporting.screen import Screen

    stacks = {None: STACKS[:2], "all": STACKS}.get(store, (store or "sqlite",))
    with Screen.on_standard_output() as screen:
        fine = demonstrate(stacks, screen)
    raise click.exceptions.Exit(EXIT_UNUSABLE if fine is None else EXIT_HOLDS if fine else EXIT_FOUND)
