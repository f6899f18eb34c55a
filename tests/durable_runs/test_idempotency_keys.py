"""Idempotency-Key: one run per key, and the same answer byte for byte."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import TYPE_CHECKING

import pytest

from tests.support.client import PROMPT_STUDIO_BODY, auth_headers
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.fake_upstream.responses import reply
from tests.support.raw_client import JSON, build_head, build_run, send_request
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.client import PostRun, ReceivedResponse
    from tests.support.fake_upstream.upstream import FakeUpstream
    from tests.support.process import GatewayProcess

pytestmark = pytest.mark.shared_gateway

DONE = prompt_studio_reply({"completion": "becäuse"})
ASYNC = {"Prefer": "respond-async"}


@pytest.fixture
def run(run: PostRun) -> PostRun:
    """Client whose keys are unique to the test, because tests share gateways."""
    prefix = secrets.token_hex(8)

    async def post(
        gateway: GatewayProcess, body: Mapping[str, JsonValue], *, client: str = "one", **headers: str
    ) -> ReceivedResponse:
        key = {"Idempotency_Key": f"{prefix}-{headers['Idempotency_Key']}"}
        return await run(gateway, body, client=client, **headers | key)

    return post


def is_replay(first: ReceivedResponse, again: ReceivedResponse) -> bool:
    """Return True if the second response replays the first: status, body, type, and the replay header."""
    same = (first.status, first.body, first.headers["Content-Type"], first.headers.get("Location"))
    other = (again.status, again.body, again.headers["Content-Type"], again.headers.get("Location"))
    marks = first.headers.getall("Idempotent-Replayed", []), again.headers.getall("Idempotent-Replayed", [])
    return same == other and ([], ["true"]) == marks


async def test_a_key_gives_the_same_answer_again(upstream: FakeUpstream, gateway: StartGateway, run: PostRun) -> None:
    """R37: the same bytes, marked as a replay, with the request id of the new request; one start."""
    upstream.default = DONE
    running = await gateway()
    first = await run(running, PROMPT_STUDIO_BODY, Idempotency_Key="k")
    assert 200 == first.status
    for _ in range(2):
        again = await run(running, PROMPT_STUDIO_BODY, Idempotency_Key="k", X_Request_Id="mine")
        assert is_replay(first, again)
        assert "mine" == again.headers["X-Request-Id"]
    assert 1 == len(upstream.received)


async def test_a_key_gives_the_same_202_again(upstream: FakeUpstream, gateway: StartGateway, run: PostRun) -> None:
    """R37: during the run and after its end."""
    upstream.default = faults.delayed(0.3, DONE)
    running = await gateway()
    first = await run(running, PROMPT_STUDIO_BODY, Idempotency_Key="k", **ASYNC)
    assert (202, "queued") == (first.status, first.json["status"])
    assert is_replay(first, await run(running, PROMPT_STUDIO_BODY, Idempotency_Key="k", **ASYNC))
    await wait_until(lambda: running.logs("run_ended"))
    assert is_replay(first, await run(running, PROMPT_STUDIO_BODY, Idempotency_Key="k", **ASYNC))
    assert 1 == len(upstream.received)


@pytest.mark.parametrize("headers", [{}, ASYNC], ids=["waiting", "async"])
async def test_a_hundred_concurrent_requests_start_one_run(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun, headers: dict[str, str]
) -> None:
    """R38: the others get its answer, or a 409 while it is in progress."""
    upstream.default = faults.delayed(0.5, DONE)
    running = await gateway()
    answers = await asyncio.gather(
        *(run(running, PROMPT_STUDIO_BODY, Idempotency_Key="k", **headers) for _ in range(100))
    )
    assert {200, 409} >= {a.status for a in answers} or {202} == {a.status for a in answers}
    assert 1 == len({a.json["id"] for a in answers if a.status != 409})
    assert 1 == sum("Idempotent-Replayed" not in a.headers for a in answers if a.status != 409)
    for refused in (a for a in answers if a.status == 409):
        assert ("idempotency_in_flight", True) == (refused.json["code"], refused.json["retryable"])
        assert int(refused.headers["Retry-After"]) >= 1
    await wait_until(lambda: upstream.received)
    assert 1 == len(upstream.received)


async def test_a_key_with_another_body_is_refused(upstream: FakeUpstream, gateway: StartGateway, run: PostRun) -> None:
    """R39: 422 during and after the first run; the provider receives nothing."""
    upstream.default = faults.delayed(0.3, DONE)
    running = await gateway()
    first = asyncio.ensure_future(run(running, PROMPT_STUDIO_BODY, Idempotency_Key="k"))
    await wait_until(lambda: upstream.received)
    other: dict[str, JsonValue] = {**PROMPT_STUDIO_BODY, "input": {"question": "how?"}}
    assert (422, "idempotency_mismatch", None) == (await run(running, other, Idempotency_Key="k")).summary
    assert 200 == (await first).status
    assert (422, "idempotency_mismatch", None) == (await run(running, other, Idempotency_Key="k")).summary
    assert 1 == len(upstream.received)


async def test_the_same_json_is_the_same_body(
    upstream: FakeUpstream, gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    """R39: in every notation."""
    upstream.default = DONE
    running = await gateway()
    texts = [
        '{"workflow":"studio","input":{"a":1,"b":"é"}}',
        '{ "input" : {"b":"\\u00e9", "a":1},\r\n "workflow":"\\u0073tudio" }',
    ]
    headers = auth_headers("one") | {"Idempotency-Key": "k", "Content-Type": "application/json"}
    bodies = []
    for text in texts:
        async with session.post(running.url + "/run", data=text.encode(), headers=headers) as answer:
            bodies.append(await answer.read())
    assert bodies[0] == bodies[1]
    assert 1 == len(upstream.received)


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (faults.fin_after_request, (502, "upstream_disconnected", "unknown")),
        (reply(502, {}), (502, "upstream_error", "unknown")),
        (reply(500, {}), (502, "run_failed", "failed")),
        (reply(200, b"{"), (502, "upstream_invalid_response", "unknown")),
        (faults.hang, (504, "upstream_timeout", "unknown")),
    ],
    ids=["disconnected", "bad gateway", "failed", "no JSON", "hangs"],
)
async def test_what_was_dispatched_is_stored(
    upstream: FakeUpstream,
    gateway: StartGateway,
    run: PostRun,
    script: faults.ResponseScript,
    told: tuple[int, str, str],
) -> None:
    """R40: a second start would be paid again."""
    upstream.default = script
    running = await gateway()
    body: dict[str, JsonValue] = {**PROMPT_STUDIO_BODY, "timeout": 0.5}
    first = await run(running, body, Idempotency_Key="k")
    assert told == first.summary
    upstream.default = DONE
    assert is_replay(first, await run(running, body, Idempotency_Key="k"))
    assert 1 == len(upstream.received)


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (reply(422, {"message": "no"}), (422, "rejected_by_provider", "not_run")),
        (reply(401, {}), (502, "upstream_credentials", "not_run")),
        (reply(404, {}), (404, "workflow_not_found", "not_run")),
        (reply(429, {}, [("Retry-After", "60")]), (503, "upstream_throttled", "not_run")),
        (reply(503, {}, [("Retry-After", "60")]), (503, "upstream_unavailable", "not_run")),
    ],
    ids=["rejected", "credentials", "unknown there", "throttled", "unavailable"],
)
async def test_what_was_not_run_is_not_stored(
    upstream: FakeUpstream,
    gateway: StartGateway,
    run: PostRun,
    script: faults.ResponseScript,
    told: tuple[int, str, str],
) -> None:
    """R40: the same key can start the run later."""
    upstream.script("POST", STUDIO_RUN, [script])
    upstream.default = DONE
    running = await gateway()
    assert told == (await run(running, PROMPT_STUDIO_BODY, Idempotency_Key="k")).summary
    again = await run(running, PROMPT_STUDIO_BODY, Idempotency_Key="k")
    assert (200, None) == (again.status, again.headers.get("Idempotent-Replayed"))
    assert 2 == len(upstream.received)


async def test_a_provider_that_is_not_there_is_not_stored(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R40: nothing was sent."""
    upstream.default = DONE
    running = await gateway(breaker={"failures": 100})
    await upstream.stop()
    assert (502, "upstream_unreachable", "not_run") == (
        await run(running, PROMPT_STUDIO_BODY, Idempotency_Key="k")
    ).summary
    await upstream.start()
    assert 200 == (await run(running, PROMPT_STUDIO_BODY, Idempotency_Key="k")).status


