"""Reports: what they show, what they hide, and that programs can read them."""

from __future__ import annotations

import datetime
import decimal
import json
import re
import uuid
from pathlib import Path
from typing import Any, ClassVar

import pytest
from report_samples import CERTIFICATE, EXTRA, SOURCE, effect, end, finding, report, row

from idemfuzz.abc import Unusable
from idemfuzz.model import (
    Access,
    Certificate,
    Coverage,
    Difference,
    DifferenceKind,
    Effect,
    Ending,
    Event,
    EventKind,
    Fact,
    FactKind,
    Fault,
    FaultKind,
    Note,
    Opaque,
    Plan,
    Point,
    Report,
    Segment,
    Side,
    Verdict,
)
from idemfuzz.reporting.certificate import certificate, headline
from idemfuzz.reporting.differences import rows_of
from idemfuzz.reporting.json_report import check_writable, report_to_json, to_json, write
from idemfuzz.reporting.plain import plain
from idemfuzz.reporting.redaction import redact, redacted
from idemfuzz.reporting.steps import clean, cut, shorten
from idemfuzz.reporting.text import render


class TestText:
    def test_a_finding_holds_everything_that_is_needed_to_act(self) -> None:
        text = render(report(finding(trials=5, also=("IDM104 mail sent twice",))))
        for part in (
            "IDM101  row duplicated",
            "2 rows instead of 1",
            "at shop/jobs.py:18 in create_user",
            "'ada@example.org'",
            "INSERT → 1 row",
            "the ack is lost",
            "Add a unique key",
            "IDM104 mail sent twice",
            "3 of 3 times, seen in 5 trials",
            "v1:x2",
            "idemfuzz run t.py::test --plan v1:x2",
            "Certificate",
        ):
            assert part in text

    def test_without_colour_there_is_no_escape_code_and_with_colour_the_same_text(self) -> None:
        bare, coloured = render(report(finding())), render(report(finding()), colour=True)
        assert "\x1b" not in bare
        assert "\x1b[" in coloured
        assert [
            line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", coloured).splitlines()
        ] == bare.splitlines()

    @pytest.mark.parametrize("width", [60, 80, 100, 160])
    def test_no_line_is_wider_than_asked_except_what_is_copied_whole(self, width: int) -> None:
        long = effect(
            1, "SELECT users.id, users.email FROM users WHERE users.email = ? " + "x" * 300, "1 row"
        )
        wide = Difference(
            DifferenceKind.CHANGED, "db", "users", row(id=1, a="o" * 300), row(id=1, a="n" * 300), ("a",)
        )
        text = render(report(finding(long, end(1), differences=(wide, EXTRA))), width=width)
        copied = ("  Plan", "  Replay", "  Saved")
        assert [line for line in text.splitlines() if len(line) > width and not line.startswith(copied)] == []

    def test_overlapping_deliveries_stand_side_by_side_in_their_order(self) -> None:
        events = (
            effect(1, "GET a"),
            effect(2, "GET b"),
            effect(1, "SET a"),
            end(1),
            effect(2, "SET b"),
            end(2),
        )
        plan = Plan(2, overlap=(Segment(1, 1), Segment(2, 1), Segment(1), Segment(2)))
        lines = render(report(finding(*events, plan=plan))).splitlines()
        columns = [
            line.index(word)
            for word in ("GET a", "GET b", "SET a", "SET b")
            for line in lines
            if word in line
        ]
        assert columns[0] == columns[2] < columns[1] == columns[3]
        order = [word for line in lines for word in ("GET a", "GET b", "SET a", "SET b") if word in line]
        assert order == ["GET a", "GET b", "SET a", "SET b"]

    def test_a_fault_before_an_effect_names_it_since_it_has_no_line(self) -> None:
        made = Effect("db.commit", "db", Access.DURABLE, "COMMIT", source=SOURCE)
        fault = Fault(FaultKind.KILL, Point(1, 1, "db.commit", 1), Side.BEFORE)
        struck = Event(EventKind.FAULT, 1, 1, "the worker is killed", effect=made, fault=fault)
        text = render(report(finding(struck, end(1, Ending.KILLED), effect(2, "INSERT"), end(2))))
        assert "✗ the worker is killed before COMMIT" in text
        assert "redelivered, since delivery 1 did not finish" in text

    def test_what_a_dead_execution_raised_is_shown(self) -> None:
        """It may be the harness's own fault, and then the reader must see it."""
        text = render(report(finding(effect(1, "INSERT"), end(1, Ending.KILLED, "AttributeError: no"))))
        assert "■ dead: AttributeError: no" in text

    def test_a_long_history_is_cut_in_the_middle_and_keeps_its_faults(self) -> None:
        fault = Fault(FaultKind.KILL, Point(1, 1, "db.x", 1), Side.AFTER)
        struck = Event(EventKind.FAULT, 1, 1, "the worker is killed", fault=fault)
        events = [effect(1, f"SET {i}") for i in range(10_000)]
        text = render(report(finding(*events[:5000], struck, *events[5000:], end(1))))
        assert "the worker is killed" in text
        gaps = [int(n.replace(",", "")) for n in re.findall(r"… ([\d,]+) more steps?", text)]
        shown = len(re.findall(r"SET \d+", text))
        assert sum(gaps) + shown == 10_000
        assert len(text.splitlines()) < 120

    def test_markup_and_control_characters_of_users_are_only_text(self) -> None:
        evil = "[bold red]x[/] \x1b[2J\nnext"
        text = render(report(finding(effect(1, evil), end(1))))
        assert "[bold red]x[/] \\x1b[2J next" in text
        assert "\x1b" not in text

    def test_an_unsure_finding_says_so(self) -> None:
        assert "in doubt" in render(report(finding(verdict=Verdict.UNKNOWN)))

    def test_notes_are_shown(self) -> None:
        held = report(notes=(Note("IDM401", "the duplicate raises IntegrityError"),))
        assert "IDM401        the duplicate raises IntegrityError" in render(held)

    def test_calls_of_the_scenario_are_told_apart(self) -> None:
        assert "call 2 of the scenario" in render(report(finding(effect(1, "A"), effect(1, "B", call=2))))


