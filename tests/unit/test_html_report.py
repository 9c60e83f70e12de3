"""The HTML report as a file: self-contained, safe to open, legible; what it does stands in `test_viewer.py`."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from report_samples import CERTIFICATE, HOSTILE, finding, hostile, report

from idemfuzz.reporting.html import rendered, statement_and_parameters
from idemfuzz.reporting.json_report import to_json


class Page(HTMLParser):
    """Elements and attributes, and the text of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in self.raw:
            self.raw[tag].append("")

    def handle_data(self, data: str) -> None:
        if self.elements and (self.lasttag in self.raw) and self.cdata_elem:
            self.raw[self.lasttag][-1] += data


def page(*reports: object) -> Page:
    return Page(rendered(to_json(reports, command="idemfuzz run </script><b>")))  # type: ignore[arg-type]


def test_nothing_is_fetched() -> None:
    text = rendered(to_json([report(finding(), certificate=CERTIFICATE)], command="x"))
    assert re.findall(r"https?://[^\s\"')]+", text) == ["http://www.w3.org/2000/svg"]
    found = Page(text)
    assert not [tag for tag, attributes in found.elements if {"src", "href"} & attributes.keys() - {"href"}]
    assert [attributes["href"] for _, attributes in found.elements if "href" in attributes] == ["#main"]


def test_hostile_names_and_values_add_no_element() -> None:
    assert [e for e in page(hostile()).elements if e[0] not in ("h2", "pre")] == [
        e for e in page(report(finding())).elements if e[0] not in ("h2", "pre")
    ]


def test_only_its_own_script_and_style_may_run() -> None:
    found = page(hostile())
    policy = next(a["content"] or "" for tag, a in found.elements if a.get("http-equiv"))
    data, script = found.raw["script"]
    for text in (script, found.raw["style"][0]):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "<" not in data


def test_the_document_arrives_as_it_was() -> None:
    data = json.loads(page(hostile()).raw["script"][0])
    event = data["searches"][0]["findings"][0]["counterexample"]["history"][0]
    evil = " ".join(HOSTILE)
    assert event["d"] == evil
    assert data["searches"][0]["name"] == f"t.py::test[{evil}]"
    assert data["frames"][event["st"][0]]["file"] == evil


def test_without_scripts_the_text_is_there() -> None:
    text = rendered(to_json([report(finding(), certificate=CERTIFICATE)], command="x"))
    plain = text.partition("<noscript>")[2].partition("</noscript>")[0]
    assert "IDM101  row duplicated" in plain
    assert "1,037 trials" in plain


@pytest.mark.parametrize(
    ("detail", "expected"),
    [
        ("INSERT INTO a (b) VALUES (?) ['x [1]', 2]", ("INSERT INTO a (b) VALUES (?)", [("1", "'x [1]'"), ("2", "2")])),
        ("SELECT a [1] FROM b WHERE c = ? [3]", ("SELECT a [1] FROM b WHERE c = ?", [("1", "3")])),
        ("UPDATE a SET b = %(b)s {'b': None}", ("UPDATE a SET b = %(b)s", [("b", "None")])),
        ("UPDATE a SET password = ? [***]", ("UPDATE a SET password = ?", [("", "***")])),
        ("INSERT INTO a VALUES (?) ['cut o…", ("INSERT INTO a VALUES (?) ['cut o…", [])),
        ("SET key [1, 2]", ("SET key [1, 2]", [])),
        ("COMMIT", ("COMMIT", [])),
    ],
)  # fmt: skip
def test_statements_and_their_values_are_told_apart(detail: str, expected: object) -> None:
    assert statement_and_parameters(detail) == expected


def test_colours_can_be_read_in_both_themes() -> None:
    """Goal: WCAG AA for text. Method: the contrast of each pair of the style sheet that a text and its ground make."""
    style = page().raw["style"][0]
    for block in re.findall(r":root(?:\[[^]]*\])? \{(.*?)\n\}", style, re.S):
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))
        grounds = ["paper", "card", "sunk", "accent-soft"]
        pairs = [(ink, ground) for ink in ("ink", "soft", "accent") for ground in grounds]
        pairs += [(name, f"{name}-soft") for name in ("bad", "warn", "good")]
        pairs += [
            (name, "card") for name in ("bad", "warn", "good", "lane1", "lane2", "lane3", "lane4", "clean")
        ]
        for ink, ground in pairs:
            assert _contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)


def _contrast(one: str, other: str) -> float:
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
