"""SARIF 2.1.0: each finding a result, its code the rule, its plan a code flow with a thread flow per delivery.

Kept to what code scanning services take: relative addresses, one rule per code, fingerprints that do not know lines.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from idemfuzz import __version__
from idemfuzz.diagnose import CODES
from idemfuzz.reporting.json_report import rendered as _json
from idemfuzz.reporting.sources import line_at
from idemfuzz.reporting.steps import clean

if TYPE_CHECKING:
    from idemfuzz.corpus import Entry

__all__ = ["of_corpus", "rendered", "sarif"]

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_PAGES = "https://idemfuzz.readthedocs.io/codes"
_STEPS_MAX = 1000
_TEXT_MAX = 1000
_LEVELS = {"violated": "error", "unknown": "warning"}
_ENDINGS = {"ok": "done", "failed": "fails", "killed": "dead", "hung": "does not end"}
Json = dict[str, Any]


def rendered(document: Mapping[str, Any]) -> str:
    """The log for one run as text."""
    return _json(sarif(document))


def sarif(document: Mapping[str, Any]) -> Json:
    """The log for one run."""
    found = [(report, finding) for report in document["reports"] for finding in report["findings"]]
    noted = [(report, note) for report in document["reports"] for note in report["notes"]]
    codes = sorted({one["code"] for _, one in (*found, *noted)})
    numbers = {code: number for number, code in enumerate(codes)}
    results = [_result(report, finding, numbers) for report, finding in found]
    results += [_note(report, note, numbers) for report, note in noted]
    _number_twins(results)
    invocation = {"executionSuccessful": True, "commandLine": clean(document["command"])}
    return _log(
        codes,
        results,
        document["idemfuzz"],
        invocations=[invocation],
        automationDetails={"id": "idemfuzz/"},
        properties={"verdict": document["verdict"], "counts": document["counts"]},
    )


def of_corpus(entries: Iterable[Entry]) -> str:
    """The log for findings of the corpus, as text; the id of each is its fingerprint."""
    found = list(entries)
    codes = sorted({entry.code for entry in found} & CODES.keys())
    numbers = {code: number for number, code in enumerate(codes)}
    results = [_kept(entry, numbers) for entry in found if entry.code in numbers]
    _number_twins(results)
    return _json(_log(codes, results, __version__, automationDetails={"id": "idemfuzz-corpus/"}))


def _log(codes: Sequence[str], results: Sequence[Json], version: str, **further: Any) -> Json:
    driver = {
        "name": "idemfuzz",
        "semanticVersion": version,
        "informationUri": "https://idemfuzz.readthedocs.io/",
        "rules": [_rule(code) for code in codes],
    }
    run = {
        "tool": {"driver": driver},
        "originalUriBaseIds": {
            "%SRCROOT%": {"description": {"text": "The folder that the run was started in."}}
        },
        "columnKind": "unicodeCodePoints",
        "results": results,
        **further,
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(code: str) -> Json:
    known = CODES[code]
    doubt = code.startswith(("IDM4", "IDM9"))
    return {
        "id": code,
        "name": "".join(re.findall(r"\w+", known.title.title())),
        "shortDescription": {"text": _said(known.title)},
        "fullDescription": {"text": _said(known.meaning)},
        "help": {
            "text": _said(f"{known.meaning}\n\n{known.remedy}", whole=True),
            "markdown": f"{known.meaning}\n\n**Remedy.** {known.remedy}\n\n[{code}]({_PAGES}/{code}/)",
        },
        "helpUri": f"{_PAGES}/{code}/",
        "defaultConfiguration": {"level": "warning" if doubt else "error"},
        "properties": {
            "tags": ["idempotency", "reliability"],
            "precision": "medium" if doubt else "very-high",
            "problem.severity": "warning" if doubt else "error",
        },
    }


def _result(report: Mapping[str, Any], finding: Mapping[str, Any], numbers: Mapping[str, int]) -> Json:
    example = finding["counterexample"]
    command = f" Replay: {example['command']}" if example["command"] else ""
    summary, cause = _sentence(finding["summary"]), _sentence(finding["cause"])
    mechanism = (
        f" Cause: {_sentence(finding['mechanism'] + ': ' + finding['because'])}"
        if finding["mechanism"]
        else ""
    )
    told = {name: _lines(finding[name]) for name in ("mechanism", "because", "snippet") if finding[name]}
    if report["proof_text"]:
        told["mends"] = _lines(report["proof_text"])
    return {
        "ruleId": finding["code"],
        "ruleIndex": numbers[finding["code"]],
        "kind": "fail",
        "level": _LEVELS.get(finding["verdict"], "note"),
        "message": {
            "text": _said(
                f"{summary}{mechanism} Happens when: {cause} Remedy: {_sentence(finding['remedy'])}{command}",
                whole=True,
            )
        },
        "locations": [_located(finding["source"], report)],
        "partialFingerprints": {"idemfuzz/v1": _fingerprint(report, finding)},
        "codeFlows": _code_flows(example),
        "properties": {
            "search": report["name"],
            "plan": example["plan"],
            "trials": finding["trials"],
            "also": finding["also"],
            **told,
        },
    }


def _kept(entry: Entry, numbers: Mapping[str, int]) -> Json:
    place = re.fullmatch(r"(?P<file>.+):(?P<line>\d+) in .*", entry.source)
    source = None if place is None else {"file": place["file"], "line": int(place["line"])}
    drawn = ", ".join(f"{name} = {text}" for name, text in entry.example_text.items())
    found_with = _sentence(f"Found with {drawn}") if drawn else ""
    said = f"{_sentence(entry.summary)} {found_with} Happens when: {_sentence(entry.cause)} Remedy: {_sentence(entry.remedy)}"
    return {
        "ruleId": entry.code,
        "ruleIndex": numbers[entry.code],
        "kind": "fail",
        "level": "error",
        "message": {"text": _said(f"{said} Replay: {entry.command}", whole=True)},
        "locations": [_located(source, {"name": entry.target, "certificate": {"jobs": []}})],
        "partialFingerprints": {"idemfuzz/v1": _digest(entry.id)},
        "properties": {"search": entry.target, "plan": str(entry.plan)},
    }


def _note(report: Mapping[str, Any], note: Mapping[str, Any], numbers: Mapping[str, int]) -> Json:
    """What fails nothing by itself, and what makes a verdict unknown: the search's own doubts."""
    subject = json.dumps([_jobs(report), note["code"]])
    return {
        "ruleId": note["code"],
        "ruleIndex": numbers[note["code"]],
        "kind": "fail",
        "level": "warning" if note["code"].startswith("IDM9") else "note",
        "message": {"text": _said(note["text"], whole=True) or note["code"]},
        "locations": [_located(None, report)],
        "partialFingerprints": {"idemfuzz/v1": _digest(subject)},
        "properties": {"search": report["name"]},
    }


