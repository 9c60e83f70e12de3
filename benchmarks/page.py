"""The section of docs/results.md that the benchmarks own; all else on that page is left as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from benchmarks import BENCHMARKS
from benchmarks.table import Target

_BEGIN, _END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"
_TARGETS = re.compile(r"<!-- targets (.*?) -->\n")


class Page:
    """Replaces one benchmark's part at a time: what was not measured now stays.

    Raises:
        click.ClickException: the page or its markers are missing; said before anything is measured.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._split()

    def put(self, name: str, table: str, command: str, machine: str, targets: Sequence[Target]) -> None:
        before, section, after = self._split()
        parts = dict(re.findall(r"<!-- benchmark (\w+) -->\n(.*?)<!-- /benchmark -->", section, re.S))
        # What was measured stands beside each part, so that the summary can be made anew from all of them.
        kept = json.dumps([[command, asdict(target)] for target in targets]).replace("--", "\\u002d\\u002d")
        parts[name] = f"<!-- targets {kept} -->\n{table}\n\n    {command}\n\n{machine}\n\n"
        ordered = [part for part in BENCHMARKS if part in parts]
        text = "\n".join(f"<!-- benchmark {part} -->\n{parts[part]}<!-- /benchmark -->\n" for part in ordered)
        summary = _summary("".join(parts[part] for part in ordered))
        self._path.write_text(f"{before}{_BEGIN}\n\n{summary}{text}\n{_END}{after}", encoding="utf-8")

    def _split(self) -> tuple[str, str, str]:
        text = self._path.read_text(encoding="utf-8") if self._path.exists() else ""
        before, begin, rest = text.partition(_BEGIN)
        section, end, after = rest.partition(_END)
        if not begin or not end:
            raise click.ClickException(
                f"{self._path} has no section to write to; put the lines '{_BEGIN}' and '{_END}' where it belongs"
            )
        return before, section, after


def _summary(parts: str) -> str:
    """All targets in one table."""
    rows = [row for kept in _TARGETS.findall(parts) for row in json.loads(kept)]
    if not rows:
        return ""
    lines = [
        "### Targets",
        "",
        "| what | best known of others | target | measured | | by |",
        "|---|---|---|---|---|---|",
    ]
    for command, row in rows:
        verdict = "met" if row["met"] else f"**not met**: {row['why']}" if row["why"] else "**not met**"
        cells = (row["what"], row["known"], row["goal"], row["measured"], verdict, f"`{command}`")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n\n"
