"""The terminal of one run: live progress where it is one, plain lines where it is not."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

from idemfuzz.reporting.steps import clean, cut

__all__ = ["Screen"]

_WIDTH_MAX = 110
_WIDTH_PLAIN = 100
_PLAIN = {"✓": "+", "✗": "x", "■": "#", "→": ">", "…": "~", "│": "|", "–": "-"}
"""Our signs where the encoding of the output has none: a question mark would say "unknown". One cell for one, for the columns."""


def _in_plain_signs(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


codecs.register_error("idemfuzz.plain", _in_plain_signs)


class Screen:
    """Writes whole blocks of text, and one line of progress below them that comes and goes."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.live = console.is_terminal and not console.is_dumb_terminal
        self.colour = console.is_terminal and not console.no_color
        self.width = min(console.width, _WIDTH_MAX)
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._held: Live | None = None

    @classmethod
    @contextmanager
    def on_standard_output(cls) -> Iterator[Screen]:
        """A screen on what is standard output now: pytest captures it while tests run."""
        with _kept(sys.stdout) as file:
            width = None if file.isatty() or os.environ.get("COLUMNS") else _WIDTH_PLAIN
            screen = cls(Console(file=file, width=width, highlight=False, markup=False, emoji=False))
            try:
                yield screen
            finally:
                screen.clear()
                file.flush()

    def write(self, text: str = "") -> None:
        """A block of text as it is; it may hold the escape codes of `render`."""
        self.clear()
        print(text, file=self.console.file, flush=True)

    def say(self, text: str = "", style: str = "") -> None:
        """A line of our own."""
        self.clear()
        self.console.print(Text(text, style=style), soft_wrap=True)

    def advance(self, name: str, phase: str, done: int, total: int, findings: int) -> None:
        """Redraw the line of progress. Nothing is drawn between calls: no thread runs beside the search."""
        if not self.live:
            return
        # What stands around the name needs about 60 cells.
        label = f"{cut(clean(name), max(16, self.width - 62))}  {phase:<9}"
        found = f"{findings} finding{'' if findings == 1 else 's'}" if findings else ""
        self._draw(label, done, total, found)

    def hold(self, block: RenderableType) -> None:
        """Show some lines below all others, in the place of those that were held before."""
        if not self.live:
            return
        if self._held is None:
            self.clear()
            self._held = Live(
                console=self.console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._held.start()
        self._held.update(block, refresh=True)

    def _draw(self, label: str, done: int, total: int, found: str) -> None:
        label = label.replace("[", "\\[")
        if self._progress is None:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[found]}"),
                console=self.console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._task = self._progress.add_task(label, total=total, found=found)
            self._progress.start()
        assert self._task is not None
        self._progress.update(self._task, description=label, completed=done, total=total, found=found)
        self._progress.refresh()

    def clear(self) -> None:
        """Take the line of progress away, and what is held."""
        if self._held is not None:
            self._held.stop()
            self._held = None
        if self._progress is not None:
            self._progress.stop()
            self._progress = self._task = None


@contextmanager
def _kept(stream: TextIO) -> Iterator[TextIO]:
    """The stream on a descriptor of its own, which capturing does not reach; itself if it has none."""
    try:
        descriptor = os.dup(stream.fileno())
    except (OSError, ValueError, io.UnsupportedOperation):
        yield stream
        return
    stream.flush()
    with open(descriptor, "w", encoding=stream.encoding, errors="idemfuzz.plain", buffering=1) as file:
        yield file
