"""What a fuzz campaign shows: a panel while it runs, plain lines elsewhere, a summary in the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from idemfuzz.reporting.certificate import counted
from idemfuzz.reporting.steps import clean, cut

__all__ = ["Standing", "TargetStanding", "duration", "line_of", "panel", "sparkline", "summary"]

_BARS = " ▁▂▃▄▅▆▇█"
_NAMED_MAX = 6
_ROWS_MAX = 12
_LEFT_MAX = 40


@dataclass(frozen=True, slots=True)
class TargetStanding:
    """How far one target is."""

    name: str
    slices: int = 0
    trials: int = 0
    examples: int = 0
    features: int = 0
    points: tuple[int, int] = (0, 0)
    """Fault points where a fault struck, of those that are known."""
    missed: tuple[str, ...] = ()
    not_covered: tuple[str, ...] = ()
    findings: int = 0
    unusable: str = ""
    skipped: str = ""
    refused: Mapping[str, int] = field(default_factory=dict)
    """How often it failed without any duplicate, by the error."""

    @property
    def is_unsearched(self) -> bool:
        """Whether it had its turns, and nothing can be said of it."""
        return bool(self.unusable or (self.refused and not self.examples))


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a campaign is; times in seconds."""

    seconds: float
    max_seconds: float | None
    trials: int
    rate: float
    features: int
    last_new_seconds_ago: float
    curve: Sequence[tuple[float, int]]
    targets: Sequence[TargetStanding]
    findings: int
    known: int
    now: str = ""
    """Which target has its turn, and what it does."""
    seed: int = 0


def duration(seconds: float) -> str:
    """``95`` as ``1:35``, ``3700`` as ``1:01:40``."""
    whole = int(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def sparkline(curve: Sequence[tuple[float, int]], seconds: float, width: int) -> str:
    """Behaviour over time in one line: flat at its right end is where nothing new comes any more."""
    if not curve or width < 1:
        return ""
    most = curve[-1][1] or 1
    heights, index = [], 0
    for column in range(width):
        until = seconds * (column + 1) / width
        while index + 1 < len(curve) and curve[index + 1][0] <= until:
            index += 1
        reached = curve[index][1] if curve[index][0] <= until else 0
        heights.append(_BARS[round(reached / most * (len(_BARS) - 1))])
    return "".join(heights)


def line_of(standing: Standing) -> str:
    """One plain line, for logs."""
    struck, known = _points(standing)
    of = f" of {duration(standing.max_seconds)}" if standing.max_seconds is not None else ""
    return (
        f"{duration(standing.seconds)}{of}  {counted(standing.trials, 'trial')}, {standing.rate:.0f}/s, {struck} of "
        f"{counted(known, 'fault point')} struck, {counted(standing.features, 'behaviour')}, the last new one "
        f"{duration(standing.last_new_seconds_ago)} ago, {counted(standing.findings, 'new finding')}  {standing.now}"
    ).rstrip()


def panel(standing: Standing, width: int) -> RenderableType:
    """The live view."""
    struck, known = _points(standing)
    of = f" of {duration(standing.max_seconds)}" if standing.max_seconds is not None else ""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column()
    grid.add_row("time", f"{duration(standing.seconds)}{of}, seed {standing.seed}")
    grid.add_row("trials", f"{standing.trials:,}, {standing.rate:.0f}/s")
    grid.add_row("fault points", f"{struck} of {known} struck")
    bars = sparkline(standing.curve, standing.seconds, max(10, min(40, width - 60)))
    ago = duration(standing.last_new_seconds_ago)
    grid.add_row(
        "behaviour", Text(f"{standing.features:,} ").append(bars, style="cyan").append(f" last new {ago} ago")
    )
    known_text = f", {standing.known} known" if standing.known else ""
    found = Text(f"{standing.findings} new", style="bold red" if standing.findings else "")
    grid.add_row("findings", found.append(known_text, style="default"))
    grid.add_row("now", Text(cut(clean(standing.now), max(20, width - 18)), style="dim"))
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("target", "turns", "trials", "examples", "behaviour", "points", "findings"):
        table.add_column(heading, justify="left" if heading == "target" else "right", no_wrap=True)
    rows = sorted(standing.targets, key=lambda t: (-t.findings, -t.features, t.name))
    for target in rows[:_ROWS_MAX]:
        table.add_row(*_row(target, max(16, width - 66)))
    more = len(rows) - _ROWS_MAX
    return Group(grid, Text(), table, *([Text(f"... and {more} more", style="dim")] if more > 0 else []))


def _row(target: TargetStanding, width: int) -> list[str | Text]:
    struck, known = target.points
    name = Text(cut(clean(target.name), width), style="dim" if target.unusable or target.skipped else "")
    found = Text(str(target.findings), style="bold red" if target.findings else "dim")
    return [
        name,
        str(target.slices),
        f"{target.trials:,}",
        str(target.examples),
        str(target.features),
        f"{struck}/{known}",
        found,
    ]


def summary(standing: Standing) -> Iterator[str]:
    """What was done, and what was not covered."""
    struck, known = _points(standing)
    yield (
        f"{counted(len(standing.targets), 'target')}, {counted(standing.trials, 'trial')} in {duration(standing.seconds)} "
        f"({standing.rate:.0f}/s), {counted(standing.features, 'behaviour')}, {struck} of {counted(known, 'fault point')} struck, "
        f"seed {standing.seed}"
    )
    left = list(_left(standing))
    if left:
        yield "Not covered:"
        yield from (f"  {line}" for line in left[:_LEFT_MAX])
        if len(left) > _LEFT_MAX:
            yield f"  ... and {len(left) - _LEFT_MAX} lines more; --report json=FILE has them all"


def _left(standing: Standing) -> Iterator[str]:
    idle = [clean(t.name) for t in standing.targets if not t.slices and not t.unusable and not t.skipped]
    if len(idle) > _NAMED_MAX:
        yield f"{len(idle)} targets had no turn: {', '.join(idle[:_NAMED_MAX])} and {len(idle) - _NAMED_MAX} more"
    else:
        yield from (f"{name}: had no turn" for name in idle)
    for target in standing.targets:
        name = clean(target.name)
        if target.unusable or target.skipped:
            yield f"{name}: {clean(target.unusable or target.skipped)}"
            continue
        for text in target.not_covered:
            yield f"{name}: {clean(text)}"
        if target.missed:
            more = len(target.missed) - _NAMED_MAX
            told = ", ".join(target.missed[:_NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
            yield f"{name}: no fault struck at {clean(told)}"
        if target.refused:
            total, text = sum(target.refused.values()), max(target.refused, key=target.refused.__getitem__)
            others = (
                f", and {counted(len(target.refused) - 1, 'other error')}" if len(target.refused) > 1 else ""
            )
            each = (
                "was not searched, as it fails without any duplicate with each of "
                if not target.examples
                else ""
            )
            with_which = "" if each else " with which it fails without any duplicate"
            yield f"{name}: {each}{counted(total, 'example')}{with_which} ({clean(text)}{others})"


def _points(standing: Standing) -> tuple[int, int]:
    return sum(t.points[0] for t in standing.targets), sum(t.points[1] for t in standing.targets)
