"""The suite for adapters to job queues."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from types import FunctionType
from typing import Any
from unittest.mock import Mock

import pytest

from idemfuzz.abc import JobCall, Queue, Unusable
from idemfuzz.model import Access, Ending, FactKind, FaultKind, Identity, Plan, Side
from idemfuzz.testing.bench import Bench, Delivered, fault_at
from idemfuzz.testing.wellformed import Attributes, check_effect, check_fact

__all__ = ["QueueConformance", "QueueSubject"]

_STRANGERS: tuple[object, ...] = (
    None,
    True,
    7,
    "text",
    object(),
    len,
    int,
    sys,
    lambda: None,
    Mock(),
    Attributes,
)
_REASONS = ("duplicate", "overlap", "kill", "timeout", "shutdown")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSubject:
    """How to run jobs by one queue, and what its jobs saw. What is left out is a capability it has not."""

    queue: Callable[[], Queue]
    """A new adapter."""
    job: object
    """A job as its users hold it: it appends ``(item, its own id or None)`` to ``seen``."""
    run: Callable[[int], object]
    """As a scenario does it: have ``job`` run with item ``n``, and wait for its end."""
    seen: list[tuple[int, Any]]
    """What the bodies of ``job`` have seen, in order; the suite empties it."""
    parent: Callable[[int], object] | None = None
    """As a scenario does it: have a job run that enqueues ``job`` with item ``n`` once, and does nothing else."""
    enqueued: Callable[[], int] | None = None
    """As a bystander: how many child jobs lie in the queue, or have run."""
    fail: Callable[[], object] | None = None
    """As a scenario does it: have a job run that raises ValueError; the queue may swallow it."""
    values: Mapping[str, object] = field(default_factory=dict)
    """What fixtures would hand in."""
    refused: Mapping[str, object] = field(default_factory=dict)
    """Workers that cannot be watched, by name."""
    strangers: Sequence[object] = ()
    """Values that are no jobs, apart from the suite's own."""
    errors: tuple[type[BaseException], ...] = ()
    """What the library raises if an enqueue fails."""
    patches: Sequence[object] = ()
    """Modules, classes and objects whose functions the adapter replaces between attach and detach."""


@dataclass(frozen=True, slots=True)
class _Attached:
    subject: QueueSubject
    queue: Queue
    bench: Bench

    def run(self, plan: Plan | None = None, *, item: int = 1, attempts: int = 1) -> Delivered:
        self.subject.seen.clear()
        return self.bench.run(lambda: self.subject.run(item), plan, attempts=attempts)

    def items(self) -> list[int]:
        return [item for item, _ in self.subject.seen]

    def ids(self) -> list[Any]:
        return [each for _, each in self.subject.seen]


