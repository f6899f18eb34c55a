"""Stored keys of clients: created, rotated, revoked and tried on the operations port, and used on the public one."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from gateway.auth.keys import hash_key, new_key
from gateway.clock import SystemClock
from gateway.key_format import is_well_formed
from tests.support.client import PROMPT_STUDIO_BODY, PROMPTLAYER_BODY, auth_headers
from tests.support.configuration import CLIENT_KEYS
from tests.support.fake_upstream.faults import delayed
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.gateway_restarts import RestartableGateway
from tests.support.key_administration import KeyAdministration
from tests.support.waiting import WAIT_TIMEOUT

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.fake_upstream.upstream import FakeUpstream

DONE = prompt_studio_reply("because")


def days_from_now(days: float) -> str:
    return (SystemClock().now() + timedelta(days=days)).isoformat()


@pytest.fixture
async def keys(gateway: StartGateway, session: aiohttp.ClientSession, upstream: FakeUpstream) -> KeyAdministration:
    """A gateway whose runs at Prompt Studio succeed."""
    upstream.always("POST", STUDIO_RUN, DONE)
    return KeyAdministration(session, await gateway())


async def test_a_created_key_works_at_once_and_is_shown_once(keys: KeyAdministration) -> None:
    created = await keys.create(
        workflows=["stu*"], limits={"rate": "50/m", "burst": 2, "daily": 9}, expires=days_from_now(1)
    )
    text = created.pop("key")
    assert is_well_formed(text)
    assert ("one", "app", "active", ["stu*"], None) == tuple(
        created[name] for name in ("client", "name", "state", "workflows", "revoked")
    )
    assert {"rate": "50/m", "burst": 2, "concurrency": None, "daily": 9} == created["limits"]
    answered = await keys.run(text)
    assert 200 == answered.status
    status, shown = await keys.send("GET", f"/{created['id']}")
    assert (200, created) == (status, shown)
    assert (200, {"keys": [created], "next": None}) == await keys.send("GET", "")
    assert text not in keys.gateway.stdout
    assert hash_key(text) not in keys.gateway.stdout
    [line] = keys.gateway.logs("key_changed")
    assert (created["id"], "one", "created") == (line["key_id"], line["client"], line["key_change"])


async def test_the_run_belongs_to_the_client_whatever_its_key(
    keys: KeyAdministration, session: aiohttp.ClientSession
) -> None:
    """Looked up by a key of the configuration, and by another stored one."""
    texts = [(await keys.create(name=name))["key"] for name in ("app", "worker")]
    run_id = (await keys.run(texts[0], {**PROMPT_STUDIO_BODY, "timeout": 3})).json["id"]
    headers = [auth_headers("one"), *({"Authorization": f"Bearer {text}"} for text in texts), auth_headers("two")]
    seen = []
    for each in headers:
        async with asyncio.timeout(WAIT_TIMEOUT):
            while True:  # its record is written a moment after its response
                async with session.get(f"{keys.gateway.url}/runs/{run_id}", headers=each) as answer:
                    if answer.status == 200 or each == auth_headers("two"):
                        seen.append(answer.status)
                        break
                await asyncio.sleep(0.05)
    assert [200, 200, 200, 404] == seen


async def test_a_workflow_has_to_be_allowed_by_the_client_and_by_the_key(
    keys: KeyAdministration, session: aiohttp.ClientSession
) -> None:
    """In every API."""
    text = (await keys.create(workflows=["studio"]))["key"]
    assert 200 == (await keys.run(text)).status
    assert (403, "forbidden") == (await keys.run(text, PROMPTLAYER_BODY)).summary[:2]
    url, headers = keys.gateway.url, {"X-API-KEY": text, "Authorization": f"Bearer {text}"}
    async with session.get(f"{url}/workflows", headers=headers) as answer:
        assert ["studio"] == [each["name"] for each in (await answer.json())["items"]]
    async with session.post(f"{url}/workflows/layer/run", headers=headers, json={"input_variables": {}}) as answer:
        assert 403 == answer.status
    async with session.get(f"{url}/prompt-templates/x", headers=headers) as answer:  # passthrough
        assert 403 == answer.status
        assert "scope of its own" in await answer.text()


async def test_both_keys_of_a_rotation_work_for_the_grace(keys: KeyAdministration) -> None:
    created = await keys.create()
    rotated = await keys.change(created["id"], "rotate", {"grace": "2s"})
    assert created["id"] == rotated["id"]
    assert rotated["previous_until"] is not None
    assert [200, 200] == [(await keys.run(each["key"])).status for each in (created, rotated)]
    async with asyncio.timeout(WAIT_TIMEOUT):
        while (await keys.run(created["key"])).status == 200:
            await asyncio.sleep(0.1)
    assert 200 == (await keys.run(rotated["key"])).status
    assert (False, "rotated", "store") == await keys.check(created["key"])
    at_once = await keys.change(created["id"], "rotate", {"grace": 0})
    assert [401, 200] == [(await keys.run(each["key"])).status for each in (rotated, at_once)]


async def test_a_rotation_within_a_grace_says_which_key_stays(keys: KeyAdministration) -> None:
    first = await keys.create()
    second = await keys.change(first["id"], "rotate")
    status, document = await keys.send("POST", f"/{first['id']}/rotate", {})
    assert (409, "rotation_in_progress") == (status, document["code"])
    third = await keys.change(first["id"], "rotate", {"keep": "previous"})
    assert [200, 401, 200] == [(await keys.run(each["key"])).status for each in (first, second, third)]
    fourth = await keys.change(first["id"], "rotate", {"keep": "current"})
    assert [401, 200, 200] == [(await keys.run(each["key"])).status for each in (first, third, fourth)]


async def test_concurrent_rotations_give_one_key_that_works(keys: KeyAdministration) -> None:
    created = await keys.create()
    answers = await asyncio.gather(*(keys.send("POST", f"/{created['id']}/rotate", {}) for _ in range(4)))
    assert [200, 409, 409, 409] == sorted(status for status, _ in answers)
    [rotated] = [document for status, document in answers if status == 200]
    assert [200, 200] == [(await keys.run(each["key"])).status for each in (created, rotated)]


async def test_a_revoked_key_in_flight_its_run_ends_and_no_other_starts(
    keys: KeyAdministration, upstream: FakeUpstream
) -> None:
    created = await keys.create()
    upstream.always("POST", STUDIO_RUN, delayed(1.0, DONE))
    running = asyncio.create_task(keys.run(created["key"]))
    async with asyncio.timeout(WAIT_TIMEOUT):
        while not upstream.requests("POST", STUDIO_RUN):
            await asyncio.sleep(0.02)
    revoked = await keys.change(created["id"], "revoke")
    assert revoked == await keys.change(created["id"], "revoke")
    assert ("revoked", 401) == (revoked["state"], (await keys.run(created["key"])).status)
    assert 200 == (await running).status
    assert 1 == len(upstream.requests("POST", STUDIO_RUN))
    for act, body in (("rotate", {}), ("expire", {"at": days_from_now(1)})):
        status, document = await keys.send("POST", f"/{created['id']}/{act}", body)
        assert (409, "key_ended") == (status, document["code"])
    assert (False, "revoked", "store") == await keys.check(created["key"])


async def test_an_asynchronous_run_outlives_its_key(
    gateway: StartGateway, session: aiohttp.ClientSession, upstream: FakeUpstream, tmp_path: Path
) -> None:
    """Another key of the client looks it up."""
    upstream.always("POST", STUDIO_RUN, delayed(1.0, DONE))
    gateways = RestartableGateway(gateway, session, tmp_path / "runward.db")
    keys = KeyAdministration(session, await gateways.start())
    created = await keys.create()
    accepted = await keys.run(created["key"], headers={"Prefer": "respond-async"})
    await keys.change(created["id"], "revoke")
    refused = await keys.run(created["key"], headers={"Prefer": "respond-async"})
    assert (202, 401) == (accepted.status, refused.status)
    assert "succeeded" == (await gateways.wait_for_end(str(accepted.json["id"])))["status"]


async def test_an_expiry_is_set_and_removed(keys: KeyAdministration) -> None:
    created = await keys.create(expires=days_from_now(1 / 86400))
    async with asyncio.timeout(WAIT_TIMEOUT):
        while (await keys.run(created["key"])).status == 200:
            await asyncio.sleep(0.1)
    assert (False, "expired", "store") == await keys.check(created["key"])
    status, document = await keys.send("POST", f"/{created['id']}/rotate", {})
    assert (409, "key_ended") == (status, document["code"])
    assert None is (await keys.change(created["id"], "expire", {"at": None}))["expires"]
    assert (200, (True, None, "store")) == ((await keys.run(created["key"])).status, await keys.check(created["key"]))


async def test_a_key_is_tried_without_a_trace(keys: KeyAdministration) -> None:
    unknown = new_key(SystemClock())
    assert (True, None, "configuration") == await keys.check(CLIENT_KEYS["one"])
    assert (False, "unknown", None) == await keys.check(unknown)
    assert (False, "malformed", None) == await keys.check("not a key")
    for text in (CLIENT_KEYS["one"], unknown, hash_key(unknown)):
        assert text not in keys.gateway.stdout


async def test_the_list_has_pages_and_a_client(keys: KeyAdministration) -> None:
    for number in range(5):
        await keys.create(name=f"app {number}", client="two" if number == 2 else "one")
    names, query = [], "?limit=2"
    while query:
        _, page = await keys.send("GET", query)
        names.append([each["name"] for each in page["keys"]])
        query = page["next"] and f"?limit=2&before={page['next']}"
    assert [["app 4", "app 3"], ["app 2", "app 1"], ["app 0"]] == names
    assert ["app 2"] == [each["name"] for each in (await keys.send("GET", "?client=two"))[1]["keys"]]


BAD_BODIES: dict[str, tuple[dict[str, Any], str]] = {
    "unknown client": ({"client": "nope"}, "/client"),
    "invalid client": ({"client": "a b"}, "/client"),
    "no name": ({"name": ""}, "/name"),
    "long name": ({"name": "n" * 101}, "/name"),
    "control characters": ({"name": "a\x1b[2J"}, "/name"),
    "space at the end": ({"name": "a "}, "/name"),
    "scope not within": ({"workflows": ["layer", "promptlayer/*"]}, "/workflows/1"),
    "invalid scope": ({"workflows": ["a b"]}, "/workflows/0"),
    "empty scope": ({"workflows": []}, "/workflows"),
    "long scope": ({"workflows": ["a"] * 101}, "/workflows"),
    "expiry in the past": ({"expires": "2020-01-31"}, "/expires"),
    "expiry without a meaning": ({"expires": "tomorrow"}, "/expires"),
    "expiry beyond time": ({"expires": "9999-12-31T23:59:59-23:59"}, "/expires"),
    "rate without a meaning": ({"limits": {"rate": "5 per day"}}, "/limits/rate"),
    "rate of nothing": ({"limits": {"rate": "0/s"}}, "/limits/rate"),
    "burst without a rate": ({"limits": {"burst": 5}}, "/limits"),
    "concurrency 0": ({"limits": {"concurrency": 0}}, "/limits/concurrency"),
    "a truth as a number": ({"limits": {"daily": True}}, "/limits/daily"),
    "a number that is too large": ({"limits": {"daily": 10**10}}, "/limits/daily"),
    "an unknown limit": ({"limits": {"monthly": 1}}, "/limits/monthly"),
    "an unknown member": ({"hash": "sha256:" + "0" * 64}, "/hash"),
}


async def test_bad_input_is_a_problem_at_its_place(keys: KeyAdministration) -> None:
    for name, (members, pointer) in BAD_BODIES.items():
        status, document = await keys.send("POST", "", {"client": "one", "name": "app", **members})
        assert (422, [pointer]) == (status, [each["pointer"] for each in document["errors"]]), name
    created = await keys.create()
    for act, body, pointer in (
        ("rotate", {"grace": "8d"}, "/grace"),
        ("rotate", {"grace": -1}, "/grace"),
        ("rotate", {"grace": "long"}, "/grace"),
        ("rotate", {"keep": "both"}, "/keep"),
        ("expire", {"at": "2020-01-31"}, "/at"),
        ("expire", {}, "/at"),
        ("expire", {"at": 5}, "/at"),
    ):
        status, document = await keys.send("POST", f"/{created['id']}/{act}", body)
        assert (422, [pointer]) == (status, [each["pointer"] for each in document["errors"]]), (act, body)
    for key_id in ("key_1", "key_" + "0" * 32, "%00", "x" * 300, "key_" + "0" * 32 + "%0A"):
        for method, path in (("GET", ""), ("POST", "/rotate"), ("POST", "/revoke")):
            status, document = await keys.send(method, f"/{key_id}{path}", {})
            assert (404, "key_not_found") == (status, document["code"])
    for query in ("?limit=0", "?limit=101", "?limit=x", "?before=0", "?before=-1", "?client=a%20b", "?state=active"):
        status, document = await keys.send("GET", query)
        assert (422, "invalid_request") == (status, document["code"]), query
    assert [created["id"]] == [each["id"] for each in (await keys.send("GET", ""))[1]["keys"]]


async def test_keys_survive_a_crash_and_follow_the_clients_of_the_configuration(
    gateway: StartGateway, session: aiohttp.ClientSession, upstream: FakeUpstream, tmp_path: Path
) -> None:
    """A client that is removed takes its keys with it, until it is back."""
    upstream.always("POST", STUDIO_RUN, DONE)
    gateways = RestartableGateway(gateway, session, tmp_path / "runward.db")
    await gateways.start()
    keys = KeyAdministration(session, gateways.current)
    created, revoked = await keys.create(), await keys.create()
    await keys.change(revoked["id"], "revoke")
    keys.gateway = await gateways.kill_and_restart()
    assert [200, 401] == [(await keys.run(each["key"])).status for each in (created, revoked)]
    config = yaml.safe_load(keys.gateway.config.read_text())
    removed = config["clients"].pop("one")
    for clients, status, state in (
        (config["clients"], 401, "no_client"),
        ({**config["clients"], "one": removed}, 200, "active"),
    ):
        keys.gateway.config.write_text(json.dumps({**config, "clients": clients}))
        keys.gateway.send_sighup()
        async with asyncio.timeout(WAIT_TIMEOUT):
            while (await keys.run(created["key"])).status != status:
                await asyncio.sleep(0.1)
        assert state == (await keys.send("GET", f"/{created['id']}"))[1]["state"]
        expected = (status == 200, None if status == 200 else "no_client", "store")
        assert expected == await keys.check(created["key"])


async def test_only_operators_change_keys(gateway: StartGateway, session: aiohttp.ClientSession) -> None:
    texts = {role: new_key(SystemClock()) for role in ("viewer", "operator")}
    ops_keys: list[JsonValue] = [
        {"hash": hash_key(text), "role": role, "name": f"the-{role}"} for role, text in texts.items()
    ]
    running = await gateway(server={"ops_host": "0.0.0.0", "ops_keys": ops_keys})
    viewer, operator = (KeyAdministration(session, running, texts[role]) for role in ("viewer", "operator"))
    created = await operator.create()
    assert "the-operator" == created["created_by"]
    assert 200 == (await viewer.send("GET", ""))[0]
    for path in ("", "/check", *(f"/{created['id']}/{act}" for act in ("rotate", "revoke", "expire"))):
        status, document = await viewer.send("POST", path, {})
        assert (403, "forbidden") == (status, document["code"])
        assert 401 == (await KeyAdministration(session, running, "wrong").send("POST", path, {}))[0]


async def test_a_port_that_others_reach_without_a_key_gives_none(
    gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    """Whatever scrapes the metrics could start runs."""
    running = await gateway(server={"ops_host": "0.0.0.0"})
    status, document = await KeyAdministration(session, running).send("POST", "", {"client": "one", "name": "app"})
    assert (403, "forbidden") == (status, document["code"])
    assert "server.ops_keys" in document["detail"]


async def test_a_port_that_others_reach_without_a_key_prolongs_none(
    gateway: StartGateway, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """An expired key would start runs again. To end a key earlier is always possible."""
    store: dict[str, JsonValue] = {"url": f"sqlite:///{tmp_path}/runward.db"}
    first = await gateway(store=store)
    created = await KeyAdministration(session, first).create(expires=days_from_now(2))
    await first.stop()
    keys = KeyAdministration(session, await gateway(store=store, server={"ops_host": "0.0.0.0"}))
    for at in (days_from_now(3), None):
        status, document = await keys.send("POST", f"/{created['id']}/expire", {"at": at})
        assert (403, "forbidden") == (status, document["code"])
    await keys.change(created["id"], "expire", {"at": days_from_now(1)})
    await keys.change(created["id"], "revoke")
