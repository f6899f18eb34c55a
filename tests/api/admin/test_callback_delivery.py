"""Test deliveries of callbacks, and delivery again of all that were given up since a time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.supervisor.test_workers_on_redis import WORKERS
from tests.support.callback_receiver import CALLBACK_PATH, deliveries, verify_signature
from tests.support.client import PROMPT_STUDIO_BODY
from tests.support.configuration import PROVIDER_SECRETS
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.fake_upstream.responses import reply
from tests.support.fake_upstream.upstream import closed_port
from tests.support.gateway_restarts import CALLBACK_SECRETS, RestartableGateway

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from tests.conftest import StartGateway
    from tests.support.fake_upstream.upstream import FakeUpstream
    from tests.support.process import GatewayProcess


async def post(
    session: aiohttp.ClientSession, running: GatewayProcess, name: str, **body: Any
) -> tuple[int, dict[str, Any]]:
    """POST /api/callbacks/{name}; returns status and document."""
    async with session.post(f"{running.ops_url}/api/callbacks/{name}", json=body) as answer:
        return answer.status, await answer.json()


async def ended_acts(session: aiohttp.ClientSession, running: GatewayProcess, name: str) -> list[dict[str, Any]]:
    """Return the audit records of the ends of requests of this name, oldest first."""
    url = f"{running.ops_url}/api/audit?action=callbacks.{name}&order=oldest"
    async with session.get(url) as answer:
        return [each for each in (await answer.json())["records"] if each["result"] != "begun"]


@pytest.mark.parametrize("workers", [False, True], ids=["one process", "two workers"])
async def test_a_test_message_is_judged_signed_and_sent_as_a_callback(
    gateway: StartGateway,
    session: aiohttp.ClientSession,
    receiver: FakeUpstream,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    *,
    workers: bool,
) -> None:
    """One request, whatever the receiver answers; a target that is not allowed gets none."""
    receiver.script("POST", CALLBACK_PATH, [reply(204), reply(500), faults.rst_after_request])
    running = await gateway(
        env={**(WORKERS if workers else PROVIDER_SECRETS), **CALLBACK_SECRETS},
        store={"url": request.getfixturevalue("valkey").url if workers else f"sqlite:///{tmp_path}/runward.db"},
        callbacks={"secrets": [{"env": "RUNWARD_CALLBACK_SECRET"}], "allow": ["127.0.0.1/32"]},
    )
    url = receiver.url + CALLBACK_PATH
    answers = [(await post(session, running, "test", url=url))[1] for _ in range(3)]
    assert [(True, 204, None), (False, 500, None), (False, None, "disconnected")] == [
        (each["accepted"], each["status"], each["fault"]) for each in answers
    ]
    received = deliveries(receiver)
    assert [each["webhook_id"] for each in answers] == [each.header("webhook-id") for each in received]
    assert answers[0]["sent_bytes"] == len(received[0].body)
    verify_signature(received[0], CALLBACK_SECRETS["RUNWARD_CALLBACK_SECRET"])
    assert "callback.test" == json.loads(received[0].body)["type"]
    with closed_port() as closed:
        assert "unreachable" == (await post(session, running, "test", url=closed))[1]["fault"]
    for refused in ("http://10.0.0.1/hook", "https://user:secret@10.0.0.1", running.ops_url):
        status, document = await post(session, running, "test", url=refused)
        assert (422, "callback_url_refused") == (status, document["code"])
    assert 3 == len(receiver.received)
    acts = await ended_acts(session, running, "test")
    assert [
        ("127.0.0.1", "204", "succeeded", ""),
        ("127.0.0.1", "500", "succeeded", ""),
        ("127.0.0.1", "disconnected", "succeeded", ""),
        ("127.0.0.1", "unreachable", "succeeded", ""),
        ("10.0.0.1", None, "refused", "callback_url_refused"),
        ("", None, "refused", "callback_url_refused"),
        ("127.0.0.1", None, "refused", "callback_url_refused"),
    ] == [(each["target"], each["details"].get("result"), each["result"], each["code"]) for each in acts]


async def test_without_a_secret_no_test_message_is_sent(gateway: StartGateway, session: aiohttp.ClientSession) -> None:
    running = await gateway()
    status, document = await post(session, running, "test", url="https://example.com/hook")
    assert (422, "callback_url_refused") == (status, document["code"])
    assert "No secret" in document["detail"]


async def test_callbacks_given_up_since_a_time_are_delivered_again_after_a_plan(
    gateway: StartGateway,
    session: aiohttp.ClientSession,
    upstream: FakeUpstream,
    receiver: FakeUpstream,
    tmp_path: Path,
) -> None:
    """The plan changes nothing; the runs that ended before, and other receivers, are left out."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    receiver.script("POST", CALLBACK_PATH, [reply(410), reply(410)])
    restartable = RestartableGateway(gateway, session, tmp_path / "runward.db")
    running = await restartable.start()
    ids = []
    for _ in range(2):
        ids.append(await restartable.submit_async({**PROMPT_STUDIO_BODY, "callback_url": receiver.url + CALLBACK_PATH}))
        await restartable.wait_for_callback(ids[-1])
    async with session.get(f"{running.ops_url}/api/runs/{ids[1]}") as answer:
        since = (await answer.json())["finished_at"]
    planned = {"count": 1, "hosts": [{"host": "127.0.0.1", "count": 1}], "more": False, "due": None}
    assert (200, planned) == await post(session, running, "recover", since=since)
    assert (200, 0) == ((r := await post(session, running, "recover", since=since, host="other"))[0], r[1]["count"])
    assert 2 == len(deliveries(receiver))
    assert (200, planned | {"due": 1}) == await post(session, running, "recover", since=since, dry_run=False)
    await restartable.wait_for_callback(ids[1])
    assert [ids[0], ids[1], ids[1]] == [json.loads(each.body)["data"]["id"] for each in deliveries(receiver)]
    assert (200, 0) == ((r := await post(session, running, "recover", since=since))[0], r[1]["count"])
    for wrong in ("yesterday", "2026-11-21T12:00:00", "9999-12-31T23:59:59-23:59"):
        status, document = await post(session, running, "recover", since=wrong)
        assert (422, "/since") == (status, document["errors"][0]["pointer"])


async def test_the_records_of_a_recovery_say_what_was_recovered(
    gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    running = await gateway()
    assert 200 == (await post(session, running, "recover", since="2026-11-21T12:00:00+02:00", host="a"))[0]
    assert 200 == (await post(session, running, "recover", since="2026-11-21T12:00:00Z", dry_run=False))[0]
    assert [
        ("a", {"since": "2026-11-21T10:00:00.000Z", "step": "plan"}),
        ("", {"since": "2026-11-21T12:00:00.000Z", "step": "start", "runs": "0"}),
    ] == [(each["target"], each["details"]) for each in await ended_acts(session, running, "recover")]
