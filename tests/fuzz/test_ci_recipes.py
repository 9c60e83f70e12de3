"""The CI recipes run as they stand: valid by the schemas of GitHub and GitLab, and each command of ours parses."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from idemfuzz.cli import main
from idemfuzz.configuration import BUILT_IN

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "examples" / "ci").glob("*.yml"))
OURS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def schema_of(path: Path) -> str:
    return "vendor.gitlab-ci" if path.name.startswith("gitlab") else "vendor.github-workflows"


@pytest.mark.slow
@pytest.mark.parametrize("path", [pytest.param(p, id=p.name) for p in (*RECIPES, *OURS)])
def test_a_recipe_is_valid(path: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema_of(path), str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_broken_recipe_would_be_seen(tmp_path: Path) -> None:
    path = tmp_path / "github-x.yml"
    path.write_text("on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    stepz: []\n")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema_of(path), str(path)]
    assert subprocess.run(command, capture_output=True).returncode != 0


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)
    elif isinstance(value, str):
        yield value


def commands(path: Path) -> Iterator[str]:
    for text in texts(yaml.safe_load(path.read_text(encoding="utf-8"))):
        for line in text.splitlines():
            if re.match(r"\s*idemfuzz (?!nightly)\w", line):
                yield line.strip()


@pytest.mark.parametrize("path", [pytest.param(p, id=p.name) for p in (*RECIPES, *OURS)])
def test_its_commands_parse(path: Path) -> None:
    """Goal: no option that is not there. Method: variables of the CI replaced by a number, then click parses."""
    found = list(commands(path))
    assert found or path.name == "ci.yml"
    for text in found:
        plain = re.sub(r"\$\{\{[^}]*\}\}|\$\w+", "4", text.partition(">>")[0])
        name, *rest = shlex.split(plain)[1:]
        subcommand = main.get_command(click.Context(main), name)
        assert subcommand is not None, text
        subcommand.make_context(name, rest)


@pytest.mark.parametrize("path", [pytest.param(p, id=p.name) for p in RECIPES])
def test_its_profiles_are_there(path: Path) -> None:
    assert set(re.findall(r"IDEMFUZZ_PROFILE: (\w+)", path.read_text())) <= set(BUILT_IN)


@pytest.mark.parametrize("path", [pytest.param(p, id=p.name) for p in RECIPES])
def test_the_page_shows_it(path: Path) -> None:
    assert f"examples/ci/{path.name}" in (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
