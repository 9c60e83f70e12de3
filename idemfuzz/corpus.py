"""Saved counterexamples: JSON files that replay a finding in a fresh process. Never pickle."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from idemfuzz.model import Finding, Plan, PlanError

FOLDER = ".idemfuzz"
FORMAT = 1


def save(finding: Finding, target: str, root: Path, arguments: Mapping[str, Any] | None = None) -> str | None:
    """Write a finding's plan below ``root``; returns the path relative to it, or None where it cannot be written."""
    plan = finding.counterexample.plan
    slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", target).strip("-")[-120:]
    mechanism = "overlap" if plan.overlap else plan.faults[0].kind if plan.faults else "duplicate"
    path = Path(FOLDER) / slug / f"{finding.code}-{mechanism}.json"
    data = {
        "idemfuzz_plan": FORMAT,
        "target": target,
        "code": finding.code,
        "summary": finding.summary,
        "text": str(plan),
        "plan": plan.to_json(),
    }
    if arguments is not None:
        data["arguments"] = {key: repr(value) for key, value in arguments.items()}
    try:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=(root / path).parent, suffix=".tmp")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(data, file, indent=2)
        os.replace(temporary, root / path)
    except OSError:
        return None
    return str(path)


def load(text: str) -> Plan:
    """A plan from its text, or from the path of a saved file.

    Raises:
        PlanError: it is neither.
    """
    if not text.endswith(".json"):
        return Plan.parse(text)
    try:
        data = json.loads(Path(text).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PlanError(f"cannot read the plan file {text!r}: {error}") from error
    if not isinstance(data, dict) or data.get("idemfuzz_plan") != FORMAT:
        raise PlanError(
            f"{text!r} is not a plan file of this version of idemfuzz (expected 'idemfuzz_plan': {FORMAT})"
        )
    return Plan.from_json(data["plan"])
