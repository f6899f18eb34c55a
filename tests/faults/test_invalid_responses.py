"""An invalid response is never taken for a result, and never causes a second run."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from tests.support.client import PROMPT_STUDIO_BODY, PROMPTLAYER_BODY
from tests.support.configuration import MAX_RESPONSE
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.fake_upstream.responses import RawBytes, redirect, reply
from tests.support.fake_upstream.upstream import FakeUpstream
from tests.support.process import metric_sum

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.client import PostRun
    from tests.support.fake_upstream.connection import UpstreamConnection
    from tests.support.fake_upstream.faults import ResponseScript
    from tests.support.fake_upstream.responses import FakeResponse

pytestmark = pytest.mark.shared_gateway

INVALID = (502, "upstream_invalid_response", "unknown")


@pytest.mark.parametrize(
    "fault",
    [
        faults.headers_then_fin,
        faults.truncate(5, reply(200, b'{"result": {"completion": "' + b"x" * 71 + b'"}}')),
        faults.truncate(17, reply(200, b'{"result": {}}   ' + b" " * 83)),
        faults.chunked_cut_off(),
    ],
    ids=["headers", "5 of 100", "JSON so far", "chunked"],
)
async def test_a_truncated_response_is_invalid(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun, fault: ResponseScript
) -> None:
    """R05, R06: 502, unknown, exactly one request, even if the received part is valid JSON."""
    upstream.default = fault
    answered = await run(await gateway(), PROMPT_STUDIO_BODY)
    assert INVALID == answered.summary
    assert 1 == len(upstream.received)


@pytest.mark.parametrize("body", [PROMPT_STUDIO_BODY, PROMPTLAYER_BODY], ids=["studio", "layer"])
@pytest.mark.parametrize("status", [401, 403])
async def test_rejected_provider_credentials_are_a_502(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun, body: Mapping[str, JsonValue], status: int
) -> None:
    """R14: 502, not_run, one request, counted for an alert; not a 401, which would refer to the client's key."""
    upstream.default = reply(status, {"message": "Invalid API key"}, [("WWW-Authenticate", "Bearer")])
    running = await gateway()
    answered = await run(running, body)
    assert (502, "upstream_credentials", "not_run") == answered.summary
    assert (1, None) == (len(upstream.received), answered.headers.get("WWW-Authenticate"))
    assert 1 == metric_sum(await running.metrics(), "runward_refusals_total", code="upstream_credentials")


@pytest.mark.parametrize("body", [PROMPT_STUDIO_BODY, PROMPTLAYER_BODY], ids=["studio", "layer"])
async def test_an_unknown_workflow_is_a_404_without_the_upstreams_page(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun, body: Mapping[str, JsonValue]
) -> None:
    """R15: the upstream's text is truncated and cleaned, or omitted."""
    upstream.default = reply(404, {"message": "no\x1b[31m such\nflow " + "very " * 1000})
    answered = await run(await gateway(), body)
    assert (404, "workflow_not_found", "not_run") == answered.summary
    detail = str(answered.json["detail"])
    assert (True, True) == (len(detail) <= 300, detail.isprintable())
    assert 1 == len(upstream.received)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun, status: int
) -> None:
    """R16: the other host receives no connection, and so no key."""
    async with FakeUpstream() as other:
        upstream.default = redirect(other.url + STUDIO_RUN, status)
        answered = await run(await gateway(), PROMPT_STUDIO_BODY)
        assert INVALID == answered.summary
        assert ([], 1) == (other.connections, len(upstream.received))


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (PROMPT_STUDIO_BODY, reply(200, b"<html>It works!</html>")),
        (PROMPT_STUDIO_BODY, reply(200, b"[]")),
        (PROMPT_STUDIO_BODY, reply(200, b'{"other": 1}')),
        (PROMPT_STUDIO_BODY, reply(200, b"")),
        (PROMPTLAYER_BODY, reply(201, {"success": True, "message": "", "workflow_version_execution_id": "787"})),
        (PROMPTLAYER_BODY, reply(201, {"success": False, "message": "", "workflow_version_execution_id": 787})),
        (PROMPTLAYER_BODY, reply(201, {"success": True, "message": ""})),
        (PROMPTLAYER_BODY, reply(201, b"")),
    ],
    ids=["html", "list", "no result", "empty", "id as text", "success false", "no id", "empty start"],
)
async def test_a_wrong_shape_is_no_result(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun, body: Mapping[str, JsonValue], answer: FakeResponse
) -> None:
    """R17: 200 with an invalid shape: 502, and the start is not repeated."""
    upstream.default = answer
    answered = await run(await gateway(), body)
    assert INVALID == answered.summary
    assert 1 == len(upstream.received)