class QueueConformance:
    """What the engine relies on in a `Queue`.

    A test inherits from it and has a fixture ``subject`` that returns a `QueueSubject`. It does not check that
    every way in which the queue runs jobs is caught: a subject takes one.
    """

    # -- jobs --------------------------------------------------------------------------------------------

    def test_a_job_is_known_by_its_functions(self, subject: QueueSubject) -> None:
        functions = list(subject.queue().functions(subject.job))
        assert functions, f"{subject.job!r} is not known as a job"
        for function in functions:
            assert isinstance(function, FunctionType), f"{function!r} is not a plain function"

    def test_what_is_no_job_has_no_functions(self, subject: QueueSubject) -> None:
        queue = subject.queue()
        for value in (*_STRANGERS, *subject.strangers):
            assert list(queue.functions(value)) == [], f"{value!r} is taken for a job"

    def test_a_job_is_dispatched_once(self, subject: QueueSubject) -> None:
        with _attached(subject) as attached:
            for item in (3, 4):
                delivered = attached.run(item=item)
                assert delivered.error is None
                assert attached.items() == [item]
                assert len(delivered.jobs) == 1, f"dispatched: {[call.name for call in delivered.jobs]}"
                assert delivered.jobs[0].queue is attached.queue
                assert [event.ending for event in delivered.endings()] == [Ending.OK]

    def test_a_job_is_dispatched_once_if_its_functions_are_watched_too(self, subject: QueueSubject) -> None:
        """Goal: a job that is both named and run by a worker is one delivery."""
        with _attached(subject) as attached:
            for function in attached.queue.functions(subject.job):
                attached.bench.watch(function, attached.queue)
            delivered = attached.run(Plan(deliveries=2))
            assert len(delivered.jobs) == 1
            assert attached.items() == [1, 1]

    def test_a_job_has_the_name_that_it_is_imported_by(self, subject: QueueSubject) -> None:
        with _attached(subject) as attached:
            names = [attached.run().jobs[0].name for _ in range(2)]
            functions = list(attached.queue.functions(subject.job))
            assert names[0] == names[1]
            known = {f"{function.__module__}.{function.__qualname__}" for function in functions}
            assert names[0] in known, f"{names[0]!r} is none of {sorted(known)}"
            module = import_module(functions[0].__module__)
            assert hasattr(module, names[0].removeprefix(module.__name__ + ".").partition(".")[0])

    def test_the_body_runs_within_the_delivery(self, subject: QueueSubject) -> None:
        with _attached(subject) as attached:
            inside: list[tuple[int, int]] = []

            def dispatch(call: JobCall) -> Any:
                def perform(identity: Identity, delivery: int) -> Any:
                    before = len(subject.seen)
                    result = call.perform(identity, delivery)
                    inside.append((before, len(subject.seen)))
                    return result

                return attached.bench.dispatch(JobCall(call.name, perform, call.queue, call.identified))

            attached.queue.detach()
            attached.queue.attach(attached.bench.gate, dispatch, subject.values)
            delivered = attached.run(Plan(deliveries=2))
            assert delivered.error is None
            assert inside == [(0, 1), (1, 2)]

    def test_a_plan_says_how_often_it_is_delivered(self, subject: QueueSubject) -> None:
        with _attached(subject) as attached:
            delivered = attached.run(Plan(deliveries=3), item=9)
            assert delivered.error is None
            assert attached.items() == [9, 9, 9]
            assert delivered.deliveries == 3

    def test_a_redelivery_has_the_same_id(self, subject: QueueSubject) -> None:
        with _attached(subject) as attached:
            identified = attached.run(Plan(deliveries=3)).jobs[0].identified
            if not identified:
                pytest.skip("a job cannot see an id of its own")
            first, *others = attached.ids()
            assert first is not None
            assert others == [first, first], "a redelivery has an id of its own"

    def test_a_producers_duplicate_has_a_new_id(self, subject: QueueSubject) -> None:
        with _attached(subject) as attached:
            identified = attached.run(Plan(deliveries=2, identity=Identity.NEW)).jobs[0].identified
            if not identified:
                pytest.skip("a job cannot see an id of its own")
            first, second = attached.ids()
            assert second is not None
            assert first != second, "a duplicate has the id of the first"

    def test_a_failing_job_is_a_failed_delivery(self, subject: QueueSubject) -> None:
        if subject.fail is None:
            pytest.skip("the subject has no job that fails")
        with _attached(subject) as attached:
            delivered = attached.bench.run(subject.fail)
            assert delivered.error is None or isinstance(delivered.error, ValueError)
            [ending] = delivered.endings()
            assert ending.ending is Ending.FAILED
            assert "ValueError" in ending.text
            assert attached.run().error is None

    def test_a_refusal_is_not_the_jobs_failure(self, subject: QueueSubject) -> None:
        """Goal: what the engine itself raises comes out, although the queue swallows the errors of jobs."""
        refusal = Unusable("not so")
        threads: list[int] = []

        def dispatch(call: JobCall) -> Any:
            threads.append(threading.get_ident())
            raise refusal

        queue = subject.queue()
        with Bench() as bench:
            queue.attach(bench.gate, dispatch, subject.values)
            try:
                delivered = bench.run(lambda: subject.run(1))
            finally:
                queue.detach()
        if threads[:1] != [threading.get_ident()]:
            pytest.skip("its jobs run on another thread than the scenario")
        assert delivered.error is refusal

    # -- child jobs --------------------------------------------------------------------------------------

    def test_a_child_job_is_one_effect_and_counts_once(self, subject: QueueSubject) -> None:
        with _attached(subject) as attached:
            delivered = _family(attached, None)
            assert delivered.error is None
            [(effect, _)] = _enqueues(delivered)
            check_effect(effect, store=attached.queue.name)
            assert effect.access is Access.DURABLE
            [fact] = [fact for fact in delivered.calls if fact.kind is FactKind.JOB]
            check_fact(fact, store=attached.queue.name)
            again = _family(attached, None)
            assert [fact.fields for fact in again.calls] == [fact.fields for fact in delivered.calls]

    def test_enqueuing_is_no_effect_outside_a_delivery(self, subject: QueueSubject) -> None:
        with _attached(subject) as attached:
            delivered = attached.run()
            assert not _enqueues(delivered)
            assert not delivered.calls

    def test_killed_before_an_enqueue_nothing_is_enqueued(self, subject: QueueSubject) -> None:
        self._check_cut(subject, FaultKind.KILL, Side.BEFORE, 0)

    def test_killed_after_an_enqueue_it_is_enqueued(self, subject: QueueSubject) -> None:
        self._check_cut(subject, FaultKind.KILL, Side.AFTER, 1)

    def test_a_refused_enqueue_fails_as_the_library_does(self, subject: QueueSubject) -> None:
        self._check_cut(subject, FaultKind.REFUSED, Side.BEFORE, 0)

    def test_an_enqueue_with_a_lost_reply_fails_as_the_library_does(self, subject: QueueSubject) -> None:
        self._check_cut(subject, FaultKind.LOST, Side.AFTER, 1)

    def test_a_resent_enqueue_is_enqueued_twice(self, subject: QueueSubject) -> None:
        self._check_cut(subject, FaultKind.RESENT, Side.AFTER, 2)

    def _check_cut(self, subject: QueueSubject, kind: FaultKind, side: Side, children: int) -> None:
        """What is counted is what lies in the queue then."""
        with _attached(subject) as attached:
            [(effect, point)] = _enqueues(_family(attached, None))
            if kind is not FaultKind.KILL and kind not in effect.faults:
                pytest.skip(f"an enqueue cannot be {kind}")
            before = subject.enqueued() if subject.enqueued is not None else 0
            delivered = _family(attached, fault_at(kind, point, side))
            assert delivered.fired == 1
            assert len([fact for fact in delivered.calls if fact.kind is FactKind.JOB]) == children
            if subject.enqueued is not None:
                assert subject.enqueued() - before == children
            first = delivered.endings()[0]
            if kind in (FaultKind.REFUSED, FaultKind.LOST):
                assert subject.errors, "the subject does not say what the library raises if an enqueue fails"
                names = [error.__name__ for error in subject.errors]
                assert any(name in first.text for name in names), f"{kind} raises {first.text}"
            elif kind is FaultKind.KILL:
                assert first.ending is Ending.KILLED

    # -- what the queue knows ----------------------------------------------------------------------------

    def test_interruptions_are_exceptions_made_anew(self, subject: QueueSubject) -> None:
        queue = subject.queue()
        for kind in (FaultKind.TIMEOUT, FaultKind.SHUTDOWN):
            make = queue.interruption(kind)
            if make is not None:
                first, second = make(), make()
                assert isinstance(first, BaseException)
                assert first is not second, (
                    f"the exception of {kind} is made once and would collect tracebacks"
                )

    def test_an_interruption_ends_a_delivery_and_a_redelivery_follows(self, subject: QueueSubject) -> None:
        with _attached(subject) as attached:
            kinds = [k for k in (FaultKind.TIMEOUT, FaultKind.SHUTDOWN) if attached.queue.interruption(k)]
            if not kinds:
                pytest.skip("the queue never interrupts a job by an exception")
            [(_, point)] = _enqueues(_family(attached, None))
            for kind in kinds:
                make = attached.queue.interruption(kind)
                assert make is not None
                delivered = _family(attached, fault_at(kind, point, Side.BEFORE), attempts=2)
                endings = delivered.endings()
                assert [ending.ending for ending in endings[:2]] == [Ending.FAILED, Ending.OK]
                assert type(make()).__name__ in endings[0].text

    def test_it_tells_the_real_event_behind_each_fault(self, subject: QueueSubject) -> None:
        queue = subject.queue()
        for kind in _REASONS:
            assert queue.reason(kind).strip(), f"there is no reason for {kind}"
        assert isinstance(queue.reason("weather"), str)

    def test_redeliveries_come_within_a_window(self, subject: QueueSubject) -> None:
        window = subject.queue().redelivery_window_seconds
        assert window > 0
        assert math.isfinite(window)

    def test_a_worker_that_cannot_be_watched_is_refused(self, subject: QueueSubject) -> None:
        if not subject.refused:
            pytest.skip("every worker can be watched")
        before = Attributes(subject.patches)
        for name, worker in subject.refused.items():
            queue = subject.queue()
            with Bench() as bench:
                try:
                    with pytest.raises(Unusable) as refusal:
                        queue.attach(bench.gate, bench.dispatch, {name: worker})
                finally:
                    queue.detach()
            assert name in str(refusal.value), "the refusal does not name the worker"
        before.check_unchanged()

    def test_a_detached_queue_watches_nothing(self, subject: QueueSubject) -> None:
        """Goal: everything is put back, and another search may follow."""
        before = Attributes(subject.patches)
        for _ in range(2):
            with _attached(subject) as attached:
                assert attached.run().jobs
            before.check_unchanged()
        subject.seen.clear()
        dispatched: list[JobCall] = []
        queue = subject.queue()
        with Bench() as bench:
            queue.attach(bench.gate, dispatched.append, subject.values)
            queue.detach()
            delivered = bench.run(lambda: subject.run(5))
        assert delivered.error is None
        assert not dispatched
        assert [item for item, _ in subject.seen] == [5]


def _family(attached: _Attached, plan: Plan | None, attempts: int = 1) -> Delivered:
    parent = attached.subject.parent
    if parent is None:
        pytest.skip("a job cannot enqueue others")
    delivered = attached.bench.run(lambda: parent(1), plan, attempts=attempts)
    assert delivered.jobs, "the parent was not delivered"
    return delivered


def _enqueues(delivered: Delivered) -> list[Any]:
    """The enqueues that the scenario's first job did; a child that a worker ran meanwhile is a call of its own."""
    return [(e, point) for e, point in delivered.events if point.call == 1 and ".enqueue" in e.label]


@contextmanager
def _attached(subject: QueueSubject) -> Iterator[_Attached]:
    queue = subject.queue()
    assert queue.name
    subject.seen.clear()
    with Bench(queues=[queue], values={**subject.values, "a number": 1, "nothing": None}) as bench:
        yield _Attached(subject, queue, bench)
