"""What a receiver of callbacks sees: signed, repeated as promised, and given up where everybody can see it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from standardwebhooks.webhooks import WebhookVerificationError

from tests.client import LAYER, STUDIO, bearer
from tests.configuration import SECRETS
from tests.durable.lives import CALLBACK_SECRETS, Lives, until
from tests.durable.receiver import HOOK, deliveries, document, message_ids, verify
from tests.faults import faults
from tests.faults.answers import redirect, reply
from tests.faults.provider_answers import LAYER_RUN, STUDIO_RUN, prompt_studio_reply
from tests.faults.upstream import Upstream
from tests.process import ROOT, total

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.faults.faults import Script

NEW, OLD = CALLBACK_SECRETS.values()
LATE = 1.5  # seconds: between two looks for what is due, and for a machine that is busy with other tests


@pytest.fixture
async def receiver() -> AsyncIterator[Upstream]:
    """Somebody who takes every callback."""
    async with Upstream() as running:
        running.default = reply(204)
        yield running


@pytest.fixture
def lives(gateway: StartGateway, session: aiohttp.ClientSession, upstream: Upstream, tmp_path: Path) -> Lives:
    """A gateway that is not begun yet; Prompt Studio is well."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply({"completion": "because “ü”"}))
    return Lives(gateway, session, tmp_path / "runward.db")


async def called_back(lives: Lives, receiver: Upstream, **more: JsonValue) -> str:
    """A run whose callback is settled; its id."""
    run_id = await lives.accepted({**STUDIO, "callback_url": receiver.url + HOOK, **more})
    await lives.told(run_id)
    return run_id


async def test_a_delivery_is_signed_and_tells_what_the_run_shows(receiver: Upstream, lives: Lives) -> None:
    """R50: an independent library takes each attempt; one id, a fresh time, the same body: the run as GET shows it."""
    receiver.script("POST", HOOK, [reply(500)])
    await lives.begin(callbacks={"schedule": ["0s", "1500ms"]})
    run_id = await called_back(lives, receiver, metadata={"order": "7"})
    first, second = deliveries(receiver)
    for delivery in (first, second):
        verify(delivery, NEW)
        with pytest.raises(WebhookVerificationError):
            verify(delivery, OLD)
    assert {f"msg_{run_id}"} == message_ids(receiver)
    assert int(first.header("webhook-timestamp") or 0) < int(second.header("webhook-timestamp") or 0)
    assert first.body == second.body
    assert await lives.shown(run_id) == {**document(first), "callback": {"state": "delivered"}}
    assert ("succeeded", {"order": "7"}) == (document(first)["status"], document(first)["metadata"])


async def test_a_failed_run_is_told_too(upstream: Upstream, receiver: Upstream, lives: Lives) -> None:
    """A run that failed is called back with its error, in our words."""
    upstream.always("POST", STUDIO_RUN, reply(500, b"secret words"))
    await lives.begin()
    await called_back(lives, receiver)
    (delivery,) = deliveries(receiver)
    error = document(delivery)["error"]
    assert isinstance(error, dict)
    assert ("failed", "run_failed") == (document(delivery)["status"], error["code"])
    assert b"secret words" not in delivery.body


async def test_two_secrets_sign_until_the_old_one_is_gone(receiver: Upstream, lives: Lives) -> None:
    """R51: with two secrets there are two signatures, either of which is enough; afterwards only the new one's."""
    both: list[JsonValue] = [{"env": name} for name in CALLBACK_SECRETS]
    await lives.begin(callbacks={"secrets": both})
    await called_back(lives, receiver)
    await lives.now.stop()
    await lives.begin(callbacks={"secrets": both[:1]})
    await called_back(lives, receiver)
    during, afterwards = deliveries(receiver)
    verify(during, NEW)
    verify(during, OLD)
    verify(afterwards, NEW)
    with pytest.raises(WebhookVerificationError):
        verify(afterwards, OLD)
    signatures = [str(each.header("webhook-signature")).split(" ") for each in (during, afterwards)]
    assert [2, 1] == [len(each) for each in signatures]


@pytest.mark.parametrize(
    "fault",
    [reply(500), reply(404), faults.rst_after_request, faults.fin_after_request],
    ids=["500", "404", "rst", "fin"],
)
async def test_a_failed_delivery_is_repeated_on_the_schedule(receiver: Upstream, lives: Lives, fault: Script) -> None:
    """R52: whatever went wrong, the next attempt comes after its delay, less a fifth at most."""
    receiver.script("POST", HOOK, [fault, fault])
    await lives.begin(callbacks={"schedule": ["0s", "500ms", "1s"]})
    run_id = await called_back(lives, receiver)
    assert {"state": "delivered"} == await lives.told(run_id)
    first, second = receiver.gaps()
    assert 0.4 <= first <= 0.6 + LATE
    assert 0.8 <= second <= 1.2 + LATE
    assert {f"msg_{run_id}"} == message_ids(receiver)


