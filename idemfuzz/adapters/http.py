"""HTTP requests become Effects, whatever the client library and whatever answers them.

Each library is tapped at its outermost door (``requests.Session.send``, ``httpx.Client.send``, urllib3's
pools, ``urllib.request.OpenerDirector.open``), so a request counts the same when `responses`, `respx` or a
local server answers it, and counts once though requests itself goes through urllib3. Redirects and a
library's own retries are part of the one request. A library that a job imports for the first time during a
delivery is tapped right then.

*What counts as a call.* Only an unsafe method (RFC 9110, 9.2.1), and only one that was answered with a
status below 400: that is what "the server did it" looks like from here. A 4xx says that the server refused,
and this is how a server's own guard shows itself (409 on a second charge, 404 on a second DELETE); a 5xx
says that it failed. Whether a server did it without saying so is the business of the LOST fault, not of the
status.

*When two calls are one.* By an idempotency key (`adapters/idempotency.py`): a header that ends in
``Idempotency-Key`` or ``Idempotency-Token``, ``PayPal-Request-Id``, or a field such as ``idempotency_key``,
``client_token`` or ``request_id`` at the top of a JSON or form body. ``X-Request-Id`` is none: it names the attempt, for tracing. ``Webhook-Id`` and ``Ce-Id`` name
the message, and are one. A PUT or a DELETE is one with its repetition without a key (RFC 9110, 9.2.2).

A POST that asks for an access token by what the client is and has (``grant_type=client_credentials`` and the like, RFC 6749) only looks: it may be asked again. One
that uses up a code or a refresh token counts.

It does not see `http.client` used directly, asynchronous clients other than httpx's, or a stub that a test puts in place of a
library's function with a `Mock` (the mock adapter counts that, if a fixture hands the mock in).
"""

from __future__ import annotations

import functools
import http
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from idemfuzz.abc import Errors, Gate
from idemfuzz.adapters.contents import (
    MASK,
    SECRET,
    TEXT_CHARACTERS_MAX,
    digest,
    masked,
    octets,
    pattern,
    shown_body,
)
from idemfuzz.adapters.idempotency import header_names_a_key, names_a_key
from idemfuzz.adapters.libraries import LibraryTap, Perform
from idemfuzz.model import Access, Effect, Fact, FactKind, FaultKind

__all__ = ["HttpTap"]

_READING = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_REPEATABLE = frozenset({"PUT", "DELETE"})
_REPEATABLE_GRANTS = frozenset(
    {
        *("client_credentials", "password", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
        "urn:ietf:params:oauth:grant-type:token-exchange",
    }
)


class Declined(Exception):
    """Carries an answer of 400 or above past the gate, so that the request does not count as a call."""

    def __init__(self, answer: Any, status: int) -> None:
        super().__init__(f"answered {_status_text(status)}")
        self.answer = answer


@dataclass(frozen=True, slots=True)
class _Request:
    """A request about to be sent; ``body`` is None, text, bytes, or a stream that must not be touched."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: object = None

    @property
    def reads(self) -> bool:
        return self.method in _READING


_Describe = Callable[[Sequence[Any], Mapping[str, Any]], _Request | None]
_Failures = Callable[[_Request, Sequence[Any], Mapping[str, Any]], Errors]


class HttpTap(LibraryTap):
    """Taps requests, httpx, urllib3 and `urllib.request`; imports none of them by itself."""

    name = "http"

    def __init__(self) -> None:
        super().__init__(_LIBRARIES)

    def patch(self, owner: Any, attribute: str, describe: _Describe, failures: _Failures) -> None:
        """Make requests that ``owner.attribute`` sends Effects."""

        def ask(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Perform | None:
            request = describe(args, kwargs)
            if request is None:
                return None
            return lambda gate, send: _perform(gate, request, send, failures(request, args, kwargs))

        self.tap(owner, attribute, ask)

    def patch_stubs(self, owner: Any, library: str, failures: _Failures, *, bound: bool) -> None:
        """Make calls of functions that a test has put in place of the library's own shortcuts Effects, too.

        ``bound`` says that the functions take a ``self`` first.
        """
        for attribute in ("request", "get", "options", "head", "post", "put", "patch", "delete"):
            stub = vars(owner).get(attribute)
            if isinstance(stub, FunctionType) and (stub.__module__ or "").split(".")[0] != library:
                method = None if attribute == "request" else attribute.upper()
                self.patch(owner, attribute, functools.partial(_shortcut, method, bound), failures)


# -- what a request is: label, detail, Fact ------------------------------------------------------------------


def _perform(gate: Gate, request: _Request, send: Callable[[], Any], errors: Errors) -> Any:
    body = _parsed(request)
    reads = request.reads or _asks_for_token(request, body)
    url = _shown_url(request.url)
    parts = urlsplit(url)
    place = pattern(parts.path)
    effect = Effect(
        label=f"http.{request.method}{place}",
        store="http",
        access=Access.READ if reads else Access.DURABLE,
        detail=f"{request.method} {url}{shown_body(body)}",
        faults=(FaultKind.REFUSED,) if reads else (FaultKind.REFUSED, FaultKind.LOST),
    )
    if reads:
        return gate.perform(effect, send, errors=errors, describe=_outcome)

    def send_or_decline() -> Any:
        answer = send()
        status = _status(answer)
        if status is not None and status >= 400:
            raise Declined(answer, status)
        return answer

    fields: dict[str, Any] = {"url": url}
    if body is not None:
        fields["body"] = body
    call = Fact(
        store="http",
        kind=FactKind.HTTP,
        group=f"{request.method} {parts.netloc}{place}",
        fields=fields,
        once=_once(request, url, body),
    )
    try:
        return gate.perform(effect, send_or_decline, errors=errors, describe=_outcome, call=call)
    except Declined as declined:
        return declined.answer


def _asks_for_token(request: _Request, body: object) -> bool:
    grant = body.get("grant_type") if isinstance(body, dict) else None
    return request.method == "POST" and isinstance(grant, str) and grant in _REPEATABLE_GRANTS


def _once(request: _Request, url: str, body: object) -> str | None:
    # At the top of the body alone: what lies deeper may be another thing's.
    fields = body.items() if isinstance(body, dict) else ()
    headers = [value for name, value in request.headers.items() if header_names_a_key(name)]
    for value in (*headers, *(value for name, value in fields if names_a_key(str(name)))):
        if value and isinstance(value, str | int):
            return f"{request.method} {url} {value}"
    # Whether two say the same is asked when they are compared: a time within is noise there.
    repeatable = request.method in _REPEATABLE and octets(request.body) is not None
    return f"{request.method} {url}" if repeatable else None


def _shown_url(url: str) -> str:
    """The URL without user, password, fragment, and the values of secret query fields."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    query = "&".join(
        f"{name}={MASK}" if equals and SECRET.search(name) else f"{name}{equals}{value}"
        for name, equals, value in (field.partition("=") for field in parts.query.split("&"))
    )
    return urlunsplit((parts.scheme, host, parts.path or "/", query, ""))


