"""HTTP allows an answer many forms: the sound ones are understood, the ambiguous ones refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.client import STUDIO
from tests.faults import faults
from tests.faults.answers import Answer, Raw, chunked
from tests.faults.provider_answers import prompt_studio_reply

if TYPE_CHECKING:
    from tests.client import RunWorkflow
    from tests.conftest import StartGateway
    from tests.faults.faults import Script
    from tests.faults.upstream import Upstream

RESULT = {"completion": "ünïcode, and a long text: " + "x" * 1000}
OWN = prompt_studio_reply({**RESULT})
BODY = json.dumps({"result": RESULT}).encode()
JSON = ("Content-Type", "application/json")


def in_chunks(size_line: bytes, trailer: bytes = b"") -> Raw:
    """One chunk under a size line of any form, the last chunk, and a trailer."""
    head = Answer(200, (JSON, ("Transfer-Encoding", "chunked"))).head()
    return Raw(head + size_line + b"\r\n" + BODY + b"\r\n0\r\n" + trailer + b"\r\n")


def until_closed(version: str) -> Script:
    """An answer without a length, whose end is the connection's."""
    return faults.then(Answer(200, (JSON,), BODY, version=version), faults.fin_after_request)


SIZE = b"%x" % len(BODY)
SOUND: dict[str, Script] = {
    "byte by byte": faults.sliced(1, OWN),
    "chunked": chunked(OWN),
    "chunked, byte by byte": faults.sliced(1, chunked(OWN)),
    "chunk with an extension": in_chunks(SIZE + b";name=value"),
    "chunks with a trailer": in_chunks(SIZE, b"X-Trailer: 1\r\n"),
    "until closed, 1.0": until_closed("HTTP/1.0"),
    "until closed, 1.1": until_closed("HTTP/1.1"),
    "after 100 and 103": faults.then(faults.interim(1), faults.interim(1, 103), OWN),
    "closing": faults.then(OWN.adding(("Connection", "close")), faults.fin_after_request),
    "shouting": Raw(OWN.encode().replace(b"Content-Length", b"CONTENT-LENGTH")),
}
LENGTH = b"Content-Length: %d\r\n" % len(OWN.body)
UNSOUND: dict[str, Script] = {
    "length and chunks": chunked(OWN).adding(("Content-Length", "5")),
    "longer than it says": Raw(OWN.encode().replace(LENGTH, b"Content-Length: %d\r\n" % (len(OWN.body) - 5))),
    "a negative length": Raw(OWN.encode().replace(LENGTH, b"Content-Length: -1\r\n")),
    "a signed length": Raw(OWN.encode().replace(b"Content-Length: ", b"Content-Length: +")),
    "a list of lengths": Raw(OWN.encode().replace(LENGTH, LENGTH[:-2] + b", 5\r\n")),
    "a folded header": Raw(OWN.encode().replace(b"/json\r\n", b"/json\r\n folded\r\n")),
    "an unknown coding": OWN.adding(("Transfer-Encoding", "xchunked")),
    "a chunk size that is no number": in_chunks(b"zz"),
    "another version": Answer(200, OWN.headers, OWN.body, version="HTTP/3.7"),
    "a NUL in a header": OWN.adding(("X-Nul", "a\0b")),
}


@pytest.mark.parametrize("form", SOUND)
async def test_a_sound_form_is_understood_and_the_next_run_too(
    upstream: Upstream, gateway: StartGateway, run: RunWorkflow, form: str
) -> None:
    """Whole answers are whole answers, in every form of RFC 9112; each of two runs is sent once."""
    upstream.default = SOUND[form]
    running = await gateway()
    answers = [await run(running, STUDIO) for _ in range(2)]
    assert [(200, RESULT, 1)] * 2 == [(a.status, a.json.get("output"), a.json["attempts"]) for a in answers]
    assert 2 == len(upstream.log)


@pytest.mark.parametrize("form", UNSOUND)
async def test_an_ambiguous_form_is_refused_and_the_next_run_unharmed(
    upstream: Upstream, gateway: StartGateway, run: RunWorkflow, form: str
) -> None:
    """R19: where two readers could see two answers there is none, and its connection is not used again."""
    upstream.script("POST", "/v1/workflows/dep_test/run", [UNSOUND[form]])
    upstream.default = OWN
    running = await gateway()
    answered = await run(running, STUDIO)
    assert (502, "upstream_invalid_response", "unknown") == answered.summary
    after = await run(running, STUDIO)
    assert (200, RESULT) == (after.status, after.json["output"])
    assert [1, 2] == [request.connection.number for request in upstream.log]
