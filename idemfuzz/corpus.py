"""The corpus: findings as JSON files below ``.idemfuzz/`` that replay in a fresh process. Never pickle.

One file per finding, ``.idemfuzz/<target>/<code>-<mechanism>.json``, written whole or not at all, so that a kill at any
moment loses nothing that was found. A file that holds no finding is moved to ``.idemfuzz/damaged/`` and told of; one of a newer version,
or that cannot be read, stays where it is and is told of. Neither stops anybody.
Files of format 1 (a plan alone) are read, too.
"""

from __future__ import annotations

import datetime
import fcntl
import hashlib
import json
import os
import re
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from idemfuzz import __version__
from idemfuzz.abc import Unusable
from idemfuzz.model import (
    PLAN_VERSION,
    EventKind,
    Example,
    Finding,
    History,
    Lapse,
    Plan,
    PlanError,
    Report,
    ValueFormError,
    Verdict,
)
from idemfuzz.reporting.json_report import write_json
from idemfuzz.reporting.redaction import HIDDEN, is_secret, redact, redacted

__all__ = [
    "DAMAGED",
    "FOLDER",
    "FORMAT",
    "Damaged",
    "Entry",
    "differing_step",
    "entries",
    "entry_of",
    "from_json",
    "load",
    "mechanism_of",
    "read",
    "remove",
    "root_of",
    "save",
    "steps_of",
    "to_json",
    "write",
]

FOLDER = ".idemfuzz"
DAMAGED = "damaged"
FORMAT = 2
_KEY, _OLD_KEY = "idemfuzz_finding", "idemfuzz_plan"
_OTHERS = frozenset({DAMAGED, "fuzz"})
"""Folders of ours that hold no findings."""
_ROOT_NAMES = (FOLDER, "pyproject.toml", "pytest.ini", "tox.ini", "setup.cfg", ".git")
_LEFTOVER_SECONDS = 3600.0
_TEXT_MAX = 500


class Damaged(PlanError):
    """What a file holds is no finding, and never will be; a file that cannot be read now, or here, is another matter."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One finding as it is kept."""

    id: str
    """Equal for one cause of one target, however often it is found."""
    target: str
    code: str
    plan: Plan
    summary: str = ""
    title: str = ""
    cause: str = ""
    remedy: str = ""
    mechanism: str = ""
    places: tuple[str, ...] = ()
    """What differs: ``store/group``, as in ``db/users``."""
    example: Example | None = None
    example_text: Mapping[str, str] = field(default_factory=dict)
    """The values of the example by name, for people."""
    unsaved: str = ""
    """Why the example is not kept: a value in it has no JSON form."""
    is_redacted: bool = False
    """Whether values of the example were hidden, so that what is kept is not what was found."""
    steps: tuple[str, ...] = ()
    """What happened, a line per effect, fault and end: where a replay leaves it, the job has changed."""
    source: str = ""
    found_at: str = ""
    version: str = ""
    seed: int = 0
    is_test: bool = False
    """Whether the target is a test (a node id), not a registered job."""
    path: Path | None = None

    @property
    def drawn(self) -> bool:
        """Whether it takes an example to show it again."""
        return self.example is not None or bool(self.example_text)

    @property
    def command(self) -> str:
        return f"idemfuzz replay {shlex.quote(self.id)}"


def mechanism_of(plan: Plan) -> str:
    """What a plan does, in one word: for file names and for telling causes apart."""
    if any(isinstance(part, Lapse) for part in plan.overlap):
        return "stall"
    if plan.overlap:
        return "overlap"
    if plan.faults:
        return str(plan.faults[0].kind)
    return "late" if plan.late_seconds else "duplicate"


