"""The mock tap: which calls count, how they fail, and what each trial finds."""

from __future__ import annotations

import asyncio
import itertools
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock
from uuid import UUID

import pytest

from idemfuzz.abc import JobCall, Options
from idemfuzz.adapters.mock import MockTap
from idemfuzz.engine import Trial, TrialGate, TrialResult
from idemfuzz.engine.clock import Clock
from idemfuzz.model import Access, EventKind, Fault, FaultKind, Plan, Point, Side
from idemfuzz.testing.bench import run_delivery

Attach = Callable[..., MockTap]


@pytest.fixture
def attach() -> Iterator[Attach]:
    """Attaches a tap to mocks given by name, and detaches it when the test ends."""
    taps: list[MockTap] = []

    def attach_one(**values: object) -> MockTap:
        tap = MockTap()
        tap.attach(TrialGate(), values)
        taps.append(tap)
        return tap

    yield attach_one
    for tap in taps:
        tap.detach()


def deliver(job: Callable[[], object], *faults: Fault, deliveries: int = 1) -> TrialResult:
    trial = Trial(
        Plan(deliveries=deliveries, faults=faults),
        Options(attempts=1),
        (),
        Clock(lambda: None, lambda seconds, polls: None),
    )
    try:
        trial.deliver(JobCall("job", lambda identity, delivery: job() and None))
    except Exception:
        pass
    return trial.result()


def labels(result: TrialResult) -> list[str]:
    return [e.effect.label for e in result.history if e.kind is EventKind.EFFECT and e.effect is not None]


def groups(result: TrialResult) -> list[str]:
    return [call.group for call in result.calls]


class Gateway:
    def charge(self, cents: int, *, idempotency_key: str | None = None) -> str:
        raise NotImplementedError

    async def refund(self, charge: str) -> None:
        raise NotImplementedError


def send_sms(number: str, text: str) -> None:
    raise NotImplementedError


@pytest.mark.parametrize("make", [mock.Mock, mock.MagicMock])
def test_a_call_of_a_mock_and_of_what_hangs_below_counts(make: Callable[[], Any], attach: Attach) -> None:
    mailer, gateway, send = make(), make(), make()
    mailer.send.return_value = "sent"
    attach(mailer=mailer, gateway=gateway, send=send, other="no mock")

    def job() -> None:
        assert mailer.send("ada@example.org", subject="hi") == "sent"
        gateway.charges.create(cents=5)
        gateway.client("eu").charge(7)
        send(1)

    result = deliver(job)
    assert groups(result) == [
        "mailer.send",
        "gateway.charges.create",
        "gateway.client",
        "gateway.client().charge",
        "send",
    ]
    assert labels(result) == groups(result)
    event = next(e for e in result.history if e.effect is not None)
    assert event.effect is not None
    assert event.effect.detail == "mailer.send('ada@example.org', subject='hi')"
    assert event.effect.access is Access.DURABLE
    assert event.outcome == "'sent'"
    assert dict(result.calls[0].fields) == {"args": ("ada@example.org",), "kwargs": {"subject": "hi"}}
    mailer.send.assert_called_once_with("ada@example.org", subject="hi")


def test_each_delivery_counts(attach: Attach) -> None:
    mailer = mock.Mock()
    attach(mailer=mailer)
    assert groups(deliver(lambda: mailer.send("ada"), deliveries=3)) == ["mailer.send"] * 3


def test_autospecced_functions_and_objects_count(attach: Attach) -> None:
    send, gateway = mock.create_autospec(send_sms), mock.create_autospec(Gateway, instance=True)
    attach(send=send, gateway=gateway)

    def job() -> None:
        send("+49", text="hi")
        gateway.charge(5, idempotency_key="order-7")
        gateway.charge(5, idempotency_key="order-7")
        with pytest.raises(TypeError):
            gateway.charge()

    result = deliver(job)
    assert groups(result) == ["send", "gateway.charge", "gateway.charge"]
    assert result.calls[0].once is None
    assert result.calls[1].once == result.calls[2].once == "gateway.charge order-7"


@pytest.mark.parametrize(
    ("name", "reads"),
    [
        ("get", True),
        ("get_user", True),
        ("getUser", True),
        ("is_sent", True),
        ("has_set", True),
        ("list_charges", True),
        ("connect", True),
        ("get_or_create", False),
        ("check_in", False),
        ("getaway", False),
        ("send", False),
        ("listen", False),
        ("connect_account", False),
    ],
)
def test_reading_is_told_by_name(name: str, reads: bool, attach: Attach) -> None:
    api = mock.Mock()
    attach(api=api)
    result = deliver(lambda: getattr(api, name)())
    (event,) = [e for e in result.history if e.kind is EventKind.EFFECT]
    assert event.effect is not None
    assert (event.effect.access is Access.READ) == reads
    assert len(result.calls) == (not reads)
    assert (FaultKind.LOST in event.effect.faults) == (not reads)


