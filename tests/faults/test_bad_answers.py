"""An answer that is not what was asked for is never taken for a result, and never costs a second run."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from tests.client import LAYER, STUDIO
from tests.configuration import MAX_RESPONSE
from tests.faults import faults
from tests.faults.answers import Raw, redirect, reply
from tests.faults.provider_answers import STUDIO_RUN, prompt_studio_reply
from tests.faults.upstream import Upstream
from tests.process import total

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from providers.contract import JsonValue
    from tests.client import RunWorkflow
    from tests.conftest import StartGateway
    from tests.faults.answers import Answer
    from tests.faults.faults import Script
    from tests.faults.wire import Wire

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
async def test_half_an_answer_is_no_answer(
    upstream: Upstream, gateway: StartGateway, run: RunWorkflow, fault: Script
) -> None:
    """R05, R06: 502, unknown, exactly one request, never 200: even where what came is JSON so far."""
    upstream.default = fault
    answered = await run(await gateway(), STUDIO)
    assert INVALID == answered.summary
    assert 1 == len(upstream.log)


@pytest.mark.parametrize("body", [STUDIO, LAYER], ids=["studio", "layer"])
@pytest.mark.parametrize("status", [401, 403])
async def test_our_key_is_our_problem(
    upstream: Upstream, gateway: StartGateway, run: RunWorkflow, body: Mapping[str, JsonValue], status: int
) -> None:
    """R14: 502, not_run, one request, counted for an alert; the client's own key is not called into doubt."""
    upstream.default = reply(status, {"message": "Invalid API key"}, [("WWW-Authenticate", "Bearer")])
    running = await gateway()
    answered = await run(running, body)
    assert (502, "upstream_credentials", "not_run") == answered.summary
    assert (1, None) == (len(upstream.log), answered.headers.get("WWW-Authenticate"))
    assert 1 == total(await running.metrics(), "runward_refusals_total", code="upstream_credentials")


@pytest.mark.parametrize("body", [STUDIO, LAYER], ids=["studio", "layer"])
async def test_an_unknown_workflow_is_a_404_without_the_upstreams_page(
    upstream: Upstream, gateway: StartGateway, run: RunWorkflow, body: Mapping[str, JsonValue]
) -> None:
    """R15: what the upstream wrote is capped and cleaned, or left out."""
    upstream.default = reply(404, {"message": "no\x1b[31m such\nflow " + "very " * 1000})
    answered = await run(await gateway(), body)
    assert (404, "workflow_not_found", "not_run") == answered.summary
    detail = str(answered.json["detail"])
    assert (True, True) == (len(detail) <= 300, detail.isprintable())
    assert 1 == len(upstream.log)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(
    upstream: Upstream, gateway: StartGateway, run: RunWorkflow, status: int
) -> None:
    """R16: the other host sees no connection, and so no key."""
    async with Upstream() as other:
        upstream.default = redirect(other.url + STUDIO_RUN, status)
        answered = await run(await gateway(), STUDIO)
        assert INVALID == answered.summary
        assert ([], 1) == (other.connections, len(upstream.log))


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (STUDIO, reply(200, b"<html>It works!</html>")),
        (STUDIO, reply(200, b"[]")),
        (STUDIO, reply(200, b'{"result": {"completion": NaN}}')),
        (STUDIO, reply(200, b'{"other": 1}')),
        (STUDIO, reply(200, b"")),
        (LAYER, reply(201, {"success": True, "message": "", "workflow_version_execution_id": "787"})),
        (LAYER, reply(201, {"success": False, "message": "", "workflow_version_execution_id": 787})),
        (LAYER, reply(201, {"success": True, "message": ""})),
        (LAYER, reply(201, b"")),
    ],
    ids=["html", "list", "nan", "no result", "empty", "id as text", "success false", "no id", "empty start"],
)
async def test_a_wrong_shape_is_no_result(
    upstream: Upstream, gateway: StartGateway, run: RunWorkflow, body: Mapping[str, JsonValue], answer: Answer
) -> None:
    """R17: 200 with anything but a result: 502, and the start is not repeated."""
    upstream.default = answer
    answered = await run(await gateway(), body)
    assert INVALID == answered.summary
    assert 1 == len(upstream.log)


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (faults.big(200_000_000), "upstream_too_large"),
        (faults.big_chunked(200_000_000), "upstream_too_large"),
        (faults.bomb(200_000_000), "upstream_invalid_response"),  # never opened, so its size is never known
    ],
    ids=["announced", "chunked", "bomb"],
)
async def test_an_answer_without_end_costs_no_memory(
    upstream: Upstream, gateway: StartGateway, run: RunWorkflow, script: Script, code: str
) -> None:
    """R18: 200 MB, announced or not, plain or compressed: 502, and memory grows by less than three times the cap."""
    upstream.script("POST", STUDIO_RUN, [prompt_studio_reply({})])
    running = await gateway()
    await run(running, STUDIO)
    before = running.rss_bytes()
    upstream.default = script
    answered = await run(running, STUDIO)
    assert (502, code, "unknown") == answered.summary
    assert running.peak_rss_bytes() - before < 3 * MAX_RESPONSE