def _parsed(request: _Request) -> Any:
    """The body as plain values: JSON, form fields, text, a digest of bytes; secrets are masked."""
    data = octets(request.body)
    if data is None:
        return f"<{type(request.body).__name__}>"
    if not data:
        return None
    kind = next((v for n, v in request.headers.items() if n.lower() == "content-type"), "")
    if boundary := re.search(r'boundary="?([^";]+)', kind):
        # The library makes the boundary up anew each time.
        data = data.replace(boundary[1].encode(), b"boundary")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return digest(data)
    if "json" in kind or text.lstrip()[:1] in ("{", "["):
        try:
            return masked(json.loads(text))
        except ValueError:
            pass
    if "x-www-form-urlencoded" in kind:
        form: dict[str, Any] = {}
        for name, value in parse_qsl(text, keep_blank_values=True):
            form[name] = [*_listed(form[name]), value] if name in form else value
        return masked(form)
    return text if len(text) <= TEXT_CHARACTERS_MAX else digest(data)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _status(answer: Any) -> int | None:
    """The status in any library's response; None for a stub's answer that has none."""
    for attribute in ("status_code", "status"):
        status = getattr(answer, attribute, None)
        if isinstance(status, int):
            return int(status)
    return None


def _status_text(status: int) -> str:
    try:
        return f"{status} {http.HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _outcome(answer: Any) -> str:
    status = _status(answer)
    return "answered" if status is None else _status_text(status)


# -- the libraries: where their doors are, and how they fail -------------------------------------------------


def _argument(args: Sequence[Any], kwargs: Mapping[str, Any], position: int, name: str) -> Any:
    return args[position] if len(args) > position else kwargs.get(name)


