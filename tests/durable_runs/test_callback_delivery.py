"""Callback delivery: signatures, retries, and abandoned callbacks (dead letters)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from standardwebhooks.webhooks import WebhookVerificationError

from tests.support.callback_receiver import CALLBACK_PATH, delivered_run, deliveries, message_ids, verify_signature
from tests.support.client import PROMPT_STUDIO_BODY, PROMPTLAYER_BODY, auth_headers
from tests.support.configuration import PROVIDER_SECRETS
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.provider_responses import LAYER_RUN, STUDIO_RUN, prompt_studio_reply
from tests.support.fake_upstream.responses import redirect, reply
from tests.support.fake_upstream.upstream import FakeUpstream
from tests.support.gateway_restarts import CALLBACK_SECRETS, RestartableGateway
from tests.support.process import ROOT, metric_sum
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.fake_upstream.faults import ResponseScript

NEW_SECRET, OLD_SECRET = CALLBACK_SECRETS.values()


@pytest.fixture
def restartable(
    gateway: StartGateway, session: aiohttp.ClientSession, upstream: FakeUpstream, tmp_path: Path
) -> RestartableGateway:
    """Gateway that is not started yet; Prompt Studio succeeds."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply({"completion": "because “ü”"}))
    return RestartableGateway(gateway, session, tmp_path / "runward.db")


async def run_with_callback(restartable: RestartableGateway, receiver: FakeUpstream, **more: JsonValue) -> str:
    """Return the id of a run with a settled callback."""
    run_id = await restartable.submit_async(
        {**PROMPT_STUDIO_BODY, "callback_url": receiver.url + CALLBACK_PATH, **more}
    )
    await restartable.wait_for_callback(run_id)
    return run_id


async def test_a_delivery_is_signed_and_has_the_document_of_the_run(
    receiver: FakeUpstream, restartable: RestartableGateway
) -> None:
    """R50: an independent library verifies each attempt: same id, new timestamp, body equal to GET /runs/{id}."""
    receiver.script("POST", CALLBACK_PATH, [reply(500)])
    await restartable.start(callbacks={"schedule": ["0s", "1500ms"]})
    run_id = await run_with_callback(restartable, receiver, metadata={"order": "7"})
    first, second = deliveries(receiver)
    for delivery in (first, second):
        verify_signature(delivery, NEW_SECRET)
        with pytest.raises(WebhookVerificationError):
            verify_signature(delivery, OLD_SECRET)
    assert {f"msg_{run_id}"} == message_ids(receiver)
    assert int(first.header("webhook-timestamp") or 0) < int(second.header("webhook-timestamp") or 0)
    assert first.body == second.body
    assert await restartable.get_run(run_id) == {**delivered_run(first), "callback": {"state": "delivered"}}
    assert ("succeeded", {"order": "7"}) == (delivered_run(first)["status"], delivered_run(first)["metadata"])


async def test_a_failed_run_is_delivered(
    upstream: FakeUpstream, receiver: FakeUpstream, restartable: RestartableGateway
) -> None:
    """The callback has the error of the run, as the gateway's API shows it."""
    upstream.always("POST", STUDIO_RUN, reply(500, b"secret words"))
    await restartable.start()
    await run_with_callback(restartable, receiver)
    (delivery,) = deliveries(receiver)
    error = delivered_run(delivery)["error"]
    assert isinstance(error, dict)
    assert ("failed", "run_failed") == (delivered_run(delivery)["status"], error["code"])
    assert b"secret words" not in delivery.body


async def test_two_secrets_sign_until_the_old_one_is_gone(
    receiver: FakeUpstream, restartable: RestartableGateway
) -> None:
    """R51: two secrets give two signatures, either of which suffices; then only the new one."""
    both: list[JsonValue] = [{"env": name} for name in CALLBACK_SECRETS]
    await restartable.start(callbacks={"secrets": both})
    await run_with_callback(restartable, receiver)
    await restartable.current.stop()
    await restartable.start(callbacks={"secrets": both[:1]})
    await run_with_callback(restartable, receiver)
    during, afterwards = deliveries(receiver)
    verify_signature(during, NEW_SECRET)
    verify_signature(during, OLD_SECRET)
    verify_signature(afterwards, NEW_SECRET)
    with pytest.raises(WebhookVerificationError):
        verify_signature(afterwards, OLD_SECRET)
    signatures = [str(each.header("webhook-signature")).split(" ") for each in (during, afterwards)]
    assert [2, 1] == [len(each) for each in signatures]


