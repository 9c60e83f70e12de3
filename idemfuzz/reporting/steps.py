"""The true order of steps of a Trial, one line per event; overlapping deliveries stand side by side."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from idemfuzz.model import Ending, Event, EventKind, Fault, History, Plan, Side

__all__ = ["clean", "cut", "drawn", "shorten"]

_EVENTS_MAX = 48
_HEAD, _TAIL, _AROUND = 14, 20, 3
_SOURCE_MAX = 26
_BODY_MIN = 24
_ENDINGS = {
    Ending.OK: "■ done",
    Ending.FAILED: "■ fails",
    Ending.KILLED: "■ dead",
    Ending.HUNG: "■ does not end",
}
_STYLES = {
    EventKind.FAULT: "bold red",
    EventKind.BLOCKED: "yellow",
    EventKind.SLEEP: "cyan",
    EventKind.CLOCK: "cyan",
    EventKind.START: "dim",
    EventKind.END: "dim",
}
_COLUMNS = re.compile(r"^(select (?:distinct )?).+? (from )", re.I)
_INSERTED = re.compile(r"^(insert into \S+) \([^()]*\)", re.I)
_PLACEHOLDERS = re.compile(r"(\)) values \((?:[^()]|\([^()]*\))*\)", re.I)


@dataclass(frozen=True, slots=True)
class _Layout:
    """How wide each part of a line is."""

    number: int
    columns: tuple[int, ...]
    source: int
    only_file: str = ""
    """The file that all lines are of, named in the heading; empty where there are several."""
    gap: int = 2

    def at(self, column: int) -> int:
        return self.number + sum(self.columns[:column]) + self.gap * column

    @property
    def body(self) -> int:
        return self.at(len(self.columns)) - self.gap


def drawn(history: History, plan: Plan, width: int) -> list[Text]:
    """The lines, each at most ``width`` cells wide; a long history is cut in the middle, with a count."""
    events = list(history)
    if not events:
        return [Text("(no step was recorded)", style="dim")]
    side_by_side = max(1, plan.overlapping)
    layout = _layout(events, width, side_by_side)
    calls = {event.call for event in events}
    steps = {id(e): n for n, e in enumerate((e for e in events if e.kind is EventKind.EFFECT), start=1)}
    several_commits = len({e.effect.store for e in events if e.effect and _is_commit(e)}) > 1
    lines = [_heading(layout)] if side_by_side > 1 else []
    seen: tuple[int, int] | None = None
    for event, left_out in _kept(events):
        if left_out:
            noun = "step" if left_out == 1 else "steps"
            lines.append(Text(" " * layout.number + f"… {left_out:,} more {noun}", style="dim"))
            seen = None if side_by_side == 1 else seen
        column = event.delivery if event.delivery <= side_by_side else 0
        here = (event.call, 0 if side_by_side > 1 and column else event.delivery)
        if here != seen:
            lines += _separators(events, event, seen, several=len(calls) > 1, sequence=here[1] != 0)
            seen = here
        number = str(steps.get(id(event), ""))
        lines.append(
            _line(event, number, layout, max(0, column - 1), whole=not column, named=several_commits)
        )
    return lines


def clean(text: str) -> str:
    """On one line, and nothing in it that would steer a terminal."""
    flat = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in flat)


def cut(text: str, room: int) -> str:
    """At most ``room`` cells: the middle goes, since a statement's values stand at its end."""
    if cell_len(text) <= room:
        return text
    if room < 8:
        return set_cell_size(text, max(0, room - 1)).rstrip() + "…"
    tail = (room - 1) * 2 // 5
    head = room - 1 - tail
    while cell_len(end := text[-tail:]) > room - 1 - head:
        tail -= 1
    return set_cell_size(text, head).rstrip() + "…" + end.lstrip()


