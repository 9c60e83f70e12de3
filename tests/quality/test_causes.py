"""The cause that a finding names is the one that was planted."""

from __future__ import annotations

import pytest
from nightly import some_of

from idemfuzz.diagnose.mechanism import Mechanism as M
from quality.case import Case, World
from quality.table import CASES

CAUSES = {
    M.MISSING_CONSTRAINT: "sign_up import_contacts tag_article register_with_audit insert_where_not_exists",
    M.NEW_ID: "sign_up_member export_under_new_name charge_with_new_transaction_id charge_with_new_key",
    M.UNCONDITIONAL: (
        "count_upserting count_download add_to_revenue push_to_feed queue_thumbnail score_point count_by_country "
        "publish_to_stream append_log count_in_pipeline read_modify_write append_to_report push_unless_there credit toggle"
    ),
    M.GUARD_EXPIRES: "lock_as_dedupe short_memory lease_runs_out",
    M.RELEASE_WITHOUT_OWNER: "break_stale_lock release_in_finally",
    M.LOST_UPDATE: "count_imported keep_balance keep_score",
    M.LOST_REPLY: "record_failed_payment retry_in_the_job",
    M.CALL_WITHOUT_KEY: "finish_order run_child_at_once charge_by_gateway",
    M.EFFECT_BEFORE_GUARD: "enqueue_before_commit fan_out import_one_by_one charge_then_mark",
    M.GUARD_BEFORE_EFFECT: (
        "flag_before_insert flag_before_call commit_then_enqueue row_then_key mark_then_push mark_and_push_in_pipeline "
        "done_in_finally"
    ),
    M.TWO_COMMITS: "guard_row_first pay_then_receipt header_then_lines counter_without_expiry debit_then_credit claim_and_forget",
    M.SWALLOWED: "best_effort_write log_and_go_on skip_bad_rows",
    M.NO_EXPIRY: (
        "lock_without_ttl lock_and_give_up redis_lock_without_timeout setnx_then_expire token_from_pool wait_for_lock_file"
    ),
    M.CHECK_THEN_ACT: (
        "check_then_insert check_then_push watch_too_late watch_without_multi set_flag_with_get invite number_after_look "
        "count_file_once get_then_set sismember_then_sadd hexists_then_hincrby fill_if_empty watch_another_key "
        "credit_behind_flag lock_no_row lock_until_commit lock_in_autocommit advisory_unlock_before_commit lock_after_look "
        "named_unlock_before_commit"
    ),
}
LINES = [
    pytest.param(case, mechanism, case.stacks[0], id=case.name)
    for mechanism, names in CAUSES.items()
    for case in CASES
    if case.name in names.split()
]


@pytest.mark.slow
@pytest.mark.parametrize(("case", "mechanism", "stack"), some_of(LINES, 3), indirect=["stack"])
def test_the_cause_is_named(case: Case, mechanism: M, stack: str, world: World) -> None:
    """Goal: the right name, a sentence with lines, and no empty snippet where one is promised."""
    finding = case.finding(case.check(world, max_trials=case.trials))
    assert finding.mechanism == mechanism, finding.because
    assert finding.because
    if mechanism in (M.CHECK_THEN_ACT, M.EFFECT_BEFORE_GUARD):
        assert f"{case.kind}.py:" in finding.because


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "snippet", "stack"),
    [
        pytest.param(case, snippet, "sqlite", id=case.name)
        for name, snippet in {
            "sign_up_member": "CREATE UNIQUE INDEX uq_members_email ON members (email);",
            "log_and_go_on": "raise  # the queue delivers again",
        }.items()
        for case in CASES
        if case.name == name
    ],
    indirect=["case", "stack"],
)
def test_the_snippet_mends_what_the_cause_names(case: Case, snippet: str, stack: str, world: World) -> None:
    """Goal: the remedy's lines fit the cause: no made-up id in a key, and no transaction for an error that was swallowed."""
    finding = case.finding(case.check(world, max_trials=case.trials))
    assert snippet in finding.snippet


def test_each_name_is_a_planted_bug() -> None:
    planted = {case.name for case in CASES}
    named = [name for names in CAUSES.values() for name in names.split()]
    assert set(named) <= planted
    assert len(named) == len(set(named)) >= 75


def test_each_of_the_ten_causes_is_planted_twice() -> None:
    ten = {
        M.CHECK_THEN_ACT,
        M.GUARD_BEFORE_EFFECT,
        M.EFFECT_BEFORE_GUARD,
        M.NEW_ID,
        M.LOST_UPDATE,
        M.MISSING_CONSTRAINT,
        M.GUARD_EXPIRES,
        M.RELEASE_WITHOUT_OWNER,
        M.TWO_COMMITS,
        M.CALL_WITHOUT_KEY,
    }
    assert all(len(CAUSES[mechanism].split()) >= 2 for mechanism in ten)