@pytest.mark.parametrize(
    "fault",
    [reply(500), reply(404), faults.rst_after_request, faults.fin_after_request],
    ids=["500", "404", "rst", "fin"],
)
async def test_a_failed_delivery_is_repeated_on_the_schedule(
    receiver: FakeUpstream, restartable: RestartableGateway, fault: ResponseScript
) -> None:
    """R52: for every failure, after the scheduled delay less at most a fifth (jitter)."""
    receiver.script("POST", CALLBACK_PATH, [fault, fault])
    await restartable.start(callbacks={"schedule": ["0s", "500ms", "1s"]})
    run_id = await run_with_callback(restartable, receiver)
    assert {"state": "delivered"} == await restartable.wait_for_callback(run_id)
    first, second = receiver.request_gaps()
    assert first >= 0.4
    assert second >= 0.8
    assert {f"msg_{run_id}"} == message_ids(receiver)


async def test_retry_after_is_honoured(receiver: FakeUpstream, restartable: RestartableGateway) -> None:
    """R52: a Retry-After of two seconds replaces a shorter scheduled delay."""
    receiver.script("POST", CALLBACK_PATH, [reply(503, headers={"Retry-After": "2"})])
    await restartable.start(callbacks={"schedule": ["0s", "100ms"]})
    await run_with_callback(restartable, receiver)
    (gap,) = receiver.request_gaps()
    assert gap >= 2


async def test_gone_is_the_end(receiver: FakeUpstream, restartable: RestartableGateway) -> None:
    """R52: 410 ends the deliveries at once, visible in the run."""
    receiver.default = reply(410)
    await restartable.start(callbacks={"schedule": ["0s", "0s", "0s"]})
    run_id = await run_with_callback(restartable, receiver)
    assert {"state": "gave_up"} == await restartable.wait_for_callback(run_id)
    await asyncio.sleep(1)
    assert 1 == len(receiver.received)


async def test_a_redirect_is_a_failure(receiver: FakeUpstream, restartable: RestartableGateway) -> None:
    """R52, R59: it is not followed, and the next attempt has the same target."""
    receiver.script("POST", CALLBACK_PATH, [redirect("/elsewhere", 307), redirect("/elsewhere", 302)])
    await restartable.start()
    run_id = await run_with_callback(restartable, receiver)
    assert [CALLBACK_PATH] * 3 == [request.path for request in receiver.received]
    assert {"state": "delivered"} == await restartable.wait_for_callback(run_id)


async def test_an_abandoned_callback_is_visible(receiver: FakeUpstream, restartable: RestartableGateway) -> None:
    """R55: after the last attempt, in the run, in a metric and in the log; the run itself is unchanged."""
    receiver.default = reply(500)
    running = await restartable.start(callbacks={"schedule": ["0s", "100ms", "100ms"]})
    run_id = await run_with_callback(restartable, receiver)
    shown = await restartable.get_run(run_id)
    assert ("succeeded", {"state": "gave_up"}) == (shown["status"], shown["callback"])
    assert 3 == len(deliveries(receiver))
    assert {f"msg_{run_id}"} == message_ids(receiver)
    samples = await running.metrics()
    assert 1 == metric_sum(samples, "runward_callbacks_given_up_total")
    assert 3 == metric_sum(samples, "runward_callbacks_total", result="5xx")
    assert [run_id] == [line["run_id"] for line in running.logs("callback_given_up")]