def shorten(detail: str, outcome: str, room: int) -> str:
    """``detail → outcome`` in at most ``room`` cells; the outcome is cut last."""
    detail, outcome = clean(detail), clean(outcome)
    result = f" → {outcome}" if outcome else ""
    if cell_len(detail + result) > room:
        detail = _PLACEHOLDERS.sub(r"\1", _COLUMNS.sub(r"\1… \2", detail))
    if cell_len(detail + result) > room:
        detail = _INSERTED.sub(r"\1", detail)
    if cell_len(detail + result) > room and result:
        result = cut(result, max(room // 2, room - cell_len(detail)))
    return cut(detail, max(1, room - cell_len(result))) + result


def _layout(events: Sequence[Event], width: int, columns: int) -> _Layout:
    number = len(str(len(events))) + 2
    files = {event.source.file for event in events if event.source}
    only_file = os.path.basename(*files) if columns > 1 and len(files) == 1 else ""
    longest = max((cell_len(_place(event, only_file)) for event in events), default=0)
    longest = max(longest, min(cell_len(only_file), 12))
    source = min(longest, _SOURCE_MAX, max(0, width - number - 2 - columns * (_BODY_MIN + 2)))
    body = width - number - (source + 2 if source else 0)
    return _Layout(number, ((body - 2 * (columns - 1)) // columns,) * columns, source, only_file)


def _heading(layout: _Layout) -> Text:
    line = Text(" " * layout.number)
    for index, width in enumerate(layout.columns):
        line.append(f"delivery {index + 1}".ljust(width + layout.gap), style="bold")
    if layout.source:
        line.append(cut(layout.only_file, layout.source), style="dim")
    return line


def _separators(
    events: Sequence[Event], event: Event, seen: tuple[int, int] | None, *, several: bool, sequence: bool
) -> Iterator[Text]:
    if several and (seen is None or seen[0] != event.call):
        yield Text(f"call {event.call} of the scenario", style="bold")
    if sequence:
        line = Text().append(f"delivery {event.delivery}", style="bold")
        line.append(_why(events, event), style="dim")
        yield line


def _why(events: Sequence[Event], event: Event) -> str:
    """Why the queue delivers: the one before was cut or failed, or it is a plain duplicate."""
    if event.delivery == 1:
        return ""
    before = [e for e in events if e.call == event.call and e.delivery < event.delivery]
    ends = [e for e in before if e.kind is EventKind.END]
    if ends and ends[-1].ending is not Ending.OK:
        return f"  redelivered, since delivery {ends[-1].delivery} did not finish"
    return "  the same job once more"


def _kept(events: Sequence[Event]) -> Iterator[tuple[Event, int]]:
    """The events to show, each with how many were left out before it: faults and failures always stay."""
    if len(events) <= _EVENTS_MAX:
        yield from ((event, 0) for event in events)
        return
    telling = [index for index, event in enumerate(events) if _is_telling(event)]
    wanted = {*range(_HEAD), *range(len(events) - _TAIL, len(events))}
    for index in telling[:_AROUND]:
        wanted |= set(range(max(0, index - _AROUND), min(len(events), index + _AROUND + 1)))
    left_out = 0
    for index, event in enumerate(events):
        if index in wanted:
            yield event, left_out
            left_out = 0
        else:
            left_out += 1


def _is_telling(event: Event) -> bool:
    return event.kind is EventKind.FAULT or (event.kind is EventKind.END and event.ending is not Ending.OK)


def _line(event: Event, number: str, layout: _Layout, column: int, *, whole: bool, named: bool) -> Text:
    room = layout.body - layout.number if whole else layout.columns[column]
    start = layout.number if whole else layout.at(column)
    line = Text().append(number.rjust(layout.number - 2) + "  ", style="dim")
    line.append(" " * (start - layout.number))
    line.append(_text(event, room, named=named), style=_style(event))
    place = _place(event, layout.only_file)
    if place and layout.source:
        line.append(" " * max(1, layout.body + layout.gap - cell_len(line.plain)))
        line.append(cut(place, layout.source), style="dim")
    return line


def _text(event: Event, room: int, *, named: bool) -> str:
    match event.kind:
        case EventKind.EFFECT:
            detail = event.text or (event.effect.detail or event.effect.label if event.effect else "")
            if named and event.effect and _is_commit(event):
                detail = f"{event.effect.store}: {detail}"
            return shorten(detail, event.outcome, room)
        case EventKind.FAULT:
            return cut(f"✗ {clean(event.text)}{_at(event, event.fault)}", room)
        case EventKind.BLOCKED:
            return cut(f"… {clean(event.text or 'waits')}", room)
        case EventKind.END:
            ending = _ENDINGS.get(event.ending or Ending.OK, "■ ends")
            # Also of a dead one: what its own handlers raised, or a doubt about the kill itself, is evidence.
            return cut(f"{ending}: {clean(event.text)}" if event.text else ending, room)
        case EventKind.START:
            return cut(clean(event.text or "starts"), room)
    return cut(f"~ {clean(event.text)}", room)


def _at(event: Event, fault: Fault | None) -> str:
    """Where a fault struck. After an Effect that is the line above; before one it has no line of its own."""
    if fault is None or event.effect is None or fault.side is Side.AFTER:
        return ""
    return f" before {clean(event.effect.detail or event.effect.label)}"


def _style(event: Event) -> str:
    if event.kind is EventKind.EFFECT:
        return "yellow" if event.failed else ""
    if event.kind is EventKind.END and event.ending is not Ending.OK:
        return "red"
    return _STYLES.get(event.kind, "")


def _place(event: Event, only_file: str = "") -> str:
    source = event.source if event.kind in (EventKind.EFFECT, EventKind.FAULT) else None
    if source is None:
        return ""
    return f"line {source.line}" if only_file else f"{os.path.basename(source.file)}:{source.line}"


def _is_commit(event: Event) -> bool:
    return event.effect is not None and event.effect.label.rpartition(".")[2] in ("commit", "rollback")