FAULTS: dict[str, Callable[[Answer], Script]] = {
    "garbage": lambda _: faults.GARBAGE,
    "long header": lambda own: faults.long_header(answer=own),
    "two lengths": faults.two_lengths,
    "interim flood": lambda own: faults.then(faults.interim(20_000), own),
    "101": lambda own: reply(101, own.body),
    "999": lambda own: reply(999, own.body),
    "second answer": lambda own: faults.second_answer(own, prompt_studio_reply({"marker": "nobody's"})),
    "half, then another": lambda own: faults.then(
        Raw(own.encode()[:-3]), faults.after(0.001, Raw(prompt_studio_reply({"marker": "nobody's"}).encode()))
    ),
}


async def as_asked(wire: Wire) -> None:
    """Answer with the marker of the request, by the fault that the request names."""
    assert wire.request is not None
    asked = json.loads(wire.request.body)["input"]
    own = prompt_studio_reply({"marker": asked["marker"]})
    script: Script = FAULTS[asked["fault"]](own) if asked["fault"] else own
    await script(wire)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_broken_answer_is_a_502(
    upstream: Upstream, gateway: StartGateway, run: RunWorkflow, fault: str
) -> None:
    """R19: what is not one clean HTTP answer is no answer."""
    upstream.default = as_asked
    running = await gateway()
    answered = await run(running, {"workflow": "studio", "input": {"marker": 1, "fault": fault}})
    assert INVALID == answered.summary
    assert 1 == len(upstream.log)
    own = await run(running, {"workflow": "studio", "input": {"marker": 2, "fault": ""}})
    assert (200, {"marker": 2}) == (own.status, own.json["output"])


async def test_no_run_gets_anothers_answer(upstream: Upstream, gateway: StartGateway, run: RunWorkflow) -> None:
    """R19: over 1 000 runs, a tenth of them broken in some way, each result is its own run's."""
    upstream.default = as_asked
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


async def test_an_answer_that_nobody_asked_for_reaches_nobody(
    upstream: Upstream, gateway: StartGateway, run: RunWorkflow
) -> None:
    """R19: a second answer that comes while the connection is idle is not the next run's."""
    own, unasked = prompt_studio_reply({"marker": "own"}), prompt_studio_reply({"marker": "nobody's"})
    upstream.script("POST", STUDIO_RUN, [faults.then(own, faults.after(0.3, unasked))])
    upstream.default = own
    running = await gateway()
    first = await run(running, STUDIO)
    await asyncio.sleep(0.6)
    second = await run(running, STUDIO)
    assert [(200, {"marker": "own"})] * 2 == [(a.status, a.json.get("output")) for a in (first, second)]