class TestDifferences:
    def test_a_changed_row_shows_what_it_is_and_what_changed(self) -> None:
        changed = Difference(
            DifferenceKind.CHANGED,
            "db",
            "users",
            row(id=1, n=90, x=0),
            row(id=1, n=80, x=0),
            ("n",),
            twice=True,
        )
        assert [(r.where, r.what, r.expected, r.actual) for r in rows_of([changed])] == [
            ("db: users", "id", "1", "1"),
            ("", "n", "90", "80"),
        ]

    def test_a_missing_row_stands_on_the_expected_side(self) -> None:
        missing = Difference(DifferenceKind.MISSING, "db", "users", expected=row(id=1), expected_count=1)
        assert [(r.what, r.expected, r.actual) for r in rows_of([missing])] == [
            ("rows", "1", "0"),
            ("  id", "1", "-"),
        ]

    def test_removals_are_told_in_words(self) -> None:
        removed = Difference(DifferenceKind.EXTRA, "db", "users", actual=row(id=1), removal=True)
        kept = Difference(DifferenceKind.MISSING, "db", "users", expected=row(id=1), removal=True)
        assert (rows_of([removed])[0].expected, rows_of([removed])[0].actual) == ("stays", "removed")
        assert (rows_of([kept])[0].expected, rows_of([kept])[0].actual) == ("removed", "still there")

    def test_many_differences_are_cut_with_a_count(self) -> None:
        assert rows_of([EXTRA] * 15)[-1].where == "… 3 more differences"

    def test_every_kind_of_difference_and_fact_can_be_shown(self) -> None:
        for kind in DifferenceKind:
            for about in FactKind:
                fact = Fact("s", about, "g", {"a": 1})
                for sides in ((fact, None), (None, fact), (fact, fact)):
                    assert rows_of([Difference(kind, "s", "g", *sides)])