async def test_a_refusal_is_not_stored(upstream: FakeUpstream, gateway: StartGateway, run: PostRun) -> None:
    """R40: invalid key, invalid body, unknown workflow and client limit leave the Idempotency-Key free."""
    upstream.default = DONE
    running = await gateway(clients={"two": {"limits": {"rate": "1/s", "burst": 1}}})
    assert 401 == (await run(running, PROMPT_STUDIO_BODY, Authorization="Bearer no", Idempotency_Key="k")).status
    assert 422 == (await run(running, {**PROMPT_STUDIO_BODY, "what": 1}, Idempotency_Key="k")).status
    assert 404 == (await run(running, {**PROMPT_STUDIO_BODY, "workflow": "none"}, Idempotency_Key="k")).status
    assert 200 == (await run(running, PROMPT_STUDIO_BODY, Idempotency_Key="k")).status
    assert 200 == (await run(running, PROMPT_STUDIO_BODY, client="two", Idempotency_Key="first")).status
    limited = await run(running, PROMPT_STUDIO_BODY, client="two", Idempotency_Key="k")
    assert (429, "rate_limited", "not_run") == limited.summary
    await asyncio.sleep(float(limited.headers["Retry-After"]) + 0.1)
    served = await run(running, PROMPT_STUDIO_BODY, client="two", Idempotency_Key="k")
    assert (200, None) == (served.status, served.headers.get("Idempotent-Replayed"))


