"""The suite for adapters to something with state."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar
from unittest.mock import Mock

import pytest

from idemfuzz.abc import JobCall, Options, Store, StoreAdapter
from idemfuzz.model import Access, Delta, Effect, Ending, Fact, FaultKind, Plan, Segment, Side
from idemfuzz.testing.bench import Bench, Delivered, fault_at
from idemfuzz.testing.wellformed import Attributes, check_effect, check_fact, ranges

__all__ = ["StoreConformance", "StoreSubject"]

P = ParamSpec("P")
T = TypeVar("T")

_NAME = "shelf"
_STRANGERS: tuple[object, ...] = (
    None,
    True,
    7,
    1.5,
    "text",
    b"bytes",
    object(),
    len,
    int,
    sys,
    lambda: None,
    Mock(),
)
_MINUTE_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSubject:
    """How to use the thing behind one store; items are whole numbers. What is left out is a capability it has not.

    The thing is empty when the suite gets it, but may be used by the same means outside deliveries.
    """

    adapter: StoreAdapter
    value: object
    """What a fixture would hand in: a value that the adapter adopts."""
    write: Callable[[int], object]
    """As a job does it: write item ``n``; it is there for good on return."""
    look: Callable[[], Collection[int]]
    """As a bystander: the items that are there."""
    remove: Callable[[int], object] | None = None
    """As a job does it: remove item ``n`` for good."""
    read: Callable[[], object] | None = None
    """As a job does it: only look."""
    begin: Callable[[int], object] | None = None
    """As a job does it: write item ``n`` in a transaction that nobody ends; returns what keeps it open."""
    generate: Callable[[], Any] | None = None
    """As a job does it: write something whose id the store makes up; returns the id."""
    expire: Callable[[int, float], object] | None = None
    """As a job does it: write item ``n``, which goes away after so many seconds of the store's time."""
    same: Sequence[object] = ()
    """Other values for the same thing."""
    other: Sequence[object] = ()
    """Values that the adapter adopts for another thing."""
    strangers: Sequence[object] = ()
    """Values that the adapter does not know, apart from the suite's own."""
    errors: tuple[type[BaseException], ...] = ()
    """What the library raises if its connection fails."""
    effects: bool = True
    """Whether what a job does to it passes the gate, and not only what it leaves behind is seen."""
    patches: Sequence[object] = ()
    """Modules, classes and objects whose functions the adapter replaces between open and close."""
    options: Options = Options()  # noqa: RUF009  # It is frozen.


@dataclass(frozen=True, slots=True)
class _Open:
    """A store with item 0 in its baseline, open on a bench."""

    subject: StoreSubject
    store: Store
    bench: Bench

    def write(self, item: int, plan: Plan | None = None) -> Delivered:
        return self.bench.deliver(lambda: self.subject.write(item), plan)

    def items(self) -> set[int]:
        return set(self.subject.look())

    def restore(self) -> None:
        """As a session does after each trial; then all must be as before."""
        self.store.changes()
        self.store.restore()
        assert self.items() == {0}, "restore does not lead back to the baseline"
        assert not self.store.changes(), "after restore, something still differs from the baseline"
        doubt = getattr(self.store, "verify", lambda: None)()
        assert doubt is None, f"the store doubts itself: {doubt}"

    def writing(self) -> Delivered:
        """A clean write of item 1, undone again: what the faults of a test are aimed at."""
        clean = self.write(1)
        assert clean.error is None, f"a clean write fails: {clean.error!r}"
        self.restore()
        return clean


