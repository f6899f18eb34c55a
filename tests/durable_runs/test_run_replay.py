"""`POST /runs/{id}/replay`: a new run with the input of one that has ended, once for each click that means it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from tests.support.callback_receiver import CALLBACK_PATH, delivered_run, deliveries
from tests.support.client import PROMPT_STUDIO_BODY, ReceivedResponse, auth_headers
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.fake_upstream.responses import reply
from tests.support.gateway_restarts import RestartableGateway
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.fake_upstream.connection import UpstreamConnection
    from tests.support.fake_upstream.upstream import FakeUpstream

ONE_AT_A_TIME: dict[str, JsonValue] = {"prompt_studio": {"limits": {"concurrency": 1, "max_wait": "20s"}}}


class Replays:
    """Requests for replays at the current gateway."""

    def __init__(self, gateways: RestartableGateway, session: aiohttp.ClientSession) -> None:
        self.gateways = gateways
        self._session = session

    async def post(
        self, run_id: str, body: JsonValue | bytes = None, *, client: str = "one", **headers: str
    ) -> ReceivedResponse:
        """POST /runs/{id}/replay, without a body if it is None."""
        url = f"{self.gateways.current.url}/runs/{run_id}/replay"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        sent: dict[str, object] = (
            {"data": body} if isinstance(body, bytes) else {"json": body} if body is not None else {}
        )
        if isinstance(body, bytes):
            named["Content-Type"] = "application/json"
        async with self._session.post(url, headers=auth_headers(client) | named, **sent) as answer:  # type: ignore[arg-type]
            return ReceivedResponse(answer.status, answer.headers, await answer.read(), 0.0)

    async def ended_run(self, body: Mapping[str, JsonValue] = PROMPT_STUDIO_BODY) -> str:
        """Return the id of an asynchronous run that has ended."""
        run_id = await self.gateways.submit_async(body)
        await self.gateways.wait_for_end(run_id)
        return run_id


@pytest.fixture
async def gateways(gateway: StartGateway, session: aiohttp.ClientSession, tmp_path: Path) -> RestartableGateway:
    """Gateways on one store file."""
    started = RestartableGateway(gateway, session, tmp_path / "runward.db", providers=ONE_AT_A_TIME)
    await started.start()
    return started


@pytest.fixture
def replays(gateways: RestartableGateway, session: aiohttp.ClientSession) -> Replays:
    """Requests for replays."""
    return Replays(gateways, session)


def inputs(upstream: FakeUpstream) -> list[JsonValue]:
    """Return the inputs that the provider has received, in their order."""
    return [json.loads(each.body)["input"] for each in upstream.requests("POST", STUDIO_RUN)]


def refusal(answered: ReceivedResponse) -> tuple[int, JsonValue, JsonValue]:
    """Return the status of a problem, its code and the status of its run."""
    return answered.status, answered.json["code"], answered.json.get("run_status")


async def test_a_run_is_replayed_with_its_input(
    upstream: FakeUpstream, gateways: RestartableGateway, replays: Replays
) -> None:
    """202 with a new run that names the old one: in the look-up, in lists, and in a search."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    run_id = await replays.ended_run({**PROMPT_STUDIO_BODY, "metadata": {"ticket": "4711"}, "tags": ["a"]})
    accepted = await replays.post(run_id)
    new_id = str(accepted.json["id"])
    assert (202, f"/runs/{new_id}") == (accepted.status, accepted.headers["Location"])
    shown = {name: accepted.json[name] for name in ("status", "replay_of", "metadata", "tags")}
    labels: JsonValue = {"ticket": "4711"}
    assert {"status": "queued", "replay_of": run_id, "metadata": labels, "tags": ["a"]} == shown
    ended = await gateways.wait_for_end(new_id)
    assert ("succeeded", "because", run_id) == tuple(ended[name] for name in ("status", "output", "replay_of"))
    assert "replay_of" not in await gateways.get_run(run_id)
    listed = await gateways.list_runs(f"replay_of={run_id}")
    assert [(new_id, run_id)] == [(each["id"], each["replay_of"]) for each in listed]
    assert [PROMPT_STUDIO_BODY["input"]] * 2 == inputs(upstream)


