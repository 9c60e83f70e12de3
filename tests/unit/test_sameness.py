"""The oracle by itself: what counts as the same state, and how a difference is described."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from idemfuzz.checkers import Noise, Span, State, compare
from idemfuzz.model import Delta, Difference, DifferenceKind, Fact, FactKind

NOW = datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC)
SPAN = Span(NOW.timestamp(), NOW.timestamp() + 5)
LATER_NOW = NOW + timedelta(seconds=60)
LATER = Span(NOW.timestamp() + 60, NOW.timestamp() + 65)


def row(table: str, fields: dict[str, Any], *, key: tuple[str, ...] = ("id",), **generated: str) -> Fact:
    return Fact("db", FactKind.ROW, table, fields, key, generated)


def key(name: str, value: Any, *, group: str | None = None, expires: bool = False) -> Fact:
    return Fact(
        "redis", FactKind.KEY, group or name, {"key": name, "value": value}, ("key",), expires=expires
    )


def differ(
    expected: list[Fact],
    actual: list[Fact],
    noise: Noise | None = None,
    spans: tuple[Span, Span] = (SPAN, SPAN),
    **removed: Any,
) -> tuple[Difference, ...]:
    return compare(
        State(Delta(tuple(expected), tuple(removed.get("expected_removed", ()))), spans[0]),
        State(Delta(tuple(actual), tuple(removed.get("actual_removed", ()))), spans[1]),
        noise or Noise(),
    ).differences


def learned(first: list[Fact], second: list[Fact]) -> Noise:
    noise = Noise()
    assert noise.learn(first, second, SPAN, LATER)
    return noise


def test_equal_states_are_the_same():
    facts = [row("users", {"id": 1, "email": "a"}), key("k", ["x"])]
    assert differ(facts, facts) == ()


def test_generated_ids_with_gaps_and_the_foreign_keys_that_follow_are_the_same():
    def state(user: int, order: int) -> list[Fact]:
        return [
            row("users", {"id": user, "email": "a"}, id="users"),
            row("orders", {"id": order, "user_id": user}, id="orders", user_id="users"),
        ]

    assert differ(state(1, 1), state(7, 3)) == ()


def test_foreign_key_that_points_at_another_row_is_a_difference():
    def state(owner: int) -> list[Fact]:
        return [
            row("users", {"id": 1, "email": "a"}, id="users"),
            row("users", {"id": 2, "email": "b"}, id="users"),
            row("orders", {"id": 1, "user_id": owner}, id="orders", user_id="users"),
        ]

    (difference,) = {d.kind for d in differ(state(1), state(2))}
    assert difference is DifferenceKind.MISLINKED


def test_foreign_key_to_a_baseline_row_is_compared_by_value():
    def state(owner: int) -> list[Fact]:
        return [row("orders", {"id": 1, "user_id": owner, "total": 5}, id="orders", user_id="users")]

    assert differ(state(1), state(1)) == ()
    (difference,) = differ(state(1), state(2))
    assert difference.kind is DifferenceKind.CHANGED
    assert difference.columns == ("user_id",)


def test_uuid_keys_are_learned_with_the_places_where_they_stand():
    def state(name: str) -> list[Fact]:
        return [
            row("users", {"id": name, "email": "a"}),
            key(f"user:{name}", {"id": name, "plan": "free"}, group="user:*"),
        ]

    noise = learned(state(str(uuid.uuid4())), state(str(uuid.uuid4())))
    assert differ(state(str(uuid.uuid4())), state(str(uuid.uuid4())), noise) == ()
    crossed = [state(str(uuid.uuid4()))[0], state(str(uuid.uuid4()))[1]]
    assert {d.kind for d in differ(state(str(uuid.uuid4())), crossed, noise)} == {DifferenceKind.MISLINKED}


@pytest.mark.parametrize(
    "clock",
    [
        lambda at: at,
        lambda at: at.isoformat(),
        lambda at: at.replace(tzinfo=None),
        lambda at: at.timestamp(),
        lambda at: int(at.timestamp() * 1000),
        lambda at: f"done at {at:%Y-%m-%d %H:%M:%S}",
        lambda at: {"at": at.isoformat(), "n": 1},
        lambda at: '{"at": "' + at.isoformat() + '"}',
        lambda at: at.date(),
    ],
)
def test_readings_of_the_clock_are_noise(clock):
    one = [row("log", {"id": 1, "at": clock(NOW + timedelta(seconds=1))})]
    two = [row("log", {"id": 1, "at": clock(NOW + timedelta(seconds=61))})]
    assert differ(one, two, spans=(SPAN, LATER)) == ()


def test_time_that_is_no_reading_of_the_clock_counts():
    one = [row("log", {"id": 1, "due": NOW + timedelta(days=30)})]
    two = [row("log", {"id": 1, "due": NOW + timedelta(days=60)})]
    (difference,) = differ(one, two)
    assert difference.columns == ("due",)


def test_learned_duration_is_compared_by_presence_only():
    noise = learned([row("log", {"id": 1, "ms": 12})], [row("log", {"id": 1, "ms": 15})])
    two = [row("log", {"id": i, "ms": 3}, id="log") for i in (1, 2)]
    assert differ([row("log", {"id": i, "ms": 10 + i}, id="log") for i in (1, 2)], two, noise) == ()
    assert differ([row("log", {"id": 1, "ms": 12})], [row("log", {"id": 1, "ms": None})], noise)


def test_extra_row_is_counted():
    one = [row("users", {"id": 1, "email": "a"}, id="users")]
    two = [*one, row("users", {"id": 2, "email": "a"}, id="users")]
    (difference,) = differ(one, two)
    assert (difference.kind, difference.expected_count, difference.actual_count) == (
        DifferenceKind.EXTRA,
        1,
        2,
    )


def test_missing_row_is_missing():
    (difference,) = differ([row("users", {"id": 1})], [])
    assert difference.kind is DifferenceKind.MISSING


@pytest.mark.parametrize(
    ("before", "once", "now", "twice"),
    [
        (10, 5, 0, True),
        (0, 1, 2, True),
        (10, 5, 10, False),
        (None, ["a"], ["a", "a"], True),
        ("", "x", "xx", True),
    ],
)
def test_change_that_goes_on_is_applied_twice(before, once, now, twice):
    baseline = row("accounts", {"id": 1, "balance": before})
    (difference,) = differ(
        [row("accounts", {"id": 1, "balance": once})],
        [row("accounts", {"id": 1, "balance": now})],
        expected_removed=[baseline],
        actual_removed=[baseline],
    )
    assert difference.kind is DifferenceKind.CHANGED
    assert difference.twice is twice


def test_update_that_did_not_happen_is_missing_and_shows_both_sides():
    baseline, updated = row("orders", {"id": 1, "status": "new"}), row("orders", {"id": 1, "status": "paid"})
    (difference,) = differ([updated], [], expected_removed=[baseline])
    assert difference.kind is DifferenceKind.MISSING
    assert (difference.expected, difference.actual) == (updated, baseline)


def test_baseline_row_that_only_one_run_takes_away():
    gone = row("queue", {"id": 1})
    (lost,) = differ([], [], expected_removed=[gone])
    assert (lost.kind, lost.removal) == (DifferenceKind.MISSING, True)
    (extra,) = differ([], [], actual_removed=[gone])
    assert (extra.kind, extra.removal) == (DifferenceKind.EXTRA, True)


def test_baseline_row_that_only_the_trial_changes_is_a_change():
    baseline, touched = row("orders", {"id": 1, "n": 1}), row("orders", {"id": 1, "n": 2})
    (difference,) = differ([], [touched], actual_removed=[baseline])
    assert (difference.kind, difference.columns, difference.twice) == (DifferenceKind.CHANGED, ("n",), True)


def test_stamp_of_the_last_touch_is_noise_but_other_stamps_are_not():
    def user(column: str, value: Any) -> list[Fact]:
        return [row("users", {"id": 1, "email": "a", column: value})]

    assert differ(user("updated_at", None), user("updated_at", NOW)) == ()
    assert differ(user("cancelled_at", None), user("cancelled_at", NOW)) != ()
    assert differ(user("sent_at", NOW), user("sent_at", None)) != ()


def test_presence_of_an_expiry_counts():
    (difference,) = differ([key("lock", "1", expires=True)], [key("lock", "1")])
    assert difference.columns == ("ttl",)


def test_another_body_under_one_idempotency_key_is_another_call():
    """Goal: one key unites what is the same but for noise, and nothing else."""

    def call(amount: int, at: datetime = NOW) -> Fact:
        return Fact(
            "http", FactKind.HTTP, "POST /charges", {"amount": amount, "at": at.isoformat()}, once="order-7"
        )

    noise = learned([call(5)], [call(5, LATER_NOW)])
    assert differ([call(5)], [call(5), call(5, NOW + timedelta(seconds=2))], noise) == ()
    (difference,) = differ([call(5)], [call(5), call(6)], noise)
    assert difference.kind is DifferenceKind.EXTRA


def test_calls_under_one_idempotency_key_are_one():
    def call(once: str | None) -> Fact:
        return Fact("http", FactKind.HTTP, "POST /charges", {"body": {"amount": 5}}, once=once)

    assert differ([call("order-1")], [call("order-1")] * 3) == ()
    (difference,) = differ([call(None)], [call(None)] * 2)
    assert difference.kind is DifferenceKind.EXTRA


def test_references_that_differ_in_more_than_values_teach_nothing():
    noise = Noise()
    assert not noise.learn([row("users", {"id": 1})], [], SPAN, SPAN)


def test_groups_that_differ_by_a_made_up_word_are_one():
    """Goal: what a key is about need not be seen by its looks. Method: codes of letters, beside a key whose name stays."""

    def state(*codes: str) -> list[Fact]:
        return [key("code:all", sorted(codes)), *(key(f"code:{code}", "ada") for code in codes)]

    noise = learned(state("KXQWJABD"), state("PLMRTUVX"))
    assert differ(state("KXQWJABD"), state("ZUVABOPQ"), noise) == ()
    extra = [
        d for d in differ(state("KXQWJABD"), state("ZUVABOPQ", "FGHIJKLM"), noise) if d.group == "code:*"
    ]
    assert [(d.kind, d.expected_count, d.actual_count) for d in extra] == [(DifferenceKind.EXTRA, 1, 2)]
    linked = differ(state("KXQWJABD"), [*state("ZUVABOPQ")[1:], key("code:all", ["FGHIJKLM"])], noise)
    assert {d.kind for d in linked} == {DifferenceKind.MISLINKED}


@pytest.mark.parametrize(
    "others",
    [
        pytest.param(["code:PLMRTUVX", "code:ZUVABOPQ"], id="more of them"),
        pytest.param(["PLMRTUVX"], id="nothing that stays"),
    ],
)
def test_groups_without_a_counterpart_teach_nothing(others):
    assert not Noise().learn([key("code:KXQWJABD", 1)], [key(other, 1) for other in others], SPAN, LATER)


def test_update_of_a_row_that_was_there_is_told_by_its_id_though_the_table_makes_ids_up():
    """Goal: not "not updated" for a counter that went too far. Method: a table with nothing but an id and the counter."""

    def account(number: int, balance: int) -> Fact:
        return row("accounts", {"id": number, "balance": balance}, id="accounts")

    before = [account(1, 100)]
    (difference,) = differ([account(1, 90)], [account(1, 80)], expected_removed=before, actual_removed=before)
    assert (difference.kind, difference.columns, difference.twice) == (
        DifferenceKind.CHANGED,
        ("balance",),
        True,
    )
    assert difference.actual == account(1, 80)


def test_rows_that_were_there_are_not_taken_for_each_other():
    """Goal: 95 on the one account and 5 on the other is not the same the other way round."""

    def accounts(one: int, two: int) -> list[Fact]:
        return [
            row("accounts", {"id": 1, "balance": one}, id="accounts"),
            row("accounts", {"id": 2, "balance": two}, id="accounts"),
        ]

    before = accounts(100, 0)
    assert differ(accounts(95, 5), accounts(95, 5), expected_removed=before, actual_removed=before) == ()
    assert differ(accounts(95, 5), accounts(5, 95), expected_removed=before, actual_removed=before)
    one, two = before
    assert differ(
        [row("accounts", {"id": 1, "balance": 7}, id="accounts")],
        [row("accounts", {"id": 2, "balance": 7}, id="accounts")],
        expected_removed=[one],
        actual_removed=[two],
    )


def test_rows_that_were_replaced_by_new_ones_are_the_same_whatever_their_ids():
    """Goal: a table that is emptied and filled again holds. Method: SQLite gives the ids out again, or it does not."""

    def lines(first: int) -> list[Fact]:
        return [row("lines", {"id": first + n, "text": text}, id="lines") for n, text in enumerate("ab")]

    before = [
        row("lines", {"id": 1, "text": "old"}, id="lines"),
        row("lines", {"id": 2, "text": "old"}, id="lines"),
    ]
    assert differ(lines(1), lines(1001), expected_removed=before, actual_removed=before) == ()
    assert differ(lines(1001), lines(1), expected_removed=before, actual_removed=before) == ()
    assert differ(lines(1), lines(1), expected_removed=before, actual_removed=before) == ()


@pytest.mark.parametrize("as_text", [False, True])
def test_order_of_made_up_keys_is_that_of_what_they_hold(as_text):
    """Goal: which of two tokens is the lesser one is chance, in a reference and in each trial; what is under them is not."""

    def state(*held: tuple[str, Any]) -> list[Fact]:
        rows: Any = {str(uuid.UUID(int=int(first, 16) << 120)): {"sku": what} for first, what in held}
        return [row("exports", {"id": 1, "rows": json.dumps(rows) if as_text else rows})]

    one = [("1a", "tea"), ("2b", "milk")]
    for other in ([("5a", "tea"), ("6b", "milk")], [("6a", "tea"), ("5b", "milk")]):
        noise = learned(state(*one), state(*other))
        for now in ([("3c", "tea"), ("4d", "milk")], [("4c", "tea"), ("3d", "milk")]):
            assert differ(state(*one), state(*now), noise) == ()
        assert differ(state(*one), state(("3c", "tea"), ("4d", "rum")), noise) != ()
        assert differ(state(*one), state(("3c", "tea"), ("4d", "milk"), ("5e", "milk")), noise) != ()


def test_members_with_made_up_words_are_told_apart_by_the_others():
    def state(*held: tuple[int, str, str]) -> list[Fact]:
        rows = {str(uuid.UUID(int=n << 100)): {"a_token": token, "sku": what} for n, token, what in held}
        return [row("exports", {"id": 1, "rows": rows})]

    noise = learned(
        state((1, "aB3xYz9QwErTy12Kl", "tea"), (2, "zZ9kLmN4pQrStUv8w", "milk")),
        state((3, "yY8kLmN4pQrStUv7w", "tea"), (4, "bC4xYz9QwErTy12Km", "milk")),
    )
    first = state((1, "aB3xYz9QwErTy12Kl", "tea"), (2, "zZ9kLmN4pQrStUv8w", "milk"))
    assert (
        differ(first, state((6, "cD5xYz9QwErTy12Kn", "tea"), (5, "xX7kLmN4pQrStUv6w", "milk")), noise) == ()
    )
    assert differ(first, state((6, "cD5xYz9QwErTy12Kn", "tea"), (5, "xX7kLmN4pQrStUv6w", "rum")), noise) != ()


@pytest.mark.parametrize(
    ("one", "other", "now"),
    [
        ("job 3f9a0c took 7344.8s", "job 8e1d2b took 19689.8s", "job 1b2c3d took 7344.9s"),
        ("at 0.31 s: job 3f9a0c", "at 0.38 s: job 8e1d2b", "at 1.2 s: job 1b2c3d"),
        ("0:00:03 for job 3f9a0c", "0:00:07 for job 8e1d2b", "0:01:00 for job 1b2c3d"),
    ],
)
def test_digits_that_two_references_share_by_chance_are_no_frame(one, other, now):
    """Goal: half of a number that is made up is made up, too."""
    noise = learned([row("log", {"id": 1, "text": one})], [row("log", {"id": 1, "text": other})])
    assert differ([row("log", {"id": 1, "text": one})], [row("log", {"id": 1, "text": now})], noise) == ()
    doubled = [row("log", {"id": 1, "text": f"{now}\n{now}"})]
    assert differ([row("log", {"id": 1, "text": one})], doubled, noise) != ()


def test_members_with_a_made_up_number_are_told_apart_by_the_short_ones():
    def state(*held: tuple[int, int, int]) -> list[Fact]:
        rows = {str(uuid.UUID(int=n << 100)): {"after_ms": ms, "qty": qty} for n, ms, qty in held}
        return [row("exports", {"id": 1, "rows": rows})]

    first = state((1, 1532, 1), (2, 871, 2))
    noise = learned(first, state((3, 944, 1), (4, 1711, 2)))
    assert differ(first, state((6, 1303, 1), (5, 1208, 2)), noise) == ()
    assert differ(first, state((6, 1208, 1), (5, 1303, 3)), noise) != ()
