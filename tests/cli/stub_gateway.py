"""Stub gateway: answers `POST /run` as scripted, and records the requests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Self

from providers.contract import JsonValue

SUCCEEDED_RUN: dict[str, JsonValue] = {
    "id": "run_00000000000000000000000000000001",
    "status": "succeeded",
    "workflow": "triage",
    "provider": "promptlayer",
    "output": {"category": "billing"},
    "warning": None,
    "attempts": 1,
    "provider_run_id": "98765",
    "metadata": {},
    "created_at": "2026-11-21T12:00:00.000Z",
    "finished_at": "2026-11-21T12:00:01.234Z",
    "duration_ms": 1234,
}
"""A run that succeeded."""


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """Received request."""

    path: str
    authorization: str | None
    body: JsonValue


class StubGateway:
    """Stub gateway. `answer`: status and document, or raw bytes, for every request; None closes the connection."""

    def __init__(self) -> None:
        self.response: tuple[int, JsonValue | bytes] | None = (200, SUCCEEDED_RUN)
        self.requests: list[RecordedRequest] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                stub.requests.append(RecordedRequest(self.path, self.headers["Authorization"], json.loads(body)))
                if stub.response is None:
                    return
                status, document = stub.response
                content = document if isinstance(document, bytes) else json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Suppress the log."""

        return Handler
