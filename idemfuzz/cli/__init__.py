"""The command line. Each subcommand is a module of its own and imports what it needs when it runs.

Exit codes: 0 holds, 1 findings (or nothing can be claimed), 2 usage or infrastructure.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from idemfuzz import __version__

__all__ = ["EXIT_FOUND", "EXIT_HOLDS", "EXIT_UNUSABLE", "main"]

EXIT_HOLDS, EXIT_FOUND, EXIT_UNUSABLE = 0, 1, 2
_COMMANDS = {
    "run": "Search the marked tests or registered jobs of TARGETs.",
    "fuzz": "Search on and on, over arguments, states, schedules and faults, within a budget.",
    "replay": "Say what has become of saved findings.",
    "export": "Write a regression test for a saved finding.",
    "baseline": "Accept known findings, with a reason and an end.",
    "issues": "Write saved findings for an issue tracker.",
    "stress": "Deliver a job many times by real workers, kill them, and judge what is left.",
    "inventory": "List every job of an application, with its test and last verdict.",
    "document": "Write a page on all jobs: what may not be repeated, what holds it.",
    "demo": "Watch real jobs being judged on real databases.",
    "explain": "Say what the code of a finding means.",
    "doctor": "Say what idemfuzz found on this machine, and what is missing.",
}


class _Group(click.Group):
    """Loads a subcommand when it is called, and holds the exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"idemfuzz.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def main(  # type: ignore[override]  # Completion's parameters, which nobody passes by position.
        self, args: Sequence[str] | None = None, standalone_mode: bool = True, **extra: Any
    ) -> Any:
        """Like click's, but every kind of misuse ends with 2: 1 is for findings."""
        from idemfuzz.abc import Unusable

        try:
            code = super().main(args, standalone_mode=False, **{"prog_name": "idemfuzz", **extra})
        except click.ClickException as error:
            error.show()
            code = EXIT_UNUSABLE
        except Unusable as error:
            click.echo(f"Error: {error}", err=True)
            code = EXIT_UNUSABLE
        except (click.Abort, KeyboardInterrupt):
            click.echo("Interrupted.", err=True)
            code = EXIT_UNUSABLE
        if not standalone_mode:
            return code
        raise SystemExit(code if isinstance(code, int) else EXIT_HOLDS)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="idemfuzz", message="%(prog)s %(version)s")
def main() -> None:
    """What happens if this job runs twice?

    Exit codes: 0 holds, 1 findings or nothing can be claimed, 2 usage or infrastructure.
    """