async def test_a_second_click_starts_nothing(
    upstream: FakeUpstream, gateways: RestartableGateway, replays: Replays
) -> None:
    """Ten at once, and one after the end, get the same run, byte for byte; two keys mean two more."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    run_id = await replays.ended_run()
    answers = await asyncio.gather(*(replays.post(run_id) for _ in range(10)))
    assert {202} == {each.status for each in answers}
    (body,) = {each.body for each in answers}
    assert 1 == [each.headers.get("Idempotent-Replayed") for each in answers].count(None)
    await gateways.wait_for_end(json.loads(body)["id"])
    later = await replays.post(run_id, {})
    assert (202, body, "true") == (later.status, later.body, later.headers["Idempotent-Replayed"])
    assert 2 == len(inputs(upstream))
    more = [await replays.post(run_id, Idempotency_Key=key) for key in ("a", "b", "a")]
    new_ids = [str(each.json["id"]) for each in more]
    assert (new_ids[0], 2) == (new_ids[2], len(set(new_ids) - {json.loads(body)["id"]}))
    for each in new_ids:
        await gateways.wait_for_end(each)
    assert 4 == len(inputs(upstream))


async def test_the_input_is_replaced(upstream: FakeUpstream, gateways: RestartableGateway, replays: Replays) -> None:
    """As a whole, and metadata and tags likewise; another edit is not taken for the same replay."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    run_id = await replays.ended_run({**PROMPT_STUDIO_BODY, "metadata": {"ticket": "4711"}, "tags": ["a"]})
    edit: dict[str, JsonValue] = {"input": {"other": 1}, "metadata": {}, "tags": ["b"]}
    accepted = await replays.post(run_id, edit)
    ended = await gateways.wait_for_end(str(accepted.json["id"]))
    assert ("succeeded", {}, ["b"]) == tuple(ended[name] for name in ("status", "metadata", "tags"))
    others: list[JsonValue] = [None, {**edit, "input": {"other": 2}}]
    refused = [await replays.post(run_id, other) for other in others]
    assert [(422, "idempotency_mismatch", None)] * 2 == [refusal(each) for each in refused]
    again = await replays.post(run_id, {**edit, "include_unknown": True})
    assert accepted.body == again.body
    same_key = [await replays.post(run_id, Idempotency_Key="k"), await replays.post(run_id, edit, Idempotency_Key="k")]
    assert [202, 422] == [each.status for each in same_key]
    assert [{"question": "why?"}, {"other": 1}] == inputs(upstream)[:2]


async def test_an_unknown_outcome_is_not_replayed_by_mistake(
    upstream: FakeUpstream, gateways: RestartableGateway, replays: Replays
) -> None:
    """It may pay twice: a 409 unless the body says so. Failed runs and runs that were not run need no such word."""
    upstream.script("POST", STUDIO_RUN, [faults.fin_after_request, reply(422, {"error": "no"}), reply(401, {})])
    unknown, refused, no_key = [await replays.ended_run() for _ in range(3)]
    statuses = [(await gateways.get_run(each))["status"] for each in (unknown, refused, no_key)]
    assert ["unknown", "not_run", "not_run"] == statuses
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    assert (409, "outcome_unknown", "unknown") == refusal(await replays.post(unknown))
    assert 3 == len(inputs(upstream))
    for answered in (await replays.post(unknown, {"include_unknown": True}), await replays.post(refused)):
        assert "succeeded" == (await gateways.wait_for_end(str(answered.json["id"])))["status"]
    assert 5 == len(inputs(upstream))


async def test_an_unfinished_run_is_not_replayed(
    upstream: FakeUpstream, gateways: RestartableGateway, replays: Replays
) -> None:
    """409 while it runs, and while it waits."""
    released = asyncio.Event()

    async def hold(connection: UpstreamConnection) -> None:
        await released.wait()
        await prompt_studio_reply("because")(connection)

    upstream.always("POST", STUDIO_RUN, hold)
    running = await gateways.submit_async(PROMPT_STUDIO_BODY)
    await wait_until(lambda: len(inputs(upstream)) == 1)
    queued = await gateways.submit_async(PROMPT_STUDIO_BODY)
    assert (409, "run_unfinished", "running") == refusal(await replays.post(running))
    assert (409, "run_unfinished", "queued") == refusal(await replays.post(queued, {"include_unknown": True}))
    released.set()
    await gateways.wait_for_end(queued)
    assert 2 == len(inputs(upstream))