def _shortcut(
    method: str | None, bound: bool, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> _Request | None:
    """The request behind ``post(url, json=...)`` or ``request("POST", url, json=...)``."""
    rest = list(args[1:] if bound else args)
    if method is None:
        method = rest.pop(0) if rest else kwargs.get("method")
    url = rest[0] if rest else kwargs.get("url")
    if not isinstance(method, str) or url is None:
        return None
    target, params = str(url), kwargs.get("params")
    if params:
        fields = params if isinstance(params, str) else urlencode(params, doseq=True)
        target += ("&" if "?" in target else "?") + fields
    headers = {str(name): str(value) for name, value in dict(kwargs.get("headers") or {}).items()}
    body = kwargs.get("content", kwargs.get("data"))
    if body is None and len(rest) > 1 and method.upper() not in _READING:
        body = rest[1]
    if kwargs.get("json") is not None:
        body = json.dumps(kwargs["json"], default=str)
        headers.setdefault("Content-Type", "application/json")
    elif isinstance(body, dict):
        body = urlencode(body, doseq=True)
        headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
    return _Request(method.upper(), target, headers, body)


def _tap_requests(tap: HttpTap, requests: ModuleType) -> None:
    def describe(args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Request | None:
        request = _argument(args, kwargs, 1, "request")
        if not getattr(request, "url", None) or not getattr(request, "method", None):
            return None
        return _Request(request.method.upper(), request.url, request.headers or {}, request.body)

    def failures(request: _Request, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Errors:
        sent = _argument(args, kwargs, 1, "request")
        prepared = sent if hasattr(sent, "url") else None

        def refused() -> BaseException:
            text = f"{_shown_url(request.url)}: [Errno 111] Connection refused"
            return requests.exceptions.ConnectionError(text, request=prepared)  # type: ignore[no-any-return]

        def lost() -> BaseException:
            cause = ConnectionResetError("Remote end closed connection without response")
            return requests.exceptions.ConnectionError("Connection aborted.", cause, request=prepared)  # type: ignore[no-any-return]

        return Errors(refused=refused, lost=lost)

    tap.patch(requests.Session, "send", describe, failures)
    tap.patch_stubs(requests.Session, "requests", failures, bound=True)
    tap.patch_stubs(requests, "requests", failures, bound=False)


def _tap_httpx(tap: HttpTap, httpx: ModuleType) -> None:
    def describe(args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Request | None:
        request = _argument(args, kwargs, 1, "request")
        if not isinstance(request, httpx.Request):
            return None
        body: object
        try:
            body = request.content
        except httpx.RequestNotRead:
            # A multipart body can be read here: httpx keeps what was read. A generator is left alone.
            multipart = "multipart" in request.headers.get("content-type", "")
            body = request.read() if multipart else request.stream
        return _Request(request.method.upper(), str(request.url), request.headers, body)

    def failures(request: _Request, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Errors:
        sent = _argument(args, kwargs, 1, "request")
        known = sent if isinstance(sent, httpx.Request) else httpx.Request(request.method, request.url)
        return Errors(
            refused=lambda: httpx.ConnectError("[Errno 111] Connection refused", request=known),
            lost=lambda: httpx.RemoteProtocolError(
                "Server disconnected without sending a response.", request=known
            ),
        )

    for client in (httpx.Client, httpx.AsyncClient):
        tap.patch(client, "send", describe, failures)
        tap.patch_stubs(client, "httpx", failures, bound=True)
    tap.patch_stubs(httpx, "httpx", failures, bound=False)


def _tap_urllib3(tap: HttpTap, urllib3: ModuleType) -> None:
    def describe(args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Request | None:
        method, url = _argument(args, kwargs, 1, "method"), _argument(args, kwargs, 2, "url")
        if not isinstance(method, str) or not isinstance(url, str):
            return None
        client = args[0]
        pool = isinstance(client, urllib3.HTTPConnectionPool)
        body = _argument(args, kwargs, 3, "body") if pool else kwargs.get("body")
        headers = _argument(args, kwargs, 4, "headers") if pool else kwargs.get("headers")
        if pool and url.startswith("/"):
            port = f":{client.port}" if client.port else ""
            url = f"{client.scheme}://{client.host}{port}{url}"
        return _Request(method.upper(), url, client.headers if headers is None else headers, body)

    def failures(request: _Request, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Errors:
        errors: Any = urllib3.exceptions

        def refused() -> BaseException:
            reason = errors.NewConnectionError(
                args[0], "Failed to establish a new connection: [Errno 111] Connection refused"
            )
            if kwargs.get("retries") is False:
                return reason  # type: ignore[no-any-return]
            # By default urllib3 retries a refused connection, and then wraps the reason.
            return errors.MaxRetryError(args[0], _shown_url(request.url), reason)  # type: ignore[no-any-return]

        def lost() -> BaseException:
            cause = ConnectionResetError("Remote end closed connection without response")
            return errors.ProtocolError("Connection aborted.", cause)  # type: ignore[no-any-return]

        return Errors(refused=refused, lost=lost)

    tap.patch(urllib3.PoolManager, "urlopen", describe, failures)
    tap.patch(urllib3.HTTPConnectionPool, "urlopen", describe, failures)


def _tap_urllib(tap: HttpTap, urllib_request: ModuleType) -> None:
    def describe(args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Request | None:
        target, data = _argument(args, kwargs, 1, "fullurl"), _argument(args, kwargs, 2, "data")
        if isinstance(target, str):
            url, method, headers = target, "GET" if data is None else "POST", {}
        elif isinstance(target, urllib_request.Request):
            url, headers = target.full_url, dict(target.header_items())
            given = getattr(target, "method", None)
            data = target.data if data is None else data
            method = given or ("GET" if data is None else "POST")
        else:
            return None
        if not url.lower().startswith(("http:", "https:")):
            return None
        if data is not None:
            headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
        return _Request(method.upper(), url, headers, data)

    def failures(request: _Request, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Errors:
        from http.client import RemoteDisconnected
        from urllib.error import URLError

        return Errors(
            refused=lambda: URLError(ConnectionRefusedError(111, "Connection refused")),
            lost=lambda: RemoteDisconnected("Remote end closed connection without response"),
        )

    tap.patch(urllib_request.OpenerDirector, "open", describe, failures)


_LIBRARIES: Mapping[str, Callable[[Any, ModuleType], None]] = {
    "requests": _tap_requests,
    "httpx": _tap_httpx,
    "urllib3": _tap_urllib3,
    "urllib.request": _tap_urllib,
}
