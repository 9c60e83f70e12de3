"""Stress runs as a user starts them: the command line in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from idemfuzz import servers

JOBS = Path(__file__).with_name("shop_jobs.py")


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    text: str
    report: dict[str, Any]

    @property
    def codes(self) -> set[str]:
        return {finding["code"] for finding in self.report["findings"]}

    @property
    def behaviours(self) -> dict[str, int]:
        return {one["code"]: one["count"] for one in self.report["behaviours"]}

    @property
    def left_behind(self) -> dict[str, list[str]]:
        """Of a sweep: the codes at each of its points."""
        return {point["where"]: point["codes"] for point in self.report["points"]}


Stress = Callable[..., Ran]


@pytest.fixture
def stress(tmp_path: Path) -> Stress:
    """Run `idemfuzz stress` on a job of `shop_jobs.py`; servers as at home: missing ones skip, and fail in CI."""
    for kind in ("redis", "postgresql"):
        try:
            getattr(servers, kind)()
        except servers.Unavailable as error:
            if os.environ.get("IDEMFUZZ_REQUIRE_SERVERS", "") not in {"", "0"}:
                pytest.fail(str(error), pytrace=False)
            pytest.skip(str(error))

    def run(job: str, *options: str) -> Ran:
        # Each worker is a second of processor time to start: a test that needs more of them says so.
        fewer = () if "--sweep" in options or "--workers" in options else ("--workers", "2")
        file = tmp_path / "report.json"
        command = [
            *(sys.executable, "-m", "idemfuzz.cli", "stress", f"{JOBS}:{job}"),
            *(*fewer, *options, "--report", f"json={file}"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=tmp_path)
        report = json.loads(file.read_text()) if file.exists() else {}
        return Ran(done.returncode, done.stdout + done.stderr, report)

    return run
