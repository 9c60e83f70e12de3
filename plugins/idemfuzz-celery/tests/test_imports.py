"""The adapter uses what any third party could: the public modules of idemfuzz, and no other."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import idemfuzz_celery

PACKAGE = Path(idemfuzz_celery.__file__).parent
PUBLIC = {
    "idemfuzz",
    "idemfuzz.abc",
    "idemfuzz.inventory",
    "idemfuzz.model",
    "idemfuzz.testing",
    "idemfuzz.testing.memory",
}


@pytest.mark.parametrize(
    "path", [*PACKAGE.rglob("*.py"), *Path(__file__).parent.glob("*.py")], ids=lambda path: path.name
)
def test_only_public_modules_are_imported(path: Path) -> None:
    used = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            used |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}:{node.lineno} imports relatively"
            used.add(node.module or "")
            if (node.module or "").partition(".")[0] == "idemfuzz":
                private = [alias.name for alias in node.names if alias.name.startswith("_")]
                assert not private, f"{path.name}:{node.lineno} imports {private}"
    strange = {name for name in used if name.partition(".")[0] == "idemfuzz"} - PUBLIC
    assert not strange, f"{path.name} imports {sorted(strange)}"


def test_idemfuzz_finds_the_adapter() -> None:
    [point] = [p for p in entry_points(group="idemfuzz.adapters") if p.name == "celery"]
    assert point.load() is idemfuzz_celery.CeleryQueue


def test_celery_is_not_imported_before_it_is_used() -> None:
    code = "import sys, idemfuzz_celery as c; q = c.CeleryQueue(); q.attach(None, None, {}); print('celery' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
