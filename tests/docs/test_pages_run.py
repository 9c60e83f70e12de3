"""What the pages tell a reader to do is done, and what they show is printed.

A page in `RUN` is followed from top to bottom, in an empty folder:

- a Python block that begins with ``# name.py`` (a comma and words may follow) is that file, and is written;
- an indented line that begins with ``idemfuzz`` or ``python -m pytest`` is run there;
- a block marked ``text`` must have been printed by the command above it, line by line, in this order. A line ``[...]``
  stands for lines that are left out; what differs from run to run (times, seconds, ports, UUIDs) may differ.

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
    "docs/getting-started.md",
    "docs/tutorial-create-user.md",
    "docs/findings-mended.md",
    "docs/howto/strategies.md",
    "docs/howto/rq.md",
    "docs/howto/celery.md",
    "docs/howto/other-queues.md",
)
"""The pages that are run."""

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


@pytest.mark.parametrize("name", RUN)
def test_page_does_what_it_says(name: str, tmp_path: Path) -> None:
    """Goal: a reader who follows the page sees what it shows. Method: follow it."""
    if name == "docs/howto/celery.md":
        pytest.importorskip("idemfuzz_celery", reason="pip install ./plugins/idemfuzz-celery")
    follow(ROOT / name, tmp_path)


def follow(page: Path, folder: Path) -> None:
    text = page.read_text(encoding="utf-8")
    if "examples/" in text:
        shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns(".idemfuzz"))
    output, code, ran = "", 0, 0
    for item in items(text):
        where = f"{page.relative_to(ROOT)}:{item.line}"
        if item.kind == "file":
            path = folder / re.match(r"# ([\w/]+\.py)", item.text)[1]  # type: ignore[index]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(item.text, encoding="utf-8")
        elif item.kind == "command":
            code, output = run(item.text, folder)
            assert code in (0, 1), f"{where}: {item.text} ended with {code}:\n{output}"
            ran += 1
        else:
            missing = not_shown(output, item.text)
            assert missing is None, f"{where} shows what is not printed:\n{missing}\n\n{output}"
            if "violated" in item.text or "  holds: " in item.text:
                assert code == (1 if "violated" in item.text else 0), where
    assert ran, f"{page.name}: no command"


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
        if line.strip() not in ("", "[...]") and steady(line) not in printed:
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