# -- fingerprints ----------------------------------------------------------------------------------------


def _fingerprint(report: Mapping[str, Any], finding: Mapping[str, Any]) -> str:
    """Which cause it is, by the names of things: an edit elsewhere in the file, or another value, changes nothing."""
    plan = finding["counterexample"]["plan_object"]
    faults = [[fault["kind"], fault["side"], fault["label"]] for fault in plan["faults"]]
    difference = finding["differences"][0] if finding["differences"] else None
    place = None if difference is None else [difference["store"], difference["group"], difference["kind"]]
    mechanism = [faults, bool(plan["overlap"]), plan["late_seconds"] > 0]
    return _digest(json.dumps([_jobs(report), finding["code"], place, mechanism]))


def _jobs(report: Mapping[str, Any]) -> list[str]:
    return list(report["certificate"]["jobs"]) or [report["name"]]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:32]


def _number_twins(results: Sequence[Json]) -> None:
    """Two tests of one job may find the same: results of one run are told apart by a number."""
    seen: dict[str, int] = {}
    for result in results:
        prints = result["partialFingerprints"]
        own = prints["idemfuzz/v1"]
        seen[own] = seen.get(own, 0) + 1
        if seen[own] > 1:
            prints["idemfuzz/v1"] = f"{own}:{seen[own]}"


# -- places ----------------------------------------------------------------------------------------------


def _located(source: Mapping[str, Any] | None, report: Mapping[str, Any]) -> Json:
    if source is None:
        physical: Json = {"artifactLocation": _artifact(_file_of(report)), "region": {"startLine": 1}}
    else:
        physical = _physical(source)
    jobs = [{"fullyQualifiedName": _said(job), "kind": "function"} for job in report["certificate"]["jobs"]]
    return {"physicalLocation": physical, **({"logicalLocations": jobs} if jobs else {})}


