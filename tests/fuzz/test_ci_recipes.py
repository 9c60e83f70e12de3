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


def test_the_machines_of_a_night_are_put_together_even_where_nothing_is(tmp_path: Path) -> None:
    """Goal: no step fails in a first night, and a machine's own state wins. Method: the step's own shell, in two folders."""
    recipe = yaml.safe_load((ROOT / "examples" / "ci" / "github-nightly.yml").read_text(encoding="utf-8"))
    (step,) = (
        step for step in recipe["jobs"]["tell"]["steps"] if step.get("name") == "One corpus of the four"
    )
    empty, two = tmp_path / "empty", tmp_path / "two"
    empty.mkdir()
    for number in ("1", "2"):
        folder = two / "found" / f"idemfuzz-{number}" / ".idemfuzz"
        (folder / "fuzz").mkdir(parents=True)
        (folder / f"job-{number}").mkdir()
        (folder / f"job-{number}" / "IDM101-duplicate.json").write_text("{}")
        for state in ("1", "2"):
            text = "new" if state == number else "of last night"
            (folder / "fuzz" / f"state-{state}-of-4.json").write_text(text)
    for folder in (empty, two):
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", step["run"]], cwd=folder, capture_output=True
        )
        assert done.returncode == 0, done.stderr
    kept = sorted(str(path.relative_to(two / ".idemfuzz")) for path in (two / ".idemfuzz").rglob("*.json"))
    assert kept == [
        "fuzz/state-1-of-4.json",
        "fuzz/state-2-of-4.json",
        "job-1/IDM101-duplicate.json",
        "job-2/IDM101-duplicate.json",
    ]
    assert {path.read_text() for path in (two / ".idemfuzz" / "fuzz").iterdir()} == {"new"}


@pytest.mark.parametrize("path", [pytest.param(p, id=p.name) for p in RECIPES if p.name.startswith("gitlab")])
def test_what_a_job_reads_from_the_cache_another_one_writes(path: Path) -> None:
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))
    caches = [job["cache"] for job in jobs.values() if isinstance(job, dict) and "cache" in job]
    read = {cache["key"] for cache in caches if cache.get("policy") != "push"}
    assert read <= {cache["key"] for cache in caches if cache.get("policy") != "pull"}