def steps_of(history: History) -> tuple[str, ...]:
    """A history without values: who did what, which fault struck, how each delivery ended."""
    lines = []
    for event in history:
        who = f"{event.call}.{event.delivery}"
        if event.kind is EventKind.EFFECT and event.point is not None:
            lines.append(f"{who} {event.point.label}")
        elif event.kind is EventKind.FAULT and event.fault is not None:
            lines.append(f"{who} {event.fault.kind} {event.fault.side} {event.fault.point.label}")
        elif event.kind is EventKind.END and event.ending is not None:
            lines.append(f"{who} {event.ending}")
    return tuple(lines)


def entry_of(
    finding: Finding,
    target: str,
    *,
    example: Example | None = None,
    described: Mapping[str, str] | None = None,
    seed: int = 0,
    is_test: bool = False,
) -> Entry:
    """The entry of a finding, without passwords. ``described`` are the example's values as texts, by name."""
    finding = redacted(Report("", Verdict.VIOLATED, (finding,))).findings[0]
    plan = finding.counterexample.plan
    places = sorted({f"{difference.store}/{difference.group}" for difference in finding.differences})
    mechanism = mechanism_of(plan)
    kept, unsaved, is_redacted = example, "", False
    if example is not None:
        try:
            is_redacted = _kept_form(example, described or {}) != example.to_json()
        except ValueFormError as error:
            kept, unsaved = None, redact(str(error))
    return Entry(
        id=_id_of(target, finding.code, mechanism, places),
        target=target,
        code=finding.code,
        plan=plan,
        summary=finding.summary,
        title=finding.title,
        cause=finding.cause,
        remedy=finding.remedy,
        mechanism=mechanism,
        places=tuple(places),
        example=kept,
        example_text={name: _text_of(name, text) for name, text in (described or {}).items()},
        unsaved=unsaved,
        is_redacted=is_redacted,
        steps=steps_of(finding.counterexample.history),
        source=str(finding.source) if finding.source is not None else "",
        found_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        version=__version__,
        seed=seed,
        is_test=is_test,
    )


def save(
    finding: Finding, target: str, root: Path, example: Example | None = None, **more: Any
) -> str | None:
    """Keep a finding below ``root``; returns the path relative to it, or None where it cannot be written."""
    return write(entry_of(finding, target, example=example, **more), root)


def write(entry: Entry, root: Path) -> str | None:
    """Write an entry whole or not at all, in place of an earlier one of the same cause; None where it cannot be."""
    folder, name = Path(FOLDER) / _slug(entry.target), _slug(f"{entry.code}-{entry.mechanism}")
    path = folder / f"{name}.json"
    try:
        (root / folder).mkdir(parents=True, exist_ok=True)
        with _alone_in(root / folder):
            with suppress(OSError, PlanError):
                # Another cause of the same kind keeps the short name.
                if (root / path).exists() and read(root / path).id not in (entry.id, ""):
                    path = folder / f"{name}-{entry.id}.json"
            write_json(root / path, to_json(entry))
    except (OSError, Unusable):
        return None
    return str(path)


def remove(entry: Entry) -> None:
    """Delete the file of an entry, if it still holds just this one: another process may have written its own there since."""
    if entry.path is None:
        return
    with suppress(OSError, PlanError), _alone_in(entry.path.parent):
        found = read(entry.path)
        if (found.id, found.plan) == (entry.id, entry.plan):
            entry.path.unlink()


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """No other process names a file there meanwhile: of two that see a name free, one would overwrite what the other has found."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            # Some network file systems know no locks; the system gives this one up when the file is closed.
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _slug(text: str) -> str:
    """For the name of a file."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.")[-120:]


