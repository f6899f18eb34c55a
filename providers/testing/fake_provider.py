"""Fake provider: an HTTP server on loopback that answers by a script and records the requests."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, TypeAlias
from urllib.parse import parse_qsl

from providers.contract import JsonValue


@dataclass(frozen=True, slots=True)
class FakeReply:
    """Response of the fake provider. `delay` in seconds; `drop`: the connection is closed without a response."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drop: bool = False


@dataclass(frozen=True, slots=True)
class FakeRequest:
    """Request that arrived. Header names are in lower case."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


Script: TypeAlias = "FakeReply | Sequence[FakeReply]"


def reply(status: int, document: JsonValue | bytes = b"", **options: Any) -> FakeReply:
    """Create a reply; a document that is not bytes is sent as JSON. `options` are fields of `FakeReply`."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return FakeReply(status, body, **options)


class FakeProvider:
    """HTTP server that answers requests by a script for each "METHOD /path"; any other request is answered 418.

    The path is compared without its query and as it was sent. The last reply of a script repeats. Example::

        with FakeProvider({"POST /start": reply(202, {"id": 1}), "GET /runs/1": [reply(202), reply(200, {...})]}) as p:
            ...
            assert 1 == len(p.received("POST /start"))
    """

    def __init__(self, script: Mapping[str, Script]) -> None:
        self.requests: list[FakeRequest] = []
        self._script = {
            route: [steps] if isinstance(steps, FakeReply) else list(steps) for route, steps in script.items()
        }
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_class(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def script(self, route: str, *replies: FakeReply) -> None:
        """Answer the requests to "METHOD /path" so from now on; the last reply repeats."""
        with self._lock:
            self._script[route] = list(replies)

    def received(self, route: str) -> list[FakeRequest]:
        """Return the requests to a "METHOD /path"."""
        return [request for request in self.requests if route == f"{request.method} {request.path}"]

    def next_reply(self, request: FakeRequest) -> FakeReply:
        """Record a request; return its reply."""
        with self._lock:
            self.requests.append(request)
            steps = self._script.get(f"{request.method} {request.path}")
            if not steps:
                return reply(418, {"message": "no reply is scripted for this request"})
            return steps.pop(0) if len(steps) > 1 else steps[0]


def _handler_class(provider: FakeProvider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65_537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            self._respond(provider.next_reply(self._read_request()))

        def _read_request(self) -> FakeRequest:
            path, _, query = self.path.partition("?")
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", "0")))
            return FakeRequest(self.command, path, tuple(parse_qsl(query, keep_blank_values=True)), headers, body)

        def _respond(self, answer: FakeReply) -> None:
            threading.Event().wait(answer.delay)
            if answer.drop:
                self.close_connection = True
                return
            self.send_response_only(answer.status)
            for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                self.send_header(name, value)
            if answer.status not in {204, 304}:
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

    return Handler
