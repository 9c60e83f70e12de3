"""What idemfuzz costs whoever does not use it: a count of modules, which does not depend on the machine.

The time (at most 30 ms for a suite without a marked test) is measured by `benchmarks`.
"""

from __future__ import annotations

import subprocess
import sys


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; before = set(sys.modules); {statement}; print(*(set(sys.modules) - before))"
    return set(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
    )


def test_plugin_loads_itself_only():
    loaded = loaded_by("import pytest; before = set(sys.modules); import idemfuzz.pytest_plugin")
    assert loaded <= {"idemfuzz", "idemfuzz.pytest_plugin"}


def test_package_loads_nothing_until_it_is_used():
    assert loaded_by("import typing, __future__; before = set(sys.modules); import idemfuzz") == {"idemfuzz"}


def test_adapters_load_no_vendor():
    loaded = loaded_by("from idemfuzz.adapters import load_adapters; load_adapters()")
    vendors = {
        "sqlalchemy",
        "redis",
        "fakeredis",
        "rq",
        "celery",
        "requests",
        "httpx",
        "psycopg",
        "pymysql",
        "botocore",
    }
    assert not vendors & loaded
