"""Sample requests: runs and refused requests."""

from __future__ import annotations

import json

from providers.contract import JsonValue
from tests.support.raw_client import JSON, RUN, build_get, build_head, build_run


def run_with_body(document: JsonValue) -> bytes:
    """`POST /run` with this body."""
    return build_run(json.dumps(document).encode())


def run_of_workflow(workflow: str = "studio", **members: JsonValue) -> bytes:
    """A run of a workflow."""
    return run_with_body({"workflow": workflow, **members})


def rejected_requests() -> dict[str, tuple[bytes, str, str]]:
    """Requests that are refused before they are a run: bytes, route and error code."""
    return {
        "no key": (build_run(client=None), "run", "unauthorized"),
        "no JSON": (build_run(b"{"), "run", "malformed_json"),
        "no workflow": (build_run(b"{}"), "run", "invalid_request"),
        "unknown workflow": (run_of_workflow("none"), "run", "workflow_not_found"),
        "not its workflow": (build_run(client="two"), "run", "forbidden"),
        "no type": (build_head(headers={"Content-Length": "2"}) + b"{}", "run", "unsupported_media_type"),
        "too large": (build_head(headers={**JSON, "Content-Length": "9999999"}), "run", "payload_too_large"),
        "idempotency key": (build_run(headers={"Idempotency-Key": "a" * 256}), "run", "invalid_idempotency_key"),
        "callback": (run_of_workflow(callback_url="http://127.0.0.1/"), "run", "callback_url_refused"),
        "method": (build_get("/run"), "run", "method_not_allowed"),
        "path": (build_get("/none"), "unknown", "unknown_route"),
        "framing": (build_run().replace(b"Host", b"H st", 1), "malformed", "malformed_request"),
        "schema without key": (build_get("/openapi.json"), "openapi", "unauthorized"),
    }


def run_with_headers(*lines: bytes, body: bytes = RUN) -> bytes:
    """Return a run with these header lines and no other key."""
    fields = [b"Content-Type: application/json", b"Content-Length: %d" % len(body), *lines]
    return b"\r\n".join([b"POST /run HTTP/1.1", b"Host: gateway.test", *fields, b"", body])


def bearer_header(key: str) -> bytes:
    """The header field that presents this key."""
    return f"Authorization: Bearer {key}".encode()
