"""Markdown: for a comment, a wiki, a job summary. Whatever comes from users stands in code, where it is only text."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from idemfuzz.model import Verdict
from idemfuzz.reporting.certificate import counted
from idemfuzz.reporting.json_report import worst_per_search
from idemfuzz.reporting.steps import clean

__all__ = ["rendered"]

_PAGES = "https://idemfuzz.readthedocs.io/codes"
_MARKS = {"holds": "✓", "unknown": "?", "violated": "✗"}
_ROWS_MAX = 20
_VALUE_MAX = 200
_SEARCHES_MAX = 500


def rendered(document: Mapping[str, Any], *, bytes_max: int | None = None) -> str:
    """The report for one run; with ``bytes_max`` as many whole findings as that allows, and what was left out."""
    searches = worst_per_search(document["reports"])
    made = ["\n".join(_overview(searches)) + "\n"]
    blocks = [f"\n{block}" for report in searches for block in _blocks(report)]
    left = "\n_{} did not fit in here._\n"
    room = None if bytes_max is None else bytes_max - _size(made[0]) - len(left) - 20
    for number, block in enumerate(blocks):
        if room is not None:
            room -= _size(block)
            if room < 0:
                made.append(left.format(counted(len(blocks) - number, "more section")))
                break
        made.append(block)
    return "".join(made)


def _overview(searches: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    amounts = {verdict: sum(one["verdict"] == verdict for one in searches) for verdict in Verdict}
    words = {Verdict.VIOLATED: "violated", Verdict.UNKNOWN: "unknown", Verdict.HOLDS: "holds"}
    counts = ", ".join(f"{amounts[verdict]} {word}" for verdict, word in words.items() if amounts[verdict])
    yield f"# idemfuzz: {counted(len(searches), 'search', 'searches')}{': ' if counts else ''}{counts}"
    if not searches:
        return
    yield ""
    yield "| verdict | search | |"
    yield "|---|---|---|"
    ordered = sorted(searches, key=lambda one: ("violated", "unknown", "holds").index(one["verdict"]))
    for one in ordered[:_SEARCHES_MAX]:
        claim = one["headline"].removeprefix(f"{one['verdict']}: ")
        yield f"| {_MARKS[one['verdict']]} {one['verdict']} | {_cell(one['name'])} | {_cell(claim)} |"
    if len(ordered) > _SEARCHES_MAX:
        yield f"| | {len(ordered) - _SEARCHES_MAX:,} more | |"


def _blocks(report: Mapping[str, Any]) -> Iterator[str]:
    for finding in report["findings"]:
        yield "\n".join(_finding(report, finding)) + "\n"
    if report["notes"] or report["proof_text"] or report["verdict"] != "holds":
        yield "\n".join(_rest(report)) + "\n"


def _finding(report: Mapping[str, Any], finding: Mapping[str, Any]) -> Iterator[str]:
    code, example, source = finding["code"], finding["counterexample"], finding["source"]
    doubt = " (in doubt: it does not show every time)" if finding["verdict"] == "unknown" else ""
    yield f"## [{code}]({_PAGES}/{code}/) {_plain(finding['title'])}{doubt}"
    yield ""
    yield f"{_code(report['name'])}: {_code(finding['summary'])}"
    if source is not None:
        yield ""
        place = f"{source['file']}:{source['line']}"
        yield f"at {_code(place)} in {_code(source['function'])}"
    differing = [row for row in finding["state"]["rows"] if row["differs"]]
    if differing:
        yield ""
        yield from _table(differing)
    yield ""
    yield f"- **Happens when** {_plain(finding['cause'])}"
    yield f"- **Remedy** {_plain(finding['remedy'])}"
    if example["command"]:
        yield f"- **Replay** {_code(example['command'])}"
    else:
        yield f"- **Plan** {_code(example['plan'])}"
    yield from (f"- **Also** {_plain(other)}" for other in finding["also"])
    yield ""
    yield from _folded("The whole finding", finding["text"])


def _rest(report: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {_code(report['name'])}"
    yield ""
    said = [f"{note['code']} {note['text']}" for note in report["notes"]] + report["proof_text"].splitlines()
    if said:
        yield from (f"- {_plain(line)}" for line in said)
        yield ""
    yield from _folded("Certificate", report["certificate_text"])


def _table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "| what | before | one clean delivery | this trial |"
    yield "|---|---|---|---|"
    lines = [line for row in rows for line in _lines(row)]
    yield from lines[:_ROWS_MAX]
    if len(lines) > _ROWS_MAX:
        yield f"| {len(lines) - _ROWS_MAX} more | | | |"


def _lines(row: Mapping[str, Any]) -> Iterator[str]:
    sides = [row["before"], row["reference"], row["after"]]
    some = next(side for side in reversed(sides) if side is not None)
    for name in dict.fromkeys(name for side in sides if side is not None for name in side["fields"]):
        values = [_value(side, name) for side in sides]
        # Of a thing that is changed, what differs and which one it is; of one that is too many or missing, all of it.
        if row["reference"] and row["after"] and values[1] == values[2] and name not in some["identity"]:
            continue
        yield f"| {_cell(some['store'] + ' ' + some['group'] + '.' + name)} | {' | '.join(values)} |"


def _value(side: Mapping[str, Any] | None, name: str) -> str:
    if side is None or name not in side["fields"]:
        return "–"
    text = json.dumps(side["fields"][name], ensure_ascii=False)
    return _cell(text if len(text) <= _VALUE_MAX else f"{text[: _VALUE_MAX - 1]}…")


def _folded(title: str, text: str) -> Iterator[str]:
    yield f"<details><summary>{title}</summary>"
    yield ""
    lines = [_printable(line) for line in text.splitlines()]
    fence = "`" * max(3, 1 + max((len(run) for line in lines for run in re.findall("`+", line)), default=0))
    yield f"{fence}text"
    yield from lines
    yield fence
    yield ""
    yield "</details>"


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def _code(text: str) -> str:
    """A code span: nothing in it is markup, whatever it holds."""
    text = clean(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") or not text else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _cell(text: str) -> str:
    """A code span in a table, where a bar would end the cell even in code; a bar is escaped, so may be what escapes it."""
    return _code(text.replace("|", "¦") if "\\|" in text else text).replace("|", "\\|")


def _plain(text: str) -> str:
    """Prose: every sign that could be markup is escaped."""
    text = html.escape(clean(text), quote=False)
    text = re.sub(r"([\\`*_{}\[\]()#+!|~])", r"\\\1", text)
    # Nobody is to be called.
    return text.replace("@", "@\u200b")


def _size(text: str) -> int:
    return len(text.encode("utf-8", "backslashreplace"))