class TestCertificate:
    def test_it_says_what_ran_and_what_did_not(self) -> None:
        text = certificate(report(certificate=CERTIFICATE))
        for part in (
            "shop.create_user",
            "1,037 trials (2 for the reference)",
            "1034/1036",
            "complete",
            "1 fault",
        ):
            assert part in text
        for part in ("db.users.seen", "learned: db.users.created_at", "seed 7"):
            assert part in text

    def test_what_was_left_out_is_never_called_complete(self) -> None:
        covered = (
            Coverage("crash", 50, 40, 40, over_budget=10),
            Coverage("overlap", 6, 1, skipped="one connection"),
        )
        text = certificate(report(certificate=Certificate(coverage=covered)))
        assert "not exhaustive: 10 planned trials were over budget; overlap was cut short" in text
        assert "cut short: one connection" in text

    def test_the_headline_of_a_pass_counts(self) -> None:
        line = headline(report(certificate=CERTIFICATE))
        assert line.startswith("holds: 1,037 trials, 1,090 executions, 3 redeliveries, 1,034 faults fired")

    def test_the_headline_of_a_failure_names_the_codes_once(self) -> None:
        assert headline(report(finding(), finding())) == "violated: IDM101 row duplicated"

    def test_unknown_is_never_called_a_pass(self) -> None:
        unknown = Report("t", Verdict.UNKNOWN, notes=(Note("IDM903", "Nothing changed. Hand in a store"),))
        assert headline(unknown) == "unknown: IDM903 Nothing changed"


class TestRedaction:
    @pytest.mark.parametrize(
        "text",
        [
            "postgresql://ada:hunter2@host/db",
            "password='hunter2'",
            "{'password': 'hunter2'}",
            '{"db_password": "hunter2"}',
            "Authorization: Bearer hunter2hunter2",
            "INSERT INTO users (email, password) VALUES (?, ?) ['a@b', 'hunter2']",
            "UPDATE users SET password=? WHERE id = ? ['hunter2', 1]",
            "INSERT INTO users (password, at) VALUES (?, ?) ['hunter2', datetime.datetime(2025, 1, 1)]",
        ],
    )
    def test_no_password_gets_through(self, text: str) -> None:
        assert "hunter2" not in redact(text)
        assert "***" in redact(text)

    @pytest.mark.parametrize(
        "text",
        [
            "SELECT users.id, users.password FROM users WHERE users.id = ? [1]",
            "INSERT INTO users (email) VALUES (?) ['a@b']",
            "GET https://example.org/a:b",
        ],
    )
    def test_what_is_no_secret_stays(self, text: str) -> None:
        assert redact(text) == text

    def test_the_other_values_of_an_insert_stay(self) -> None:
        text = "INSERT INTO users (email, password) VALUES (?, ?) ['a@b', 'hunter2']"
        assert redact(text).endswith("['a@b', '***']")

    def test_the_value_of_a_secret_column_is_hidden_wherever_it_shows(self) -> None:
        secret = Difference(DifferenceKind.EXTRA, "db", "users", actual=row(id=2, password="hunter2"))
        known = finding(effect(1, "SET k hunter2"), differences=(secret,), cause="hunter2")
        assert "hunter2" not in render(report(known))
        assert "hunter2" not in json.dumps(report_to_json(report(known)))

    def test_plans_stay_so_that_they_replay(self) -> None:
        plan = Plan(faults=(Fault(FaultKind.KILL, Point(1, 1, "http.POST/password=x", 1), Side.AFTER),))
        hidden = redacted(report(finding(plan=plan)))
        assert hidden.findings[0].counterexample.plan == plan


