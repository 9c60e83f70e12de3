"""Report files: which kinds there are, what a command line may ask for, and writing them.

Every kind is made of one document, that of `json_report`: no report says what another one cannot.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from idemfuzz.abc import Unusable
from idemfuzz.reporting.json_report import check_writable, header, to_json, unwritable, write_text

__all__ = ["EXPECTED", "KINDS", "Stream", "Target", "conclude", "targets"]

Document = Mapping[str, Any]

KINDS: Mapping[str, str] = {
    "json": "everything, for programs",
    "ndjson": "the same, a line per search as it ends",
    "html": "a page with a trace viewer, in one file",
    "sarif": "SARIF 2.1.0, for code scanning",
    "junit": "JUnit XML, for Jenkins and GitLab",
    "markdown": "for a comment or a wiki",
    "github": "annotations on standard output, and the job summary",
}
EXPECTED = f"{'=FILE, '.join(kind for kind in KINDS if kind != 'github')}=FILE or github"
_RENDERERS = {
    "json": "json_report:rendered",
    "html": "html:rendered",
    "sarif": "sarif:rendered",
    "junit": "junit:rendered",
    "markdown": "markdown:rendered",
}


@dataclass(frozen=True, slots=True)
class Target:
    """One report that was asked for."""

    kind: str
    path: Path | None = None


def targets(texts: Iterable[str]) -> list[Target]:
    """Read ``KIND=FILE`` texts, and find out now whether the files can be written; leaves none behind.

    Raises:
        Unusable: one is not a kind, has no file, or its file cannot be written.
    """
    found = [_target(text) for text in texts]
    paths = [target.path.absolute() for target in found if target.path is not None]
    for path in paths:
        check_writable(path)
        if paths.count(path) > 1:
            raise Unusable(f"two reports would be written to {str(path)!r}; name a file for each")
    return found


def _target(text: str) -> Target:
    kind, equals, path = text.partition("=")
    if kind == "github" and not equals:
        return Target(kind)
    if kind == "github":
        raise Unusable(
            f"{text!r} is not usable: github takes no file (it writes to the log and to the job summary); for a file "
            f"take markdown{equals}{path}"
        )
    if kind not in KINDS or not path:
        raise Unusable(f"{text!r} is not usable; expected {EXPECTED}")
    return Target(kind, Path(path))


def conclude(
    wanted: Sequence[Target], reports: Iterable[Mapping[str, Any]], *, command: str | None = None
) -> list[str]:
    """Write what is written at the end of a run; returns lines that are to be printed as they are.

    Raises:
        Unusable: a file cannot be written; the others were.
    """
    document = to_json(reports, command=command)
    printed: list[str] = []
    refused: list[str] = []
    for target in wanted:
        try:
            if target.kind == "github":
                github = import_module("idemfuzz.reporting.github")
                github.summarise(document)
                printed += github.commands(document)
            elif target.kind in _RENDERERS and target.path is not None:
                write_text(target.path, _renderer(target.kind)(document))
        except Unusable as error:
            refused.append(str(error))
    if refused:
        raise Unusable("; ".join(refused))
    return printed


def _renderer(kind: str) -> Callable[[Document], str]:
    module, _, function = _RENDERERS[kind].partition(":")
    found: Callable[[Document], str] = getattr(import_module(f"idemfuzz.reporting.{module}"), function)
    return found


class Stream:
    """NDJSON: a line for the run, one per search when it has ended, one for the end."""

    def __init__(self, path: Path, *, command: str | None = None) -> None:
        self._path = path
        self._verdicts: list[Mapping[str, Any]] = []
        self._write({"type": "run", **header(command)}, mode="w")

    def add(self, report: Mapping[str, Any]) -> None:
        """One search, as `report_to_json` has made it."""
        self._verdicts.append({"verdict": report["verdict"]})
        self._write({"type": "search", "report": dict(report)})

    def close(self) -> None:
        done = to_json(self._verdicts)
        self._write({"type": "end", "verdict": done["verdict"], "counts": done["counts"]})

    def _write(self, line: Mapping[str, Any], mode: str = "a") -> None:
        text = json.dumps(line, ensure_ascii=False, allow_nan=False)
        try:
            # Opened anew for each line: it is whole on the disk when the next search begins.
            with open(self._path, mode, encoding="utf-8", errors="backslashreplace") as file:
                file.write(text + "\n")
        except OSError as error:
            raise unwritable(self._path, error.strerror or str(error), "Name another file") from error