def test_what_asks_nobody_is_no_effect(attach: Attach) -> None:
    """Patched sources of ids, loggers, classes, protocol methods, metrics."""
    with mock.patch("uuid.uuid4", return_value=UUID(int=1)) as made, mock.patch("smtplib.SMTP") as server:
        logger, log = mock.create_autospec(logging.Logger, instance=True), mock.MagicMock()
        box, statsd, anonymous = mock.MagicMock(), mock.Mock(name="statsd"), mock.Mock()
        attach(ids=made, smtp=server, logger=logger, audit=log, box=box)

        def job() -> None:
            made()
            server("localhost")
            logger.info("hi")
            str(box), len(box), bool(box), box == 1
            with box:
                pass
            statsd.incr("paid")
            anonymous.warning("hm")

        assert labels(deliver(job)) == []
        assert groups(deliver(lambda: server("localhost").sendmail("a"))) == ["smtp().sendmail"]
        assert groups(deliver(lambda: log.info("paid"))) == ["audit.info"]
        assert groups(deliver(lambda: box.__setitem__("a", 1))) == ["box[]="]


@pytest.mark.parametrize("awaits", [True, False])
def test_an_asynchronous_mock_is_called_when_it_is_awaited(awaits: bool) -> None:
    """In a job that is a coroutine, and in one that runs a loop of its own."""
    gateway = mock.AsyncMock()
    gateway.charge.return_value = 3

    async def job() -> None:
        forgotten = gateway.refund("ch_1")
        assert await gateway.charge(amount=5) == 3
        forgotten.close()

    values = {"gateway": gateway}
    result = run_delivery(job if awaits else lambda: asyncio.run(job()), taps=[MockTap()], values=values)
    assert result.error is None
    assert [call.group for call in result.calls] == ["gateway.charge"]


def test_a_context_manager_is_named_like_its_manager(attach: Attach) -> None:
    api = mock.MagicMock()
    attach(api=api)

    def job() -> None:
        with api.session() as session:
            session.charge(5)

    assert groups(deliver(job)) == ["api.session", "api.session().charge"]


@pytest.mark.parametrize(("kind", "side", "arrives"), [("refused", "before", 0), ("lost", "after", 1)])
def test_faults_are_connection_errors(kind: str, side: str, arrives: int, attach: Attach) -> None:
    mailer = mock.Mock()
    attach(mailer=mailer)
    caught: list[BaseException] = []

    def job() -> None:
        try:
            mailer.send("ada")
        except ConnectionError as error:
            caught.append(error)

    result = deliver(job, Fault(FaultKind(kind), Point(1, 1, "mailer.send", 1), Side(side)))
    assert len(caught) == 1
    assert mailer.send.call_count == len(result.calls) == arrives


def test_a_configured_exception_is_no_call(attach: Attach) -> None:
    mailer = mock.Mock()
    mailer.send.side_effect = [OSError("down"), None]
    attach(mailer=mailer)

    def job() -> None:
        with pytest.raises(OSError):
            mailer.send("ada")
        mailer.send("ada")

    result = deliver(job)
    assert labels(result) == ["mailer.send"] * 2
    assert groups(result) == ["mailer.send"]


@dataclass
class Order:
    id: int
    items: list[str]


class Plain:
    pass


class Spoken:
    def __repr__(self) -> str:
        return f"<Spoken {object.__repr__(self)}>"


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("detached")


def test_arguments_are_made_plain(attach: Attach) -> None:
    api = mock.Mock()
    attach(api=api)
    loop: list[Any] = []
    loop.append(loop)
    given = (Order(7, ["a"]), Plain(), Spoken(), Broken(), api, {1: {2, 1}}, send_sms, loop)
    (call,) = deliver(lambda: api.send(*given, when=UUID(int=5))).calls
    order, plain, spoken, broken, itself, mapping, function, _ = call.fields["args"]
    assert order == {"": "Order", "id": 7, "items": ["a"]}
    assert plain == "<Plain>"
    assert " at 0x" not in spoken
    assert spoken.startswith("<Spoken ")
    assert broken == "<Broken>"
    assert itself == "<mock>"
    assert mapping == {1: [1, 2]}
    assert function == f"<{__name__}.send_sms>"
    assert call.fields["kwargs"] == {"when": UUID(int=5)}


