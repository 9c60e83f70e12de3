"""GitHub Actions: annotations at the lines of findings, and the job summary, within the limits of both."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from idemfuzz.reporting.json_report import unwritable, worst_per_search
from idemfuzz.reporting.markdown import rendered
from idemfuzz.reporting.steps import clean

__all__ = ["commands", "summarise"]

ANNOTATIONS_MAX = 10
"""Per step and level: GitHub shows no more."""
SUMMARY_BYTES_MAX = 1024 * 1024
"""Per step; a longer summary is not shown at all."""
_MESSAGE_MAX = 1000
_LEVELS = ("error", "warning", "notice")


def commands(document: Mapping[str, Any]) -> list[str]:
    """Workflow commands, the worst first; the last of a level says how many there would have been."""
    made: dict[str, list[str]] = {level: [] for level in _LEVELS}
    for report in worst_per_search(document["reports"]):
        for level, line in _of_report(report):
            made[level].append(line)
    lines: list[str] = []
    for level, found in made.items():
        if len(found) > ANNOTATIONS_MAX:
            left = len(found) - ANNOTATIONS_MAX + 1
            more = f"{left} more of this level: see the job summary, or the other reports"
            found = [*found[: ANNOTATIONS_MAX - 1], f"::{level} title=idemfuzz::{_data(more)}"]
        lines += found
    return lines


def summarise(document: Mapping[str, Any]) -> None:
    """Append the Markdown report to the job summary, if this is a step of GitHub Actions.

    Raises:
        Unusable: the file that GitHub names cannot be written.
    """
    name = os.environ.get("GITHUB_STEP_SUMMARY", "")
    if not name:
        return
    path = Path(name)
    try:
        written = path.stat().st_size if path.exists() else 0
        room = SUMMARY_BYTES_MAX - written - 2
        text = rendered(document, bytes_max=room)
        if len(text.encode("utf-8", "backslashreplace")) > room:
            # Others of this step have filled it; one line more would cost them theirs.
            return
        with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"\n{text}")
    except OSError as error:
        raise unwritable(path, error.strerror or str(error), "GITHUB_STEP_SUMMARY names it") from error


def _of_report(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for finding in report["findings"]:
        level = "error" if finding["verdict"] == "violated" else "warning"
        command = finding["counterexample"]["command"]
        replay = f"\nReplay: {clean(command)}" if command else ""
        text = f"{clean(finding['summary'])}\n{clean(finding['remedy'])}{replay}"
        yield level, _command(level, f"{finding['code']} {finding['title']}", text, finding["source"], report)
    for note in report["notes"]:
        level = "warning" if note["code"].startswith("IDM9") else "notice"
        yield level, _command(level, note["code"], clean(note["text"]), None, report)


def _command(
    level: str, title: str, text: str, source: Mapping[str, Any] | None, report: Mapping[str, Any]
) -> str:
    properties = {}
    file = source["file"] if source is not None else report["name"].partition("::")[0]
    if source is not None or file.endswith(".py"):
        properties["file"] = file
    if source is not None:
        properties["line"] = str(source["line"])
    properties["title"] = f"{title} ({report['name']})"
    told = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::{level} {told}::{_data(text[:_MESSAGE_MAX])}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(clean(text)).replace(":", "%3A").replace(",", "%2C")