async def test_a_key_belongs_to_its_client(upstream: FakeUpstream, gateway: StartGateway, run: PostRun) -> None:
    """R41: the same key of another client is another run, with the same body or a different one."""
    upstream.default = DONE
    running = await gateway()
    first = await run(running, PROMPT_STUDIO_BODY, Idempotency_Key="k")
    other = await run(running, PROMPT_STUDIO_BODY, client="two", Idempotency_Key="k")
    assert (200, None) == (other.status, other.headers.get("Idempotent-Replayed"))
    assert first.json["id"] != other.json["id"]
    assert 2 == len(upstream.received)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ("Idempotency-Key: ", "invalid_idempotency_key"),
        ("Idempotency-Key: " + "x" * 256, "invalid_idempotency_key"),
        ("Idempotency-Key: a\tb", "invalid_idempotency_key"),
        ("Idempotency-Key: \xe9", "invalid_idempotency_key"),
        ("Idempotency-Key: a\r\nIdempotency-Key: b", "invalid_idempotency_key"),
        ("Idempotency-Key: a\r\nIdempotency-Key: a", "invalid_idempotency_key"),
        ("Idempotency-Key: a\r\nidempotency-key: a", "invalid_idempotency_key"),
        ("Idempotency-Key: a\x01b", "malformed_request"),
        ("Idempotency-Key: a\x00b", "malformed_request"),
    ],
)
async def test_what_is_no_key_is_refused(upstream: FakeUpstream, gateway: StartGateway, fields: str, code: str) -> None:
    """R42: 400 before a start; bytes that HTTP forbids in a header are malformed HTTP."""
    upstream.default = DONE
    running = await gateway()
    body = json.dumps(dict(PROMPT_STUDIO_BODY)).encode()
    sent = build_head(headers={**JSON, "Content-Length": str(len(body))}).removesuffix(b"\r\n")
    answer = await send_request(running.url, sent + fields.encode("latin-1") + b"\r\n\r\n" + body)
    assert (400, code) == answer.summary
    assert [] == upstream.received


async def test_the_longest_key_is_one(upstream: FakeUpstream, gateway: StartGateway) -> None:
    """R42: 255 characters."""
    upstream.default = DONE
    running = await gateway()
    answers = [await send_request(running.url, build_run(headers={"Idempotency-Key": "x" * 255})) for _ in range(2)]
    assert answers[0].body == answers[1].body
    assert "true" == answers[1].header("Idempotent-Replayed")
    assert 1 == len(upstream.received)