class TestJson:
    def test_everything_is_there_and_plans_can_be_read_again(self) -> None:
        data = json.loads(
            json.dumps(to_json([report(finding(), certificate=CERTIFICATE)], command="idemfuzz run x"))
        )
        assert (data["idemfuzz_report"], data["verdict"], data["command"]) == (
            1,
            "violated",
            "idemfuzz run x",
        )
        one = data["reports"][0]
        example = one["findings"][0]["counterexample"]
        assert Plan.parse(example["plan"]) == Plan.from_json(example["plan_object"]) == Plan(2)
        assert [event["kind"] for event in example["history"]] == ["effect", "end", "effect", "end"]
        assert example["history"][0]["source"] == {
            "file": "shop/jobs.py",
            "line": 18,
            "function": "create_user",
        }
        assert one["findings"][0]["differences"][0]["actual"]["fields"]["email"] == "ada@example.org"
        assert one["certificate"]["coverage"][1]["fired"] == 1034
        assert one["headline"]
        assert one["certificate_text"]

    def test_reports_made_before_are_taken_as_they_are(self) -> None:
        made = report_to_json(report(finding()))
        assert to_json([made], command="x") == to_json([report(finding())], command="x")

    def test_no_report_is_no_pass(self) -> None:
        assert to_json([], command="x")["verdict"] == "unknown"

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (b"\xff", {"bytes": "/w=="}),
            (datetime.datetime(2025, 1, 2, 3, 4), {"datetime": "2025-01-02T03:04:00"}),
            (datetime.date(2025, 1, 2), {"datetime": "2025-01-02"}),
            (datetime.timedelta(minutes=1), {"seconds": 60.0}),
            (decimal.Decimal("1.10"), {"decimal": "1.10"}),
            (uuid.UUID(int=1), {"uuid": "00000000-0000-0000-0000-000000000001"}),
            (float("nan"), {"float": "nan"}),
            (Opaque("1-0"), {"generated": "1-0"}),
            ({1: (2, {"a"})}, {"1": [2, {"set": ["a"]}]}),
            (Verdict.HOLDS, "holds"),
        ],
    )
    def test_values_that_json_does_not_know_are_tagged(self, value: object, expected: object) -> None:
        assert plain(value) == expected

    def test_a_structure_without_end_is_cut(self) -> None:
        endless: list[Any] = []
        endless.append(endless)
        json.dumps(plain(endless))

    def test_it_is_written_whole(self, tmp_path: Path) -> None:
        path = tmp_path / "r.json"
        path.write_text("old")
        write(path, [report(finding())], command="x")
        assert json.loads(path.read_text(encoding="utf-8"))["idemfuzz_report"] == 1
        assert list(tmp_path.iterdir()) == [path]

    def test_lone_surrogates_of_users_can_be_written(self, tmp_path: Path) -> None:
        write(tmp_path / "r.json", [report(finding(effect(1, "caf\udce9")))], command="x")
        json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))

    def test_an_unwritable_place_is_refused_before_the_search(self, tmp_path: Path) -> None:
        with pytest.raises(Unusable, match="Make the folder"):
            check_writable(tmp_path / "no" / "r.json")
        with pytest.raises(Unusable, match="it is a folder"):
            check_writable(tmp_path)
        check_writable(tmp_path / "r.json")
        assert list(tmp_path.iterdir()) == []


class TestShortening:
    def test_the_outcome_survives(self) -> None:
        select = "SELECT users.id, users.email, users.name FROM users WHERE users.email = ? ['a@b']"
        assert shorten(select, "1 row", 200) == f"{select} → 1 row"
        assert shorten(select, "1 row", 70) == "SELECT … FROM users WHERE users.email = ? ['a@b'] → 1 row"
        insert = "INSERT INTO users (email, name) VALUES (?, ?) ['a@b', 'ada']"
        assert shorten(insert, "1 row", 60) == "INSERT INTO users (email, name) ['a@b', 'ada'] → 1 row"
        assert shorten(insert, "1 row", 44) == "INSERT INTO users ['a@b', 'ada'] → 1 row"
        assert shorten(insert, "1 row", 24).endswith(" → 1 row")

    @pytest.mark.parametrize("room", range(1, 40))
    def test_nothing_is_wider_than_its_room(self, room: int) -> None:
        from rich.cells import cell_len

        assert cell_len(cut("日本語のとても長い文字列 and some more", room)) <= room

    def test_clean_leaves_one_printable_line(self) -> None:
        assert clean("a\n  b\tc\x07") == "a b c\\x07"


