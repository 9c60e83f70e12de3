"""The suites can fail: adapters that are broken in one way each, and the tests that find them out.

Method: every test of a suite is called by hand on a broken subject; the names of those that fail are compared.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import pytest
import test_memory_suites as memory

from idemfuzz.abc import Errors, Gate, JobCall, Options
from idemfuzz.adapters.mock import MockTap
from idemfuzz.model import Access, Delta, Effect, Fact, FactKind, FaultKind, Identity, Opaque
from idemfuzz.testing import (
    QueueConformance,
    QueueSubject,
    StoreConformance,
    StoreSubject,
    TapConformance,
    TapSubject,
)
from idemfuzz.testing.memory import Line, LineQueue, Shelf, ShelfAdapter, ShelfStore


def failing(suite: type, subject: Callable[[], Any]) -> set[str]:
    """Names of the tests that fail, each on a subject of its own."""
    found = set()
    for name in dir(suite):
        if name.startswith("test_"):
            try:
                getattr(suite(), name)(subject())
            except pytest.skip.Exception:
                pass
            except Exception:
                found.add(name)
    return found


def test_the_right_ones_do_not_fail() -> None:
    assert failing(StoreConformance, memory.shelf_subject) == set()
    assert failing(QueueConformance, memory.line_subject) == set()
    assert failing(TapConformance, mock_subject) == set()


# -- stores --------------------------------------------------------------------------------------------------


class GreedyAdapter(ShelfAdapter):
    def adopt(self, name: str, value: object, options: Options) -> ShelfStore | None:
        return ShelfStore(name, value)  # type: ignore[arg-type]


class Nameless(ShelfStore):
    @property
    def identity(self) -> Hashable:
        return object()


class Everywhere(ShelfStore):
    @property
    def identity(self) -> Hashable:
        return "shelf"


class Forgetful(ShelfStore):
    def changes(self) -> Delta:
        return Delta()


class Additive(ShelfStore):
    def changes(self) -> Delta:
        return replace(super().changes(), removed=())


class Lasting(ShelfStore):
    def restore(self) -> None:
        """Leaves everything as it is."""


class Numbered(ShelfStore):
    def restore(self) -> None:
        self._shelf.items = dict(self._baseline[0])


class Clinging(ShelfStore):
    def close(self) -> None:
        """Goes on watching."""


class Unmoved(ShelfStore):
    def perturb(self) -> bool:
        return True


class Spilling(ShelfStore):
    def perturb(self) -> bool:
        self._shelf.items["perturbed"] = -1
        return True


class Ageing(ShelfStore):
    def advance(self, seconds: float) -> None:
        self._shelf.items.clear()


class Objects(ShelfStore):
    def _fact(self, name: Any, value: Any) -> Fact:
        return replace(super()._fact(name, value), fields={"name": name, "value": object()})


class Strange(ShelfStore):
    def _fact(self, name: Any, value: Any) -> Fact:
        return replace(super()._fact(name, value), identity=("id",))


class Foreign(ShelfStore):
    def _fact(self, name: Any, value: Any) -> Fact:
        return replace(super()._fact(name, value), store="another")


class Alike(ShelfStore):
    def _fact(self, name: Any, value: Any) -> Fact:
        return replace(super()._fact(name, value), fields={"name": 1, "value": Opaque(1)})


class Ungenerated(ShelfStore):
    def _fact(self, name: Any, value: Any) -> Fact:
        return replace(super()._fact(name, value), generated={})


class _Gate:
    """Stands between a store and the gate, and spoils what the store says."""

    def __init__(self, gate: Gate, spoil: Callable[..., Any]) -> None:
        self._gate, self._spoil = gate, spoil

    def __getattr__(self, name: str) -> Any:
        return getattr(self._gate, name)

    def perform(self, effect: Effect, action: Callable[[], Any], **more: Any) -> Any:
        return self._spoil(self._gate, effect, action, **more)


def spoiled(spoil: Callable[..., Any]) -> type[ShelfStore]:
    class Spoiled(ShelfStore):
        def open(self, gate: Gate) -> None:
            super().open(_Gate(gate, spoil))

    return Spoiled


def changed(**fields: Any) -> type[ShelfStore]:
    return spoiled(
        lambda gate, effect, action, **more: gate.perform(replace(effect, **fields), action, **more)
    )


def by_value(gate: Gate, effect: Effect, action: Callable[[], Any], **more: Any) -> Any:
    return gate.perform(
        replace(effect, label=effect.label + "." + effect.detail.replace(" ", "")), action, **more
    )


def too_early(gate: Gate, effect: Effect, action: Callable[[], Any], **more: Any) -> Any:
    result = action()
    return gate.perform(effect, lambda: result, **more)


def too_late(gate: Gate, effect: Effect, action: Callable[[], Any], **more: Any) -> Any:
    gate.perform(effect, lambda: None, **more)
    return action()


def unseen(gate: Gate, effect: Effect, action: Callable[[], Any], **more: Any) -> Any:
    return action()


def twice(gate: Gate, effect: Effect, action: Callable[[], Any], **more: Any) -> Any:
    gate.perform(replace(effect, label=f"{effect.store}.before"), lambda: None)
    return action() if gate.scope() is None else gate.perform(effect, action, **more)


def errorless(gate: Gate, effect: Effect, action: Callable[[], Any], **more: Any) -> Any:
    return gate.perform(effect, action)


def mistaken(gate: Gate, effect: Effect, action: Callable[[], Any], **more: Any) -> Any:
    errors = Errors(refused=lambda: KeyError("no"), lost=lambda: KeyError("no"))
    return gate.perform(effect, action, errors=errors)


def needs_a_delivery(gate: Gate, effect: Effect, action: Callable[[], Any], **more: Any) -> Any:
    assert gate.scope() is not None or effect.detail.startswith(("put 'item 0'", "get"))
    return gate.perform(effect, action, **more)


def swallowing(gate: Gate, effect: Effect, action: Callable[[], Any], **more: Any) -> Any:
    with contextlib.suppress(BaseException):
        return gate.perform(effect, action, **more)


KILL = "test_killed_before_it_did_not_happen_and_after_it_did"
REFUSED = "test_a_refused_effect_fails_as_the_library_does_and_is_not_applied"
LOST = "test_an_effect_with_a_lost_reply_fails_as_the_library_does_and_is_applied"
WELL_FORMED = "test_effects_are_well_formed"
FACTS = "test_facts_are_well_formed_and_the_same_each_time"
CLOSED = "test_a_closed_store_is_as_it_was_and_watches_nothing"
GENERATED = "test_generated_ids_can_be_moved"


@pytest.mark.parametrize(
    ("broken", "found_by"),
    [
        pytest.param(Nameless, {"test_identity_says_what_is_the_same_thing"}, id="identity made anew"),
        pytest.param(Everywhere, {"test_identity_says_what_is_the_same_thing"}, id="identity too wide"),
        pytest.param(Forgetful, {"test_changes_are_found_and_restored"}, id="changes not seen"),
        pytest.param(Additive, {"test_what_was_removed_comes_back"}, id="removals not seen"),
        pytest.param(Lasting, {"test_changes_are_found_and_restored", CLOSED}, id="not restored"),
        pytest.param(Numbered, {GENERATED}, id="ids not restored"),
        pytest.param(Clinging, {CLOSED}, id="still patched"),
        pytest.param(Unmoved, {GENERATED}, id="ids not moved"),
        pytest.param(
            Spilling, {GENERATED, "test_moving_no_ids_changes_nothing"}, id="moving ids changes state"
        ),
        pytest.param(Ageing, {"test_passing_time_ends_nothing_else"}, id="time takes what does not expire"),
        pytest.param(Objects, {FACTS}, id="facts with objects"),
        pytest.param(Strange, {FACTS}, id="identity that is no field"),
        pytest.param(Foreign, {FACTS}, id="facts of another store"),
        pytest.param(Alike, {FACTS}, id="facts all alike"),
        pytest.param(Ungenerated, {GENERATED}, id="generated not told"),
        pytest.param(changed(label="db"), {WELL_FORMED}, id="label without store"),
        pytest.param(changed(store="db"), {WELL_FORMED}, id="effect of another store"),
        pytest.param(changed(detail=""), {WELL_FORMED}, id="no detail"),
        pytest.param(changed(faults=(FaultKind.KILL,)), {WELL_FORMED}, id="the engine's own fault declared"),
        pytest.param(changed(access=Access.READ), {WELL_FORMED, KILL}, id="a write that reads"),
        pytest.param(
            changed(access=Access.PENDING), {WELL_FORMED, KILL}, id="a durable write that is pending"
        ),
        pytest.param(
            changed(access=Access.DURABLE),
            {"test_only_to_look_leaves_nothing_behind"},
            id="a look that writes",
        ),
        pytest.param(
            spoiled(by_value),
            {"test_labels_say_what_is_done_and_not_with_which_values"},
            id="values in labels",
        ),
        pytest.param(spoiled(too_early), {KILL, REFUSED}, id="done before the gate"),
        pytest.param(spoiled(too_late), {KILL, LOST}, id="done after the gate"),
        pytest.param(spoiled(unseen), {WELL_FORMED, CLOSED}, id="past the gate"),
        pytest.param(
            spoiled(twice),
            {LOST},
            id="an effect of nothing",
        ),
        pytest.param(spoiled(errorless), {REFUSED, LOST}, id="no errors"),
        pytest.param(spoiled(mistaken), {REFUSED, LOST}, id="other errors than the library's"),
        pytest.param(
            spoiled(needs_a_delivery),
            {"test_nothing_is_an_effect_outside_a_delivery"},
            id="fails outside a delivery",
        ),
        pytest.param(spoiled(swallowing), {REFUSED, LOST}, id="swallows what the gate raises"),
    ],
)
def test_a_broken_store_is_found_out(broken: type[ShelfStore], found_by: set[str]) -> None:
    class Adapter(ShelfAdapter):
        def adopt(self, name: str, value: object, options: Options) -> ShelfStore | None:
            return broken(name, value) if type(value) is Shelf else None

    found = failing(StoreConformance, lambda: replace(memory.shelf_subject(), adapter=Adapter()))
    assert found >= found_by


def test_an_adapter_that_adopts_everything_is_found_out() -> None:
    found = failing(StoreConformance, lambda: replace(memory.shelf_subject(), adapter=GreedyAdapter()))
    assert found == {"test_it_leaves_other_values_alone"}


def test_an_adapter_that_adopts_nothing_is_found_out() -> None:
    class Blind(ShelfAdapter):
        def adopt(self, name: str, value: object, options: Options) -> ShelfStore | None:
            return None

    found = failing(StoreConformance, lambda: replace(memory.shelf_subject(), adapter=Blind()))
    assert "test_it_adopts_its_own_values" in found


def test_a_store_that_lets_drafts_survive_is_found_out() -> None:
    class Leaking(ShelfStore):
        def _draft(self, gate: Gate) -> Any:
            draft = super()._draft(gate)
            draft.items = self._shelf.items
            return draft

    class Adapter(ShelfAdapter):
        def adopt(self, name: str, value: object, options: Options) -> ShelfStore | None:
            return Leaking(name, value) if type(value) is Shelf else None

    def subject() -> StoreSubject:
        return replace(memory.shelf_subject(), adapter=Adapter())

    assert "test_a_transaction_that_nobody_ends_is_gone" in failing(StoreConformance, subject)


# -- taps ----------------------------------------------------------------------------------------------------


def mock_subject(tap: Callable[[], Any] = MockTap) -> TapSubject:
    gateway = Mock()
    return TapSubject(
        tap=tap,
        kind=FactKind.CALL,
        call=lambda item: gateway.charges.create(item),
        arrived=lambda: [call.args[0] for call in gateway.charges.create.call_args_list],
        look=lambda: gateway.charges.get(1),
        once=lambda item, key: gateway.charges.create(item, idempotency_key=key),
        remembered=lambda: gateway.charges.create.call_count,
        values={"gateway": gateway},
        errors=(ConnectionError,),
    )


def spoiled_tap(spoil: Callable[..., Any]) -> type[MockTap]:
    class Spoiled(MockTap):
        def attach(self, gate: Gate, values: Any) -> None:
            super().attach(_Gate(gate, spoil), values)

    return Spoiled


def uncounted(gate: Gate, effect: Effect, action: Callable[[], Any], **more: Any) -> Any:
    return gate.perform(effect, action, **{**more, "call": None})


def all_alike(gate: Gate, effect: Effect, action: Callable[[], Any], **more: Any) -> Any:
    fact = more.get("call")
    return gate.perform(
        effect, action, **{**more, "call": fact and replace(fact, fields={"call": 1}, once=None)}
    )


def everything_counts(gate: Gate, effect: Effect, action: Callable[[], Any], **more: Any) -> Any:
    more["call"] = more.get("call") or Fact(effect.store, FactKind.CALL, "x", {"x": 1})
    return gate.perform(effect, action, **more)


class Remembering(MockTap):
    def reset(self) -> None:
        """Forgets nothing."""


class Attached(MockTap):
    def detach(self) -> None:
        """Goes on watching."""


CALLED = "test_one_call_is_one_effect_and_counts_once"
TAP_KILL = "test_killed_before_it_did_not_happen_and_after_it_did"


@pytest.mark.parametrize(
    ("broken", "found_by"),
    [
        pytest.param(spoiled_tap(uncounted), {CALLED}, id="not counted"),
        pytest.param(spoiled_tap(unseen), {CALLED}, id="past the gate"),
        pytest.param(spoiled_tap(too_early), {TAP_KILL}, id="done before the gate"),
        pytest.param(spoiled_tap(too_late), {TAP_KILL}, id="done after the gate"),
        pytest.param(
            spoiled_tap(all_alike),
            {"test_the_same_call_is_described_alike_and_another_is_not", "test_calls_with_one_key_are_one"},
            id="all calls alike",
        ),
        pytest.param(spoiled_tap(everything_counts), {"test_only_to_ask_does_not_count"}, id="asking counts"),
        pytest.param(
            spoiled_tap(mistaken),
            {"test_a_refused_call_fails_as_the_library_does_and_is_not_done"},
            id="other errors",
        ),
        pytest.param(Remembering, {"test_a_new_trial_starts_afresh"}, id="not reset"),
    ],
)
def test_a_broken_tap_is_found_out(broken: type[MockTap], found_by: set[str]) -> None:
    assert failing(TapConformance, lambda: mock_subject(broken)) >= found_by


def test_a_tap_that_stays_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from unittest.mock import CallableMixin

    monkeypatch.setattr(CallableMixin, "__call__", CallableMixin.__call__)
    with monkeypatch.context():
        original = CallableMixin.__call__
        found = set()
        try:
            TapConformance().test_a_detached_tap_watches_nothing(mock_subject(Attached))
        except AssertionError:
            found.add("detached")
        finally:
            CallableMixin.__call__ = original
    assert found == {"detached"}


# -- queues --------------------------------------------------------------------------------------------------


class Blind(LineQueue):
    def functions(self, value: object) -> Any:
        return ()


class Greedy(LineQueue):
    def functions(self, value: object) -> Any:
        return super().functions(value) or ((value,) if callable(value) else ())


class Staying(LineQueue):
    def detach(self) -> None:
        """Goes on watching."""


class Silent(LineQueue):
    def reason(self, kind: str) -> str:
        return ""


class Hasty(LineQueue):
    @property
    def redelivery_window_seconds(self) -> float:
        return 0.0


class Repeating(LineQueue):
    error = RuntimeError("made once")

    def interruption(self, kind: FaultKind) -> Callable[[], BaseException] | None:
        return lambda: self.error


class Dispatching(LineQueue):
    """Hands another call on than it should."""

    def spoil(self, call: JobCall, dispatch: Callable[[JobCall], Any]) -> Any:
        return dispatch(call)

    def attach(self, gate: Gate, dispatch: Callable[[JobCall], Any], values: Any) -> None:
        super().attach(gate, lambda call: self.spoil(call, dispatch), values)


class Twice(Dispatching):
    def spoil(self, call: JobCall, dispatch: Callable[[JobCall], Any]) -> Any:
        dispatch(call)
        return dispatch(call)


class Never(Dispatching):
    def spoil(self, call: JobCall, dispatch: Callable[[JobCall], Any]) -> Any:
        return call.perform(Identity.SAME, 1)


class Misnamed(Dispatching):
    def spoil(self, call: JobCall, dispatch: Callable[[JobCall], Any]) -> Any:
        return dispatch(replace(call, name="job"))


class OneId(Dispatching):
    def spoil(self, call: JobCall, dispatch: Callable[[JobCall], Any]) -> Any:
        return dispatch(replace(call, perform=lambda identity, n: call.perform(Identity.SAME, n)))


class ManyIds(Dispatching):
    def spoil(self, call: JobCall, dispatch: Callable[[JobCall], Any]) -> Any:
        identities = [Identity.SAME, Identity.NEW, Identity.NEW]
        return dispatch(replace(call, perform=lambda identity, n: call.perform(identities[n - 1], n)))


class Outside(Dispatching):
    """Runs the body before it is delivered."""

    def spoil(self, call: JobCall, dispatch: Callable[[JobCall], Any]) -> Any:
        result = call.perform(Identity.SAME, 1)
        return dispatch(replace(call, perform=lambda identity, n: result))


class Swallowing(Dispatching):
    def spoil(self, call: JobCall, dispatch: Callable[[JobCall], Any]) -> Any:
        with contextlib.suppress(Exception):
            return dispatch(call)


def spoiled_queue(spoil: Callable[..., Any]) -> type[LineQueue]:
    class Spoiled(LineQueue):
        def attach(self, gate: Gate, dispatch: Callable[[JobCall], Any], values: Any) -> None:
            super().attach(_Gate(gate, spoil), dispatch, values)

    return Spoiled


CHILD = "test_a_child_job_is_one_effect_and_counts_once"
ONCE = "test_a_job_is_dispatched_once"


@pytest.mark.parametrize(
    ("broken", "found_by"),
    [
        pytest.param(Blind, {"test_a_job_is_known_by_its_functions"}, id="knows no jobs"),
        pytest.param(Greedy, {"test_what_is_no_job_has_no_functions"}, id="everything is a job"),
        pytest.param(Silent, {"test_it_tells_the_real_event_behind_each_fault"}, id="no reasons"),
        pytest.param(Hasty, {"test_redeliveries_come_within_a_window"}, id="no window"),
        pytest.param(Repeating, {"test_interruptions_are_exceptions_made_anew"}, id="one exception for all"),
        pytest.param(Twice, {ONCE}, id="dispatched twice"),
        pytest.param(Never, {ONCE}, id="never dispatched"),
        pytest.param(Misnamed, {"test_a_job_has_the_name_that_it_is_imported_by"}, id="not importable"),
        pytest.param(OneId, {"test_a_producers_duplicate_has_a_new_id"}, id="never a new id"),
        pytest.param(ManyIds, {"test_a_redelivery_has_the_same_id"}, id="always a new id"),
        pytest.param(Outside, {"test_the_body_runs_within_the_delivery"}, id="body outside"),
        pytest.param(Swallowing, {"test_a_refusal_is_not_the_jobs_failure"}, id="refusals swallowed"),
        pytest.param(spoiled_queue(unseen), {CHILD}, id="children not seen"),
        pytest.param(spoiled_queue(uncounted), {CHILD}, id="children not counted"),
        pytest.param(
            spoiled_queue(too_early),
            {"test_killed_before_an_enqueue_nothing_is_enqueued"},
            id="enqueued before the gate",
        ),
        pytest.param(
            spoiled_queue(too_late),
            {"test_killed_after_an_enqueue_it_is_enqueued"},
            id="enqueued after the gate",
        ),
        pytest.param(
            spoiled_queue(mistaken), {"test_a_refused_enqueue_fails_as_the_library_does"}, id="other errors"
        ),
    ],
)
def test_a_broken_queue_is_found_out(broken: type[LineQueue], found_by: set[str]) -> None:
    assert failing(QueueConformance, lambda: replace(memory.line_subject(), queue=broken)) >= found_by


def test_a_queue_that_stays_is_found_out() -> None:
    originals = {name: vars(Line)[name] for name in ("run", "enqueue", "work")}

    def subject() -> QueueSubject:
        return replace(memory.line_subject(), queue=Staying)

    try:
        with pytest.raises(AssertionError):
            QueueConformance().test_a_detached_queue_watches_nothing(subject())
    finally:
        for name, original in originals.items():
            setattr(Line, name, original)
