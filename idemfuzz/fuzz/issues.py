"""The text of an issue for a saved finding, as Markdown: what a person needs who has not seen the run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from idemfuzz.corpus import Entry

__all__ = ["issue_of", "summary_of"]


def issue_of(entry: Entry) -> str:
    """A whole issue; its first line is the title, which ends with the finding's id."""
    return "\n".join(_lines(entry)) + "\n"


def _lines(entry: Entry) -> Iterator[str]:
    yield f"# {_plain(entry.code)} {_plain(entry.title)}: {_plain(entry.target)} [{_plain(entry.id)}]"
    yield ""
    yield _escaped(entry.summary)
    yield ""
    if entry.example_text:
        yield "Found with:"
        yield ""
        yield from _code(f"{name} = {text}" for name, text in entry.example_text.items())
        yield ""
    yield f"**Happens when** {_escaped(entry.cause)}."
    yield ""
    yield f"**Remedy:** {_escaped(entry.remedy)}."
    yield ""
    if entry.source:
        yield f"**At** {_escaped(entry.source)}"
        yield ""
    if entry.steps:
        yield "What happened (call.delivery effect):"
        yield ""
        yield from _code(entry.steps)
        yield ""
    yield "To see it again, with the file of this finding below `.idemfuzz/`:"
    yield ""
    yield from _code([entry.command, f"idemfuzz export {entry.id}"])
    yield ""
    yield f"Plan `{_plain(str(entry.plan))}`, found by idemfuzz {_plain(entry.version)} at {_plain(entry.found_at)}."


def summary_of(entries: Iterable[Entry]) -> str:
    """A table of findings, for the summary page of a CI job."""
    rows = list(entries)
    if not rows:
        return "idemfuzz: no findings.\n"
    lines = [f"### idemfuzz: {len(rows)} finding{'' if len(rows) == 1 else 's'}", ""]
    lines += ["| id | code | target | what | found with |", "|---|---|---|---|---|"]
    for entry in rows:
        example = ", ".join(f"{name}={text}" for name, text in entry.example_text.items())
        cells = (entry.id, f"{entry.code} {entry.title}", entry.target, entry.summary, example)
        lines.append("| " + " | ".join(_escaped(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """One line."""
    return " ".join(text.split())


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, no mention of a person, no cell of a table."""
    text = re.sub(r"([\\`*_{}\[\]()#+!|~^$])", r"\\\1", _plain(text))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "&#64;")


def _code(lines: Iterable[str]) -> Iterator[str]:
    """A block of code by indentation, which nothing in it can end."""
    for line in lines:
        yield f"    {_plain(line)}"
