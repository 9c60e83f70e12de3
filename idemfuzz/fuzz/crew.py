"""A crew: parts of one campaign in processes of their own, here or wherever RQ's workers are, and what they found as one.

A part is the command ``idemfuzz fuzz ... --shard I/N``. It tells how far it is in a status file, or as its job's meta data, and ends with a
report. One that dies loses its time: what it had found stands in its corpus, and the others go on.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from idemfuzz.corpus import Entry, from_json
from idemfuzz.fuzz.news import explains
from idemfuzz.model import PlanError

__all__ = ["LocalPart", "Part", "gathered", "merged"]


class Part(Protocol):
    """One part at work."""

    name: str

    def status(self) -> dict[str, Any] | None:
        """The newest report that it has given; None if there is none yet."""
        ...

    def ended(self) -> bool: ...

    def trouble(self) -> str:
        """What went wrong with it, if something did."""
        ...

    def stop(self) -> None:
        """Ask it to end after the trial that runs."""
        ...


class LocalPart:
    """A process on this machine.

    It is told to be an xdist worker: fixtures that give each of these a database of its own do so here, too.
    """

    def __init__(self, number: int, parts: int, arguments: Sequence[str], folder: Path) -> None:
        self.name = f"{number}/{parts}"
        self._status = folder / f"status-{number}.json"
        # Closed by `close`, when the process has ended.
        self._log = tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        command = [
            sys.executable,
            "-m",
            "idemfuzz.cli",
            "fuzz",
            *arguments,
            f"--shard={number}/{parts}",
            f"--status={self._status}",
        ]
        environment = {
            **os.environ,
            "PYTEST_XDIST_WORKER": f"gw{number - 1}",
            "PYTEST_XDIST_WORKER_COUNT": str(parts),
        }
        # In a session of its own: a Ctrl-C comes to it through us, once.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )

    def status(self) -> dict[str, Any] | None:
        return read_status(self._status)

    def ended(self) -> bool:
        return self._process.poll() is not None

    def trouble(self) -> str:
        code = self._process.poll()
        if code is None or code in (0, 1):
            return ""
        self._log.seek(0)
        lines = [line.strip() for line in self._log.read().splitlines() if line.strip()]
        told = " | ".join(lines[-4:])
        return f"part {self.name} was killed by signal {-code}" if code < 0 else f"part {self.name}: {told}"

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def close(self) -> None:
        """End it, if need be by force, and wait for it."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._log.close()


def read_status(path: Path) -> dict[str, Any] | None:
    """A part's report, if it has written one."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def gathered(reports: Sequence[Mapping[str, Any]]) -> list[Entry]:
    """The findings of all parts, one for each cause."""
    found: dict[str, Entry] = {}
    for report in reports:
        for data in report.get("findings", ()):
            try:
                entry = from_json(data)
            except (PlanError, KeyError, TypeError, ValueError):
                continue
            known = found.get(entry.id)
            if known is None or len(str(data.get("example_text"))) < len(str(dict(known.example_text))):
                found[entry.id] = entry
    entries = list(found.values())
    return [
        entry
        for entry in entries
        if not any(other.id != entry.id and explains(other, entry) for other in entries)
    ]


def merged(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How far all parts are together, in the form of one part's ``standing``."""
    standings = [report["standing"] for report in reports if "standing" in report]
    targets: dict[str, dict[str, Any]] = {}
    for standing in standings:
        for target in standing["targets"]:
            known = targets.get(target["name"])
            targets[target["name"]] = dict(target) if known is None else _together(known, target)
    curves = [point for standing in standings for point in standing["curve"]]
    return {
        "seconds": max((standing["seconds"] for standing in standings), default=0.0),
        "max_seconds": max((standing["max_seconds"] or 0.0 for standing in standings), default=0.0) or None,
        "trials": sum(standing["trials"] for standing in standings),
        "rate": sum(standing["rate"] for standing in standings),
        "features": sum(standing["features"] for standing in standings),
        "last_new_seconds_ago": min((s["last_new_seconds_ago"] for s in standings), default=0.0),
        "curve": _added(standings) if curves else [],
        "targets": list(targets.values()),
        "findings": len(gathered(reports)),
        "known": max((standing["known"] for standing in standings), default=0),
        "seed": standings[0]["seed"] if standings else 0,
    }


def _added(standings: Sequence[Mapping[str, Any]]) -> list[tuple[float, int]]:
    """The curves of all parts on top of each other."""
    steps = []
    for standing in standings:
        before = 0
        for at, count in standing["curve"]:
            steps.append((float(at), int(count) - before))
            before = int(count)
    total = 0
    curve = []
    for at, more in sorted(steps):
        total += more
        curve.append((at, total))
    return curve


def _together(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    struck = max(one["points"][0], other["points"][0])
    refused = {**one["refused"]}
    for text, times in other["refused"].items():
        refused[text] = refused.get(text, 0) + times
    return {
        **one,
        "slices": one["slices"] + other["slices"],
        "trials": one["trials"] + other["trials"],
        "examples": one["examples"] + other["examples"],
        "features": max(one["features"], other["features"]),
        "points": [struck, max(one["points"][1], other["points"][1])],
        # Only what none of them struck was missed.
        "missed": [point for point in one["missed"] if point in other["missed"]],
        "not_covered": [text for text in one["not_covered"] if text in other["not_covered"]],
        "findings": max(one["findings"], other["findings"]),
        "unusable": one["unusable"] if one["unusable"] and other["unusable"] else "",
        "skipped": one["skipped"] if one["skipped"] and other["skipped"] else "",
        "refused": refused,
    }
