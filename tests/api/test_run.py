"""`POST /run`: replay of a stored response."""

from __future__ import annotations

from gateway.api.start_run import stored_response
from gateway.store.contract import StoredResponse


def test_a_stored_response_keeps_every_header() -> None:
    """R38: a name may occur twice, such as RateLimit for two policies."""
    headers = (("Content-Type", "application/json"), ("RateLimit", "a"), ("X-Own", "1"), ("RateLimit", "b"))
    given = stored_response(StoredResponse(200, headers, b"{}"), (("Idempotent-Replayed", "true"),))
    assert ["a", "b"] == given.headers.getall("RateLimit")
    assert (["application/json"], "1", "true") == (
        given.headers.getall("Content-Type"),
        given.headers["X-Own"],
        given.headers["Idempotent-Replayed"],
    )