class StoreConformance:
    """What the engine relies on in a `Store` and its adapter.

    A test inherits from it and has a fixture ``subject`` that returns a `StoreSubject` on an empty thing. It does
    not check that overlapping Executions are ordered as a database orders them, nor how much a restore costs.
    """

    # -- adoption ----------------------------------------------------------------------------------------

    def test_it_adopts_its_own_values(self, subject: StoreSubject) -> None:
        for value in (subject.value, *subject.same, *subject.other):
            store = subject.adapter.adopt(_NAME, value, subject.options)
            assert isinstance(store, Store), f"{value!r} is not adopted"
            assert store.name == _NAME
            assert isinstance(store.kind, str)
            assert store.kind
        assert subject.adapter.name

    def test_it_leaves_other_values_alone(self, subject: StoreSubject) -> None:
        for value in (*_STRANGERS, *subject.strangers):
            assert subject.adapter.adopt(_NAME, value, subject.options) is None, f"{value!r} is adopted"

    def test_identity_says_what_is_the_same_thing(self, subject: StoreSubject) -> None:
        """Goal: two adapters on one thing are found out before they are opened."""
        first = _adopted(subject)
        for value in (subject.value, *subject.same):
            again = _adopted(subject, value)
            assert again.identity == first.identity, f"{value!r} counts as another thing"
            assert hash(again.identity) == hash(first.identity)
        for value in subject.other:
            assert _adopted(subject, value).identity != first.identity, f"{value!r} counts as the same thing"

    # -- state -------------------------------------------------------------------------------------------

    def test_nothing_differs_at_first(self, subject: StoreSubject) -> None:
        with _opened(subject) as opened:
            assert not opened.store.changes()
            opened.restore()

    def test_changes_are_found_and_restored(self, subject: StoreSubject) -> None:
        with _opened(subject) as opened:
            for item in (1, 2, 1):
                delivered = opened.write(item)
                assert delivered.error is None
                assert opened.items() == {0, item}
                assert opened.store.changes().added, f"item {item} was written, and changes() does not say so"
                opened.restore()

    def test_changes_outside_a_delivery_count_and_are_restored(self, subject: StoreSubject) -> None:
        """Goal: what the scenario itself does, beside its jobs, is part of the trial."""
        with _opened(subject) as opened:
            subject.write(5)
            assert opened.items() == {0, 5}
            assert opened.store.changes().added
            opened.restore()

    def test_what_was_removed_comes_back(self, subject: StoreSubject) -> None:
        remove = _needed(subject.remove, "nothing can be removed")
        with _opened(subject) as opened:
            opened.bench.deliver(lambda: remove(0))
            assert opened.items() == set()
            assert opened.store.changes().removed, "item 0 was removed, and changes() does not say so"
            opened.restore()

    def test_facts_are_well_formed_and_the_same_each_time(self, subject: StoreSubject) -> None:
        with _opened(subject) as opened:
            seen = []
            for _ in range(2):
                opened.write(1)
                delta = opened.store.changes()
                for fact in (*delta.added, *delta.removed):
                    check_fact(fact, store=_NAME)
                seen.append(_stable(delta))
                opened.restore()
            assert seen[0] == seen[1], "the same write from the same state is described in two ways"
            opened.write(2)
            assert _stable(opened.store.changes()) != seen[0], "two different writes are described alike"
            opened.restore()

    def test_a_closed_store_is_as_it_was_and_watches_nothing(self, subject: StoreSubject) -> None:
        """Goal: nothing stays patched; the baseline stays behind; another search may follow."""
        subject.write(0)
        before = Attributes(subject.patches)
        for _ in range(2):
            store = _adopted(subject)
            with Bench(stores=[store]) as bench:
                delivered = bench.deliver(lambda: subject.write(1))
                assert bool(delivered.effects) is subject.effects
                store.changes()
                store.restore()
            assert set(subject.look()) == {0}
            before.check_unchanged()
        # Without a store on it, the bench sees an effect only if something is still tapped.
        with Bench() as bench:
            delivered = bench.deliver(lambda: subject.write(3))
        assert delivered.error is None
        assert not delivered.effects, f"a closed store still reports {delivered.labels}"
        assert set(subject.look()) == {0, 3}

    def test_generated_ids_can_be_moved(self, subject: StoreSubject) -> None:
        generate = _needed(subject.generate, "the store makes up no ids")
        with _opened(subject) as opened:
            first = opened.bench.deliver(generate)
            assert first.error is None
            facts = opened.store.changes().added
            assert any(fact.generated for fact in facts), (
                "no fact says which of its values the store has made up"
            )
            for fact in facts:
                check_fact(fact, store=_NAME)
            opened.restore()
            assert opened.bench.deliver(generate).value == first.value, "restore does not put the ids back"
            opened.restore()
            if not opened.store.perturb():
                pytest.skip("the store's generated ids cannot be moved")
            assert not opened.store.changes(), "moving the ids counts as a change of state"
            assert opened.bench.deliver(generate).value != first.value, "perturb() has not moved the ids"
            opened.restore()

    def test_moving_no_ids_changes_nothing(self, subject: StoreSubject) -> None:
        with _opened(subject) as opened:
            assert opened.store.perturb() in (True, False)
            assert not opened.store.changes()
            assert opened.items() == {0}
            opened.restore()

    def test_passing_time_ends_what_expires(self, subject: StoreSubject) -> None:
        expire = _needed(subject.expire, "nothing in the store expires")
        with _opened(subject) as opened:
            opened.bench.deliver(lambda: expire(1, 10 * _MINUTE_SECONDS))
            assert any(fact.expires for fact in opened.store.changes().added), "no fact says that it expires"
            opened.bench.pass_time(5 * _MINUTE_SECONDS)
            assert opened.items() == {0, 1}
            opened.bench.pass_time(6 * _MINUTE_SECONDS)
            assert opened.items() == {0}
            opened.bench.reset_time()
            opened.restore()

    def test_passing_time_ends_nothing_else(self, subject: StoreSubject) -> None:
        with _opened(subject) as opened:
            opened.bench.pass_time(_MINUTE_SECONDS)
            assert opened.items() == {0}
            opened.bench.reset_time()
            assert not opened.store.changes()

    # -- effects -----------------------------------------------------------------------------------------

    def test_effects_are_well_formed(self, subject: StoreSubject) -> None:
        with _watched(subject) as opened:
            delivered = opened.writing()
            assert delivered.effects, "a write passes the gate as an Effect"
            for effect in delivered.effects:
                check_effect(effect, store=_NAME)
            assert any(effect.access is Access.DURABLE for effect in delivered.effects), (
                "a write ends durable"
            )

    def test_labels_say_what_is_done_and_not_with_which_values(self, subject: StoreSubject) -> None:
        with _watched(subject) as opened:
            first = opened.writing()
            second = opened.write(2)
            assert second.labels == first.labels
            assert [e.detail for e in second.effects] != [e.detail for e in first.effects]
            opened.restore()

    def test_only_to_look_leaves_nothing_behind(self, subject: StoreSubject) -> None:
        read = _needed(subject.read, "looking at it is not seen")
        with _watched(subject) as opened:
            delivered = opened.bench.deliver(read)
            assert delivered.effects
            for effect in delivered.effects:
                check_effect(effect, store=_NAME)
                assert effect.access is Access.READ, f"{effect.label} only looks"
                assert FaultKind.LOST not in effect.faults, (
                    f"{effect.label} leaves nothing that a lost reply could hide"
                )
            assert not opened.store.changes()

    def test_nothing_is_an_effect_outside_a_delivery(self, subject: StoreSubject) -> None:
        with _watched(subject) as opened:

            def scenario() -> None:
                subject.write(1)
                opened.bench.dispatch(JobCall("job", lambda identity, delivery: None))
                subject.write(2)

            delivered = opened.bench.run(scenario)
            assert delivered.error is None
            assert delivered.deliveries == 1
            assert not delivered.effects
            assert opened.items() == {0, 1, 2}
            opened.restore()

    def test_an_effect_within_another_is_part_of_it(self, subject: StoreSubject) -> None:
        with _watched(subject) as opened:
            outer = Effect("outer.do", "outer", Access.DURABLE, "does it")
            delivered = opened.bench.deliver(
                lambda: opened.bench.gate.perform(outer, lambda: subject.write(1))
            )
            assert delivered.error is None
            assert delivered.labels == ("outer.do",)
            assert opened.items() == {0, 1}
            opened.restore()

    def test_the_jobs_own_errors_pass(self, subject: StoreSubject) -> None:
        mistake = ValueError("the job's own")

        def job() -> None:
            subject.write(1)
            raise mistake

        with _opened(subject) as opened:
            delivered = opened.bench.deliver(job)
            assert delivered.error is mistake
            assert opened.items() == {0, 1}, "an error after a durable write takes nothing back"
            opened.restore()

    def test_two_deliveries_may_overlap(self, subject: StoreSubject) -> None:
        """Goal: the second is not kept out by the adapter while the first stands between two effects."""
        with _watched(subject) as opened:
            job = JobCall("job", lambda identity, delivery: subject.write(delivery))
            plan = Plan(2, overlap=(Segment(1, 1), Segment(2), Segment(1)))
            delivered = opened.bench.deliver(job, plan)
            assert delivered.error is None
            assert opened.items() >= {0, 1, 2}
            opened.restore()

    # -- faults ------------------------------------------------------------------------------------------

    def test_killed_before_it_did_not_happen_and_after_it_did(self, subject: StoreSubject) -> None:
        """Method: kill at every point of a write, with no redelivery; what is pending vanishes."""
        with _watched(subject) as opened:
            events = opened.writing().events
            for index, side, done in ranges(len(events)):
                delivered = opened.write(1, fault_at(FaultKind.KILL, events[index][1], side))
                assert delivered.fired == 1, f"the second run did not reach {events[index][1]}"
                [ending] = delivered.endings()
                assert ending.ending is Ending.KILLED
                assert not ending.text, f"a kill is seen by the job as {ending.text}"
                _check_state(
                    opened, [effect for effect, _ in events], done, f"killed {side} {events[index][0].label}"
                )
                opened.restore()

    def test_a_killed_delivery_can_be_redelivered(self, subject: StoreSubject) -> None:
        with _watched(subject) as opened:
            for _, point in opened.writing().events:
                plan = fault_at(FaultKind.KILL, point, Side.BEFORE)
                delivered = opened.bench.deliver(lambda: subject.write(1), plan, attempts=2)
                assert delivered.error is None, (
                    f"after a kill before {point.label} the retry fails: {delivered.error!r}"
                )
                assert delivered.deliveries == 2
                assert opened.items() == {0, 1}
                opened.restore()

    def test_a_refused_effect_fails_as_the_library_does_and_is_not_applied(
        self, subject: StoreSubject
    ) -> None:
        self._check_connection_errors(subject, FaultKind.REFUSED, Side.BEFORE)

    def test_an_effect_with_a_lost_reply_fails_as_the_library_does_and_is_applied(
        self, subject: StoreSubject
    ) -> None:
        self._check_connection_errors(subject, FaultKind.LOST, Side.AFTER)

    def _check_connection_errors(self, subject: StoreSubject, kind: FaultKind, side: Side) -> None:
        with _watched(subject) as opened:
            events = opened.writing().events
            chosen = [index for index, (effect, _) in enumerate(events) if kind in effect.faults]
            if not chosen:
                pytest.skip(f"no effect of the store can be {kind}")
            assert subject.errors, "the subject does not say what the library raises if its connection fails"
            for index in chosen:
                effect, point = events[index]
                delivered = opened.write(1, fault_at(kind, point, side))
                assert delivered.fired == 1
                assert isinstance(delivered.error, subject.errors), (
                    f"{kind} {effect.label} raises {delivered.error!r}"
                )
                done = index + (side is Side.AFTER)
                _check_state(opened, [e for e, _ in events], done, f"{kind} {effect.label}")
                opened.restore()
                assert opened.write(2).error is None, (
                    f"after {kind} {effect.label} the store cannot be used any more"
                )
                opened.restore()

    def test_a_resent_effect_is_applied_once_more(self, subject: StoreSubject) -> None:
        with _watched(subject) as opened:
            events = opened.writing().events
            chosen = [(effect, point) for effect, point in events if FaultKind.RESENT in effect.faults]
            if not chosen:
                pytest.skip("no effect of the store is sent again by its library")
            for effect, point in chosen:
                delivered = opened.write(1, fault_at(FaultKind.RESENT, point, Side.AFTER))
                assert delivered.fired == 1
                wanted = [e.label for e, _ in events].count(effect.label) + 1
                assert delivered.labels.count(effect.label) >= wanted, f"{effect.label} is not done again"
                assert delivered.error is None or isinstance(delivered.error, subject.errors)
                assert 1 in opened.items()
                opened.restore()

    def test_a_transaction_that_nobody_ends_is_gone(self, subject: StoreSubject) -> None:
        begin = _needed(subject.begin, "the store has no transactions")
        with _watched(subject) as opened:
            for job in (lambda: begin(1), lambda: (begin(1), 1 // 0)):
                delivered = opened.bench.deliver(job)
                assert any(effect.access is Access.PENDING for effect in delivered.effects)
                assert not any(effect.access is Access.DURABLE for effect in delivered.effects)
                assert opened.items() == {0}
                assert not opened.store.changes()
                opened.restore()
            clean = opened.bench.deliver(lambda: begin(1))
            for _, point in clean.events:
                opened.bench.deliver(lambda: begin(1), fault_at(FaultKind.KILL, point, Side.AFTER))
                assert opened.items() == {0}
                opened.restore()


def _adopted(subject: StoreSubject, *values: object) -> Store:
    value = values[0] if values else subject.value
    store = subject.adapter.adopt(_NAME, value, subject.options)
    assert store is not None, f"{value!r} is not adopted"
    return store


@contextmanager
def _opened(subject: StoreSubject) -> Iterator[_Open]:
    assert set(subject.look()) == set(), "the subject's thing is not empty at first"
    subject.write(0)
    store = _adopted(subject)
    with Bench(stores=[store]) as bench:
        try:
            yield _Open(subject, store, bench)
        finally:
            store.changes()
            store.restore()


@contextmanager
def _watched(subject: StoreSubject) -> Iterator[_Open]:
    if not subject.effects:
        pytest.skip("what a job does to it does not pass the gate")
    with _opened(subject) as opened:
        yield opened


def _needed(capability: Callable[P, T] | None, otherwise: str) -> Callable[P, T]:
    if capability is None:
        pytest.skip(otherwise)
    return capability


def _check_state(opened: _Open, effects: Sequence[Effect], done: int, event: str) -> None:
    """After ``done`` of a write's effects, everything durable is there and nothing else."""
    durable = [index for index, effect in enumerate(effects) if effect.access is Access.DURABLE]
    if not durable or done <= durable[0]:
        assert opened.items() == {0}, f"{event}: nothing durable was done, and yet the state differs"
        assert not opened.store.changes(), (
            f"{event}: nothing durable was done, and yet changes() tells of some"
        )
    elif done > durable[-1]:
        assert opened.items() == {0, 1}, f"{event}: the last durable effect was done, and item 1 is not there"
        assert opened.store.changes().added


def _stable(delta: Delta) -> tuple[list[str], list[str]]:
    return sorted(map(_described, delta.added)), sorted(map(_described, delta.removed))


def _described(fact: Fact) -> str:
    known = {name: value for name, value in fact.fields.items() if name not in fact.generated}
    return repr((fact.kind, fact.group, sorted(known.items()), fact.identity, fact.expires))
