"""Hot reload of a running gateway: changes that take effect, and state that is kept."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from typing import TYPE_CHECKING

import pytest
import yaml

from gateway.auth.keys import hash_key
from tests.support.callback_receiver import CALLBACK_PATH, deliveries, verify_signature
from tests.support.client import PROMPT_STUDIO_BODY, PROMPTLAYER_BODY, auth_headers, post_run
from tests.support.config_files import (
    mount_secret_files,
    replace_file,
    wait_for_reloads,
    with_key_files,
    write_gateway_config,
)
from tests.support.configuration import PROVIDER_SECRETS, gateway_config
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.provider_responses import (
    STUDIO_RUN,
    node,
    prompt_studio_reply,
    promptlayer_done,
    promptlayer_started,
)
from tests.support.fake_upstream.responses import reply
from tests.support.fake_upstream.upstream import FakeUpstream
from tests.support.gateway_restarts import new_callback_secret
from tests.support.load_generator import at_constant_rate
from tests.support.process import ROOT, metric_sum
from tests.support.raw_client import build_run, raw_connection
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.client import PostRun
    from tests.support.fake_upstream.connection import UpstreamConnection
    from tests.support.process import GatewayProcess

DONE = prompt_studio_reply({"completion": "because"})
NEW: dict[str, JsonValue] = {"fresh": {"provider": "prompt_studio", "name": "dep_fresh"}}
FRESH = {**PROMPT_STUDIO_BODY, "workflow": "fresh"}


def secret() -> str:
    """New provider key."""
    return "ps_" + secrets.token_hex(24)


async def test_a_new_workflow_can_be_run_after_sighup(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R100: SIGHUP or a written file suffices; a removed workflow is unknown at once."""
    upstream.default = DONE
    running = await gateway()
    assert (404, "workflow_not_found", None) == (await run(running, FRESH)).summary
    running.send_sighup()
    await wait_for_reloads(running, 1)
    write_gateway_config(running, upstream.url, workflows=NEW)
    await wait_for_reloads(running, 2)
    answered = await run(running, FRESH)
    assert (200, "fresh") == (answered.status, answered.json["workflow"])
    assert 1 == len(upstream.requests("POST", "/v1/workflows/dep_fresh/run"))
    write_gateway_config(running, upstream.url)
    await wait_for_reloads(running, 3)
    assert (404, 3) == ((await run(running, FRESH)).status, len(running.logs("reloaded")))