@pytest.mark.own_gateway
@pytest.mark.parametrize(
    ("script", "code"),
    [
        (faults.large_response(200_000_000), "upstream_too_large"),
        (faults.large_chunked_response(200_000_000), "upstream_too_large"),
        (faults.compression_bomb(200_000_000), "upstream_invalid_response"),  # never opened, so its size is never known
    ],
    ids=["announced", "chunked", "bomb"],
)
async def test_an_answer_without_end_costs_no_memory(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun, script: ResponseScript, code: str
) -> None:
    """R18: 200 MB, with or without length, plain or compressed: 502; memory grows by less than three limits."""
    upstream.script("POST", STUDIO_RUN, [prompt_studio_reply({})])
    running = await gateway()
    await run(running, PROMPT_STUDIO_BODY)
    before = running.rss_bytes()
    upstream.default = script
    answered = await run(running, PROMPT_STUDIO_BODY)
    assert (502, code, "unknown") == answered.summary
    assert running.peak_rss_bytes() - before < 3 * MAX_RESPONSE


FAULTS: dict[str, Callable[[FakeResponse], ResponseScript]] = {
    "garbage": lambda _: faults.GARBAGE,
    "long header": lambda own: faults.long_header(answer=own),
    "two lengths": faults.two_lengths,
    "interim flood": lambda own: faults.sequence(faults.interim_responses(20_000), own),
    "101": lambda own: reply(101, own.body),
    "999": lambda own: reply(999, own.body),
    "second answer": lambda own: faults.extra_response(own, prompt_studio_reply({"marker": "unrequested"})),
    "half, then another": lambda own: faults.sequence(
        RawBytes(own.encode()[:-3]),
        faults.delayed(0.001, RawBytes(prompt_studio_reply({"marker": "unrequested"}).encode())),
    ),
}


async def respond_with_fault(connection: UpstreamConnection) -> None:
    """Answer with the marker of the request, through the fault that the request names."""
    assert connection.request is not None
    asked = json.loads(connection.request.body)["input"]
    own = prompt_studio_reply({"marker": asked["marker"]})
    script: ResponseScript = FAULTS[asked["fault"]](own) if asked["fault"] else own
    await script(connection)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_broken_answer_is_a_502(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun, fault: str
) -> None:
    """R19: everything except exactly one valid HTTP response."""
    upstream.default = respond_with_fault
    running = await gateway()
    answered = await run(running, {"workflow": "studio", "input": {"marker": 1, "fault": fault}})
    assert INVALID == answered.summary
    assert 1 == len(upstream.received)
    own = await run(running, {"workflow": "studio", "input": {"marker": 2, "fault": ""}})
    assert (200, {"marker": 2}) == (own.status, own.json["output"])


@pytest.mark.own_gateway
async def test_no_run_gets_the_response_of_another_run(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R19: 1 000 runs, a tenth of them with a fault: each result is that of its run."""
    upstream.default = respond_with_fault
    running = await gateway()
    names = list(FAULTS)
    mixed_up, good = [], 0
    for first in range(0, 1000, 10):
        markers = range(first, first + 10)
        asked: list[dict[str, JsonValue]]
        asked = [{"marker": m, "fault": names[m // 10 % len(names)] if m % 10 == 0 else ""} for m in markers]
        answers = await asyncio.gather(*(run(running, {"workflow": "studio", "input": a}) for a in asked))
        for marker, answered in zip(markers, answers, strict=True):
            good += answered.status == 200
            if answered.status == 200 and answered.json["output"] != {"marker": marker}:
                mixed_up.append((marker, answered.json["output"]))
    assert [] == mixed_up
    assert good >= 900


async def test_an_unsolicited_response_is_discarded(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R19: a second response on an idle connection is not delivered to the next run."""
    own, unasked = prompt_studio_reply({"marker": "own"}), prompt_studio_reply({"marker": "unrequested"})
    upstream.script("POST", STUDIO_RUN, [faults.sequence(own, faults.delayed(0.3, unasked))])
    upstream.default = own
    running = await gateway()
    first = await run(running, PROMPT_STUDIO_BODY)
    await asyncio.sleep(0.6)
    second = await run(running, PROMPT_STUDIO_BODY)
    assert [(200, {"marker": "own"})] * 2 == [(a.status, a.json.get("output")) for a in (first, second)]
