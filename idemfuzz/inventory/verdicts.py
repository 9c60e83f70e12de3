"""The last verdict of each search, kept in a small file beside the findings: ``.idemfuzz/verdicts.json``."""

from __future__ import annotations

import ast
import fcntl
import functools
import inspect
import json
import os
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from idemfuzz.abc import Unusable
from idemfuzz.corpus import FOLDER
from idemfuzz.inventory.source import fingerprint
from idemfuzz.model import Report, Role
from idemfuzz.reporting.certificate import headline
from idemfuzz.reporting.proof import proof_text
from idemfuzz.reporting.redaction import redact

__all__ = ["Verdict", "Verdicts"]

FORMAT = 1
_NAME = "verdicts.json"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the last search of one test (or registered job) said."""

    target: str
    verdict: str
    headline: str
    jobs: tuple[str, ...]
    at: float
    """Seconds since the epoch."""
    codes: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    """Labels of what one clean delivery writes."""
    carried: tuple[str, ...] = ()
    """Guards that were proven to carry the job; the kind stands behind a bar."""
    proof: str = ""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """Job -> how its source read then."""


class Verdicts:
    """The file below one root folder. Entries of several processes do not get lost."""

    def __init__(self, root: Path) -> None:
        self.path = root / FOLDER / _NAME

    def all(self) -> dict[str, Verdict]:
        """Target -> last verdict.

        Raises:
            Unusable: the file is none of ours; nothing is lost.
        """
        if not self.path.exists():
            return {}
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
            if data["idemfuzz_verdicts"] != FORMAT:
                raise ValueError(f"it has the format {data['idemfuzz_verdicts']!r}, expected {FORMAT}")
            return {target: _read(target, entry) for target, entry in data["tests"].items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise Unusable(
                f"cannot read the last verdicts in {str(self.path)!r}: {error}. Remove the file; the next run writes it anew"
            ) from error

    def keep(self, target: str, report: Report) -> None:
        """Enter a report. A file that cannot be written or read is left alone: a verdict is not worth a failure."""
        entry = _entry(target, report)
        try:
            with self._locked():
                try:
                    known = self.all()
                except Unusable:
                    return
                if not entry.proof and target in known and known[target].fingerprints == entry.fingerprints:
                    # A search without a proof does not unsay an earlier one of the same source.
                    entry = replace(entry, proof=known[target].proof, carried=known[target].carried)
                known[target] = entry
                self._write(known)
        except OSError:
            return

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _write(self, known: Mapping[str, Verdict]) -> None:
        tests = {target: _plain(known[target]) for target in sorted(known)}
        handle, temporary = tempfile.mkstemp(dir=self.path.parent, suffix=".tmp")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"idemfuzz_verdicts": FORMAT, "tests": tests}, file, indent=1)
        os.replace(temporary, self.path)


def _entry(target: str, report: Report) -> Verdict:
    done = report.certificate
    proven = (
        [r for r in report.proof.removals if r.role in (Role.CARRIES, Role.TOGETHER)] if report.proof else []
    )
    carried = {f"{redact(guard.name)}|{guard.kind}": None for removal in proven for guard in removal.guards}
    return Verdict(
        target,
        str(report.verdict),
        redact(headline(report)),
        done.jobs,
        time.time(),
        tuple(dict.fromkeys(report.codes)),
        done.writes,
        tuple(carried),
        redact(proof_text(report)) if report.proof is not None else "",
        {job: found for job in done.jobs if (found := _fingerprint(job))},
    )


def _fingerprint(job: str) -> str:
    """How a job's source reads now; empty where it cannot be seen."""
    module = sys.modules.get(next((job[:n] for n in _dots(job) if job[:n] in sys.modules), ""))
    try:
        function: Any = functools.reduce(getattr, job.removeprefix(f"{module.__name__}.").split("."), module)  # type: ignore[union-attr]
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
    except (AttributeError, OSError, TypeError, SyntaxError, ValueError):
        return ""
    return fingerprint(tree.body[0]) if tree.body else ""


def _dots(name: str) -> Iterator[int]:
    return (place for place in range(len(name) - 1, 0, -1) if name[place] == ".")


def _plain(verdict: Verdict) -> dict[str, Any]:
    return {name: value for name, value in asdict(verdict).items() if name != "target"}


def _read(target: str, entry: Mapping[str, Any]) -> Verdict:
    names = {f.name for f in fields(Verdict)}
    values: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in entry.items() if name in names
    }
    return Verdict(target=target, **values)
