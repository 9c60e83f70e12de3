"""The HTML report: one file with a trace viewer, that needs no network and runs no script but its own.

The page is made of three files in ``viewer/`` and the document as JSON. A content security policy names the one script
and the one style sheet by their digests, so that nothing in the document could run even if it were taken for markup.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any

from idemfuzz.reporting.redaction import HIDDEN
from idemfuzz.reporting.sources import excerpt

__all__ = ["rendered", "statement_and_parameters"]

_EVENTS_MAX = 20_000
_PARAMETERS_MAX = 200
_STATEMENT = re.compile(r"(?:insert|replace|update|delete|select|with|call|merge)\b", re.I)
_DROPPED = ("text", "certificate_text")
Json = dict[str, Any]


def rendered(document: Mapping[str, Any]) -> str:
    """The page for one run."""
    viewer = files("idemfuzz.reporting").joinpath("viewer")
    page, style, script = (
        viewer.joinpath(f"viewer.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")
    )
    parts = {
        "STYLE_HASH": _digest(style),
        "SCRIPT_HASH": _digest(script),
        "VERSION": html.escape(str(document["idemfuzz"])),
        "TITLE": html.escape(_title(document)),
        "STYLE": style,
        "SCRIPT": script,
        "PLAIN": _plain(document),
        "DATA": _embedded(_data(document)),
    }
    # In one pass: what is put in is not searched again.
    return re.sub(r"@@([A-Z_]+)@@", lambda found: parts[found[1]], page)


def statement_and_parameters(detail: str) -> tuple[str, list[tuple[str, str]]]:
    """A statement apart from its values, each with its name or number; no values where they cannot be told apart."""
    if not _STATEMENT.match(detail.lstrip("(")):
        return detail, []
    for place in (found.start() for found in re.finditer(r" (?=[\[{])", detail)):
        values = _values(detail[place + 1 :])
        if values is not None:
            return detail[:place], values
    return detail, []


@lru_cache(maxsize=4096)
def _values(text: str) -> list[tuple[str, str]] | None:
    if text == f"[{HIDDEN}]":
        return [("", HIDDEN)]
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    if isinstance(tree, ast.List):
        return [(str(n), ast.unparse(part)) for n, part in enumerate(tree.elts, 1)][:_PARAMETERS_MAX]
    if isinstance(tree, ast.Dict):
        named = [
            (key.value if isinstance(key, ast.Constant) else "**", part)
            for key, part in zip(tree.keys, tree.values, strict=True)
        ]
        return [(str(name), ast.unparse(part)) for name, part in named][:_PARAMETERS_MAX]
    return None


def _data(document: Mapping[str, Any]) -> Json:
    """The document as the viewer wants it: events small, each line of source once."""
    frames = _Frames()
    searches = []
    for report in document["reports"]:
        made = {key: value for key, value in report.items() if key not in _DROPPED}
        made["reference_history"] = _events(report["reference_history"], frames)
        made["findings"] = [_finding(finding, frames) for finding in report["findings"]]
        searches.append(made)
    kept = {key: document[key] for key in ("idemfuzz", "command", "verdict", "counts")}
    return {**kept, "searches": searches, "frames": frames.listed()}


def _finding(finding: Mapping[str, Any], frames: _Frames) -> Json:
    example = finding["counterexample"]
    made = {key: value for key, value in finding.items() if key not in (*_DROPPED, "differences")}
    shown = {key: example[key] for key in ("plan", "shown", "tried", "saved", "command")}
    made["counterexample"] = {**shown, "history": _events(example["history"], frames)}
    return made


def _events(history: Sequence[Mapping[str, Any]], frames: _Frames) -> list[Json]:
    events = [_event(event, frames) for event in history[:_EVENTS_MAX]]
    if len(history) > _EVENTS_MAX:
        left = len(history) - _EVENTS_MAX
        events.append({"k": "clock", "c": 1, "v": 1, "t": f"{left:,} more steps are in the JSON report"})
    return events


def _event(event: Mapping[str, Any], frames: _Frames) -> Json:
    """One event under short names, without what is empty: there may be many thousands."""
    made: Json = {"k": event["kind"], "c": event["call"], "v": event["delivery"]}
    effect, fault = event["effect"], event["fault"]
    stack = event["stack"] or ([event["source"]] if event["source"] else [])
    optional: Json = {"o": event["outcome"], "x": event["failed"], "e": event["ending"]}
    optional["st"] = [frames.number(frame) for frame in stack]
    if effect is None or event["kind"] != "effect":
        optional["t"] = event["text"]
    if effect is not None:
        optional |= {"l": effect["label"], "s": effect["store"], "a": effect["access"], "d": effect["detail"]}
        optional["n"] = event["occurrence"]
        statement, parameters = statement_and_parameters(effect["detail"])
        if parameters:
            optional |= {"q": statement, "p": parameters}
    if fault is not None:
        optional["f"] = [fault["kind"], fault["side"]]
    return made | {key: value for key, value in optional.items() if value not in ("", None, False, [])}


class _Frames:
    """Every line of the user's code that is on a stack, once, with the lines around it."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, int, str], int] = {}

    def number(self, frame: Mapping[str, Any]) -> int:
        key = (str(frame["file"]), int(frame["line"]), str(frame["function"]))
        return self._numbers.setdefault(key, len(self._numbers))

    def listed(self) -> list[Json]:
        return [
            {
                "file": file,
                "line": line,
                "function": function,
                "code": [(number, text) for number, text in excerpt(file, line)],
            }
            for file, line, function in self._numbers
        ]


def _embedded(data: Json) -> str:
    """JSON that cannot end the element that it stands in, nor be taken for a comment in it."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return re.sub(r"[<>&\u2028\u2029]", lambda found: f"\\u{ord(found[0]):04x}", text)


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _title(document: Mapping[str, Any]) -> str:
    found = sum(len(report["findings"]) for report in document["reports"])
    return f"idemfuzz: {document['verdict']}" + (
        f", {found} finding{'' if found == 1 else 's'}" if found else ""
    )


def _plain(document: Mapping[str, Any]) -> str:
    """For a browser without scripts: the text report."""
    blocks = []
    for report in document["reports"]:
        texts = [
            report["headline"],
            *(finding["text"] for finding in report["findings"]),
            report["certificate_text"],
        ]
        blocks.append(
            f"<h2>{html.escape(report['name'])}</h2><pre>{html.escape((chr(10) * 2).join(texts))}</pre>"
        )
    return "".join(blocks)