async def test_a_removed_key_is_refused_and_a_new_one_taken(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R100: also on open connections; scope and keys of a client are those of the file."""
    upstream.default = DONE
    running = await gateway(server={"header_timeout": "30s"})
    async with raw_connection(running.url) as caller:
        await caller.send(build_run())
        assert 200 == (await caller.read_response()).status
        write_gateway_config(running, upstream.url, clients={"one": {"keys": [{"hash": hash_key("rw_" + "x" * 49)}]}})
        await wait_for_reloads(running, 1)
        await caller.send(build_run())
        assert (401, "unauthorized") == (await caller.read_response()).summary
    assert 200 == (await run(running, PROMPT_STUDIO_BODY, client="two")).status
    write_gateway_config(running, upstream.url, clients={"two": {"workflows": ["layer"]}})
    await wait_for_reloads(running, 2)
    assert (200, 403) == (
        (await run(running, PROMPT_STUDIO_BODY)).status,
        (await run(running, PROMPT_STUDIO_BODY, client="two")).status,
    )


async def test_a_rotated_provider_key_is_used_without_closing_connections(
    tmp_path: Path, upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R100: the run in flight succeeds, connections on both sides stay open, neither key is disclosed."""
    old, new, file = secret(), secret(), tmp_path / "key"
    file.write_text(old)
    running = await gateway(with_key_files(upstream.url, file))
    release = asyncio.Event()

    async def when_released(wire: UpstreamConnection) -> None:
        await release.wait()
        await reply(200, {"result": f"{old} and {new}"})(wire)

    upstream.default = prompt_studio_reply(f"{old} and {new}")
    async with raw_connection(running.url) as caller:
        await caller.send(build_run())
        assert 200 == (await caller.read_response()).status
        upstream.script("POST", STUDIO_RUN, [when_released])
        in_flight = asyncio.create_task(run(running, PROMPT_STUDIO_BODY))
        await wait_until(lambda: len(upstream.received) == 2)
        replace_file(file, new)
        await wait_for_reloads(running, 1)
        await caller.send(build_run())
        after = await caller.read_response()
        release.set()
        answers = [(await in_flight).json["output"], after.json["output"]]
    assert ["[redacted] and [redacted]"] * 2 == answers
    keys = [new if new in request.head.decode() else old for request in upstream.received]
    assert [old, old, new] == keys
    assert all(key in request.head.decode() for key, request in zip(keys, upstream.received, strict=True))
    assert 200 == (await run(running, PROMPT_STUDIO_BODY)).status
    assert [None] * len(upstream.connections) == [connection.eof_at for connection in upstream.connections]
    assert not any(key in running.stdout + running.stderr for key in (old, new))


async def test_a_run_continues_polling_with_the_new_key(
    tmp_path: Path, upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R100: the old key may be refused from then on; a run started with it is not lost."""
    old, new, file = secret(), secret(), tmp_path / "key"
    file.write_text(old)
    polled: list[bool] = []

    async def poll(wire: UpstreamConnection) -> None:
        polled.append(new in upstream.received[-1].head.decode())
        done = promptlayer_done({"Answer": node("because")})
        await (done if polled[-1] else reply(202, {"Answer": node(None, "RUNNING")}))(wire)

    upstream.always("POST", "/workflows/layer-test/run", promptlayer_started(7))
    upstream.always("GET", "/workflow-version-execution-results", poll)
    workflows: dict[str, JsonValue] = {"layer": {"timeout": "20s", "max_timeout": "20s"}}
    running = await gateway(with_key_files(upstream.url, file, workflows=workflows))
    asking = asyncio.create_task(run(running, PROMPTLAYER_BODY))
    await wait_until(lambda: len(polled) >= 2)
    replace_file(file, new)
    answered = await asking
    assert (200, "because", True) == (answered.status, answered.json["output"], polled[-1])
    assert 1 == len(upstream.requests("POST"))


async def test_a_mounted_secret_changes_by_its_link(
    tmp_path: Path, upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R100: Kubernetes replaces a link, not the named file."""
    upstream.default, keys, folder = DONE, [secret() for _ in range(3)], tmp_path / "mounted"
    mount_secret_files(folder, "1", {"key": keys[0]})
    running = await gateway(with_key_files(upstream.url, folder / "key"))
    for number, key in enumerate(keys):
        if number:
            mount_secret_files(folder, str(number + 1), {"key": key})
            await wait_for_reloads(running, number)
        assert 200 == (await run(running, PROMPT_STUDIO_BODY)).status
        assert key in upstream.received[-1].head.decode()
    mount_secret_files(folder, "4", {"key": ""})
    await wait_for_reloads(running, 3)
    [line] = running.logs("reload_refused")
    named = [str(place).partition(" ")[2] for place in _as_list(line["places"])]
    assert [f"providers.{name}.api_key: the secret is empty" for name in ("prompt_studio", "promptlayer")] == named
    assert (200, True) == (
        (await run(running, PROMPT_STUDIO_BODY)).status,
        keys[2] in upstream.received[-1].head.decode(),
    )


async def test_an_invalid_file_changes_nothing_and_is_reported_until_it_is_valid(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R100: valid parts are not applied either; the log names places without values, a metric has the time."""
    upstream.default, canary = DONE, "canary-" + secrets.token_hex(8)
    running = await gateway()
    began = metric_sum(await running.metrics(), "runward_config_last_reload_success_timestamp_seconds")
    wrong = gateway_config(upstream.url, upstream.url, workflows=NEW, server={"drain": canary})
    half = yaml.safe_dump(gateway_config(upstream.url, upstream.url, workflows=NEW)).partition("workflows:")[0]
    for number, text in enumerate([yaml.safe_dump(wrong), half + "workflows: {fre", "", "]"], 1):
        replace_file(running.config, text)
        await wait_for_reloads(running, number)
        assert [404, 200] == [(await run(running, body)).status for body in (FRESH, PROMPT_STUDIO_BODY)]
    running.config.unlink()
    running.send_sighup()
    await wait_for_reloads(running, 5)
    assert 200 == (await run(running, PROMPT_STUDIO_BODY)).status
    refusals = running.logs("reload_refused")
    assert "server.drain" in str(refusals[0]["places"])
    assert (5, False, False) == (len(refusals), canary in running.stdout, running.logs("reloaded") != [])
    assert (0.0, 5.0, began) == await _reload_metrics(running)
    write_gateway_config(running, upstream.url, workflows=NEW)
    await wait_for_reloads(running, 6)
    assert 200 == (await run(running, FRESH)).status
    success, refused, at = await _reload_metrics(running)
    assert (1.0, 5.0, True) == (success, refused, at > began)
    assert 1 == metric_sum(await running.metrics(), "runward_config_reloads_total", result="applied")


async def test_a_tightened_limit_holds_and_what_was_used_counts(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R100: a reload resets no quota."""
    upstream.default = DONE
    running = await gateway(clients={"one": {"limits": {"daily": 5}}})
    assert [200] * 3 == [(await run(running, PROMPT_STUDIO_BODY)).status for _ in range(3)]
    write_gateway_config(running, upstream.url, clients={"one": {"limits": {"daily": 4}}})
    await wait_for_reloads(running, 1)
    assert [200, 429] == [(await run(running, PROMPT_STUDIO_BODY)).status for _ in range(2)]
    assert 200 == (await run(running, PROMPT_STUDIO_BODY, client="two")).status
    write_gateway_config(running, upstream.url, clients={"one": {"limits": {"daily": 6}}})
    await wait_for_reloads(running, 2)
    assert [200, 200, 429] == [(await run(running, PROMPT_STUDIO_BODY)).status for _ in range(3)]


async def test_callbacks_follow_their_secrets_allowances_and_schedule(
    tmp_path: Path, upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R100: each delivery attempt uses the current secrets and egress policy."""
    upstream.default, file = DONE, tmp_path / "secret"
    secrets_of: dict[str, JsonValue] = {"secrets": [{"file": str(file)}], "schedule": ["0s", "3s"]}
    allowed: dict[str, JsonValue] = {**secrets_of, "allow": ["127.0.0.1/32"]}
    old, new = new_callback_secret(), new_callback_secret()
    file.write_text(old)
    running = await gateway(callbacks=secrets_of)
    async with FakeUpstream() as receiver:
        receiver.default = reply(204)
        receiver.script("POST", CALLBACK_PATH, [reply(500)])
        body = {**PROMPT_STUDIO_BODY, "callback_url": receiver.url + CALLBACK_PATH}
        assert "callback_url_refused" == (await run(running, body)).json["code"]
        write_gateway_config(running, upstream.url, callbacks=allowed)
        await wait_for_reloads(running, 1)
        assert 202 == (await run(running, body)).status
        await wait_until(lambda: len(deliveries(receiver)) == 1)
        replace_file(file, new)
        await wait_for_reloads(running, 2)
        await wait_until(lambda: len(deliveries(receiver)) == 2)
        for delivery, key in zip(deliveries(receiver), (old, new), strict=True):
            verify_signature(delivery, key)
        write_gateway_config(running, upstream.url, callbacks=secrets_of)
        await wait_for_reloads(running, 3)
        assert "callback_url_refused" == (await run(running, body)).json["code"]


async def test_a_provider_can_be_moved_added_and_removed(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R100: runs in flight end at the old address, and no connection to it remains."""
    upstream.default = DONE
    upstream.script("POST", STUDIO_RUN, [DONE, faults.delayed(0.5, prompt_studio_reply("from the old one"))])
    running = await gateway()
    assert 200 == (await run(running, PROMPT_STUDIO_BODY)).status
    async with FakeUpstream() as other:
        other.default = prompt_studio_reply("from the new one")
        in_flight = asyncio.create_task(run(running, PROMPT_STUDIO_BODY))
        await wait_until(lambda: len(upstream.received) == 2)
        moved: dict[str, JsonValue] = {
            "prompt_studio": {"base_url": other.url},
            "third": {"adapter": "prompt_studio", "base_url": other.url, "api_key": {"env": "PROMPT_STUDIO_API_KEY"}},
        }
        write_gateway_config(running, upstream.url, providers=moved, workflows={"fresh": {"provider": "third"}})
        await wait_for_reloads(running, 1)
        outputs = [(await run(running, body)).json["output"] for body in (PROMPT_STUDIO_BODY, FRESH)]
        assert ["from the new one"] * 2 == outputs
        assert "from the old one" == (await in_flight).json["output"]
        await wait_until(lambda: all(connection.eof_at for connection in upstream.connections))
        write_gateway_config(running, upstream.url)
        await wait_for_reloads(running, 2)
        await wait_until(lambda: all(connection.eof_at for connection in other.connections))
    assert 200 == (await run(running, PROMPT_STUDIO_BODY)).status


async def test_what_needs_a_restart_is_named_and_the_rest_applies(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R100: at each reload, until the restart."""
    upstream.default = DONE
    running = await gateway()
    server: JsonValue = {"port": 1, "max_body": "2MB"}
    write_gateway_config(running, upstream.url, workflows=NEW, server=server, logs={"level": "warning"})
    await wait_until(lambda: len(running.logs("needs_restart")) == 1)
    running.send_sighup()
    await wait_until(lambda: len(running.logs("needs_restart")) == 2)
    assert [["server.port", "server.max_body"]] * 2 == [line["settings"] for line in running.logs("needs_restart")]
    assert 200 == (await run(running, FRESH)).status
    assert [] == [line for line in running.logs("request") if line.get("workflow") == "fresh"]  # the level applies


async def test_a_burst_of_changes_is_one_reload(upstream: FakeUpstream, gateway: StartGateway, run: PostRun) -> None:
    """R100: the files are read once the changes have stopped."""
    upstream.default = DONE
    running = await gateway()
    for number in range(20):
        write_gateway_config(running, upstream.url, workflows={f"fresh-{number}": NEW["fresh"]})
        await asyncio.sleep(0.005)
    await wait_for_reloads(running, 1)
    assert 200 == (await run(running, {**PROMPT_STUDIO_BODY, "workflow": "fresh-19"})).status
    await asyncio.sleep(3)  # longer than a rescan interval
    assert (True, []) == (len(running.logs("reloaded")) <= 2, running.logs("reload_refused"))


async def test_twenty_reloads_under_load_lose_no_request(
    tmp_path: Path, upstream: FakeUpstream, gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    """R100: each time with another key and other workflows; every request reaches the provider once."""
    upstream.default, file = faults.delayed(0.02, DONE), tmp_path / "key"
    file.write_text(secret())
    running = await gateway(with_key_files(upstream.url, file))

    async def send() -> int:
        async with session.post(
            running.url + "/run", json=dict(PROMPT_STUDIO_BODY), headers=auth_headers("one")
        ) as answer:
            await answer.read()
            return answer.status

    load = asyncio.create_task(at_constant_rate(80, 8, send))
    for number in range(20):
        replace_file(file, secret())
        workflows: dict[str, JsonValue] = {f"fresh-{number}": NEW["fresh"]}
        replace_file(running.config, yaml.safe_dump(with_key_files(upstream.url, file, workflows=workflows)))
        running.send_sighup()
        await wait_for_reloads(running, number + 1)
    statuses = await load
    assert {200} == set(statuses)
    assert (len(statuses), []) == (len(upstream.requests("POST")), running.logs("reload_refused"))


async def _reload_metrics(running: GatewayProcess) -> tuple[float, float, float]:
    samples = await running.metrics()
    return (
        metric_sum(samples, "runward_config_last_reload_success"),
        metric_sum(samples, "runward_config_reloads_total", result="refused"),
        metric_sum(samples, "runward_config_last_reload_success_timestamp_seconds"),
    )


def _as_list(value: object) -> list[object]:
    assert isinstance(value, list)
    return value


@pytest.mark.process
async def test_a_log_in_the_configurations_folder_does_not_log_itself(
    upstream: FakeUpstream, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    """Log lines do not trigger the watcher; there is one line per request."""
    upstream.default = DONE
    config = tmp_path / "gateway.yaml"
    config.write_text(yaml.safe_dump(gateway_config(upstream.url, upstream.url, server={"drain": "0s"})))
    with (tmp_path / "gateway.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "serve", "--config", str(config)),
            cwd=ROOT,
            env={"PATH": os.environ.get("PATH", ""), **PROVIDER_SECRETS},
            stdout=log,
        )

    def lines() -> list[dict[str, object]]:
        return [json.loads(line) for line in (tmp_path / "gateway.log").read_text().splitlines()]

    try:
        await wait_until(lambda: any(line["event"] == "listening" for line in lines()))
        url = str(lines()[-1]["url"])
        for _ in range(3):
            assert 200 == (await post_run(session, url, PROMPT_STUDIO_BODY, auth_headers("one"))).status
        await asyncio.sleep(3)  # longer than a rescan
    finally:
        process.terminate()
        await process.wait()
    events = [line["event"] for line in lines() if line["event"] not in {"store_not_durable", "audit_record"}]
    assert ["listening", *["request"] * 3, "draining"] == events
