"""How a long run is split, and what is left of a round when the next begins: pure, without processes."""

from __future__ import annotations

import pytest

from idemfuzz.stress import Settings
from idemfuzz.stress.ledger import Ended, Ledger
from idemfuzz.stress.storm import Round, messages_of, rounds_of
from idemfuzz.stress.story import cause_of


@pytest.mark.parametrize(
    ("deliveries", "jobs"),
    [(1, 1), (20, 10), (4_999, 200), (5_001, 200), (100_000, 200), (100_000, 1), (7_001, 2_500)],
)
def test_rounds_send_everything_once(deliveries: int, jobs: int) -> None:
    """Goal: no message is lost or added by splitting, no round is too large, and no job is left out."""
    rounds = list(rounds_of(deliveries, jobs))
    assert sum(part.deliveries for part in rounds) == deliveries
    assert max(part.deliveries for part in rounds) <= 5_000
    assert max(len(part.numbers) for part in rounds) <= 1_000
    assert {number for part in rounds for number in part.numbers} == set(range(jobs))
    assert [part.index for part in rounds] == list(range(len(rounds)))


def test_copies_are_even_and_ids_differ_between_rounds() -> None:
    parts = [Round(index, range(3), 7) for index in (0, 1)]
    first, second = (messages_of(Settings(sending=("new-id",)), part) for part in parts)
    assert sorted(sending.number for sending in first) == [0, 0, 0, 1, 1, 2, 2]
    assert len({sending.job_id for sending in [*first, *second]}) == 14


def test_ledger_keeps_numbers_and_forgets_messages() -> None:
    """Goal: what a ledger holds is bounded by one round. Method: two rounds, the same work in each."""
    ledger = Ledger()
    for part in range(2):
        ledger.turn()
        for number in range(50):
            job_id = f"stress-{number}-0-0r{part}"
            ledger.sending(job_id, number, 1.0)
            _execute(ledger, job_id, f"{part}.{number}")
        assert not ledger.owes()
        assert len(ledger.messages) == len(ledger.jobs) == 50
    assert ledger.counts["ok"] == ledger.counts["sent"] == 100


def test_effects_of_an_execution_are_bounded() -> None:
    ledger = Ledger()
    ledger.sending("stress-0-0-0r0", 0, 1.0)
    _execute(ledger, "stress-0-0-0r0", "1.1", effects=500)
    (run,) = ledger.of_job(0)[0].runs
    assert (run.ending, ledger.counts["effects"]) == (Ended.OK, 500)
    assert len(run.effects) + run.effects_left_out == 500
    assert len(run.effects) < 100


@pytest.mark.slow
def test_latencies_are_an_even_sample_of_bounded_size() -> None:
    """Goal: percentiles of a long run do not cost memory. Method: 50,000 executions of rising length."""
    ledger = Ledger()
    for number in range(50_000):
        if number % 5_000 == 0:
            ledger.turn()
        ledger.sending(f"stress-{number}-0-0r0", number, 0.0)
        _execute(ledger, f"stress-{number}-0-0r0", str(number), ended=float(number), effects=0)
    assert len(ledger.latencies) < 20_000
    middle = sorted(ledger.latencies)[len(ledger.latencies) // 2]
    assert middle == pytest.approx(25_000, rel=0.2)


def test_a_message_that_was_taken_and_not_begun_is_owed() -> None:
    ledger = Ledger()
    ledger.sending("stress-0-0-0r0", 0, 1.0)
    assert ledger.owes()


@pytest.mark.parametrize(
    ("kind", "together"), [("kill-horse", False), ("kill-both", False), ("kill-worker", True)]
)
def test_who_is_killed_has_ended_then_and_not_when_it_is_found_dead(kind: str, together: bool) -> None:
    """Goal: a redelivery that comes at once does not overlap a dead horse, and does overlap an orphan."""
    ledger = Ledger()
    ledger.sending("stress-0-0-0r0", 0, 1.0)
    started = {"event": "started", "job": "stress-0-0-0r0", "worker": "w", "worker_pid": 1, "pid": 2}
    ledger.heard({**started, "execution": "2.1", "at": 1.0})
    ledger.heard(
        {
            "event": "struck",
            "execution": "2.1",
            "job": "stress-0-0-0r0",
            "kind": kind,
            "where": kind,
            "at": 1.5,
        }
    )
    ledger.heard({**started, "execution": "3.1", "at": 1.6})
    ledger.died("2.1", 2.0)
    (message,) = ledger.of_job(0)
    assert message.overlaps is together
    assert ("two executions at once" in cause_of([message])) is together


def _execute(ledger: Ledger, job_id: str, name: str, *, ended: float = 2.0, effects: int = 1) -> None:
    common = {"pid": 1, "execution": name}
    ledger.heard({"event": "started", "job": job_id, "worker": "w", "worker_pid": 1, "at": 1.0, **common})
    for occurrence in range(effects):
        effect = {"label": "db.commit", "occurrence": occurrence + 1, "outcome": "", "call": None, "at": 1.5}
        ledger.heard({"event": "effect", "access": "durable", "detail": "COMMIT", **effect, **common})
    ledger.heard({"event": "ended", "job": job_id, "error": None, "at": ended, **common})
