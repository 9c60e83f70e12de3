"""`idemfuzz replay`: what has become of saved findings."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest

from idemfuzz import import_path
from idemfuzz.cli import EXIT_FOUND, EXIT_HOLDS, EXIT_UNUSABLE
from idemfuzz.cli.display import Display

if TYPE_CHECKING:
    from idemfuzz.baseline import Accepted
    from idemfuzz.corpus import Entry
    from idemfuzz.fuzz.replaying import Replayed
    from idemfuzz.reporting.screen import Screen


def chosen(root: Path, wanted: Sequence[str], *, may_be_none: bool = False) -> tuple[list[Entry], list[str]]:
    """The findings that texts name: an id or its beginning, a file, a folder, a code; all of them without a text.

    A corpus may be empty, or not be there yet; of other folders that is so with ``may_be_none`` alone.

    Raises:
        click.BadParameter: one names nothing.
    """
    from idemfuzz import corpus
    from idemfuzz.model import PlanError

    kept, problems = corpus.entries(root)
    if not wanted:
        return kept, problems
    found: dict[str, Entry] = {}
    for text in wanted:
        path = Path(text)
        some: list[Entry]
        if path.is_file():
            try:
                some = [corpus.read(path)]
            except PlanError as error:
                raise click.BadParameter(str(error), param_hint="ID|FILE|DIR") from error
        elif path.is_dir():
            some = _below(path, problems)
        else:
            some = [
                entry
                for entry in kept
                if entry.id.startswith(text) or entry.code == text or entry.target == text
            ]
        is_corpus = path.name == corpus.FOLDER
        if not some and not is_corpus and not (may_be_none and path.is_dir()):
            known = ", ".join(f"{entry.id} ({entry.code} of {entry.target})" for entry in kept[:8])
            raise click.BadParameter(
                f"{text!r} names no finding: it is no file or folder here, and no id, code or target below "
                f"{root / corpus.FOLDER}. There {'are: ' + known if known else 'is none'}",
                param_hint="ID|FILE|DIR",
            )
        for entry in some:
            found.setdefault(entry.id or str(entry.path), entry)
    return list(found.values()), list(dict.fromkeys(problems))


def _below(folder: Path, problems: list[str]) -> list[Entry]:
    """The findings in a folder, which need not be ours: what is no finding is passed over; what cannot be read is a problem."""
    from idemfuzz import corpus
    from idemfuzz.model import PlanError

    found = []
    for path in sorted(folder.resolve().rglob("*.json")):
        if path.is_dir():
            continue
        try:
            found.append(corpus.read(path))
        except corpus.Damaged:
            continue
        except PlanError as error:
            problems.append(str(error))
    return found


@click.command("replay")
@click.argument("which", nargs=-1, metavar="[ID|FILE|DIR]...")
@click.option("--report", multiple=True, metavar="json=FILE", help="Write a report for programs, too.")
@click.option(
    "--pytest-args", multiple=True, metavar="ARGS", help="Further arguments for pytest, as one text."
)
def command(which: tuple[str, ...], report: tuple[str, ...], pytest_args: tuple[str, ...]) -> None:
    """Run saved findings again, and say of each: FIXED, STILL FAILING, or CHANGED at step k.

    Without an argument, all below .idemfuzz/. Ends with 0 if all are fixed, with 1 if not.
    """
    from idemfuzz import baseline, corpus
    from idemfuzz.cli.run import _check_json_reports, arguments_for, run_pytest
    from idemfuzz.reporting.json_report import write_json
    from idemfuzz.reporting.screen import Screen

    _check_json_reports(report)
    root = corpus.root_of(Path.cwd())
    kept_in = f"{os.path.relpath(root / corpus.FOLDER)}/"
    entries, problems = chosen(root, which)
    with Screen.on_standard_output() as screen:
        for problem in problems:
            screen.say(f"Note: {problem}", style="yellow")
        there = [entry for entry in entries if _is_there(entry, root)]
        accepted = {one.id: one for one in baseline.read(root) if not one.expired()}
        display = ReplayDisplay(screen, accepted, there, [entry for entry in entries if entry not in there])
        code = 0
        if there:
            arguments = [f"--rootdir={root}", *arguments_for(_targets(there, root), None, pytest_args)]
            code = run_pytest(arguments, display)
        if entries:
            outcome = display.conclude(code)
        else:
            screen.say(f"There is no saved finding below {' '.join(which) or kept_in}.", style="bold green")
            outcome = EXIT_HOLDS
        for target in report:
            write_json(Path(target.partition("=")[2]), display.to_json())
    raise click.exceptions.Exit(outcome)


def _is_there(entry: Entry, root: Path) -> bool:
    name = entry.target.partition("::")[0] if "::" in entry.target else entry.target.partition(":")[0]
    if "::" in entry.target or name.endswith(".py"):
        return (root / name).exists()
    import_path.include(root)
    import_path.include_here()
    try:
        if not import_path.is_findable(name):
            return False
    except ImportError:
        return False
    try:
        found: Any = importlib.import_module(name)
        for part in entry.target.partition(":")[2].split("."):
            found = getattr(found, part)
    except AttributeError:
        return False
    except Exception:
        # It is there, and why it cannot be imported is told where it is run.
        return True
    return True


def _targets(entries: Sequence[Entry], root: Path) -> list[str]:
    """Files rather than tests: a test that is gone is told of, and stops no other one."""
    found = []
    for entry in entries:
        file, is_node, _ = entry.target.partition("::")
        found.append(os.path.relpath(root / file) if is_node else entry.target)
    return list(dict.fromkeys(found))


class ReplayDisplay(Display):
    """Shows one line per finding."""

    def __init__(
        self,
        screen: Screen,
        accepted: Mapping[str, Accepted],
        entries: Sequence[Entry],
        gone: Sequence[Entry],
    ) -> None:
        super().__init__(screen)
        self._accepted = accepted
        self._saved = list(entries)
        self._gone = list(gone)
        self._fates: list[Replayed] = []

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        from idemfuzz.pytest_plugin.fuzz import ReplayLoop

        self._loop = ReplayLoop(self._saved, self._on_replay)
        session.config.pluginmanager.register(self._loop, "idemfuzz-replay-loop")

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Told when it is done."""

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Told by the loop."""

    def _on_replay(self, fate: Replayed) -> None:
        from idemfuzz.fuzz.replaying import Fate

        self._fates.append(fate)
        style = {Fate.FIXED: "bold green", Fate.STILL_FAILING: "bold red"}.get(fate.fate, "bold yellow")
        entry = fate.entry
        self._screen.say(
            f"{fate.headline}  {entry.code} of {entry.target}  [{entry.id or entry.path}]", style=style
        )
        self._screen.say(f"  {entry.summary}")
        if fate.why:
            self._screen.say(f"  {fate.why}")
        if fate.fate is Fate.STILL_FAILING and entry.id in self._accepted:
            one = self._accepted[entry.id]
            self._screen.say(f"  accepted until {one.until}: {one.reason}")

    def conclude(self, code: int) -> int:
        from idemfuzz.fuzz.replaying import Fate

        screen = self._screen
        if code == pytest.ExitCode.USAGE_ERROR:
            return EXIT_UNUSABLE
        if self._interrupted:
            screen.say(self._interrupted, style="bold yellow")
            return EXIT_UNUSABLE
        gone = self._all_gone()
        for entry in gone:
            screen.say(
                f"GONE  {entry.code} of {entry.target}  [{entry.id or entry.path}]", style="bold yellow"
            )
            screen.say(
                f"  there is no such test or job any more; if it will not come back, delete {entry.path}"
            )
        counts = [sum(fate.fate is one for fate in self._fates) for one in Fate]
        parts = [
            f"{count} {name}"
            for count, name in zip(counts, ("fixed", "still failing", "changed"), strict=True)
        ]
        parts += [f"{len(gone)} gone"] if gone else []
        accepted = [f for f in self._fates if f.fate is Fate.STILL_FAILING and f.entry.id in self._accepted]
        parts += [f"{len(accepted)} of them accepted"] if accepted else []
        bad = sum(counts[1:]) > len(accepted)
        screen.say(", ".join(parts), style="bold red" if bad or gone else "bold green")
        if bad:
            return EXIT_FOUND
        return EXIT_UNUSABLE if gone or self._errors else EXIT_HOLDS

    def _all_gone(self) -> list[Entry]:
        return [*self._gone, *(self._loop.missing if self._saved else [])]

    def to_json(self) -> dict[str, object]:
        """The report for programs."""
        gone = [(entry, "GONE", None, "there is no such test or job any more") for entry in self._all_gone()]
        replayed = [(fate.entry, str(fate.fate), fate.step, fate.why) for fate in self._fates]
        return {
            "idemfuzz_replay_report": 1,
            "replayed": [
                {
                    "id": entry.id,
                    "target": entry.target,
                    "code": entry.code,
                    "fate": fate,
                    "step": step,
                    "why": why,
                    "accepted": entry.id in self._accepted,
                }
                for entry, fate, step, why in (*replayed, *gone)
            ],
        }
