"""Framing of HTTP responses: valid forms are accepted, ambiguous ones refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.client import PROMPT_STUDIO_BODY
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.provider_responses import prompt_studio_reply
from tests.support.fake_upstream.responses import FakeResponse, RawBytes, chunked

if TYPE_CHECKING:
    from tests.conftest import StartGateway
    from tests.support.client import PostRun
    from tests.support.fake_upstream.faults import ResponseScript
    from tests.support.fake_upstream.upstream import FakeUpstream

pytestmark = pytest.mark.shared_gateway

RESULT = {"completion": "ünïcode, and a long text: " + "x" * 1000}
RESPONSE = prompt_studio_reply({**RESULT})
BODY = json.dumps({"result": RESULT}).encode()
JSON = ("Content-Type", "application/json")


def chunked_response(size_line: bytes, trailer: bytes = b"") -> RawBytes:
    """Return a response with this size line, the last chunk, and a trailer."""
    head = FakeResponse(200, (JSON, ("Transfer-Encoding", "chunked"))).head()
    return RawBytes(head + size_line + b"\r\n" + BODY + b"\r\n0\r\n" + trailer + b"\r\n")


def close_delimited_response(version: str) -> ResponseScript:
    """Return a response without a length, delimited by the end of the connection."""
    return faults.sequence(FakeResponse(200, (JSON,), BODY, version=version), faults.fin_after_request)


SIZE = b"%x" % len(BODY)
VALID_FORMS: dict[str, ResponseScript] = {
    "byte by byte": faults.sliced(1, RESPONSE),
    "chunked": chunked(RESPONSE),
    "chunked, byte by byte": faults.sliced(1, chunked(RESPONSE)),
    "chunk with an extension": chunked_response(SIZE + b";name=value"),
    "chunks with a trailer": chunked_response(SIZE, b"X-Trailer: 1\r\n"),
    "until closed, 1.0": close_delimited_response("HTTP/1.0"),
    "until closed, 1.1": close_delimited_response("HTTP/1.1"),
    "after 100 and 103": faults.sequence(faults.interim_responses(1), faults.interim_responses(1, 103), RESPONSE),
    "closing": faults.sequence(RESPONSE.with_headers(("Connection", "close")), faults.fin_after_request),
    "shouting": RawBytes(RESPONSE.encode().replace(b"Content-Length", b"CONTENT-LENGTH")),
}
LENGTH = b"Content-Length: %d\r\n" % len(RESPONSE.body)
AMBIGUOUS_FORMS: dict[str, ResponseScript] = {
    "length and chunks": chunked(RESPONSE).with_headers(("Content-Length", "5")),
    "longer than it says": RawBytes(
        RESPONSE.encode().replace(LENGTH, b"Content-Length: %d\r\n" % (len(RESPONSE.body) - 5))
    ),
    "a negative length": RawBytes(RESPONSE.encode().replace(LENGTH, b"Content-Length: -1\r\n")),
    "a signed length": RawBytes(RESPONSE.encode().replace(b"Content-Length: ", b"Content-Length: +")),
    "a list of lengths": RawBytes(RESPONSE.encode().replace(LENGTH, LENGTH[:-2] + b", 5\r\n")),
    "a folded header": RawBytes(RESPONSE.encode().replace(b"/json\r\n", b"/json\r\n folded\r\n")),
    "an unknown coding": RESPONSE.with_headers(("Transfer-Encoding", "xchunked")),
    "a chunk size that is no number": chunked_response(b"zz"),
    "another version": FakeResponse(200, RESPONSE.headers, RESPONSE.body, version="HTTP/3.7"),
    "a NUL in a header": RESPONSE.with_headers(("X-Nul", "a\0b")),
}


@pytest.mark.parametrize("form", VALID_FORMS)
async def test_a_valid_form_is_accepted_and_the_next_run_too(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun, form: str
) -> None:
    """Every form of RFC 9112; each of two runs is sent once."""
    upstream.default = VALID_FORMS[form]
    running = await gateway()
    answers = [await run(running, PROMPT_STUDIO_BODY) for _ in range(2)]
    assert [(200, RESULT, 1)] * 2 == [(a.status, a.json.get("output"), a.json["attempts"]) for a in answers]
    assert 2 == len(upstream.received)


@pytest.mark.parametrize("form", AMBIGUOUS_FORMS)
async def test_an_ambiguous_form_is_refused_and_the_next_run_unharmed(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun, form: str
) -> None:
    """R19: no response is read from it, and its connection is not reused."""
    upstream.script("POST", "/v1/workflows/dep_test/run", [AMBIGUOUS_FORMS[form]])
    upstream.default = RESPONSE
    running = await gateway()
    answered = await run(running, PROMPT_STUDIO_BODY)
    assert (502, "upstream_invalid_response", "unknown") == answered.summary
    after = await run(running, PROMPT_STUDIO_BODY)
    assert (200, RESULT) == (after.status, after.json["output"])
    assert [1, 2] == [request.connection.number for request in upstream.received]
