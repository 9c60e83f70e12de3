"""Imports go one way, and only the adapters know a vendor."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "idemfuzz"

# Each layer may import itself and those before it.
LAYERS = [
    ("idemfuzz.model",),
    ("idemfuzz.abc",),
    ("idemfuzz.import_path", "idemfuzz.permission", "idemfuzz.scratch"),
    ("idemfuzz.engine", "idemfuzz.explorers", "idemfuzz.checkers", "idemfuzz.adapters", "idemfuzz.servers"),
    ("idemfuzz.diagnose",),
    ("idemfuzz.reporting",),
    ("idemfuzz.corpus",),
    ("idemfuzz.baseline",),
    ("idemfuzz.stage",),
    ("idemfuzz.session",),
    ("idemfuzz.api",),
    ("idemfuzz.inventory",),
    ("idemfuzz.configuration",),
    ("idemfuzz.fuzz",),
    ("idemfuzz.stress",),
    ("idemfuzz.testing",),
    ("idemfuzz.pytest_plugin", "idemfuzz.demo"),
    ("idemfuzz.cli",),
]
# Within the third layer, who may know whom.
SIBLINGS = {
    "idemfuzz.engine": set(),
    "idemfuzz.explorers": set(),
    "idemfuzz.checkers": set(),
    "idemfuzz.adapters": set(),
    "idemfuzz.servers": set(),
}
VENDORS = {
    "rq",
    "sqlalchemy",
    "redis",
    "fakeredis",
    "celery",
    "psycopg",
    "psycopg2",
    "pymysql",
    "requests",
    "httpx",
    "urllib3",
    "boto3",
    "botocore",
}
# The launcher asks the servers that it starts through plain drivers; the doctor names versions; the demo is an application.
VENDORS_ALLOWED = ("idemfuzz.adapters", "idemfuzz.servers", "idemfuzz.demo", "idemfuzz.cli.doctor")


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ("idemfuzz", *path.relative_to(PACKAGE).with_suffix("").parts)
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Names of imported modules; what stands under TYPE_CHECKING is no import at run time."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "idemfuzz":
                for alias in node.names:
                    yield f"idemfuzz.{alias.name}", node.lineno
            else:
                yield node.module, node.lineno


def layer_of(module: str) -> int | None:
    return next(
        (
            n
            for n, names in enumerate(LAYERS)
            for name in names
            if module == name or module.startswith(f"{name}.")
        ),
        None,
    )


def home_of(module: str) -> str | None:
    return next((name for name in SIBLINGS if module == name or module.startswith(f"{name}.")), None)


@pytest.mark.parametrize(("module", "path"), [pytest.param(m, p, id=m) for m, p in modules()])
def test_imports_go_one_way(module: str, path: Path):
    own = layer_of(module)
    if module in ("idemfuzz", "idemfuzz.__main__"):
        return
    assert own is not None, f"{module} belongs to no layer; add it to LAYERS"
    for name, line in imports(path):
        if not name.startswith("idemfuzz."):
            continue
        layer = layer_of(name)
        if layer is None:
            continue
        assert layer <= own, f"{path.name}:{line} imports {name}, which is above {module}"
        mine, other = home_of(module), home_of(name)
        if mine and other and mine != other:
            assert other in SIBLINGS[mine], f"{path.name}:{line}: {mine} must not know {other}"


@pytest.mark.parametrize(("module", "path"), [pytest.param(m, p, id=m) for m, p in modules()])
def test_only_adapters_know_vendors(module: str, path: Path):
    if module.startswith(VENDORS_ALLOWED):
        return
    known = [(name, line) for name, line in imports(path) if name.partition(".")[0] in VENDORS]
    assert not known, f"{module} imports {known}"


def test_model_needs_the_standard_library_only():
    import sys

    for module, path in modules():
        if module.startswith("idemfuzz.model"):
            for name, _ in imports(path):
                root = name.partition(".")[0]
                assert root == "idemfuzz" or root in sys.stdlib_module_names, (module, name)
