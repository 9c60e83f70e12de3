"""Where a campaign spends its time, what it takes for news, and what it keeps; with a clock of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fuzz.test_corpus import finding
from idemfuzz import corpus
from idemfuzz.fuzz import campaign as module
from idemfuzz.fuzz.campaign import Campaign, Settings
from idemfuzz.model import Plan


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def opened(root: Path, **settings: Any) -> Campaign:
    made = Campaign(root, Settings(**settings))
    made.open()
    return made


def turn(campaign: Campaign, clock: Clock, new: int) -> str:
    target = campaign.next()
    assert target is not None
    one = campaign.slice(target)
    one.new = new
    clock.now += 1.0
    one.end()
    return target.name


def test_each_target_has_a_turn_first_changed_ones_before_the_others(tmp_path: Path, clock: Clock) -> None:
    first = opened(tmp_path)
    for name in "abc":
        first.add(name, print, is_test=False, draws=False)
    first.save()
    path = tmp_path / ".idemfuzz" / "fuzz" / "state.json"
    state = json.loads(path.read_text())
    state["targets"]["c"]["code"] = "what it was before"
    path.write_text(json.dumps(state))
    again = opened(tmp_path)
    for name in "abc":
        again.add(name, print, is_test=False, draws=False)
    assert [turn(again, clock, 0) for _ in range(3)] == ["c", "a", "b"]


def test_all_have_a_glance_before_any_gets_depth_and_who_showed_nothing_is_first(
    tmp_path: Path, clock: Clock
) -> None:
    """Goal: the last in line is seen on a busy machine, too. Method: the kinds of the first turns, one finding made in the first."""
    campaign = opened(tmp_path)
    for name in "abc":
        campaign.add(name, print, is_test=False, draws=False)
    campaign.keep(corpus.entry_of(finding(), "a"))
    turns = []
    for _ in range(12):
        target = campaign.next()
        assert target is not None
        one = campaign.slice(target)
        one.end()
        turns.append((target.name, one.kind, one.trials_max))
    for round_number, trials_max in enumerate((8, 40)):
        names = [name for name, *rest in turns[3 * round_number :][:3] if rest == ["glance", trials_max]]
        assert names == ["b", "c", "a"]
    assert [kind for _, kind, _ in turns[6:9]] == ["bounded"] * 3
    assert [kind for _, kind, _ in turns[9:]] == ["deep"] * 3


def test_writing_what_was_learned_takes_a_small_part_of_the_time(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: hundreds of targets do not cost the campaign. Method: a write takes a second, a turn takes one, too."""
    campaign = opened(tmp_path)
    campaign.add("a", print, is_test=False, draws=False)
    written = []

    def save() -> None:
        written.append(clock.now)
        clock.now += 1.0

    monkeypatch.setattr(campaign, "save", save)
    for _ in range(100):
        turn(campaign, clock, 0)
    assert 2 <= len(written) <= 5


def test_what_any_part_has_looked_at_counts_as_seen(tmp_path: Path, clock: Clock) -> None:
    """Goal: a pull request's run knows what four machines saw at night. Method: their states, none of its own."""
    for part, name in ((1, "a"), (2, "b"), (2, "c")):
        one = opened(tmp_path, part=(part, 2))
        one.add(name, print, is_test=False, draws=False)
        one.save()
    path = tmp_path / ".idemfuzz" / "fuzz" / "state-2-of-2.json"
    state = json.loads(path.read_text())
    state["targets"]["c"]["code"] = "what it was before"
    path.write_text(json.dumps(state))
    again = opened(tmp_path)
    for name in "abcd":
        again.add(name, print, is_test=False, draws=False)
    assert [name for name, target in again.targets.items() if target.changed] == ["c"]


def test_what_is_known_is_replayed_first_also_by_one_that_goes_on(tmp_path: Path, clock: Clock) -> None:
    """Goal: a finding of an earlier process is judged in each later one. Method: its target has had turns, and others are fresh."""
    first = opened(tmp_path)
    for name in "abc":
        first.add(name, print, is_test=False, draws=False)
    for _ in range(3):
        turn(first, clock, 1)
    first.keep(corpus.entry_of(finding(), "c"))
    first.save()
    again = opened(tmp_path, resume=True)
    for name in "abcd":
        again.add(name, print, is_test=False, draws=False)
    assert [entry.target for entry in again.not_replayed] == ["c"]
    assert [turn(again, clock, 0) for _ in range(2)] == ["c", "d"]
    again.targets["c"].skipped = "skipped: not here"
    assert not again.not_replayed


@pytest.mark.parametrize("seconds", [None, "x", 12.5])
def test_to_go_on_without_knowing_how_long_it_took_is_to_begin_anew(
    tmp_path: Path, clock: Clock, seconds: object
) -> None:
    path = tmp_path / ".idemfuzz" / "fuzz" / "state.json"
    assert "there is nothing to go on with" in opened(tmp_path, resume=True).problems[0]
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"idemfuzz_fuzz": 1, "targets": {}, "seconds": seconds, "curve": 3}))
    assert opened(tmp_path, resume=True).seconds == (12.5 if seconds == 12.5 else 0.0)


