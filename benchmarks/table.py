"""What a benchmark returns: rows, shown on the terminal and written as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles

import rich.table
from rich.text import Text


@dataclass(frozen=True, slots=True)
class Target:
    """One line of the page's table of targets."""

    what: str
    known: str
    """The best figure of others that was known when the target was set."""
    goal: str
    measured: str
    met: bool
    why: str = ""
    """Where it is not met: what the time goes into."""


@dataclass(slots=True)
class Table:
    """Rows of ready text under ``columns``; ``notes`` are sentences that belong below them."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)

    def shown(self, question: str) -> rich.table.Table:
        table = rich.table.Table(title=f"{self.title}: {question}", title_justify="left")
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="left" if number < 2 else "right")
        for row in self.rows:
            # As it stands: a test's parameters in brackets are no markup.
            table.add_row(*map(Text, row))
        table.caption, table.caption_justify = "\n".join(self.notes) or None, "left"
        return table

    def markdown(self, question: str, method: str) -> str:
        marks = ["---" if number < 2 else "---:" for number in range(len(self.columns))]
        lines = [f"| {' | '.join(cells)} |" for cells in (self.columns, marks, *self.rows)]
        parts = [f"### {self.title}", question, "\n".join(lines), *self.notes, method.strip()]
        return "\n\n".join(part for part in parts if part)


def spread(values: Sequence[float], form: str = "{:.3f}") -> str:
    """The median, with the smallest and the largest of several."""
    middle = form.format(median(values))
    return middle if len(values) < 2 else f"{middle} ({form.format(min(values))}-{form.format(max(values))})"


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The first and the third quartile; both the value itself where there is one only."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = quantiles(values, n=4)
    return low, high