def _physical(source: Mapping[str, Any]) -> Json:
    region: Json = {"startLine": max(1, source["line"])}
    text = line_at(source["file"], source["line"])
    if text:
        region["snippet"] = {"text": clean(text)}
    return {"artifactLocation": _artifact(source["file"]), "region": region}


def _artifact(file: str) -> Json:
    path = PurePath(file)
    address = quote(path.as_posix().encode("utf-8", "backslashreplace"))
    if path.is_absolute():
        return {"uri": f"file://{address}"}
    return {"uri": address, "uriBaseId": "%SRCROOT%"}


def _file_of(report: Mapping[str, Any]) -> str:
    """The file of a test, or of the module that registers a job."""
    name, is_test, _ = report["name"].partition("::")
    if is_test:
        return str(name)
    return str(name).partition(":")[0].replace(".", "/") + ".py"


# -- the plan as a flow ----------------------------------------------------------------------------------


def _code_flows(example: Mapping[str, Any]) -> list[Json]:
    """One thread flow per delivery; ``executionOrder`` is the true order over all of them."""
    flows: dict[tuple[int, int], list[Json]] = {}
    names: dict[tuple[int, int], str] = {}
    for order, event in _shown(example["history"]):
        lane = (event["call"], event["delivery"])
        call = f" of call {event['call']}" if event["call"] > 1 else ""
        names.setdefault(lane, f"delivery {event['delivery']}{call}")
        flows.setdefault(lane, []).append(_step(order, event))
    if not flows:
        return []
    threads = [
        {"id": names[lane], "message": {"text": names[lane]}, "locations": steps}
        for lane, steps in flows.items()
    ]
    return [{"message": {"text": _said(f"Plan {example['plan']}")}, "threadFlows": threads}]


def _shown(history: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Events with their place in the order; of a long history the ends, and what is telling."""
    half = _STEPS_MAX // 2
    kept = 0
    for order, event in enumerate(history, 1):
        telling = event["fault"] is not None and kept < half
        if order <= half or order > len(history) - half or telling:
            kept += telling
            yield order, event


def _step(order: int, event: Mapping[str, Any]) -> Json:
    location: Json = {"message": {"text": _said(_told(event))}}
    if event["source"] is not None:
        location["physicalLocation"] = _physical(event["source"])
    effect = event["effect"]
    telling = event["kind"] == "fault" or (event["kind"] == "end" and event["ending"] != "ok")
    lasting = event["kind"] == "effect" and effect is not None and effect["access"] != "read"
    step: Json = {
        "executionOrder": order,
        "importance": "essential" if telling else "important" if lasting else "unimportant",
        "location": location,
    }
    if len(event["stack"]) > 1:
        frames = [{"location": {"physicalLocation": _physical(frame)}} for frame in event["stack"]]
        step["stack"] = {"frames": frames}
    if effect is not None:
        step["kinds"] = [event["kind"], effect["access"]]
    return step


def _told(event: Mapping[str, Any]) -> str:
    if event["kind"] == "end":
        ended = _ENDINGS.get(event["ending"], "ends")
        return f"{ended}: {event['text']}" if event["text"] else ended
    detail = (event["effect"] or {}).get("detail") or event["text"] or event["kind"]
    if event["kind"] == "fault":
        side = event["fault"]["side"] if event["fault"] else "at"
        return f"{event['text'] or 'fault'} {side} {detail}"
    return f"{detail} → {event['outcome']}" if event["outcome"] else str(detail)


# -- texts -----------------------------------------------------------------------------------------------


def _said(text: str, *, whole: bool = False) -> str:
    """A message: one line, and nothing in it that SARIF would take for a placeholder or a link."""
    text = clean(text)
    if len(text) > _TEXT_MAX and not whole:
        text = f"{text[: _TEXT_MAX - 1]}…"
    text = re.sub(r"\{(\d+)\}", r"{{\1}}", text)
    return re.sub(r"\[([^\[\]]*)\]\(", r"\\[\1\\](", text)


def _lines(text: str) -> str:
    """Lines as they are indented, each of them without anything that would steer a terminal."""
    return "\n".join(line[: len(line) - len(line.lstrip(" "))] + clean(line) for line in text.splitlines())


def _sentence(text: str) -> str:
    return f"{text.rstrip().rstrip('.')}."