async def test_each_run_is_delivered_once(receiver: FakeUpstream, restartable: RestartableGateway) -> None:
    """R55: twenty runs, each delivered once under its own id."""
    await restartable.start()
    orders = (
        restartable.submit_async({**PROMPT_STUDIO_BODY, "callback_url": receiver.url + CALLBACK_PATH})
        for _ in range(20)
    )
    runs = await asyncio.gather(*orders)
    await asyncio.gather(*(restartable.wait_for_callback(run_id) for run_id in runs))
    ids = [str(each.header("webhook-id")) for each in deliveries(receiver)]
    assert sorted(f"msg_{run_id}" for run_id in runs) == sorted(ids)


async def test_a_hanging_receiver_delays_no_other_receiver(
    receiver: FakeUpstream, restartable: RestartableGateway
) -> None:
    """R53: an unresponsive receiver does not delay deliveries to others."""
    receiver.always("POST", "/slow", faults.hang)
    await restartable.start()
    await restartable.submit_async({**PROMPT_STUDIO_BODY, "callback_url": receiver.url + "/slow"})
    await wait_until(lambda: deliveries(receiver, "/slow"))
    run_id = await run_with_callback(restartable, receiver)
    assert {"state": "delivered"} == await restartable.wait_for_callback(run_id)


async def test_without_a_secret_there_are_no_callbacks(
    upstream: FakeUpstream, receiver: FakeUpstream, restartable: RestartableGateway
) -> None:
    """A callback that could not be signed is refused before the run."""
    await restartable.start(callbacks={"secrets": []})
    answered = await restartable.post({**PROMPT_STUDIO_BODY, "callback_url": receiver.url + CALLBACK_PATH})
    assert (422, "callback_url_refused") == answered.summary[:2]
    assert ([], []) == (upstream.received, receiver.received)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/hook",
        "https://localhost/hook",
        "https://169.254.169.254/",
        "https://[::1]/",
        "http://10.1.2.3/",
    ],
)
async def test_private_receivers_must_be_allowed(
    upstream: FakeUpstream, restartable: RestartableGateway, url: str
) -> None:
    """R56: other private receivers are refused before the run; an Idempotency-Key of such a request stays free."""
    await restartable.start(callbacks={"allow": []})
    answered = await restartable.post({**PROMPT_STUDIO_BODY, "callback_url": url}, Idempotency_Key="one")
    assert (422, "callback_url_refused") == answered.summary[:2]
    assert [] == upstream.received
    assert 200 == (await restartable.post(PROMPT_STUDIO_BODY, Idempotency_Key="one")).status


async def test_the_gateway_does_not_call_itself(upstream: FakeUpstream, restartable: RestartableGateway) -> None:
    """Its own ports are refused, even if its address is allowed."""
    running = await restartable.start()
    for url in (running.url + "/run", running.ops_url + "/metrics", running.url.replace("127.0.0.1", "0.0.0.0")):
        answered = await restartable.post({**PROMPT_STUDIO_BODY, "callback_url": url})
        assert (422, "callback_url_refused") == answered.summary[:2], url
    assert [] == upstream.received


async def test_nothing_is_delivered_unsigned(receiver: FakeUpstream, restartable: RestartableGateway) -> None:
    """R50: a callback that is due without a configured secret waits for one."""
    receiver.script("POST", CALLBACK_PATH, [reply(503, headers={"Retry-After": "1"})])
    await restartable.start()
    run_id = await restartable.submit_async({**PROMPT_STUDIO_BODY, "callback_url": receiver.url + CALLBACK_PATH})
    await wait_until(lambda: deliveries(receiver))
    await restartable.current.stop()
    await restartable.start(callbacks={"secrets": []})
    await asyncio.sleep(2)
    assert 1 == len(deliveries(receiver))
    await restartable.current.stop()
    await restartable.start(callbacks={"secrets": [{"env": "RUNWARD_CALLBACK_SECRET"}]})
    assert {"state": "delivered"} == await restartable.wait_for_callback(run_id)
    for delivery in deliveries(receiver):
        verify_signature(delivery, NEW_SECRET)