def test_time_goes_to_whoever_still_shows_something_new_and_nobody_starves(
    tmp_path: Path, clock: Clock
) -> None:
    """Goal: the budget is spent where it learns. Method: of three targets one brings news in each turn."""
    campaign = opened(tmp_path)
    for name in ("dull", "lively", "stale"):
        campaign.add(name, print, is_test=False, draws=False)
    turns = []
    for _ in range(60):
        target = campaign.next()
        assert target is not None
        turns.append(turn(campaign, clock, 10 if target.name == "lively" else 0))
    assert turns.count("lively") > 30
    assert min(turns.count("dull"), turns.count("stale")) >= 2


def test_the_budget_ends_it(tmp_path: Path, clock: Clock) -> None:
    campaign = opened(tmp_path, max_seconds=5)
    campaign.add("a", print, is_test=False, draws=False)
    assert campaign.next() is not None
    clock.now = 5.0
    assert campaign.next() is None


def test_going_on_counts_what_was_used(tmp_path: Path, clock: Clock) -> None:
    first = opened(tmp_path, max_seconds=10)
    first.add("a", print, is_test=False, draws=False)
    turn(first, clock, 3)
    clock.now = 6.0
    first.save()
    again = opened(tmp_path, max_seconds=10, resume=True)
    again.add("a", print, is_test=False, draws=False)
    assert again.targets["a"].slices == 1
    assert again.seconds == 6.0
    clock.now += 4.0
    assert again.is_over


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"idemfuzz_fuzz": 9}', '{"idemfuzz_fuzz": 1, "targets": {"a": {"slices": "x"}}}']
)
def test_a_damaged_state_is_begun_anew(tmp_path: Path, text: str) -> None:
    path = tmp_path / ".idemfuzz" / "fuzz" / "state.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    campaign = opened(tmp_path, resume=True)
    campaign.add("a", print, is_test=False, draws=False)
    campaign.save()
    assert json.loads(path.read_text())["targets"]["a"]["slices"] == 0


def keep(campaign: Campaign, plan: str, table: str = "users", code: str = "IDM101") -> bool:
    """Whether it was news; it is kept then."""
    entry = corpus.entry_of(finding(table, plan, code), "jobs:a")
    if not campaign.is_news(entry):
        return False
    campaign.keep(entry)
    return True


KILL = "v1:x1:call=1:kill+db.commit#1@1.1"
TIMEOUT = "v1:x1:call=1:timeout+db.commit#1@1.1"
TWO = "v1:x1:call=1:kill+db.commit#1@1.1:kill+db.commit#1@1.2"
OVERLAP = "v1:x2:call=1:order=1+db.select.users#1,2"


def test_what_a_simpler_one_explains_is_no_news(tmp_path: Path) -> None:
    campaign = opened(tmp_path)
    assert keep(campaign, "v1:x2")
    for plan in (KILL, TIMEOUT, OVERLAP, TWO, "v1:x2"):
        assert not keep(campaign, plan), plan
    assert keep(campaign, KILL, "orders"), "another table is another cause"
    assert not keep(campaign, TIMEOUT, "orders"), "all that cuts it short is one kind"
    assert keep(campaign, OVERLAP, "orders")
    assert keep(campaign, KILL, code="IDM202"), "lost is not duplicated"


def test_the_simpler_one_that_comes_later_takes_the_place(tmp_path: Path) -> None:
    campaign = opened(tmp_path)
    for plan in (TWO, KILL, "v1:x2"):
        assert keep(campaign, plan), plan
        assert [str(entry.plan) for entry in campaign.findings] == [str(Plan.parse(plan))]
    kept, _ = corpus.entries(tmp_path)
    assert [str(entry.plan) for entry in kept] == ["v1:x2"]


def test_what_the_baseline_accepts_is_no_news(tmp_path: Path) -> None:
    import datetime

    from idemfuzz import baseline

    entry = corpus.entry_of(finding(), "jobs:a")
    baseline.write(
        [baseline.Accepted(entry.id, "jobs:a", "IDM101", "known", datetime.date.today())], tmp_path
    )
    assert not keep(opened(tmp_path), "v1:x2")


def test_seeds_and_parts_draw_their_own(tmp_path: Path) -> None:
    """Goal: shards are disjoint and runs repeat. Method: the seeds of the first turns."""

    def seeds(seed: int, part: tuple[int, int]) -> list[int]:
        campaign = opened(tmp_path, seed=seed, part=part)
        campaign.add("a", print, is_test=False, draws=True)
        found = []
        for number in range(5):
            campaign.targets["a"].slices = number
            found.append(campaign.slice(campaign.targets["a"]).seed)
        return found

    assert seeds(1, (1, 1)) == seeds(1, (1, 1))
    everything = [*seeds(1, (1, 2)), *seeds(1, (2, 2)), *seeds(2, (1, 1))]
    assert len(set(everything)) == 15