def to_json(entry: Entry) -> dict[str, Any]:
    """The document of an entry, as it is written."""
    example = None if entry.example is None else _kept_form(entry.example, entry.example_text)
    return {
        _KEY: FORMAT,
        "id": entry.id,
        "target": entry.target,
        "is_test": entry.is_test,
        "code": entry.code,
        "title": entry.title,
        "summary": entry.summary,
        "cause": entry.cause,
        "remedy": entry.remedy,
        "mechanism": entry.mechanism,
        "places": list(entry.places),
        "source": entry.source,
        "text": str(entry.plan),
        "plan": entry.plan.to_json(),
        "example": example,
        "example_text": dict(entry.example_text),
        "unsaved": entry.unsaved,
        "is_redacted": entry.is_redacted,
        "steps": list(entry.steps),
        "found_at": entry.found_at,
        "idemfuzz": entry.version,
        "seed": entry.seed,
    }


def read(path: Path) -> Entry:
    """The entry of one file.

    Raises:
        PlanError: it cannot be read, or is no finding that this version knows.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PlanError(f"cannot read the plan file {str(path)!r}: {error.strerror or error}") from error
    except ValueError as error:
        raise Damaged(f"the plan file {str(path)!r} is no text: {error}") from error
    try:
        data = json.loads(text)
        if isinstance(data, dict) and data.get(_OLD_KEY) == 1:
            return _from_old_json(data, path)
        _check_format(data, path)
        return from_json(data, path)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        if isinstance(error, PlanError):
            raise
        raise Damaged(f"the plan file {str(path)!r} is damaged: {error!r:.200}") from error


def _check_format(data: Any, path: Path) -> None:
    found = data.get(_KEY) if isinstance(data, dict) else None
    if isinstance(found, int) and found > FORMAT:
        raise PlanError(
            f"{str(path)!r} is not a plan file of this version of idemfuzz, but of a newer one (format {found}, this one reads {FORMAT})"
        )
    if found != FORMAT:
        raise Damaged(
            f"{str(path)!r} is not a plan file of this version of idemfuzz (expected {_KEY!r}: {FORMAT})"
        )


def _from_old_json(data: Mapping[str, Any], path: Path) -> Entry:
    target, code, summary = (str(data.get(name, "")) for name in ("target", "code", "summary"))
    return Entry("", target, code, _plan_of(data, path), summary, path=path)


def from_json(data: Mapping[str, Any], path: Path | None = None) -> Entry:
    """The entry of a document that `to_json` made.

    Raises:
        PlanError, KeyError, TypeError, ValueError: it is none.
    """
    example, unsaved = None, str(data.get("unsaved", ""))
    if data.get("example") is not None:
        try:
            example = Example.from_json(data["example"])
        except ValueFormError as error:
            # The job's own classes may not be loaded yet, or be gone; whoever replays reads it again.
            unsaved = str(error)
    identity = str(data["id"])
    if re.fullmatch(r"[\w-]*", identity) is None:
        # It names files, and a file may come from anywhere.
        raise Damaged(f"{str(path or 'the finding')!r} has the unusable id {identity!r:.50}")
    return Entry(
        id=identity,
        target=str(data["target"]),
        code=str(data["code"]),
        plan=_plan_of(data, path),
        summary=str(data["summary"]),
        title=str(data.get("title", "")),
        cause=str(data.get("cause", "")),
        remedy=str(data.get("remedy", "")),
        mechanism=str(data.get("mechanism", "")),
        places=tuple(map(str, data.get("places", ()))),
        example=example,
        example_text={str(name): str(text) for name, text in dict(data.get("example_text") or {}).items()},
        unsaved=unsaved,
        is_redacted=bool(data.get("is_redacted", False)),
        steps=tuple(map(str, data.get("steps", ()))),
        source=str(data.get("source", "")),
        found_at=str(data.get("found_at", "")),
        version=str(data.get("idemfuzz", "")),
        seed=int(data.get("seed", 0)),
        is_test=bool(data.get("is_test", False)),
        path=path,
    )


def _plan_of(data: Mapping[str, Any], path: Path | None) -> Plan:
    where, plan = repr(str(path or "the finding")), data.get("plan")
    if not isinstance(plan, dict):
        raise Damaged(f"{where} holds no plan")
    try:
        return Plan.from_json(plan)
    except PlanError as error:
        version = plan.get("version")
        kind = PlanError if isinstance(version, int) and version > PLAN_VERSION else Damaged
        raise kind(f"{where}: {error}") from error


def entries(root: Path, *, heal: bool = True) -> tuple[list[Entry], list[str]]:
    """All findings below ``root``, by target and code, one of each id; and what was wrong with other files.

    ``heal``: files that hold no finding are moved to ``.idemfuzz/damaged/``, and what a kill left half written goes away.
    """
    folder = root / FOLDER
    found: list[Entry] = []
    problems: list[str] = []
    for path in sorted(folder.glob("*/*.json")):
        if path.parent.name in _OTHERS or path.is_dir():
            continue
        try:
            entry = read(path)
        except PlanError as error:
            problems.append(str(error))
            if heal and isinstance(error, Damaged):
                problems[-1] += _moved_away(path, folder)
            continue
        found.append(entry)
    if heal:
        _sweep(folder)
    unique = {entry.id or str(entry.path): entry for entry in reversed(found)}
    return sorted(unique.values(), key=lambda e: (e.target, e.code, e.id)), problems


def _moved_away(path: Path, folder: Path) -> str:
    aside = folder / DAMAGED / f"{path.parent.name}--{path.name}"
    try:
        aside.parent.mkdir(exist_ok=True)
        os.replace(path, aside)
    except OSError:
        return ""
    return f"; it was moved to {aside}"


def _sweep(folder: Path) -> None:
    """Temporary files of a writer that was killed; a younger one may still be at work."""
    for path in folder.glob("*/.*.tmp"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _LEFTOVER_SECONDS:
                path.unlink()


def root_of(folder: Path) -> Path:
    """Where pytest kept the findings of a project: in the nearest folder, from ``folder`` on upwards, that looks like its root."""
    above = (folder, *folder.parents)
    return next((one for one in above if any((one / name).exists() for name in _ROOT_NAMES)), folder)


def load(text: str) -> Plan:
    """A plan from its text, or from the path of a saved file.

    Raises:
        PlanError: it is neither.
    """
    if not text.endswith(".json"):
        return Plan.parse(text)
    return read(Path(text)).plan


def _id_of(target: str, code: str, mechanism: str, places: Iterable[str]) -> str:
    told = json.dumps([target, code, mechanism, list(places)])
    return hashlib.sha256(told.encode()).hexdigest()[:8]


def _text_of(name: str, text: str) -> str:
    if is_secret(name):
        return HIDDEN
    text = redact(text)
    return text if len(text) <= _TEXT_MAX else f"{text[:_TEXT_MAX]}..."


def _kept_form(example: Example, names: Iterable[str]) -> Any:
    """An example as it is written. ``names`` are those of its values; the first ones are those of its positional arguments."""
    form = example.to_json()
    args = [_hidden_by(name, inner) for name, inner in zip(names, form["args"], strict=False)]
    return _without_secrets({**form, "args": [*args, *form["args"][len(args) :]]})


def _hidden_by(name: str, data: Any) -> Any:
    is_text = isinstance(data, str) or (isinstance(data, dict) and "$bytes" in data)
    return HIDDEN if is_text and is_secret(name) else data


def _without_secrets(data: Any) -> Any:
    """The same form with values under secret names, and passwords in URLs, replaced."""
    if isinstance(data, dict):
        return {name: _without_secrets(_hidden_by(name, inner)) for name, inner in data.items()}
    if isinstance(data, list):
        return [_without_secrets(inner) for inner in data]
    return redact(data) if isinstance(data, str) else data


def differing_step(expected: Sequence[str], found: Sequence[str]) -> int | None:
    """The first step (from 1) in which two records differ; None if there is none."""
    for index in range(max(len(expected), len(found))):
        one = expected[index] if index < len(expected) else None
        other = found[index] if index < len(found) else None
        if one != other:
            return index + 1
    return None
