"""Gateways that encrypt their store: crashes, rotation of the key, and a key that is missing."""

from __future__ import annotations

import asyncio
import secrets
from base64 import b64encode
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.support.callback_receiver import CALLBACK_PATH, delivered_run, deliveries
from tests.support.client import PROMPT_STUDIO_BODY, PROMPTLAYER_BODY, auth_headers
from tests.support.config_files import replace_file, wait_for_reloads, write_gateway_config
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.provider_responses import (
    LAYER_RESULTS,
    LAYER_RUN,
    STUDIO_RUN,
    node,
    prompt_studio_reply,
    promptlayer_done,
    promptlayer_running,
    promptlayer_started,
)
from tests.support.fake_upstream.responses import reply
from tests.support.fake_upstream.upstream import FakeUpstream
from tests.support.gateway_restarts import RestartableGateway
from tests.support.process import metric_sum
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from providers.contract import JsonValue
    from tests.conftest import StartGateway

CANARY = "canary-93d1e0"
INPUT: dict[str, JsonValue] = {"input": {"prompt": CANARY}}


def new_key(path: Path) -> Path:
    """Write a new key to a file."""
    path.write_text(b64encode(secrets.token_bytes(32)).decode() + "\n")
    return path


def encrypted_with(*files: Path) -> dict[str, JsonValue]:
    """Return the settings for these key files, newest first."""
    return {"encrypt": {"keys": [{"file": str(file)} for file in files]}}


@pytest.fixture
def restartable(gateway: StartGateway, session: aiohttp.ClientSession, tmp_path: Path) -> RestartableGateway:
    """Gateways on one encrypted store file, not started."""
    (tmp_path / "store").mkdir()
    key = new_key(tmp_path / "key")
    return RestartableGateway(gateway, session, tmp_path / "store" / "runward.db", content=encrypted_with(key))


async def test_runs_survive_a_crash_and_nothing_of_them_is_in_the_file(
    upstream: FakeUpstream, receiver: FakeUpstream, restartable: RestartableGateway, tmp_path: Path
) -> None:
    """R47, R48, R95: input, output, callback and response; no run is started twice."""
    upstream.script("POST", LAYER_RUN, [promptlayer_started(77)])
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply({"completion": CANARY}))
    receiver.script("POST", CALLBACK_PATH, [reply(500)])
    await restartable.start()
    keyed = await restartable.post({**PROMPT_STUDIO_BODY, **INPUT}, Idempotency_Key="one")
    assert (200, True) == (keyed.status, CANARY in keyed.body.decode())
    callback = {"callback_url": receiver.url + CALLBACK_PATH}
    run_id = await restartable.submit_async({**PROMPTLAYER_BODY, **INPUT, **callback})
    await wait_until(lambda: len(upstream.requests("GET")) >= 2)
    await restartable.kill_and_restart()
    polls = len(upstream.requests("GET"))
    await wait_until(lambda: len(upstream.requests("GET")) > polls)
    upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Answer": node(CANARY)}))
    ended = await restartable.wait_for_end(run_id)
    assert ("succeeded", CANARY, 1) == (ended["status"], ended["output"], ended["attempts"])
    assert {"state": "delivered"} == await restartable.wait_for_callback(run_id)
    assert [CANARY] * 2 == [delivered_run(each)["output"] for each in deliveries(receiver)]
    again = await restartable.post({**PROMPT_STUDIO_BODY, **INPUT}, Idempotency_Key="one")
    assert (200, keyed.body, "true") == (again.status, again.body, again.headers["Idempotent-Replayed"])
    other = await restartable.post({**PROMPT_STUDIO_BODY, "input": {}}, Idempotency_Key="one")
    assert "idempotency_mismatch" == other.json["code"]
    assert (1, 1) == (len(upstream.requests("POST", LAYER_RUN)), len(upstream.requests("POST", STUDIO_RUN)))
    stored = data_of(tmp_path / "store")
    assert (True, False) == (run_id.encode() in stored, CANARY.encode() in stored)
    await restartable.current.stop()
    assert CANARY.encode() not in data_of(tmp_path / "store")


