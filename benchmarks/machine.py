"""What the numbers were taken on, as a line for the page; it names no host and no user."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = (
    "idemfuzz",
    "SQLAlchemy",
    "psycopg",
    "PyMySQL",
    "redis",
    "fakeredis",
    "rq",
    "pytest",
)


def described(servers: Mapping[str, str]) -> str:
    """Date, machine, load, versions of packages, and ``servers`` (name -> version) that took part."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = f"{date.today()}: {cores} cores{_processor()}, {platform.system()} {platform.machine()}"
    load = f"load {os.getloadavg()[0]:.1f} at the end" if hasattr(os, "getloadavg") else ""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    packages = ", ".join(f"{name} {found}" for name in _PACKAGES if (found := _version(name)))
    parts = [machine, load, python, packages, ", ".join(f"{k} {v}" for k, v in sorted(servers.items()))]
    return "; ".join(part for part in parts if part) + "."


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """The model, where the system says it."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f" of {models[0]}" if models else ""