async def test_secrets_stay_secret(
    upstream: FakeUpstream, receiver: FakeUpstream, restartable: RestartableGateway
) -> None:
    """R79: receivers never get a provider key, and the log never has a signing secret."""
    upstream.always("POST", LAYER_RUN, faults.rst_after_request)
    running = await restartable.start(callbacks={"schedule": ["0s"]})
    receiver.default = reply(500)
    await run_with_callback(restartable, receiver, **PROMPTLAYER_BODY)
    (delivery,) = deliveries(receiver)
    sent = delivery.head + delivery.body
    assert [] == [name for name, secret in PROVIDER_SECRETS.items() if secret.encode() in sent]
    await running.stop()
    assert [] == [name for name, secret in CALLBACK_SECRETS.items() if secret[6:] in running.stdout + running.stderr]


def run_replay_command(restartable: RestartableGateway, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `runward callbacks replay` against the gateway."""
    command = [sys.executable, "-m", "gateway", "callbacks", "replay", *words, "--ops-url", restartable.current.ops_url]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("all_of_them", [True, False])
async def test_an_abandoned_callback_can_be_replayed(
    receiver: FakeUpstream,
    restartable: RestartableGateway,
    all_of_them: bool,  # noqa: FBT001 - a value
) -> None:
    """R55: by a command to the operations port; the same message again, and delivered callbacks are unchanged."""
    receiver.script("POST", CALLBACK_PATH, [reply(410)])
    await restartable.start()
    given_up, delivered = await run_with_callback(restartable, receiver), await run_with_callback(restartable, receiver)
    assert {"state": "gave_up"} == await restartable.wait_for_callback(given_up)
    said = await asyncio.to_thread(run_replay_command, restartable, "--given-up" if all_of_them else given_up)
    assert (0, f"{given_up}\n") == (said.returncode, said.stdout), said.stderr
    await wait_until(lambda: len(receiver.requests("POST", CALLBACK_PATH)) == 3)
    assert {"state": "delivered"} == await restartable.wait_for_callback(given_up)
    first, second, third = (each.header("webhook-id") for each in deliveries(receiver))
    assert (f"msg_{given_up}", f"msg_{delivered}") == (first, second)
    assert first == third
    said = await asyncio.to_thread(run_replay_command, restartable, "--given-up")
    assert (0, "") == (said.returncode, said.stdout)


async def test_replays_are_for_operators(
    receiver: FakeUpstream, restartable: RestartableGateway, session: aiohttp.ClientSession
) -> None:
    """Not on the public port, not by cross-site requests of a browser, and not for runs without a callback."""
    receiver.script("POST", CALLBACK_PATH, [reply(410)])
    await restartable.start()
    run_id = await run_with_callback(restartable, receiver)
    json = {"Content-Type": "application/json"}
    for url, headers, status in (
        (f"{restartable.current.url}/callbacks/replay/{run_id}", {**json, **auth_headers("one")}, 404),
        (f"{restartable.current.ops_url}/callbacks/replay/{run_id}", {"Content-Type": "text/plain"}, 415),
        (f"{restartable.current.ops_url}/callbacks/replay/{run_id}", {}, 415),
        (f"{restartable.current.ops_url}/callbacks/replay/run_other", json, 404),
        (f"{restartable.current.ops_url}/callbacks/replay/{'x' * 1000}", json, 404),
        (f"{restartable.current.ops_url}/callbacks/replay/%00", json, 404),
        (
            f"{restartable.current.ops_url}/callbacks/replay/{run_id}",
            {**json, "Origin": restartable.current.ops_url},
            403,
        ),
    ):
        async with session.post(url, headers=headers) as answer:
            assert status == answer.status, url
    for query, status in (("state=gone", 422), ("after=%20", 422), ("", 200), ("state=delivered", 200)):
        async with session.get(f"{restartable.current.ops_url}/callbacks?{query}") as answer:
            assert status == answer.status, query
    assert {"state": "gave_up"} == await restartable.wait_for_callback(run_id)
    assert 1 == len(receiver.requests("POST", CALLBACK_PATH))