async def test_retry_after_is_honoured(receiver: Upstream, lives: Lives) -> None:
    """R52: a receiver that asks for two seconds is left alone so long, although the schedule says less."""
    receiver.script("POST", HOOK, [reply(503, headers={"Retry-After": "2"})])
    await lives.begin(callbacks={"schedule": ["0s", "100ms"]})
    await called_back(lives, receiver)
    (gap,) = receiver.gaps()
    assert 2 <= gap <= 2 + LATE


async def test_gone_is_the_end(receiver: Upstream, lives: Lives) -> None:
    """R52: 410 stops it at once, and that can be seen."""
    receiver.default = reply(410)
    await lives.begin(callbacks={"schedule": ["0s", "0s", "0s"]})
    run_id = await called_back(lives, receiver)
    assert {"state": "gave_up"} == await lives.told(run_id)
    await asyncio.sleep(1)
    assert 1 == len(receiver.log)


async def test_a_redirect_is_a_failure(receiver: Upstream, lives: Lives) -> None:
    """R52, R59: it is not followed, and the next attempt goes to the same place."""
    receiver.script("POST", HOOK, [redirect("/elsewhere", 307), redirect("/elsewhere", 302)])
    await lives.begin()
    run_id = await called_back(lives, receiver)
    assert [HOOK] * 3 == [request.path for request in receiver.log]
    assert {"state": "delivered"} == await lives.told(run_id)


async def test_a_give_up_can_be_seen(receiver: Upstream, lives: Lives) -> None:
    """R55: after the last attempt: in the run, in a metric, in the log; and the run itself is as it was."""
    receiver.default = reply(500)
    running = await lives.begin(callbacks={"schedule": ["0s", "100ms", "100ms"]})
    run_id = await called_back(lives, receiver)
    shown = await lives.shown(run_id)
    assert ("succeeded", {"state": "gave_up"}) == (shown["status"], shown["callback"])
    assert 3 == len(deliveries(receiver))
    assert {f"msg_{run_id}"} == message_ids(receiver)
    samples = await running.metrics()
    assert 1 == total(samples, "runward_callbacks_given_up_total")
    assert 3 == total(samples, "runward_callbacks_total", result="5xx")
    assert [run_id] == [line["run_id"] for line in running.logs("callback_given_up")]


async def test_each_run_is_told_once(receiver: Upstream, lives: Lives) -> None:
    """R55: twenty runs, each delivered once under its own id to a receiver that takes it."""
    await lives.begin()
    orders = (lives.accepted({**STUDIO, "callback_url": receiver.url + HOOK}) for _ in range(20))
    runs = await asyncio.gather(*orders)
    await asyncio.gather(*(lives.told(run_id) for run_id in runs))
    ids = [str(each.header("webhook-id")) for each in deliveries(receiver)]
    assert sorted(f"msg_{run_id}" for run_id in runs) == sorted(ids)


async def test_a_receiver_that_hangs_delays_nobody_else(receiver: Upstream, lives: Lives) -> None:
    """R53: while one does not answer, others have theirs at once."""
    receiver.always("POST", "/slow", faults.hang)
    await lives.begin()
    await lives.accepted({**STUDIO, "callback_url": receiver.url + "/slow"})
    await until(lambda: deliveries(receiver, "/slow"))
    run_id = await called_back(lives, receiver)
    assert {"state": "delivered"} == await lives.told(run_id)


async def test_without_a_secret_there_are_no_callbacks(upstream: Upstream, receiver: Upstream, lives: Lives) -> None:
    """A callback that nobody could trust is refused before anything is run."""
    await lives.begin(callbacks={"secrets": []})
    answered = await lives.post({**STUDIO, "callback_url": receiver.url + HOOK})
    assert (422, "callback_url_refused") == answered.summary[:2]
    assert ([], []) == (upstream.log, receiver.log)


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
async def test_private_receivers_must_be_allowed(upstream: Upstream, lives: Lives, url: str) -> None:
    """R56: what the operator did not allow is refused before anything is run; a key used with it stays free."""
    await lives.begin(callbacks={"allow": []})
    answered = await lives.post({**STUDIO, "callback_url": url}, Idempotency_Key="one")
    assert (422, "callback_url_refused") == answered.summary[:2]
    assert [] == upstream.log
    assert 200 == (await lives.post(STUDIO, Idempotency_Key="one")).status


async def test_the_gateway_does_not_call_itself(upstream: Upstream, lives: Lives) -> None:
    """Neither of its ports is a receiver, although its address is allowed."""
    running = await lives.begin()
    for url in (running.url + "/run", running.ops_url + "/metrics", running.url.replace("127.0.0.1", "0.0.0.0")):
        answered = await lives.post({**STUDIO, "callback_url": url})
        assert (422, "callback_url_refused") == answered.summary[:2], url
    assert [] == upstream.log


