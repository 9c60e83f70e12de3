"""The HTTP tap: every library, whatever answers; counted once, failing in the library's own terms."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from idemfuzz.abc import JobCall, Options
from idemfuzz.adapters.http import HttpTap
from idemfuzz.engine import Trial, TrialGate, TrialResult
from idemfuzz.engine.clock import Clock
from idemfuzz.model import Access, Event, EventKind, Fault, FaultKind, Plan, Point, Side

httpx = pytest.importorskip("httpx")
requests = pytest.importorskip("requests")
responses = pytest.importorskip("responses")
respx = pytest.importorskip("respx")
urllib3 = pytest.importorskip("urllib3")


class Server(ThreadingHTTPServer):
    """Answers each request with ``status`` and keeps what it received."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = 201
        self.received: list[tuple[str, str, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    disable_nagle_algorithm = True

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.received.append((self.command, self.path, body))  # type: ignore[attr-defined]
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = answer

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def server(running: Server) -> Server:
    running.status = 201
    running.received.clear()
    return running


@pytest.fixture
def tap() -> Iterator[HttpTap]:
    tap = HttpTap()
    tap.attach(TrialGate(), {})
    yield tap
    tap.detach()


def deliver(job: Callable[[], object], *faults: Fault, deliveries: int = 1) -> TrialResult:
    """Run ``job`` as a Plan says; its own exceptions end in the History."""
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


def effects(result: TrialResult) -> list[Event]:
    return [event for event in result.history if event.kind is EventKind.EFFECT]


def fault(kind: FaultKind, label: str) -> Fault:
    side = Side.AFTER if kind is FaultKind.LOST else Side.BEFORE
    return Fault(kind, Point(1, 1, label, 1), side)


def by_requests(url: str) -> Any:
    return requests.post(url, json={"cents": 5}, timeout=5)


def by_prepared(url: str) -> Any:
    with requests.Session() as session:
        return session.send(requests.Request("POST", url, json={"cents": 5}).prepare(), timeout=5)


def by_httpx(url: str) -> Any:
    return httpx.post(url, json={"cents": 5})


def by_urllib3(url: str) -> Any:
    with urllib3.PoolManager() as pools:
        return pools.request("POST", url, json={"cents": 5}, timeout=5)


def by_urllib3_pool(url: str) -> Any:
    with urllib3.connection_from_url(url) as pool:
        body, headers = json.dumps({"cents": 5}), {"Content-Type": "application/json"}
        return pool.urlopen("POST", "/charges", body=body, headers=headers, timeout=5)


def by_urllib(url: str) -> Any:
    body, headers = json.dumps({"cents": 5}).encode(), {"Content-Type": "application/json"}
    request = urllib.request.Request(url, body, headers)
    with urllib.request.urlopen(request, timeout=5) as answer:
        return answer


ALL = (by_requests, by_prepared, by_httpx, by_urllib3, by_urllib3_pool, by_urllib)


@pytest.mark.parametrize("post", ALL)
def test_a_request_is_one_effect_and_one_call(
    post: Callable[[str], Any], tap: HttpTap, server: Server
) -> None:
    """requests goes through urllib3, a PoolManager through its pools: one Effect, one call, all the same."""
    result = deliver(lambda: post(f"{server.url}/charges"))

    (event,) = effects(result)
    (call,) = result.calls
    assert event.effect is not None
    assert event.effect.label == "http.POST/charges"
    assert event.effect.access is Access.DURABLE
    assert event.effect.faults == (FaultKind.REFUSED, FaultKind.LOST)
    assert event.effect.detail == f'POST {server.url}/charges {{"cents": 5}}'
    assert event.outcome == "201 Created"
    assert event.effect.source is not None
    assert event.effect.source.file.endswith("test_http_tap.py")
    assert call.group == f"POST 127.0.0.1:{server.server_port}/charges"
    assert dict(call.fields) == {"url": f"{server.url}/charges", "body": {"cents": 5}}
    assert call.once is None
    assert len(server.received) == 1


REFUSED = {
    by_requests: (requests.exceptions.ConnectionError,),
    by_prepared: (requests.exceptions.ConnectionError,),
    by_httpx: (httpx.ConnectError,),
    by_urllib3: (urllib3.exceptions.MaxRetryError,),
    by_urllib3_pool: (urllib3.exceptions.MaxRetryError,),
    by_urllib: (urllib.error.URLError,),
}
LOST = {
    by_requests: (requests.exceptions.ConnectionError,),
    by_prepared: (requests.exceptions.ConnectionError,),
    by_httpx: (httpx.RemoteProtocolError,),
    by_urllib3: (urllib3.exceptions.ProtocolError,),
    by_urllib3_pool: (urllib3.exceptions.ProtocolError,),
    by_urllib: (ConnectionResetError, http.client.RemoteDisconnected),
}


@pytest.mark.parametrize("post", ALL)
@pytest.mark.parametrize(("kind", "errors", "arrives"), [("refused", REFUSED, 0), ("lost", LOST, 1)])
def test_faults_are_the_librarys_own(
    post: Callable[[str], Any], kind: str, errors: dict[Any, Any], arrives: int, tap: HttpTap, server: Server
) -> None:
    """The exception is caught as in a user's code; the server has received what the fault says."""
    caught: list[BaseException] = []

    def job() -> None:
        try:
            post(f"{server.url}/charges")
        except errors[post] as error:
            caught.append(error)

    result = deliver(job, fault(FaultKind(kind), "http.POST/charges"))
    assert result.unreached == ()
    assert len(caught) == 1
    assert all(isinstance(caught[0], expected) for expected in errors[post])
    assert len(server.received) == len(result.calls) == arrives


def unretried(url: str) -> Any:
    with urllib3.PoolManager() as pools:
        return pools.request("POST", url, json={"cents": 5}, retries=False, timeout=5)


@pytest.mark.parametrize("post", [*ALL, unretried])
@pytest.mark.parametrize("kind", ["refused", "lost"])
def test_faults_are_the_real_ones(
    post: Callable[[str], Any], kind: str, tap: HttpTap, server: Server
) -> None:
    """Compare with a port where nobody listens, and with a server that hangs up instead of answering."""
    found: list[type] = []

    def job(url: str) -> None:
        try:
            post(url)
        except Exception as error:
            found.append(type(error))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/charges"
        hanging_up = threading.Thread(target=hang_up, args=(listening,))
        if kind == "lost":
            hanging_up.start()
            job(url)
            hanging_up.join()
    if kind == "refused":
        job(url)
    deliver(lambda: job(f"{server.url}/charges"), fault(FaultKind(kind), "http.POST/charges"))
    assert found[0] is found[1]


def hang_up(listening: socket.socket) -> None:
    """Take one request and close; what is left unread would make it a reset."""
    connection, _ = listening.accept()
    received = b""
    with connection:
        while not received.endswith(b"}"):
            received += connection.recv(65536)


@responses.activate
def test_a_stub_by_responses_counts(tap: HttpTap) -> None:
    responses.post("https://pay.example/charges", json={"id": "ch_1"}, status=201)
    result = deliver(lambda: by_requests("https://pay.example/charges"), deliveries=2)
    assert [call.group for call in result.calls] == ["POST pay.example/charges"] * 2


def test_a_stub_by_respx_counts(tap: HttpTap) -> None:
    with respx.mock:
        respx.post("https://pay.example/charges").mock(httpx.Response(201, json={"id": "ch_1"}))
        result = deliver(lambda: by_httpx("https://pay.example/charges"), deliveries=2)
    assert [call.group for call in result.calls] == ["POST pay.example/charges"] * 2


def test_a_function_in_place_of_the_librarys_own_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fixture has replaced ``requests.post`` and ``Session.request`` before the search began."""
    answer = requests.Response()
    answer.status_code = 201
    monkeypatch.setattr(requests, "post", lambda url, data=None, json=None, **kwargs: answer)
    monkeypatch.setattr(requests.Session, "request", lambda self, method, url, **kwargs: answer)
    stubs = requests.post, requests.Session.request
    tap = HttpTap()
    tap.attach(TrialGate(), {})

    def job() -> None:
        requests.post("https://pay.example/charges", json={"cents": 5})
        requests.Session().request("PUT", "https://pay.example/orders/7", data={"paid": "yes"})

    result = deliver(job)
    tap.detach()
    assert [(call.group, call.fields["body"]) for call in result.calls] == [
        ("POST pay.example/charges", {"cents": 5}),
        ("PUT pay.example/orders/*", {"paid": "yes"}),
    ]
    assert (requests.post, requests.Session.request) == stubs


@pytest.mark.parametrize("post", ALL)
@pytest.mark.parametrize(("status", "counted"), [(200, 1), (202, 1), (400, 0), (409, 0), (429, 0), (500, 0)])
def test_an_answer_of_400_or_above_is_no_call(
    post: Callable[[str], Any], status: int, counted: int, tap: HttpTap, server: Server
) -> None:
    """The job sees the answer as ever; the Effect is recorded; only the call does not count."""
    server.status = status
    answers: list[Any] = []
    result = deliver(lambda: answers.append(post(f"{server.url}/charges")))
    assert len(result.calls) == counted
    assert len(effects(result)) == 1
    if post is not by_urllib or status < 400:
        assert getattr(answers[0], "status_code", None) or answers[0].status == status


def test_reading_is_no_call(tap: HttpTap, server: Server) -> None:
    result = deliver(lambda: requests.get(f"{server.url}/charges/17", timeout=5))
    (event,) = effects(result)
    assert event.effect is not None
    assert (event.effect.label, event.effect.access) == ("http.GET/charges/*", Access.READ)
    assert event.effect.faults == (FaultKind.REFUSED,)
    assert result.calls == ()


@pytest.mark.parametrize(
    "header", ["Idempotency-Key", "X-Idempotency-Key", "PayPal-Request-Id", "I-Twilio-Idempotency-Token"]
)
def test_an_idempotency_key_unites(header: str, tap: HttpTap, server: Server) -> None:
    def job() -> None:
        requests.post(f"{server.url}/charges", json={"cents": 5}, headers={header: "order-7"}, timeout=5)
        httpx.post(f"{server.url}/charges", json={"cents": 5}, headers={header.lower(): "order-7"})
        httpx.post(f"{server.url}/charges", json={"cents": 5}, headers={header: "order-8"})

    first, second, other = deliver(job).calls
    assert first.once is not None
    assert first.once == second.once
    assert other.once not in (None, first.once)


def test_a_key_in_the_body_unites_and_a_request_id_does_not(tap: HttpTap, server: Server) -> None:
    def job() -> None:
        requests.post(f"{server.url}/a", json={"idempotency_key": "k"}, timeout=5)
        requests.post(f"{server.url}/a", data={"idempotency_key": "k"}, timeout=5)
        requests.post(f"{server.url}/a", json={"client_token": "k"}, timeout=5)
        requests.post(f"{server.url}/a", json={"request_id": "k"}, timeout=5)
        requests.post(f"{server.url}/a", headers={"X-Request-Id": "k"}, timeout=5)
        requests.post(f"{server.url}/a", headers={"Request-Id": "k"}, timeout=5)

    calls = deliver(job).calls
    assert calls[0].once is not None
    assert [call.once for call in calls] == [calls[0].once] * 4 + [None] * 2


def test_put_and_delete_are_one_with_their_repetition(tap: HttpTap, server: Server) -> None:
    def job() -> None:
        for body in ("a", "a", "b"):
            requests.put(f"{server.url}/files/7", data=body, timeout=5)
        requests.delete(f"{server.url}/files/7", timeout=5)
        requests.patch(f"{server.url}/files/7", data="a", timeout=5)

    calls = deliver(job).calls
    one, two, other, deleted, patched = (call.once for call in calls)
    assert one == two == other != deleted
    # What they say is compared where it is known what is made up.
    assert [call.fields["body"] for call in calls[:3]] == ["a", "a", "b"]
    assert patched is None


def test_secrets_are_masked(tap: HttpTap, server: Server) -> None:
    url = f"http://ada:hunter2@127.0.0.1:{server.server_port}/login?api_key=s3cret&page=2"

    def job() -> None:
        body = {"user": "ada", "password": "hunter2", "cards": [{"card_number": "4242"}]}
        requests.post(url, json=body, headers={"Authorization": "Bearer s3cret"}, timeout=5)

    result = deliver(job)
    (event,) = effects(result)
    shown = f"{event} {result.calls[0]} {dict(result.calls[0].fields)} {result.calls[0].once}"
    assert "hunter2" not in shown
    assert "s3cret" not in shown
    assert "4242" not in shown
    assert "page=2" in shown


def test_bodies_are_made_comparable(tap: HttpTap, server: Server) -> None:
    """A multipart boundary is made up anew each time; bytes are digested; a generator is left alone."""

    def job() -> None:
        for _ in range(2):
            requests.post(f"{server.url}/a", files={"f": ("a.txt", b"text")}, timeout=5)
            httpx.post(f"{server.url}/a", files={"f": ("a.txt", b"text")})
        requests.post(f"{server.url}/b", data=b"\xff\xfe", timeout=5)
        httpx.post(f"{server.url}/c", content=iter([b"x"]), headers={"Content-Length": "1"})

    calls = [call.fields["body"] for call in deliver(job).calls]
    assert calls[0] == calls[2]
    assert calls[1] == calls[3]
    assert "text" in calls[0]
    assert calls[4].startswith("<2 bytes, sha256 ")
    assert calls[5].startswith("<")
    assert server.received[-1] == ("POST", "/c", b"x")


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("", "http.POST/"),
        ("/v1/users/17/cards/3", "http.POST/v1/users/*/cards/*"),
        ("/orders/2f1c7e2a-8a0e-4f3b-9d42-0f6f3f1f2c11", "http.POST/orders/*"),
        ("/ch_3MqLiJLkdIwHu7ix", "http.POST/ch_*"),
        ("/blobs/deadbeef01?x=1", "http.POST/blobs/*"),
        ("/reports/2024-05-01.csv", "http.POST/reports/*.csv"),
    ],
)
def test_labels_are_stable(path: str, label: str, tap: HttpTap, server: Server) -> None:
    (event,) = effects(deliver(lambda: requests.post(server.url + path, timeout=5)))
    assert event.effect is not None
    assert event.effect.label == label


def test_outside_deliveries_it_is_a_plain_call(tap: HttpTap, server: Server) -> None:
    assert by_requests(f"{server.url}/charges").status_code == 201


def test_detach_puts_everything_back() -> None:
    doors = (
        (requests.Session, "send"),
        (requests.Session, "request"),
        (requests, "post"),
        (httpx.Client, "send"),
        (httpx, "post"),
        (urllib3.PoolManager, "urlopen"),
        (urllib3.HTTPConnectionPool, "urlopen"),
        (urllib.request.OpenerDirector, "open"),
    )
    before = [vars(owner)[name] for owner, name in doors]
    finders = list(sys.meta_path)
    tap = HttpTap()
    for _ in range(2):
        tap.attach(TrialGate(), {})
        assert vars(requests.Session)["send"] is not before[0]
        tap.reset()
        tap.detach()
        assert all(vars(owner)[name] is was for (owner, name), was in zip(doors, before, strict=True))
    assert sys.meta_path == finders


def test_a_stub_set_in_the_body_survives_detach(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undoing such a stub brings our wrapper back: it must be inert, and the next search must heal it."""
    original = vars(requests.Session)["send"]
    first, second = HttpTap(), HttpTap()
    first.attach(TrialGate(), {})
    with monkeypatch.context() as patch:
        patch.setattr(requests.Session, "send", lambda self, request, **kwargs: "stub")
        first.detach()
        assert requests.Session().send(None) == "stub"
    assert vars(requests.Session)["send"] is not original
    second.attach(TrialGate(), {})
    second.detach()
    assert vars(requests.Session)["send"] is original


def test_a_library_imported_in_a_delivery_is_tapped(server: Server) -> None:
    """In a fresh process without the libraries: attaching imports none, the job's own imports are seen."""
    script = f"""
import sys
from idemfuzz.abc import JobCall, Options
from idemfuzz.adapters.http import HttpTap
from idemfuzz.engine import Trial, TrialGate
from idemfuzz.engine.clock import Clock
from idemfuzz.model import Plan

tap = HttpTap()
tap.attach(TrialGate(), {{}})
assert not {{"requests", "httpx", "urllib3", "urllib.request"}} & set(sys.modules)

def job(identity, delivery):
    import requests
    requests.post("{server.url}/charges", timeout=5)
    import httpx
    httpx.post("{server.url}/charges")
    import urllib.request
    urllib.request.urlopen("{server.url}/charges", b"x", timeout=5).close()

trial = Trial(Plan(), Options(), (), Clock(lambda: None, lambda seconds, polls: None))
trial.deliver(JobCall("job", job))
print(len(trial.result().calls))
tap.detach()
import requests
assert type(requests.__spec__.loader).__name__ == "SourceFileLoader"
assert not hasattr(requests.Session.send, "__wrapped__")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "3"), done.stderr
