"""The JSON report: versioned, everything that the text shows and more, written whole or not at all.

The top level holds ``"idemfuzz_report": 1`` (this format's version), the version of idemfuzz, the command,
the worst verdict and the reports. Values that JSON does not know are tagged: ``{"bytes": base64}``,
``{"datetime": iso}``, ``{"decimal": text}``, ``{"uuid": text}``, ``{"seconds": number}``, ``{"set": [...]}``,
``{"generated": value}``, ``{"text": repr}``.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from idemfuzz import __version__
from idemfuzz.abc import Unusable
from idemfuzz.model import (
    Certificate,
    Counterexample,
    Difference,
    Effect,
    Event,
    Fact,
    Finding,
    Guard,
    Mend,
    Proof,
    Report,
    Source,
    Verdict,
)
from idemfuzz.reporting.certificate import certificate, headline
from idemfuzz.reporting.plain import plain
from idemfuzz.reporting.proof import proof_text
from idemfuzz.reporting.redaction import redact, redacted
from idemfuzz.reporting.states import aligned
from idemfuzz.reporting.text import render_finding

__all__ = [
    "REPORT_VERSION",
    "check_writable",
    "difference_to_json",
    "header",
    "rendered",
    "report_to_json",
    "schema",
    "to_json",
    "unwritable",
    "worst_per_search",
    "write",
    "write_json",
    "write_text",
]

REPORT_VERSION = 1
_ROWS_MAX = 300
Reports = Iterable[Report | Mapping[str, Any]]


def to_json(reports: Reports, *, command: str | None = None) -> dict[str, Any]:
    """All reports of one run; those that `report_to_json` has made already are taken as they are.

    ``command`` is how the run was started; this process's own command line by default.
    """
    made = [report_to_json(report) if isinstance(report, Report) else dict(report) for report in reports]
    verdict = Verdict.worst(*(Verdict(report["verdict"]) for report in made))
    return {
        **header(command),
        "verdict": str(verdict),
        "counts": {str(v): sum(report["verdict"] == v for report in made) for v in Verdict},
        "reports": made,
    }


def header(command: str | None = None) -> dict[str, Any]:
    """What stands at the head of each report."""
    return {
        "idemfuzz_report": REPORT_VERSION,
        "idemfuzz": __version__,
        "command": redact(_command_line() if command is None else command),
    }


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of `to_json` and, below ``$defs``, of the lines of NDJSON."""
    text = files("idemfuzz.reporting").joinpath("report.schema.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def report_to_json(report: Report) -> dict[str, Any]:
    """One report, without passwords."""
    report = redacted(report)
    return {
        "name": report.name,
        "verdict": str(report.verdict),
        "headline": headline(report),
        "findings": [_finding(finding) for finding in report.findings],
        "reference_history": [_event(event) for event in report.reference],
        "notes": [{"code": note.code, "text": note.text} for note in report.notes],
        "certificate": _certificate(report.certificate),
        "certificate_text": certificate(report),
        "proof": None if report.proof is None else _proof(report.proof),
        "mends": [_mend(mend) for mend in report.mends],
        "proof_text": proof_text(report),
        "arguments": None if report.arguments is None else plain(report.arguments),
    }


def worst_per_search(reports: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """One report per name: Hypothesis makes a search of each example, and the last of the worst is telling."""
    kept: dict[str, Mapping[str, Any]] = {}
    for report in reports:
        known = kept.get(report["name"])
        verdicts = [Verdict(one["verdict"]) for one in (known, report) if one is not None]
        if known is None or Verdict.worst(*verdicts) == report["verdict"]:
            kept[report["name"]] = report
    return list(kept.values())


def check_writable(path: Path) -> None:
    """Find out before a search whether its report can be written; leaves no file behind.

    Raises:
        Unusable: it cannot; the message says why and what to do.
    """
    if path.is_dir():
        raise unwritable(path, "it is a folder", f"Name a file, for instance {path / 'idemfuzz.json'}")
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}."):
            pass
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(13, "the file is read-only")
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        mend = f"Make the folder {str(path.parent)!r} first" if missing else "Name another file"
        raise unwritable(path, error.strerror or str(error), mend) from error


def write(path: Path, reports: Reports, *, command: str | None = None) -> None:
    """Write the report file whole: whoever reads it meanwhile sees the old one.

    Raises:
        Unusable: it cannot be written.
    """
    write_json(path, to_json(reports, command=command))


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write any document as `write` does.

    Raises:
        Unusable: it cannot be written.
    """
    write_text(path, rendered(document))


def rendered(document: Mapping[str, Any]) -> str:
    """A document as text."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all; half of a character (a lone surrogate) is written as an escape.

    Raises:
        Unusable: it cannot be written.
    """
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise unwritable(path, error.strerror or str(error), "Name another file") from error


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "title": finding.title,
        "verdict": str(finding.verdict),
        "summary": finding.summary,
        "differences": [difference_to_json(difference) for difference in finding.differences],
        "counterexample": _counterexample(finding.counterexample),
        "mechanism": finding.mechanism,
        "because": finding.because,
        "snippet": finding.snippet,
        "cause": finding.cause,
        "remedy": finding.remedy,
        "source": _source(finding.source),
        "trials": finding.trials,
        "also": list(finding.also),
        "state": _state(finding),
        "text": render_finding(finding),
    }


def _state(finding: Finding) -> dict[str, Any]:
    rows = aligned(finding.counterexample, finding.differences)
    return {
        "rows": [
            {
                "before": _fact(row.before),
                "reference": _fact(row.reference),
                "after": _fact(row.after),
                "differs": row.differs,
                "columns": list(row.columns),
            }
            for row in rows[:_ROWS_MAX]
        ],
        "omitted": max(0, len(rows) - _ROWS_MAX),
    }


def difference_to_json(difference: Difference) -> dict[str, Any]:
    return {
        "kind": str(difference.kind),
        "store": difference.store,
        "group": difference.group,
        "expected": _fact(difference.expected),
        "actual": _fact(difference.actual),
        "columns": list(difference.columns),
        "twice": difference.twice,
        "removal": difference.removal,
        "expected_count": difference.expected_count,
        "actual_count": difference.actual_count,
    }


def _fact(fact: Fact | None) -> dict[str, Any] | None:
    if fact is None:
        return None
    return {
        "store": fact.store,
        "kind": str(fact.kind),
        "group": fact.group,
        "fields": plain(fact.fields),
        "identity": list(fact.identity),
        "generated": dict(fact.generated),
        "expires": fact.expires,
        "once": fact.once,
    }


def _counterexample(example: Counterexample) -> dict[str, Any]:
    return {
        "plan": str(example.plan),
        "plan_object": example.plan.to_json(),
        "shown": example.shown,
        "tried": example.tried,
        "saved": example.saved,
        "command": example.command,
        "history": [_event(event) for event in example.history],
    }


def _event(event: Event) -> dict[str, Any]:
    point, fault = event.point, event.fault
    return {
        "kind": str(event.kind),
        "call": event.call,
        "delivery": event.delivery,
        "text": event.text,
        "outcome": event.outcome,
        "failed": event.failed,
        "effect": _effect(event.effect),
        "occurrence": None if point is None else point.occurrence,
        "fault": None if fault is None else {"kind": str(fault.kind), "side": str(fault.side)},
        "ending": None if event.ending is None else str(event.ending),
        "source": _source(event.source),
        "stack": [_source(frame) for frame in event.stack],
    }


def _effect(effect: Effect | None) -> dict[str, Any] | None:
    if effect is None:
        return None
    names = {"label": effect.label, "store": effect.store, "access": str(effect.access)}
    return {**names, "detail": effect.detail}


def _source(source: Source | None) -> dict[str, Any] | None:
    return None if source is None else {"file": source.file, "line": source.line, "function": source.function}


def _certificate(done: Certificate) -> dict[str, Any]:
    return {
        "jobs": list(done.jobs),
        "stores": list(done.stores),
        "references": done.references,
        "effects": done.effects,
        "calls": done.calls,
        "trials": done.trials,
        "executions": done.executions,
        "redeliveries": done.redeliveries,
        "coverage": [
            {
                "explorer": covered.explorer,
                "planned": covered.planned,
                "ran": covered.ran,
                "fired": covered.fired,
                "pruned": covered.pruned,
                "unreached": covered.unreached,
                "over_budget": covered.over_budget,
                "skipped": covered.skipped,
                "classes": covered.classes,
                "exhaustive": covered.exhaustive,
                "why": covered.why,
            }
            for covered in done.coverage
        ],
        "exhaustive": done.exhaustive,
        "isolation": {level: str(verdict) for level, verdict in done.levels},
        "bounds": list(done.bounds),
        "ignored": list(done.ignored),
        "noise": list(done.noise),
        "seed": done.seed,
        "seconds": round(done.seconds, 3),
        "writes": list(done.writes),
    }


def _proof(proof: Proof) -> dict[str, Any]:
    return {
        "trials": proof.trials,
        "seconds": round(proof.seconds, 3),
        "removals": [
            {
                "role": str(removal.role),
                "guards": [_guard(guard) for guard in removal.guards],
                "plans": removal.plans,
                "fallen": removal.fallen,
                "codes": dict(removal.codes),
                "shown": removal.shown,
                "plan": None if removal.plan is None else str(removal.plan),
                "why": removal.why,
            }
            for removal in proof.removals
        ],
    }


def _mend(mend: Mend) -> dict[str, Any]:
    return {
        "guards": [_guard(guard) for guard in mend.guards],
        "verified": mend.verified,
        "plans": mend.plans,
        "fallen": mend.fallen,
        "how": mend.how,
        "why": mend.why,
    }


def _guard(guard: Guard) -> dict[str, Any]:
    return {
        "kind": str(guard.kind),
        "store": guard.store,
        "name": guard.name,
        "source": _source(guard.source),
    }


def unwritable(path: Path, why: str, mend: str) -> Unusable:
    """The refusal for a file that cannot be written."""
    return Unusable(f"cannot write the report {str(path)!r}: {why}. {mend}")


def _command_line() -> str:
    program = Path(sys.argv[0] if sys.argv else "idemfuzz")
    # As a module, `python -m pytest` has the path of the package's __main__.py for its name.
    name = program.parent.name if program.name == "__main__.py" else program.name
    return shlex.join([name, *sys.argv[1:]])


def _umask() -> int:
    # The mask can only be read by setting it.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