def data_of(folder: Path) -> bytes:
    """Return the contents of all files of the store."""
    return b"".join(path.read_bytes() for path in folder.iterdir())


async def test_an_interrupted_start_stays_unknown(upstream: FakeUpstream, restartable: RestartableGateway) -> None:
    """R44: as without encryption."""
    upstream.always("POST", STUDIO_RUN, faults.hang)
    await restartable.start()
    asking = asyncio.create_task(restartable.post(PROMPT_STUDIO_BODY, Idempotency_Key="one"))
    await wait_until(lambda: upstream.requests("POST"))
    await restartable.kill_and_restart()
    with pytest.raises(aiohttp.ClientError):
        await asking
    answered = await restartable.post(PROMPT_STUDIO_BODY, Idempotency_Key="one")
    assert (502, "unknown", 1) == (answered.status, answered.json["outcome"], len(upstream.requests("POST")))


async def test_the_key_is_rotated_while_the_gateway_runs(
    upstream: FakeUpstream, restartable: RestartableGateway, tmp_path: Path
) -> None:
    """R100: results of before stay readable as long as their key is configured, and again once it is."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply({"completion": CANARY}))
    old, new = tmp_path / "key", new_key(tmp_path / "new-key")
    running = await restartable.start()
    before = await restartable.submit_async(PROMPT_STUDIO_BODY)
    await restartable.wait_for_end(before)
    write_gateway_config(running, upstream.url, **{**restartable.overrides, "content": encrypted_with(new, old)})
    await wait_for_reloads(running, 1)
    after = await restartable.submit_async(PROMPT_STUDIO_BODY)
    await restartable.wait_for_end(after)
    assert "succeeded" == (await restartable.get_run(before))["status"]
    replace_file(old, new_key(tmp_path / "other-key").read_text())
    await wait_for_reloads(running, 2)
    assert "succeeded" == (await restartable.get_run(after))["status"]
    assert running.logs("content_keys_removed")


async def test_without_its_key_a_result_is_unavailable_and_nothing_is_repeated(
    upstream: FakeUpstream,
    receiver: FakeUpstream,
    restartable: RestartableGateway,
    session: aiohttp.ClientSession,
    tmp_path: Path,
) -> None:
    """R37, R44: 503, no start, no delivery; all is there once the key is configured again."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply({"completion": CANARY}))
    receiver.script("POST", CALLBACK_PATH, [reply(500), reply(204)])
    await restartable.start(callbacks={"schedule": ["0s", "1s", "1s"]})
    callback = {"callback_url": receiver.url + CALLBACK_PATH}
    run_id = await restartable.submit_async({**PROMPT_STUDIO_BODY, **callback}, Idempotency_Key="one")
    await wait_until(lambda: deliveries(receiver))
    await restartable.current.stop()
    await restartable.start(content={"encrypt": {"keys": []}})
    await asyncio.sleep(2)  # long enough for the delivery to be due
    url = f"{restartable.current.url}/runs/{run_id}"
    async with session.get(url, headers=auth_headers("one")) as answer:
        problem = await answer.json()
        assert (503, "store_unavailable", "60") == (answer.status, problem["code"], answer.headers["Retry-After"])
    assert "cannot be decrypted" in problem["detail"]
    repeated = await restartable.post({**PROMPT_STUDIO_BODY, **callback}, Prefer="respond-async", Idempotency_Key="one")
    assert (503, "unknown", True) == (repeated.status, repeated.json["outcome"], repeated.json["retryable"])
    assert [run_id] == [run["id"] for run in await restartable.list_runs()]
    assert (1, 1) == (len(upstream.requests("POST")), len(deliveries(receiver)))
    samples = await restartable.current.metrics()
    assert [1, 1, True] == [
        metric_sum(samples, "runward_unreadable_content_total", content="document"),
        metric_sum(samples, "runward_unreadable_content_total", content="fingerprint"),
        metric_sum(samples, "runward_unreadable_content_total", content="callback") >= 1,
    ]
    await restartable.current.stop()
    await restartable.start(content=encrypted_with(tmp_path / "key"))
    assert {"completion": CANARY} == (await restartable.get_run(run_id))["output"]
    assert 1 == len(upstream.requests("POST"))