async def test_the_input_of_a_plain_run_is_not_kept(
    upstream: FakeUpstream, gateways: RestartableGateway, replays: Replays
) -> None:
    """409 for a run that is in the history only; with an Idempotency-Key its input is kept."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    plain = str((await gateways.post(PROMPT_STUDIO_BODY)).json["id"])
    keyed = str((await gateways.post(PROMPT_STUDIO_BODY, Idempotency_Key="one")).json["id"])
    async with asyncio.timeout(20):
        while plain not in {each["id"] for each in await gateways.list_runs()}:
            await asyncio.sleep(0.05)
    refused = [await replays.post(plain), await replays.post(plain, {"input": {}})]
    assert [(409, "input_not_kept", "succeeded")] * 2 == [refusal(each) for each in refused]
    accepted = await replays.post(keyed)
    assert "succeeded" == (await gateways.wait_for_end(str(accepted.json["id"])))["status"]
    assert 3 == len(inputs(upstream))


async def test_only_its_client_replays_a_run(
    upstream: FakeUpstream, gateways: RestartableGateway, replays: Replays
) -> None:
    """For others it does not exist; bad bodies and keys start nothing."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    run_id = await replays.ended_run()
    missing = [await replays.post(run_id, client="two"), await replays.post("run_" + "0" * 32)]
    missing += [await replays.post(name) for name in ("x", "%00", "a/b")]
    assert [(404, "not_found", None)] * 5 == [refusal(each) for each in missing]
    bad: list[JsonValue | bytes] = [{"workflow": "studio"}, {"input": 1}, {"tags": ["a", "a"]}, {"callback_url": 1}, []]
    bad += [{"include_unknown": "true"}, {"metadata": {"a": 1}}, {"version": 1}]
    assert {(422, "invalid_request", None)} == {refusal(await replays.post(run_id, body)) for body in bad}
    assert (400, "malformed_json", None) == refusal(await replays.post(run_id, b"{"))
    assert (400, "invalid_idempotency_key", None) == refusal(await replays.post(run_id, Idempotency_Key="x" * 256))
    refused = await replays.post(run_id, {"callback_url": "http://10.0.0.1/"})
    assert (422, "callback_url_refused", None) == refusal(refused)
    assert 1 == len(inputs(upstream))
    assert [] == await gateways.list_runs(f"replay_of={run_id}")


async def test_the_callback_of_a_replay_is_its_own(
    upstream: FakeUpstream, receiver: FakeUpstream, gateways: RestartableGateway, replays: Replays
) -> None:
    """The callback URL of the run is not used again; one in the body receives the replay, with `replay_of`."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    body: dict[str, JsonValue] = {**PROMPT_STUDIO_BODY, "callback_url": receiver.url + CALLBACK_PATH}
    run_id = await replays.ended_run(body)
    await gateways.wait_for_callback(run_id)
    silent = str((await replays.post(run_id, Idempotency_Key="silent")).json["id"])
    assert "callback" not in await gateways.wait_for_end(silent)
    heard = str((await replays.post(run_id, {"callback_url": receiver.url + CALLBACK_PATH})).json["id"])
    await gateways.wait_for_callback(heard)
    delivered = [delivered_run(each) for each in deliveries(receiver)]
    assert [(run_id, None), (heard, run_id)] == [(each["id"], each.get("replay_of")) for each in delivered]


async def test_a_run_of_a_providers_api_is_replayed_as_one_of_runwards_own(
    upstream: FakeUpstream, gateways: RestartableGateway, replays: Replays, session: aiohttp.ClientSession
) -> None:
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    url = f"{gateways.current.url}/workflows/studio/run"
    async with session.post(url, json={"input_variables": {"a": "b"}}, headers=auth_headers("one")) as answer:
        assert 201 == answer.status
        run_id = answer.headers["Runward-Run-Id"]
    await gateways.wait_for_end(run_id)
    ended = await gateways.wait_for_end(str((await replays.post(run_id)).json["id"]))
    assert ("succeeded", run_id) == (ended["status"], ended["replay_of"])
    assert [{"a": "b"}] * 2 == inputs(upstream)


async def test_a_replay_survives_a_crash(
    upstream: FakeUpstream, gateways: RestartableGateway, replays: Replays
) -> None:
    """SIGKILL while the replay waits for its start: the next gateway starts it, once, and knows the second click."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    run_id = await replays.ended_run()
    released = asyncio.Event()

    async def hold(connection: UpstreamConnection) -> None:
        await released.wait()
        await prompt_studio_reply("because")(connection)

    upstream.always("POST", STUDIO_RUN, hold)
    await gateways.submit_async(PROMPT_STUDIO_BODY)
    await wait_until(lambda: len(inputs(upstream)) == 2)
    accepted = await replays.post(run_id)
    await gateways.kill_and_restart()
    released.set()
    assert accepted.body == (await replays.post(run_id)).body
    ended = await gateways.wait_for_end(str(accepted.json["id"]))
    assert ("succeeded", run_id, 3) == (ended["status"], ended["replay_of"], len(inputs(upstream)))