async def test_nothing_is_delivered_unsigned(receiver: Upstream, lives: Lives) -> None:
    """R50: a callback that was due when the secrets were taken away waits until there is one again."""
    receiver.script("POST", HOOK, [reply(503, headers={"Retry-After": "1"})])
    await lives.begin()
    run_id = await lives.accepted({**STUDIO, "callback_url": receiver.url + HOOK})
    await until(lambda: deliveries(receiver))
    await lives.now.stop()
    await lives.begin(callbacks={"secrets": []})
    await asyncio.sleep(2)
    assert 1 == len(deliveries(receiver))
    await lives.now.stop()
    await lives.begin(callbacks={"secrets": [{"env": "RUNWARD_CALLBACK_SECRET"}]})
    assert {"state": "delivered"} == await lives.told(run_id)
    for delivery in deliveries(receiver):
        verify(delivery, NEW)


async def test_secrets_stay_secret(upstream: Upstream, receiver: Upstream, lives: Lives) -> None:
    """R79: a receiver never sees a provider's key, and the log never shows what callbacks are signed with."""
    upstream.always("POST", LAYER_RUN, faults.rst_after_request)
    running = await lives.begin(callbacks={"schedule": ["0s"]})
    receiver.default = reply(500)
    await called_back(lives, receiver, **LAYER)
    (delivery,) = deliveries(receiver)
    sent = delivery.head + delivery.body
    assert [] == [name for name, secret in SECRETS.items() if secret.encode() in sent]
    await running.stop()
    assert [] == [name for name, secret in CALLBACK_SECRETS.items() if secret[6:] in running.stdout + running.stderr]


def replay(lives: Lives, *words: str) -> subprocess.CompletedProcess[str]:
    """`runward callbacks replay`, typed beside the gateway."""
    command = [sys.executable, "-m", "gateway", "callbacks", "replay", *words, "--ops-url", lives.now.ops_url]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("all_of_them", [True, False])
async def test_what_was_given_up_can_be_delivered_after_all(
    receiver: Upstream,
    lives: Lives,
    all_of_them: bool,  # noqa: FBT001 - a value
) -> None:
    """R55: by a command, to the operations port; the same message once more, and what was delivered stays so."""
    receiver.script("POST", HOOK, [reply(410)])
    await lives.begin()
    given_up, delivered = await called_back(lives, receiver), await called_back(lives, receiver)
    assert {"state": "gave_up"} == await lives.told(given_up)
    said = await asyncio.to_thread(replay, lives, "--given-up" if all_of_them else given_up)
    assert (0, f"{given_up}\n") == (said.returncode, said.stdout), said.stderr
    await until(lambda: len(receiver.requests("POST", HOOK)) == 3)
    assert {"state": "delivered"} == await lives.told(given_up)
    first, second, third = (each.header("webhook-id") for each in deliveries(receiver))
    assert (f"msg_{given_up}", f"msg_{delivered}") == (first, second)
    assert first == third
    said = await asyncio.to_thread(replay, lives, "--given-up")
    assert (0, "") == (said.returncode, said.stdout)


async def test_replays_are_for_operators(receiver: Upstream, lives: Lives, session: aiohttp.ClientSession) -> None:
    """Not on the public port, not by a page that an operator's browser has open, and of nothing that has none."""
    receiver.script("POST", HOOK, [reply(410)])
    await lives.begin()
    run_id = await called_back(lives, receiver)
    json = {"Content-Type": "application/json"}
    for url, headers, status in (
        (f"{lives.now.url}/callbacks/replay/{run_id}", {**json, **bearer("one")}, 404),
        (f"{lives.now.ops_url}/callbacks/replay/{run_id}", {"Content-Type": "text/plain"}, 415),
        (f"{lives.now.ops_url}/callbacks/replay/{run_id}", {}, 415),
        (f"{lives.now.ops_url}/callbacks/replay/run_other", json, 404),
        (f"{lives.now.ops_url}/callbacks/replay/{'x' * 1000}", json, 404),
        (f"{lives.now.ops_url}/callbacks/replay/%00", json, 404),
        (f"{lives.now.ops_url}/callbacks/replay/{run_id}", {**json, "Origin": lives.now.ops_url}, 403),
    ):
        async with session.post(url, headers=headers) as answer:
            assert status == answer.status, url
    for query, status in (("state=gone", 422), ("after=%20", 422), ("", 200), ("state=delivered", 200)):
        async with session.get(f"{lives.now.ops_url}/callbacks?{query}") as answer:
            assert status == answer.status, query
    assert {"state": "gave_up"} == await lives.told(run_id)
    assert 1 == len(receiver.requests("POST", HOOK))