def test_reset_forgets_calls_and_keeps_configuration(attach: Attach) -> None:
    api = mock.MagicMock()
    api.setup(1)
    api.send.return_value = "sent"
    api.fail.side_effect = KeyError("x")
    api.pages.side_effect = [1, 2, 3]
    api.count.side_effect = itertools.count(10)
    assert api.pages() == 1
    before = list(api.mock_calls)
    tap = attach(api=api)

    def job() -> tuple[Any, ...]:
        with pytest.raises(KeyError):
            api.fail()
        api.fresh.child(5)
        return api.send(2), api.pages(), api.pages(), api.count()

    seen: list[Any] = []
    for _ in range(3):
        tap.reset()
        assert list(api.mock_calls) == before
        api.setup.assert_called_once_with(1)
        api.send.assert_not_called()
        api.fresh.child.assert_not_called()
        assert (api.pages.call_count, api.call_count) == (1, 0)
        deliver(lambda: seen.append(job()))
        api.send.assert_called_once_with(2)
        api.fresh.child.assert_called_once_with(5)
    assert seen == [("sent", 2, 3, 10)] * 3


def test_a_mock_that_nobody_hands_in_counts_by_its_own_name(attach: Attach) -> None:
    """Goal: a fixture's patch is watched though its mock is not handed in, and each trial finds it as it was."""
    with mock.patch("smtplib.SMTP.sendmail") as send:
        send("by a fixture")
        tap = attach()
        for _ in range(2):
            assert send.call_args_list == [mock.call("by a fixture")]
            assert groups(deliver(lambda: send("ada"))) == ["sendmail"]
            assert send.call_count == 2
            tap.reset()
    assert groups(deliver(lambda: mock.Mock().send("ada"))) == ["mock.send"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: mock.create_autospec(Gateway, instance=True).charge,
        lambda: mock.create_autospec(Gateway(), spec_set=True).charge,
        lambda: mock.create_autospec(abs),
        lambda: mock.create_autospec(lambda cents: None),
        lambda: mock.Mock(spec=send_sms),
        lambda: mock.Mock(spec_set=["__call__"]),
        lambda: mock.MagicMock(),
    ],
)
def test_reset_works_on_every_kind_of_mock(make: Callable[[], Any], attach: Attach) -> None:
    function = make()
    function.side_effect = ["a", "b"]
    tap = attach(function=function)
    for _ in range(3):
        tap.reset()
        seen: list[str] = []
        deliver(lambda: seen.append(function(5)))  # noqa: B023
        assert seen == ["a"]
        assert function.call_count == 1
    tap.reset()
    assert function.call_count == 0
    assert not function.called
    assert function.call_args_list == []


def test_reset_undoes_what_a_trial_configured(attach: Attach) -> None:
    api = mock.Mock()
    api.send.return_value = "sent"
    tap = attach(api=api)
    api.send.return_value = "changed"
    api.send.side_effect = OSError
    tap.reset()
    assert api.send() == "sent"


def test_sealed_and_uncallable_mocks_are_reset(attach: Attach) -> None:
    api = mock.NonCallableMock()
    api.send.return_value = 1
    mock.seal(api)
    tap = attach(api=api)
    assert groups(deliver(lambda: api.send())) == ["api.send"]
    tap.reset()
    api.send.assert_not_called()


def test_detach_puts_everything_back() -> None:
    before = vars(mock.CallableMixin)["__call__"]
    api, tap = mock.Mock(), MockTap()
    for _ in range(2):
        tap.attach(TrialGate(), {"api": api})
        assert vars(mock.CallableMixin)["__call__"] is not before
        tap.reset()
        tap.detach()
        assert vars(mock.CallableMixin)["__call__"] is before
    assert labels(deliver(lambda: api.send())) == []


def test_where_nobody_has_mocks_nothing_is_patched(attach: Attach, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "unittest.mock")
    before = vars(mock.CallableMixin)["__call__"]
    tap = attach(number=5)
    tap.reset()
    assert vars(mock.CallableMixin)["__call__"] is before


@pytest.mark.parametrize(
    "call",
    [
        lambda api: api.charge(5, idempotency_key="k"),
        lambda api: api.run_instances(ClientToken="k"),
        lambda api: api.post("/charges", headers={"Idempotency-Key": "k"}),
        lambda api: api.create({"amount": 5}, {"idempotency_key": "k"}),
        lambda api: api.put_events(json={"client_request_token": "k"}),
    ],
)
def test_a_call_with_an_idempotency_key_is_known_by_it(attach: Attach, call: Callable[[Any], Any]) -> None:
    api = mock.Mock()
    attach(api=api)
    (fact,) = deliver(lambda: call(api)).calls
    assert fact.once is not None
    assert fact.once.endswith(" k")


def test_a_call_without_one_is_not(attach: Attach) -> None:
    api = mock.Mock()
    attach(api=api)
    (fact,) = deliver(lambda: api.post("/a", headers={"X-Request-Id": "k"}, key="k", id="k")).calls
    assert fact.once is None
