"""What the pages tell a reader to do is done, and what they show is printed.

A page in `RUN` is followed from top to bottom, in an empty folder:

- a Python block that begins with ``# name.py`` (a comma and words may follow) is that file, and is written;
- an indented line that begins with ``idemfuzz`` or ``python -m pytest`` is run there;
- a block marked ``text`` must have been printed by the command above it, line by line, in this order. A line ``[...]``
  stands for lines that are left out, ``...`` at a line's end for the rest of it; what differs from run to run (times, seconds, ports, UUIDs) may differ.

Everything else on a page (other Python blocks, ``pip``, ``make``) is for reading, and `tests/meta/test_docs.py` compiles
or parses it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUN = (
    "README.md",
    "docs/getting-started.md",
    "docs/tutorial-create-user.md",
    "docs/findings-mended.md",
    "docs/prove.md",
    "docs/inventory.md",
    "docs/howto/strategies.md",
    "docs/howto/rq.md",
    "docs/howto/celery.md",
    "docs/howto/other-queues.md",
)
"""The pages that are run."""
SECTIONED = {"docs/findings-mended.md"}
"""Pages of which each section stands alone, behind the page's beginning: so they can be run side by side."""
QUOTING = {"README.md": ("docs/reading-a-finding.md", "docs/certificate.md")}
"""Page -> pages that show what its commands print. They may number lines, as ``(1)``, and break them off with ``...``."""
NOT_RUN = {"docs/stress.md", "docs/fuzzing.md", "docs/ci.md", "docs/limits.md", "docs/results.md"}
"""Pages whose outputs are measurements, or need processes and time: what they show is tested beside what they tell of."""

pytestmark = pytest.mark.slow


@dataclass(frozen=True, slots=True)
class Item:
    """A thing to do on a page: a file to write, a command to run, or lines that it must have printed."""

    kind: str
    """file, command or shown."""
    text: str
    line: int


def items(text: str) -> Iterator[Item]:
    """In the order of the page."""
    found = re.compile(
        r"^( *)```(?P<language>\w+)\n(?P<block>.*?)^\1```|^ {4}(?P<command>(?:idemfuzz|python -m pytest)\b[^\n]*)$",
        re.M | re.S,
    )
    for match in found.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        if match["command"]:
            yield Item("command", match["command"], line)
        elif match["language"] == "text":
            yield Item("shown", textwrap.dedent(match["block"]), line)
        elif match["language"] == "python" and re.match(r" *# [\w/]+\.py\b", match["block"]):
            yield Item("file", textwrap.dedent(match["block"]), line)


def parts(name: str) -> list[str]:
    """A page as a whole, or its beginning with each of its sections."""
    text = (ROOT / name).read_text(encoding="utf-8")
    if name not in SECTIONED:
        return [text]
    # A heading within a block of code is none: its blocks are Python files, whose comments have one mark.
    beginning, *sections = re.split(r"^(?=## )", text, flags=re.M)
    return [
        beginning + "\n" * (text[: text.index(section)].count("\n") - beginning.count("\n")) + section
        for section in sections
    ]


PARTS = [
    pytest.param(name, number, id=name + (f"-{number + 1}" if name in SECTIONED else ""))
    for name in RUN
    for number in range(len(parts(name)))
]


@pytest.mark.parametrize(("name", "number"), PARTS)
def test_page_does_what_it_says(name: str, number: int, tmp_path: Path) -> None:
    """Goal: a reader who follows the page sees what it shows. Method: follow it."""
    if name == "docs/howto/celery.md":
        pytest.importorskip("idemfuzz_celery", reason="pip install ./plugins/idemfuzz-celery")
    printed = follow(name, parts(name)[number], tmp_path)
    for quoting in QUOTING.get(name, ()):
        for item in items((ROOT / quoting).read_text(encoding="utf-8")):
            if item.kind == "shown":
                missing = not_shown(printed, re.sub(r" +\(\d\)$", "", item.text, flags=re.M))
                assert missing is None, f"{quoting}:{item.line} shows what {name} does not print:\n{missing}"


def test_each_page_that_shows_output_is_followed() -> None:
    """Goal: no output that nobody compares."""
    pages = [ROOT / "README.md", ROOT / "examples" / "README.md", *(ROOT / "docs").rglob("*.md")]
    showing = {
        str(page.relative_to(ROOT))
        for page in pages
        if any(item.kind == "shown" for item in items(page.read_text(encoding="utf-8")))
    }
    assert showing - NOT_RUN <= {*RUN, *(quoting for names in QUOTING.values() for quoting in names)}


def follow(name: str, text: str, folder: Path) -> str:
    """Do what a page says, compare what it shows, and return all that was printed."""
    if "examples/" in text:
        shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns(".idemfuzz"))
    output, code, printed = "", 0, []
    for item in items(text):
        where = f"{name}:{item.line}"
        if item.kind == "file":
            path = folder / re.match(r"# ([\w/]+\.py)", item.text)[1]  # type: ignore[index]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(item.text, encoding="utf-8")
        elif item.kind == "command":
            code, output = run(item.text, folder)
            assert code in (0, 1), f"{where}: {item.text} ended with {code}:\n{output}"
            printed.append(output)
        else:
            missing = not_shown(output, item.text)
            assert missing is None, f"{where} shows what is not printed:\n{missing}\n\n{output}"
            if "violated" in item.text or "  holds: " in item.text:
                assert code == (1 if "violated" in item.text else 0), where
    assert printed, f"{name}: no command"
    return "\n".join(printed)


def run(command: str, folder: Path) -> tuple[int, str]:
    words = shlex.split(command, comments=True)
    words = (
        [sys.executable, "-m", "idemfuzz.cli", *words[1:]]
        if words[0] == "idemfuzz"
        else [sys.executable, *words[1:]]
    )
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("COLUMNS", "FORCE_COLOR") and not name.startswith("PYTEST_")
    }
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), environment.get("PYTHONPATH", ""))))
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    return done.returncode, done.stdout + done.stderr


def not_shown(output: str, expected: str) -> str | None:
    """The first line of ``expected`` that is missing from ``output`` or stands before its predecessor; None if all are there."""
    printed = iter([steady(line) for line in output.splitlines()])
    for line in expected.splitlines():
        if line.strip() in ("", "[...]"):
            continue
        wanted = steady(line)
        begins = wanted.removesuffix("...") if wanted.endswith((" ...", ", ...")) else None
        if not any(one == wanted or (begins and one.startswith(begins)) for one in printed):
            return line
    return None


def steady(line: str) -> str:
    """Without what differs from run to run, and without the width of columns, which may follow from it."""
    line = re.sub(r"\b[\d.]+ ?m?s\b", "0 s", line)
    line = re.sub(r"…?[\d-]*\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?", "time", line)
    line = re.sub(r"(127\.0\.0\.1):\d+", r"\1:0", line)
    line = re.sub(r"\b[0-9a-f]{8}-[0-9a-f-]+(?:…[0-9a-f-]*)*", "uuid", line)
    line = re.sub(r"\b[0-9a-f]{32}\b", "uuid", line)
    return re.sub(r"\s+", " ", line).strip()
