"""Findings as files: they come back, heal themselves, hold no password; and the baseline, which accepts some of them."""

from __future__ import annotations

import base64
import datetime
import json
import os
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from idemfuzz import baseline, corpus
from idemfuzz.abc import Unusable
from idemfuzz.model import (
    Counterexample,
    Difference,
    DifferenceKind,
    Example,
    Fact,
    FactKind,
    Finding,
    History,
    Note,
    Plan,
    PlanError,
    Report,
    Verdict,
)


def finding(table: str = "users", plan: str = "v1:x2", code: str = "IDM101", **fields: object) -> Finding:
    fact = Fact("db", FactKind.ROW, table, {"id": 1, **fields})
    difference = Difference(DifferenceKind.EXTRA, "db", table, actual=fact)
    shown = Counterexample(Plan.parse(plan), History(), 3, 3)
    return Finding(
        code, "row duplicated", f"db: {table}: 2 rows instead of 1", (difference,), shown, "why", "mend"
    )


def test_a_finding_comes_back(tmp_path: Path) -> None:
    example = Example(("a",), {"many": [1, 2]}, {"rows": (1,)})
    path = corpus.save(finding(), "jobs:naive", tmp_path, example, described={"name": "'a'"})
    assert path == ".idemfuzz/jobs-naive/IDM101-duplicate.json"
    (entry,), problems = corpus.entries(tmp_path)
    assert not problems
    assert (entry.target, entry.code, str(entry.plan), entry.example) == (
        "jobs:naive",
        "IDM101",
        "v1:x2",
        example,
    )
    assert entry.places == ("db/users",)
    assert entry.example_text == {"name": "'a'"}
    assert str(corpus.load(str(tmp_path / path))) == "v1:x2"


def test_two_causes_of_one_kind_have_a_file_each_and_one_cause_has_one(tmp_path: Path) -> None:
    for table in ("users", "orders", "users"):
        corpus.save(finding(table), "jobs:naive", tmp_path)
    kept, _ = corpus.entries(tmp_path)
    assert {entry.places for entry in kept} == {("db/users",), ("db/orders",)}
    assert len({entry.id for entry in kept}) == len(list(tmp_path.rglob("*.json"))) == 2


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "[" * 100_000, '{"idemfuzz_finding": 2}', '{"idemfuzz_finding": "2"}', "\0\1"]
)
def test_a_damaged_file_is_moved_away_and_stops_nobody(tmp_path: Path, text: str) -> None:
    corpus.save(finding(), "jobs:naive", tmp_path)
    bad = tmp_path / ".idemfuzz" / "jobs-naive" / "IDM102-duplicate.json"
    bad.write_text(text)
    kept, problems = corpus.entries(tmp_path)
    assert [entry.code for entry in kept] == ["IDM101"]
    assert len(problems) == 1
    assert "moved to" in problems[0]
    assert not bad.exists()
    assert (tmp_path / ".idemfuzz" / "damaged" / "jobs-naive--IDM102-duplicate.json").read_text() == text
    assert corpus.entries(tmp_path)[1] == []


def test_what_cannot_be_read_here_stays_where_it_is(tmp_path: Path) -> None:
    """Of a newer version, in whole or in its plan; a link to nowhere; a folder of that name. Each but the folder is told of."""
    corpus.save(finding(), "jobs:naive", tmp_path)
    folder = tmp_path / ".idemfuzz" / "jobs-naive"
    data = json.loads((folder / "IDM101-duplicate.json").read_text())
    (folder / "newer.json").write_text(json.dumps({**data, "idemfuzz_finding": 99}))
    (folder / "plan.json").write_text(json.dumps({**data, "plan": {**data["plan"], "version": 99}}))
    (folder / "link.json").symlink_to("nowhere")
    (folder / "folder.json").mkdir()
    for _ in range(2):
        kept, problems = corpus.entries(tmp_path)
        assert [entry.code for entry in kept] == ["IDM101"]
        assert len(problems) == 3
        assert not any("moved" in problem for problem in problems)