class TestRedactOption:
    """What a user names reaches no output, and everything else stays."""

    FIELDS: ClassVar[dict[str, Any]] = {
        "id": 2, "email": "ada@example.org", "card": 4111111111111111, "name": "Adaline", "notes": {"email": "grace@example.org"}
    }  # fmt: skip

    def shown(
        self, *patterns: str, event: str = "SELECT 1", outcome: str = "1 row", fact: Fact | None = None
    ) -> str:
        fact = fact or row(**self.FIELDS)
        extra = Difference(DifferenceKind.EXTRA, "db", "users", actual=fact, expected_count=1, actual_count=2)
        known = finding(effect(1, event, outcome), differences=(extra,), cause=str(dict(fact.fields)))
        hidden = redacted(report(known), patterns)
        return json.dumps(report_to_json(hidden)) + render(hidden)

    @pytest.mark.parametrize("pattern", ["email", "users.email", "db.users.email", "*.email", "e*l"])
    def test_a_column_wherever_its_value_shows(self, pattern: str) -> None:
        event = "INSERT INTO users (id, email) VALUES (?, ?) [2, 'ada@example.org']"
        text = self.shown(pattern, event=event)
        assert "ada@example.org" not in text
        assert "Adaline" in text
        assert "4111111111111111" in text
        assert "[2, '***']" in text

    def test_a_field_within_a_value(self) -> None:
        assert "grace@example.org" not in self.shown("email")

    def test_a_number(self) -> None:
        text = self.shown("users.card", event="UPDATE users SET card=? [4111111111111111]")
        assert "4111111111111111" not in text
        assert "ada@example.org" in text

    def test_a_whole_table_but_for_which_row_it_is(self) -> None:
        text = self.shown("users", event="INSERT INTO users (id, name) VALUES (?, ?) [2, 'Adaline']")
        assert "Adaline" not in text
        assert "ada@example.org" not in text
        assert '"id": 2' in text

    def test_a_key_and_what_is_read_there(self) -> None:
        key = Fact("db", FactKind.KEY, "session:*", {"key": "session:17", "value": "token-one"}, ("key",))
        for pattern in ("session:*", "db:session:*"):
            text = self.shown(
                pattern, event="SET session:17 token-two EX 60", outcome="token-three", fact=key
            )
            assert "token-" not in text
            assert "SET session:17 ***" in text

    def test_another_key_stays(self) -> None:
        assert "SET seen:17 yes" in self.shown("session:*", event="SET seen:17 yes")

    def test_a_regular_expression_anywhere(self) -> None:
        text = self.shown(r"re:[\w.]+@[\w.]+", event="mail to edsger@example.org")
        assert "example.org" not in text

    def test_a_long_value_that_was_cut(self) -> None:
        long = row(id=2, letter="dear reader, " * 30)
        text = self.shown("letter", event="SET k dear reader, dear reader, de… ", fact=long)
        assert "dear reader" not in text

    def test_parameters_by_name(self) -> None:
        text = redacted(
            report(finding(effect(1, "UPDATE users SET email=%(email)s {'email': 'a@b.example', 'id_1': 2}"))), ["email"]
        ).findings[0].counterexample.history.events[0].text  # fmt: skip
        assert text.endswith("{'email': '***', 'id_1': 2}")

    def test_without_a_pattern_nothing_but_passwords_is_hidden(self) -> None:
        assert "***" not in self.shown()

    def test_plans_stay(self) -> None:
        plan = Plan(faults=(Fault(FaultKind.KILL, Point(1, 1, "db.users.email", 1), Side.AFTER),))
        hidden = redacted(report(finding(plan=plan)), ["*"])
        assert hidden.findings[0].counterexample.plan == plan
