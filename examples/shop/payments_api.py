"""A payment provider on a loopback port: a real HTTP server with an API like the real ones.

    POST /charges   {"order_id": 7, "amount_cents": 1200}   201, the new charge
                    the same Idempotency-Key again          200, the charge of the first time
                    the same key with another body          422
    GET  /charges                                           200, every charge in order

Keys are remembered until `reset()`. Real providers forget them: Stripe, for one, may after a day.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Charge = dict[str, Any]


class PaymentsAPI:
    """The provider. Use it as a context manager; `url` is where it listens."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.api = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.reset()

    def reset(self) -> None:
        """Forget every charge, key and call."""
        with self._lock:
            self.charges: list[Charge] = []
            self.calls = 0
            self._by_key: dict[str, Charge] = {}

    def charge(self, order: Mapping[str, Any], key: str | None) -> tuple[int, Charge]:
        """Take the money, or recognise the key: under a lock, so that calls at once are told apart."""
        with self._lock:
            self.calls += 1
            known = self._by_key.get(key) if key else None
            if known is not None:
                same = all(known[field] == value for field, value in order.items())
                return (200, known) if same else (422, {"error": f"key {key!r} was used for another charge"})
            charge = {"id": f"ch_{len(self.charges) + 1:04}", **order}
            self.charges.append(charge)
            if key:
                self._by_key[key] = charge
            return 201, charge

    def __enter__(self) -> PaymentsAPI:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    # With the default of 5, a crowd of simultaneous callers waits a second for its next try.
    request_queue_size = 64


class _Handler(BaseHTTPRequestHandler):
    disable_nagle_algorithm = True

    @property
    def api(self) -> PaymentsAPI:
        return self.server.api  # type: ignore[attr-defined, no-any-return]

    def do_GET(self) -> None:
        if self.path == "/charges":
            self._answer(200, self.api.charges)
        else:
            self._answer(404, {"error": f"no {self.path} here"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/charges":
            self._answer(*self.api.charge(body, self.headers["Idempotency-Key"]))
        else:
            self._answer(404, {"error": f"no {self.path} here"})

    def _answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a test's output is for the test."""
