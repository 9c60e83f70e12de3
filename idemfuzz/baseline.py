"""The baseline: known findings that are accepted for a while, each with its reason and an end.

One JSON file beside the project's configuration, ``idemfuzz-baseline.json``, to be kept under version control.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from idemfuzz.abc import Unusable
from idemfuzz.corpus import entry_of
from idemfuzz.model import Finding, Note, Report, Verdict
from idemfuzz.reporting.json_report import write_json

__all__ = ["FILE", "Accepted", "applied", "read", "write"]

FILE = "idemfuzz-baseline.json"
FORMAT = 1
_KEY = "idemfuzz_baseline"


@dataclass(frozen=True, slots=True)
class Accepted:
    """One finding that fails nothing until its end."""

    id: str
    target: str
    code: str
    reason: str
    until: datetime.date
    summary: str = ""

    def expired(self, today: datetime.date | None = None) -> bool:
        """Whether its end has come; its last day counts in."""
        return (today or datetime.date.today()) > self.until


def read(root: Path) -> list[Accepted]:
    """What is accepted.

    Raises:
        Unusable: the file cannot be read; a baseline that is passed over would fail a build for nothing, or pass one.
    """
    path = root / FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise Unusable(
            f"the baseline {str(path)!r} cannot be read: {error}. Mend it, or delete it"
        ) from error
    try:
        if data[_KEY] != FORMAT:
            raise ValueError(f"{_KEY}: {data[_KEY]!r} instead of {FORMAT}")
        return [
            Accepted(
                str(one["id"]),
                str(one["target"]),
                str(one["code"]),
                _reason(one["reason"]),
                datetime.date.fromisoformat(one["until"]),
                str(one.get("summary", "")),
            )
            for one in _listed(data["accepted"])
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise Unusable(f"the baseline {str(path)!r} is damaged: {error!r}. Mend it, or delete it") from error


def _listed(data: Any) -> list[Any]:
    if not isinstance(data, list):
        raise ValueError(f"accepted: {data!r:.100} is no list")
    return data


def _reason(text: Any) -> str:
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"reason: {text!r} says nothing")
    return text


def write(accepted: Iterable[Accepted], root: Path) -> Path:
    """Write the file whole.

    Raises:
        Unusable: it cannot be written.
    """
    path = root / FILE
    rows: list[dict[str, Any]] = [
        {
            "id": one.id,
            "target": one.target,
            "code": one.code,
            "reason": one.reason,
            "until": one.until.isoformat(),
            "summary": one.summary,
        }
        for one in sorted(accepted, key=lambda one: (one.target, one.code, one.id))
    ]
    write_json(path, {_KEY: FORMAT, "accepted": rows})
    return path


def applied(report: Report, target: str, accepted: Iterable[Accepted]) -> Report:
    """The report without the findings that are accepted; each leaves a note. What has expired counts again, and says so."""
    by_id = {one.id: one for one in accepted if one.target == target}
    if not by_id or not report.findings:
        return report
    kept: list[Finding] = []
    notes: list[Note] = []
    passed: list[str] = []
    for finding in report.findings:
        one = by_id.get(entry_of(finding, target).id)
        if one is None:
            kept.append(finding)
        elif one.expired():
            kept.append(finding)
            notes.append(
                Note(finding.code, f"it was accepted until {one.until} ({one.reason}), which is over")
            )
        else:
            passed.append(finding.code)
            told = one.summary or finding.summary
            notes.append(Note(finding.code, f"accepted until {one.until} ({one.reason}): {told}"))
    verdict = report.verdict
    if passed and not kept and verdict is Verdict.VIOLATED:
        doubted = any(note.code.startswith("IDM9") for note in report.notes)
        verdict = Verdict.UNKNOWN if doubted else Verdict.HOLDS
    return replace(
        report, verdict=verdict, findings=tuple(kept), notes=(*report.notes, *notes), accepted=tuple(passed)
    )
