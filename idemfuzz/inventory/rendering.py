"""The inventory as text, Markdown and data, and each job's documentation."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any

from idemfuzz.inventory.jobs import Job
from idemfuzz.inventory.listing import Entry, Inventory

__all__ = ["age", "documented", "markdown", "sentence", "to_json"]

_AGES = ((86400, "day"), (3600, "hour"), (60, "minute"))
_HEAD = ("Job", "Not idempotent", "Strategy", "Test", "Last verdict", "Age")


def age(at: float) -> str:
    """``3 days ago``, in one unit."""
    seconds = max(0.0, time.time() - at)
    for size, unit in _AGES:
        if seconds >= size:
            number = int(seconds // size)
            return f"{number} {unit}{'' if number == 1 else 's'} ago"
    return "just now"


def sentence(inventory: Inventory) -> str:
    """The sum, in one line."""
    entries = inventory.entries
    holding = sum(entry.holds for entry in entries)
    bare = sum(not entry.tests for entry in entries)
    jobs = f"{len(entries)} job{'' if len(entries) == 1 else 's'}"
    return f"{jobs}: {holding} hold, {len(entries) - holding - bare} do not or were not run, {bare} without a marked test"


def strategy(entry: Entry) -> str:
    """What holds it, and whether that was proven."""
    if not entry.strategies:
        return "none seen"
    return ", ".join(entry.strategies) + (" (proven)" if entry.is_proven else " (seen in the source)")


def markdown(inventory: Inventory) -> str:
    """A table, one row per job, and what could not be told."""
    lines = [f"| {' | '.join(_HEAD)} |", f"|{'---|' * len(_HEAD)}"]
    for entry in inventory.entries:
        cells = (
            f"`{entry.job.name}`"
            + (f" {entry.job.file}:{entry.job.line}" if entry.job.file else " (elsewhere)"),
            "; ".join(dict.fromkeys(op.what for op in entry.operations if not op.guarded)) or "nothing seen",
            strategy(entry),
            ", ".join(entry.tests) or "**no marked test**",
            entry.status,
            age(entry.last.at) if entry.last is not None else "",
        )
        lines.append(f"| {' | '.join(map(_escaped, cells))} |")
    lines += ["", _escaped(sentence(inventory))]
    for enqueued in inventory.unknown:
        lines += ["", f"Not told by the text which job: {_escaped(str(enqueued))}"]
    return "\n".join(lines) + "\n"


def to_json(inventory: Inventory) -> dict[str, Any]:
    """Everything, as plain values."""
    return {
        "idemfuzz_inventory": 1,
        "percent": round(inventory.percent, 1),
        "jobs": [_entry(entry) for entry in inventory.entries],
        "unknown": [{"file": u.file, "line": u.line, "how": u.how} for u in inventory.unknown],
        "unreadable": [{"file": str(path), "why": why} for path, why in inventory.unreadable],
    }


def _entry(entry: Entry) -> dict[str, Any]:
    last = entry.last
    return {
        "name": entry.job.name,
        "queue": entry.job.queue,
        "file": entry.job.file,
        "line": entry.job.line,
        "enqueued": [{"file": e.file, "line": e.line, "how": e.how} for e in entry.job.seen],
        "operations": [
            {"kind": o.kind, "what": o.what, "file": o.file, "line": o.line, "guarded": o.guarded}
            for o in entry.operations
        ],
        "writes": list(last.writes) if last is not None else [],
        "tests": entry.tests,
        "status": entry.status,
        "verdict": last.verdict if last is not None else None,
        "certificate": last.headline if last is not None else None,
        "codes": list(last.codes) if last is not None else [],
        "strategies": entry.strategies,
        "proven": entry.is_proven,
        "age_seconds": round(time.time() - last.at) if last is not None else None,
        "outdated": entry.outdated,
    }


def _escaped(text: str) -> str:
    """As a cell of a table: no bar ends it, and no tag begins in it."""
    return " ".join(text.replace("|", r"\|").replace("<", "&lt;").split())


# -- one job's documentation ---------------------------------------------------------------------------------

_REGION = re.compile(r"<!-- idemfuzz: (?P<job>\S+) -->\n.*?<!-- idemfuzz: end -->", re.S)
_TOOK = re.compile(r" \([\d.]+ s\)$")
_TITLE = (
    "# Jobs\n\nWhat may not be repeated in each job, and what holds it. The parts between the marks are written by "
    "`idemfuzz document`; what you write around them stays.\n"
)


def documented(text: str, inventory: Inventory) -> str:
    """A page with a part for each job. What people wrote outside of the marked regions of ``text`` stays as it is."""
    wanted = {entry.job.name: entry for entry in inventory.entries}
    seen: list[str] = []

    def renewed(found: re.Match[str]) -> str:
        seen.append(found["job"])
        entry = wanted.get(found["job"])
        return _region(found["job"], _part(entry) if entry else ["This job was not found any more."])

    page = _REGION.sub(renewed, text) if text.strip() else _TITLE
    for name, entry in wanted.items():
        if name not in seen:
            page = f"{page.rstrip()}\n\n## {_title(entry.job)}\n\n{_region(name, _part(entry))}\n"
    return page


def _title(job: Job) -> str:
    return f"`{job.name.rpartition('.')[2]}`"


def _region(name: str, lines: Sequence[str]) -> str:
    return "\n".join([f"<!-- idemfuzz: {name} -->", *lines, "<!-- idemfuzz: end -->"])


def _part(entry: Entry) -> list[str]:
    job, last = entry.job, entry.last
    where = f"{job.file}:{job.line}" if job.file else "not among the files that were read"
    lines = [f"`{job.name}` ({where}; queue: {job.queue})", ""]
    lines += _listed("Handed over by", [str(seen) for seen in job.seen])
    open_ones = [str(op) for op in entry.operations if not op.guarded]
    guarded = [str(op) for op in entry.operations if op.guarded]
    lines += _listed("Not idempotent", open_ones or ["nothing seen in the source"])
    lines += _listed("Guarded in the same statement", guarded)
    lines += _listed(
        "Writes, as seen in a clean delivery", [f"`{label}`" for label in last.writes] if last else []
    )
    lines += [f"**Strategy:** {_escaped(strategy(entry))}", ""]
    if last is not None and last.carried:
        lines += _listed(
            "Constraints and keys that carry it", [f"`{c.rpartition('|')[0]}`" for c in last.carried]
        )
    lines += _listed("Tests", entry.tests or ["**no marked test**"])
    if last is not None:
        # Without how long it took, so that the page changes only where something is different.
        said = _TOOK.sub("", _escaped(last.headline))
        outdated = " The source has changed since." if entry.outdated else ""
        lines += [f"**Last verdict:** {said}.{outdated}", ""]
        lines += ["```text", *last.proof.splitlines(), "```", ""] if last.proof else []
        if not last.proof and last.verdict == "holds":
            lines += ["Which guards carry it was not asked: run its test with `--prove`.", ""]
    return lines[:-1]


def _listed(title: str, items: Sequence[str]) -> list[str]:
    return [f"**{title}:**", "", *(f"- {_escaped(item)}" for item in items), ""] if items else []
