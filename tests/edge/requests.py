"""Runs and refusals, ready to be sent."""

from __future__ import annotations

import json

from providers.contract import JsonValue
from tests.edge.raw import JSON, RUN, get, head, post


def posting(document: JsonValue) -> bytes:
    """`POST /run` with this body."""
    return post(json.dumps(document).encode())


def run_of(workflow: str = "studio", **members: JsonValue) -> bytes:
    """A run of a workflow."""
    return posting({"workflow": workflow, **members})


def refusals() -> dict[str, tuple[bytes, str, str]]:
    """Requests that are refused before they are a run: what is sent, the route and the problem's code."""
    return {
        "no key": (post(client=None), "run", "unauthorized"),
        "no JSON": (post(b"{"), "run", "malformed_json"),
        "no workflow": (post(b"{}"), "run", "invalid_request"),
        "unknown workflow": (run_of("none"), "run", "workflow_not_found"),
        "not its workflow": (post(client="two"), "run", "forbidden"),
        "no type": (head(headers={"Content-Length": "2"}) + b"{}", "run", "unsupported_media_type"),
        "too large": (head(headers={**JSON, "Content-Length": "9999999"}), "run", "payload_too_large"),
        "idempotency key": (post(headers={"Idempotency-Key": "a" * 256}), "run", "invalid_idempotency_key"),
        "callback": (run_of(callback_url="http://127.0.0.1/"), "run", "callback_url_refused"),
        "method": (get("/run"), "run", "method_not_allowed"),
        "path": (get("/none"), "unknown", "unknown_route"),
        "framing": (post().replace(b"Host", b"H st", 1), "malformed", "malformed_request"),
        "schema without key": (get("/openapi.json"), "openapi", "unauthorized"),
    }


def keyed(*lines: bytes, body: bytes = RUN) -> bytes:
    """A run with these header lines, and no others about keys."""
    fields = [b"Content-Type: application/json", b"Content-Length: %d" % len(body), *lines]
    return b"\r\n".join([b"POST /run HTTP/1.1", b"Host: gateway.test", *fields, b"", body])


def bearer(key: str) -> bytes:
    """The header line that presents this key."""
    return f"Authorization: Bearer {key}".encode()
