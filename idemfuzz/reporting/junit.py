"""JUnit XML, as Jenkins and GitLab read it: a suite per file, a case per search, its verdict and plan as properties."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from idemfuzz.reporting.json_report import worst_per_search

__all__ = ["properties", "rendered"]

_VALUE_MAX = 1000
# What XML 1.0 cannot hold, not even escaped; and what a terminal would obey.
_ILLEGAL = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def rendered(document: Mapping[str, Any]) -> str:
    """The report for one run."""
    suites: dict[str, list[Mapping[str, Any]]] = {}
    for report in worst_per_search(document["reports"]):
        suites.setdefault(_place(report)[0], []).append(report)
    root = ElementTree.Element("testsuites", name="idemfuzz")
    for name, reports in suites.items():
        root.append(_suite(name, reports))
    ElementTree.indent(root)
    body = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{body}\n'


def properties(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values for one search; also what `pytest --junitxml` writes of it."""
    made = [("idemfuzz.verdict", report["verdict"]), ("idemfuzz.headline", report["headline"])]
    codes = [finding["code"] for finding in report["findings"]] or [note["code"] for note in report["notes"]]
    if codes:
        made.append(("idemfuzz.codes", " ".join(dict.fromkeys(codes))))
    for finding in report["findings"]:
        example = finding["counterexample"]
        made.append(("idemfuzz.plan", example["plan"]))
        if example["command"]:
            made.append(("idemfuzz.replay", example["command"]))
    made.append(("idemfuzz.trials", str(report["certificate"]["trials"])))
    return [(name, _xml(value)[:_VALUE_MAX]) for name, value in made]


def _suite(name: str, reports: Sequence[Mapping[str, Any]]) -> ElementTree.Element:
    seconds = sum(report["certificate"]["seconds"] for report in reports)
    failures = sum(report["verdict"] != "holds" for report in reports)
    counts = {"tests": str(len(reports)), "failures": str(failures), "errors": "0", "skipped": "0"}
    suite = ElementTree.Element("testsuite", {"name": _xml(name), "time": f"{seconds:.3f}", **counts})
    for report in reports:
        suite.append(_case(report))
    return suite


def _case(report: Mapping[str, Any]) -> ElementTree.Element:
    file, name = _place(report)
    classname = re.sub(r"\.py\Z", "", file).replace("/", ".")
    attributes = {"classname": _xml(classname), "name": _xml(name), "file": _xml(file)}
    case = ElementTree.Element("testcase", attributes, time=f"{report['certificate']['seconds']:.3f}")
    box = ElementTree.SubElement(case, "properties")
    for key, value in properties(report):
        ElementTree.SubElement(box, "property", name=key, value=value)
    if report["verdict"] != "holds":
        message, kind = next(_messages(report))
        failure = ElementTree.SubElement(case, "failure", message=_xml(message), type=kind)
        failure.text = _xml(
            "\n\n".join([finding["text"] for finding in report["findings"]] or [report["headline"]])
        )
    said = [f"{note['code']} {note['text']}" for note in report["notes"]]
    ElementTree.SubElement(case, "system-out").text = _xml("\n".join([*said, report["certificate_text"]]))
    return case


def _messages(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for finding in report["findings"]:
        yield f"{finding['code']} {finding['title']}: {finding['summary']}", finding["code"]
    for note in report["notes"]:
        yield f"{note['code']} {note['text']}", note["code"]
    yield report["headline"], report["verdict"]


def _place(report: Mapping[str, Any]) -> tuple[str, str]:
    """File or module, and what it is called there."""
    file, is_test, name = report["name"].partition("::")
    if not is_test:
        file, _, name = report["name"].partition(":")
    return file, name or file


def _xml(text: str) -> str:
    return _ILLEGAL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