@pytest.mark.parametrize(
    "change", [{"plan": {"version": 1}}, {"id": "../../x"}, {"places": 3}, {"seed": "x"}]
)
def test_a_finding_with_an_unusable_part_is_damaged(tmp_path: Path, change: dict[str, object]) -> None:
    corpus.save(finding(), "jobs:naive", tmp_path)
    (path,) = tmp_path.rglob("*.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(corpus.Damaged, match=path.name):
        corpus.read(path)


def test_fields_that_are_not_known_do_not_matter(tmp_path: Path) -> None:
    corpus.save(finding(), "jobs:naive", tmp_path)
    (path,) = tmp_path.rglob("*.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "from_the_future": 1}))
    assert corpus.read(path).code == "IDM101"


def test_one_finding_in_two_files_is_one(tmp_path: Path) -> None:
    """As a link, or as a copy that was put together from several machines."""
    corpus.save(finding(), "jobs:naive", tmp_path)
    (path,) = tmp_path.rglob("*.json")
    path.with_name("link.json").symlink_to(path.name)
    kept, problems = corpus.entries(tmp_path)
    assert (len(kept), problems) == (1, [])


def test_a_name_from_elsewhere_leads_nowhere_else(tmp_path: Path) -> None:
    """Goal: findings of another machine are written below the corpus. Method: a target and a code that climb."""
    entry = corpus.entry_of(finding(code="../../IDM101"), "../../etc:job")
    path = corpus.write(entry, tmp_path)
    assert path is not None
    assert (tmp_path / path).resolve().is_relative_to(tmp_path.resolve() / ".idemfuzz")


def test_a_file_of_format_1_is_read(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(
        json.dumps({"idemfuzz_plan": 1, "target": "t", "code": "IDM101", "plan": Plan(2).to_json()})
    )
    assert corpus.read(path).plan == Plan(2)
    path.write_text(json.dumps({"idemfuzz_plan": 7}))
    with pytest.raises(PlanError, match="not a plan file of this version"):
        corpus.read(path)


def test_an_example_without_a_json_form_is_told_of(tmp_path: Path) -> None:
    corpus.save(finding(), "jobs:naive", tmp_path, Example((object(),)), described={"thing": "<object>"})
    (entry,), _ = corpus.entries(tmp_path)
    assert entry.example is None
    assert entry.drawn
    assert "has no JSON form" in entry.unsaved


def test_no_password_is_kept(tmp_path: Path) -> None:
    """Goal: passwords never reach a file. Method: one in a row, under an argument's name, by position, in a URL, in a dict, as bytes."""
    secret = "hunter2hunter2"
    example = Example(
        (f"postgresql://ada:{secret}@host/db", secret, secret.encode()),
        {"password": secret, "user": {"api_key": secret}},
    )
    corpus.save(
        finding(password=secret),
        "jobs:naive",
        tmp_path,
        example,
        described={
            "url": repr(example.args[0]),
            "api_key": repr(secret),
            "secret": repr(secret.encode()),
            "password": repr(secret),
            "user": repr(example.kwargs["user"]),
        },
    )
    (path,) = tmp_path.rglob("*.json")
    assert secret not in path.read_text()
    assert base64.b64encode(secret.encode()).decode() not in path.read_text()
    assert corpus.read(path).is_redacted


def test_where_nothing_can_be_written_the_search_goes_on(tmp_path: Path) -> None:
    (tmp_path / ".idemfuzz").write_text("a file in the way")
    assert corpus.save(finding(), "jobs:naive", tmp_path) is None


def test_processes_that_find_at_once_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: two causes of one kind, and one cause twice, seen at the same moment by several writers. Method: each pauses before it writes."""
    written = corpus.write_json
    met = threading.Barrier(3)

    def slowly(path: Path, document: Mapping[str, object]) -> None:
        with suppress(threading.BrokenBarrierError):
            # Whoever writes alone waits in vain for the others.
            met.wait(0.1)
        written(path, document)

    monkeypatch.setattr(corpus, "write_json", slowly)
    found = [finding(), finding("orders"), finding("orders")]
    writers = [threading.Thread(target=corpus.save, args=(one, "jobs:naive", tmp_path)) for one in found]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    entries, problems = corpus.entries(tmp_path)
    assert [entry.places for entry in entries] in (
        [("db/orders",), ("db/users",)],
        [("db/users",), ("db/orders",)],
    )
    assert not problems


def test_a_corpus_that_is_read_only_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus.save(finding(), "jobs:naive", tmp_path)
    (tmp_path / ".idemfuzz" / "jobs-naive" / "bad.json").write_text("{")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    # Nothing is read only for root, as whom tests may run.
    for owner, name in ((os, "replace"), (tempfile, "mkstemp"), (Path, "mkdir"), (Path, "unlink")):
        monkeypatch.setattr(owner, name, refuse)
    assert corpus.save(finding("orders"), "jobs:naive", tmp_path) is None
    entries, problems = corpus.entries(tmp_path)
    assert [entry.places for entry in entries] == [("db/users",)]
    assert "is damaged" in problems[0]
    assert "moved" not in problems[0]


class TestBaseline:
    TODAY = datetime.date.today()

    def accept(self, root: Path, until: datetime.date) -> None:
        entry = corpus.entry_of(finding(), "t")
        baseline.write([baseline.Accepted(entry.id, "t", "IDM101", "it is known", until)], root)

    def test_what_is_accepted_fails_nothing_and_is_told(self, tmp_path: Path) -> None:
        self.accept(tmp_path, self.TODAY)
        report = Report("t", Verdict.VIOLATED, (finding(),))
        done = baseline.applied(report, "t", baseline.read(tmp_path))
        assert done.verdict is Verdict.HOLDS
        assert done.accepted == ("IDM101",)
        assert "it is known" in done.notes[0].text

    def test_another_finding_still_fails(self, tmp_path: Path) -> None:
        self.accept(tmp_path, self.TODAY)
        report = Report("t", Verdict.VIOLATED, (finding(), finding("orders")))
        done = baseline.applied(report, "t", baseline.read(tmp_path))
        assert done.verdict is Verdict.VIOLATED
        assert len(done.findings) == 1

    def test_of_another_target_or_after_its_end_it_counts(self, tmp_path: Path) -> None:
        self.accept(tmp_path, self.TODAY - datetime.timedelta(days=1))
        report = Report("t", Verdict.VIOLATED, (finding(),))
        done = baseline.applied(report, "t", baseline.read(tmp_path))
        assert done.verdict is Verdict.VIOLATED
        assert "which is over" in done.notes[0].text
        self.accept(tmp_path, self.TODAY)
        assert baseline.applied(report, "other", baseline.read(tmp_path)).verdict is Verdict.VIOLATED

    def test_doubt_stays_doubt(self, tmp_path: Path) -> None:
        self.accept(tmp_path, self.TODAY)
        report = Report("t", Verdict.VIOLATED, (finding(),), (Note("IDM904", "a stranger"),))
        assert baseline.applied(report, "t", baseline.read(tmp_path)).verdict is Verdict.UNKNOWN

    @pytest.mark.parametrize(
        "text",
        [
            "{",
            "[]",
            '{"idemfuzz_baseline": 2}',
            '{"idemfuzz_baseline": 1, "accepted": [1]}',
            '{"idemfuzz_baseline": 1, "accepted": {}}',
            '{"idemfuzz_baseline": 1, "accepted": [{"id": "a", "target": "t", "code": "c", "reason": " ", "until": "2027-01-01"}]}',
        ],
    )
    def test_a_damaged_one_is_refused(self, tmp_path: Path, text: str) -> None:
        (tmp_path / baseline.FILE).write_text(text)
        with pytest.raises(Unusable, match="Mend it, or delete it"):
            baseline.read(tmp_path)


def test_what_another_process_wrote_since_is_not_removed(tmp_path: Path) -> None:
    entries = [corpus.entry_of(finding(table), "jobs:naive") for table in ("users", "orders")]
    path = tmp_path / (corpus.write(entries[0], tmp_path) or "")
    ours = corpus.read(path)
    path.unlink()
    corpus.write(entries[1], tmp_path)
    corpus.remove(ours)
    assert corpus.read(path).id == entries[1].id, "the name went to another cause"
    corpus.remove(corpus.read(path))
    assert not path.exists()


def test_a_smaller_form_that_another_process_wrote_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / (corpus.save(finding(plan="v1:x3"), "jobs:naive", tmp_path) or "")
    ours = corpus.read(path)
    corpus.save(finding(plan="v1:x2"), "jobs:naive", tmp_path)
    corpus.remove(ours)
    assert str(corpus.read(path).plan) == "v1:x2"
