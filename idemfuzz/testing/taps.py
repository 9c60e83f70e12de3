"""The suite for adapters to outside calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from idemfuzz.abc import JobCall, Tap
from idemfuzz.model import Access, Effect, FactKind, FaultKind, Plan, Side
from idemfuzz.testing.bench import Bench, Delivered, fault_at
from idemfuzz.testing.wellformed import Attributes, check_effect, check_fact

__all__ = ["TapConformance", "TapSubject"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TapSubject:
    """How to make the outside calls that one tap watches. What is left out is a capability it has not."""

    tap: Callable[[], Tap]
    """A new tap."""
    kind: FactKind
    """What its calls count as."""
    call: Callable[[int], object]
    """As a job does it: one outside call, about item ``n``, that changes something there."""
    arrived: Callable[[], Sequence[int]]
    """As a bystander: the items of the calls that came through, in order."""
    look: Callable[[], object] | None = None
    """As a job does it: a call that only asks."""
    declined: Callable[[], object] | None = None
    """As a job does it: a call that the other side answers, but does not do."""
    once: Callable[[int, str], object] | None = None
    """As a job does it: a call about item ``n`` that says by a key which calls are one."""
    remembered: Callable[[], int] | None = None
    """How many calls stay known in this process (a mock's), where some do."""
    values: Mapping[str, object] = field(default_factory=dict)
    """What fixtures would hand in."""
    errors: tuple[type[BaseException], ...] = ()
    """What the library raises if its connection fails."""
    patches: Sequence[object] = ()
    """Modules, classes and objects whose functions the tap replaces between attach and detach."""


@dataclass(frozen=True, slots=True)
class _Attached:
    subject: TapSubject
    tap: Tap
    bench: Bench

    def call(self, item: int = 1, plan: Plan | None = None) -> Delivered:
        return self.bench.deliver(lambda: self.subject.call(item), plan)

    def count(self, plan: Plan) -> tuple[Delivered, list[int]]:
        """A call under ``plan``, and the items that came through during it."""
        # A new trial forgets what a mock remembers, so there it counts from none.
        before = 0 if self.subject.remembered is not None else len(self.subject.arrived())
        delivered = self.call(1, plan)
        return delivered, list(self.subject.arrived())[before:]


class TapConformance:
    """What the engine relies on in a `Tap`.

    A test inherits from it and has a fixture ``subject`` that returns a `TapSubject`. It does not check that every
    door of a library is watched: a subject goes through one.
    """

    def test_one_call_is_one_effect_and_counts_once(self, subject: TapSubject) -> None:
        with _attached(subject) as attached:
            delivered = attached.call(7)
            assert delivered.error is None
            assert list(subject.arrived())[-1:] == [7]
            assert len(delivered.effects) == 1, f"one call, and these effects: {delivered.labels}"
            check_effect(delivered.effects[0])
            assert delivered.effects[0].access is Access.DURABLE
            [fact] = delivered.calls
            check_fact(fact, store=delivered.effects[0].store)
            assert fact.kind is subject.kind

    def test_the_same_call_is_described_alike_and_another_is_not(self, subject: TapSubject) -> None:
        with _attached(subject) as attached:
            first, again, other = attached.call(1), attached.call(1), attached.call(2)
            assert first.labels == again.labels == other.labels
            assert first.calls[0].fields == again.calls[0].fields
            assert first.calls[0].fields != other.calls[0].fields

    def test_nothing_is_an_effect_outside_a_delivery(self, subject: TapSubject) -> None:
        with _attached(subject) as attached:

            def scenario() -> None:
                subject.call(1)
                attached.bench.dispatch(JobCall("job", lambda identity, delivery: None))
                subject.call(2)

            delivered = attached.bench.run(scenario)
            assert delivered.error is None
            assert not delivered.effects
            assert not delivered.calls
            assert list(subject.arrived())[-2:] == [1, 2]

    def test_a_call_within_a_larger_effect_is_part_of_it(self, subject: TapSubject) -> None:
        with _attached(subject) as attached:
            outer = Effect("outer.do", "outer", Access.DURABLE, "does it")
            delivered = attached.bench.deliver(
                lambda: attached.bench.gate.perform(outer, lambda: subject.call(1))
            )
            assert delivered.error is None
            assert delivered.labels == ("outer.do",)
            assert not delivered.calls

    def test_only_to_ask_does_not_count(self, subject: TapSubject) -> None:
        if subject.look is None:
            pytest.skip("there is no call that only asks")
        with _attached(subject) as attached:
            delivered = attached.bench.deliver(subject.look)
            assert [effect.access for effect in delivered.effects] == [Access.READ]
            check_effect(delivered.effects[0])
            assert not delivered.calls

    def test_what_the_other_side_declines_does_not_count(self, subject: TapSubject) -> None:
        if subject.declined is None:
            pytest.skip("the other side cannot decline a call")
        with _attached(subject) as attached:
            delivered = attached.bench.deliver(subject.declined)
            assert len(delivered.effects) == 1
            assert not delivered.calls

    def test_calls_with_one_key_are_one(self, subject: TapSubject) -> None:
        once = subject.once
        if once is None:
            pytest.skip("a call cannot say by a key which calls are one")
        with _attached(subject) as attached:
            keys = ["first", "first", "second"]
            facts = [attached.bench.deliver(lambda key=key: once(1, key)).calls[0] for key in keys]  # type: ignore[misc]
            assert facts[0].once is not None
            assert facts[0].once == facts[1].once
            assert facts[0].once != facts[2].once

    def test_killed_before_it_did_not_happen_and_after_it_did(self, subject: TapSubject) -> None:
        with _attached(subject) as attached:
            [(_, point)] = attached.call().events
            for side, wanted in ((Side.BEFORE, []), (Side.AFTER, [1])):
                delivered, arrived = attached.count(fault_at(FaultKind.KILL, point, side))
                assert arrived == wanted, f"killed {side} the call, and {arrived} came through"
                assert delivered.fired == 1
                assert len(delivered.calls) == len(wanted)

    def test_a_refused_call_fails_as_the_library_does_and_is_not_done(self, subject: TapSubject) -> None:
        self._check_connection_errors(subject, FaultKind.REFUSED, Side.BEFORE, [])

    def test_a_call_with_a_lost_reply_fails_as_the_library_does_and_is_done(
        self, subject: TapSubject
    ) -> None:
        self._check_connection_errors(subject, FaultKind.LOST, Side.AFTER, [1])

    def _check_connection_errors(
        self, subject: TapSubject, kind: FaultKind, side: Side, wanted: list[int]
    ) -> None:
        with _attached(subject) as attached:
            [(effect, point)] = attached.call().events
            if kind not in effect.faults:
                pytest.skip(f"a call cannot be {kind}")
            delivered, arrived = attached.count(fault_at(kind, point, side))
            assert arrived == wanted
            assert delivered.fired == 1
            assert isinstance(delivered.error, subject.errors), f"{kind} raises {delivered.error!r}"
            assert len(delivered.calls) == len(wanted)
            assert attached.call(2).error is None, (
                f"after a call that was {kind}, none comes through any more"
            )

    def test_a_new_trial_starts_afresh(self, subject: TapSubject) -> None:
        remembered = subject.remembered
        if remembered is None:
            pytest.skip("nothing of a call stays in this process")
        before = remembered()
        with _attached(subject) as attached:
            attached.call()
            assert remembered() == before + 1
            attached.tap.reset()
            assert remembered() == before

    def test_a_detached_tap_watches_nothing(self, subject: TapSubject) -> None:
        """Goal: everything is put back, and another search may follow."""
        before = Attributes(subject.patches)
        for _ in range(2):
            with _attached(subject) as attached:
                assert attached.call().effects
            before.check_unchanged()
        with Bench() as bench:
            delivered = bench.deliver(lambda: subject.call(3))
        assert delivered.error is None
        assert not delivered.effects, f"a detached tap still reports {delivered.labels}"
        assert list(subject.arrived())[-1:] == [3]


@contextmanager
def _attached(subject: TapSubject) -> Iterator[_Attached]:
    tap = subject.tap()
    assert tap.name
    values = {**subject.values, "a number": 1, "nothing": None, "anything": object()}
    with Bench(taps=[tap], values=values) as bench:
        yield _Attached(subject, tap, bench)
