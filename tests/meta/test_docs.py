"""The documentation says what is: links lead somewhere, code compiles, commands parse, tables and pages match."""

from __future__ import annotations

import importlib.util
import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import click
import pytest

from idemfuzz.abc import Options
from idemfuzz.cli import main
from idemfuzz.diagnose import CODES
from idemfuzz.explorers import FAULT_NAMES
from idemfuzz.model import Plan

ROOT = Path(__file__).parents[2]
REPOSITORY = "https://github.com/idemfuzz/idemfuzz/blob/main/"
README, GETTING_STARTED = ROOT / "README.md", ROOT / "docs" / "getting-started.md"
PAGES = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md")),
    ROOT / "examples" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
each_page = pytest.mark.parametrize("page", [pytest.param(p, id=str(p.relative_to(ROOT))) for p in PAGES])


# -- what a page holds -------------------------------------------------------------------------------------


def blocks(text: str, language: str = "") -> list[str]:
    """The fenced blocks of a language, set in from the left or not."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", text, re.M | re.S)
    return [textwrap.dedent(block) for _, block in found]


def links(text: str) -> Iterator[str]:
    prose = re.sub(r"^ *```.*?^ *```|`[^`\n]*`", "", text, flags=re.M | re.S)
    yield from re.findall(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)", prose)


def anchors(text: str) -> set[str]:
    """As mkdocs and the forges make them of headings."""
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S)
    titles = re.findall(r"^#+ +(.*)$", prose, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def commands(text: str) -> Iterator[str]:
    """Command lines of idemfuzz in code blocks, and the ones that printed findings suggest."""
    for line in text.splitlines():
        found = re.match(r"(?: {4}|  Replay +)(idemfuzz(?: .*)?)$", line)
        if found and "[OPTIONS]" not in line and not found[1].startswith("idemfuzz.register"):
            yield found[1]


def table(text: str, heading: str) -> dict[str, list[str]]:
    """The first table below a heading: first cell, without back quotes, -> the other cells."""
    rest = f"\n{text}".partition(f"\n{heading}\n")[2]
    lines = re.search(r"^\|.*\n\|[-| ]+\|\n((?:\|.*\n?)+)", rest, re.M)
    assert lines is not None, heading
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines[1].splitlines()]
    return {row[0].strip("`"): row[1:] for row in rows}


# -- links -------------------------------------------------------------------------------------------------


@each_page
def test_links_lead_to_files_and_headings_that_are_there(page: Path):
    """Goal: no dead link. Method: resolve each relative one, and those to the repository itself."""
    for link in links(page.read_text(encoding="utf-8")):
        target, _, anchor = link.partition("#")
        if target.startswith(REPOSITORY):
            path = ROOT / target.removeprefix(REPOSITORY)
        elif re.match(r"[a-z]+:", target):
            continue
        else:
            path = page.parent / target if target else page
        assert path.exists(), f"{page.relative_to(ROOT)}: {link}"
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path.read_text(encoding="utf-8")), f"{page.relative_to(ROOT)}: {link}"


def test_every_page_stands_in_the_navigation():
    """Goal: no page that nobody finds. Method: names in mkdocs.yml against files."""
    named = set(re.findall(r"[\w./-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    there = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert named == there


# -- codes -------------------------------------------------------------------------------------------------


def _gen_codes() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gen_codes", ROOT / "docs" / "gen_codes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_code_has_its_page_and_no_page_is_left_over():
    """Goal: codes and pages are the same. Method: make the pages in memory and compare them with the files."""
    made = _gen_codes().pages()
    there = {p.name: p.read_text(encoding="utf-8") for p in (ROOT / "docs" / "codes").glob("*.md")}
    assert set(there) == {"index.md", *(f"{code}.md" for code in CODES)}
    outdated = sorted(name for name in made if made[name] != there[name])
    assert not outdated, "run: python docs/gen_codes.py"


@each_page
def test_codes_and_faults_that_are_named_exist(page: Path):
    text = page.read_text(encoding="utf-8")
    unknown = {code for code in re.findall(r"\bIDM\d{3}\b", text) if code not in CODES}
    assert not unknown


# -- code and commands -------------------------------------------------------------------------------------


@each_page
def test_python_compiles(page: Path):
    for number, block in enumerate(blocks(page.read_text(encoding="utf-8"), "python"), 1):
        compile(block, f"{page.name}, block {number}", "exec")


@each_page
def test_commands_parse(page: Path):
    """Goal: every command line can be typed. Method: click parses it; nothing is run."""
    for command in commands(page.read_text(encoding="utf-8")):
        _parse(shlex.split(command, comments=True)[1:], command)


def _parse(words: list[str], command: str) -> None:
    try:
        context = main.make_context("idemfuzz", words)
        name, subcommand, rest = main.resolve_command(context, context._protected_args + context.args)
        assert subcommand is not None, command
        parsed = subcommand.make_context(name, rest, parent=context)
        if parsed.params.get("plan") and not parsed.params["plan"].endswith(".json"):
            Plan.parse(parsed.params["plan"])
    except click.exceptions.Exit:
        return  # --help and --version say what they have to say while they are parsed.
    except click.ClickException as error:
        raise AssertionError(f"{command}: {error.format_message()}") from error


def test_commands_are_found_at_all():
    assert len(list(commands(README.read_text(encoding="utf-8")))) >= 5


def test_readme_names_the_targets_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for name in re.findall(r"^    make (\w+)", README.read_text(encoding="utf-8"), re.M):
        assert re.search(rf"^{name}:", makefile, re.M), name


# -- tables ------------------------------------------------------------------------------------------------


def test_the_options_table_is_that_of_the_options():
    """Goal: each option with its default. Method: the rows against the fields of `Options`."""
    text = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    rows = table(text, "# The marker's options")
    known = {field.name: field.default for field in fields(Options) if field.name != "extra"}
    assert set(rows) == {"job", "stores", *known}
    for name, default in known.items():
        shown = rows[name][1]
        if default == ():
            assert shown == "none"
        else:
            assert f"`{default!r}`" in shown, f"{name}: {shown}"
    named = set(re.findall(r"`(\w+)`", rows["faults"][2]))
    assert named >= set(FAULT_NAMES)
    assert set(table((ROOT / "docs" / "faults.md").read_text(encoding="utf-8"), "## What is tried")) == set(
        FAULT_NAMES
    )


def test_the_options_table_knows_what_the_marker_announces():
    from idemfuzz.pytest_plugin import _OPTIONS

    assert set(_OPTIONS) <= set(
        table((ROOT / "docs" / "options.md").read_text(encoding="utf-8"), "# The marker's options")
    )


def test_examples_of_options_are_usable():
    """Goal: what stands in the column of examples can be copied. Method: `make_options` reads it."""
    from idemfuzz.api import make_options

    rows = table((ROOT / "docs" / "options.md").read_text(encoding="utf-8"), "# The marker's options")
    for name, cells in rows.items():
        if name not in ("job", "stores"):
            make_options(eval(f"dict({cells[-1].strip('`')})"))


def test_the_command_line_page_shows_the_options_of_run():
    from idemfuzz.cli.run import command

    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    run = text.partition("## idemfuzz run")[2].partition("\n## ")[0]
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.name != "help":
            assert any(f"`{opt}" in run for opt in parameter.opts), parameter.opts
    for name in main.list_commands(click.Context(main)):
        assert f"\n## idemfuzz {name}\n" in text


def test_options_of_pytest_that_are_named_exist():
    source = (ROOT / "idemfuzz" / "pytest_plugin" / "__init__.py").read_text(encoding="utf-8")
    for page in PAGES:
        for option in re.findall(r"--idemfuzz[a-z-]*", page.read_text(encoding="utf-8")):
            assert f'"{option}"' in source, f"{page.name}: {option}"


def test_the_api_page_has_what_is_exported():
    """Goal: public is what is exported and documented. Method: names on the page against ``__all__``."""
    import idemfuzz
    from idemfuzz import abc

    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    shown = re.findall(r"^::: idemfuzz\.(?:\w+\.)*(\w+)$", text, re.M)
    assert sorted(shown) == sorted({*idemfuzz.__all__, *abc.__all__} - {"__version__"})
