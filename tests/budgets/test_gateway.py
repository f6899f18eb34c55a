"""Budgets of one gateway: every API, reloads, restarts, judgements, and what operators see."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.api.prompt_studio.app_client import PromptStudioApp
from tests.api.promptlayer.app_client import PromptLayerApp
from tests.budgets.ledger_client import amounts, get_budgets, settled_sums, spend
from tests.support.client import PROMPT_STUDIO_BODY
from tests.support.config_files import wait_for_reloads, write_gateway_config
from tests.support.fake_upstream.faults import rst_after_request
from tests.support.fake_upstream.provider_responses import (
    LAYER_RESULTS,
    LAYER_RUN,
    STUDIO_RUN,
    node,
    prompt_studio_reply,
    promptlayer_done,
    promptlayer_started,
)
from tests.support.fake_upstream.responses import reply
from tests.support.gateway_restarts import RestartableGateway
from tests.support.process import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.client import PostRun
    from tests.support.fake_upstream.upstream import FakeUpstream

DONE = prompt_studio_reply("because")
PROVIDERS: dict[str, JsonValue] = {"prompt_studio": {"price": 0.04}, "promptlayer": {"price": "0.06"}}


def monthly(amount: float, **conditions: JsonValue) -> JsonValue:
    return {"amount": amount, "per": "month", **conditions}


async def test_every_api_refuses_in_its_own_form(
    gateway: StartGateway, upstream: FakeUpstream, session: aiohttp.ClientSession
) -> None:
    """402 everywhere: no SDK repeats it."""
    upstream.default = DONE
    running = await gateway(providers=PROVIDERS, clients={"one": {"budget": monthly(0.03)}})
    layer = await PromptLayerApp(session, running).start_run()
    assert (402, "budget_exhausted", False) == (layer.status, layer.json["code"], layer.json["success"])
    assert "Nothing was run." in str(layer.json["message"])
    studio = await PromptStudioApp(session, running).run("dep_test")
    assert (402, {}, "budget_exhausted", "not_run") == studio.summary
    assert 0 < int(studio.headers["Retry-After"])
    assert [] == upstream.requests("POST")
    assert amounts("0", "0", "0", "0.03") == await settled_sums(session, running, "client:one")


async def test_every_api_counts(gateway: StartGateway, upstream: FakeUpstream, session: aiohttp.ClientSession) -> None:
    """A run of PromptLayer's API is started before its answer, and settled after its end."""
    upstream.always("POST", STUDIO_RUN, DONE)
    upstream.always("POST", LAYER_RUN, promptlayer_started(787))
    upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Answer": node("because")}))
    running = await gateway(providers=PROVIDERS, clients={"one": {"budget": monthly(1)}})
    app = PromptLayerApp(session, running)
    started = await app.start_run()
    assert "because" == await app.wait_for_results(started)
    answer = await PromptStudioApp(session, running).run("dep_test")
    assert (200, "0.04") == (answer.status, answer.headers["Runward-Cost"])
    assert amounts("0.1", "0", "0", "0.9") == await settled_sums(session, running, "client:one")


async def test_a_run_must_have_room_in_every_budget(
    gateway: StartGateway, upstream: FakeUpstream, session: aiohttp.ClientSession, run: PostRun
) -> None:
    """Of its client, its team, its tag and its provider. One that is not the client's own shows no figures."""
    upstream.default = DONE
    budgets: JsonValue = {
        "nightly": monthly(0.04, tag="nightly"),
        "account": {"amount": 0.2, "per": "week", "provider": "prompt_studio"},
        "mine": {"amount": 0.08, "per": "day", "client": "one", "workflow": "studio"},
    }
    running = await gateway(
        providers=PROVIDERS,
        budgets=budgets,
        teams={"web": {"budget": monthly(0.12)}},
        clients={"one": {"team": "web"}, "two": {"team": "web"}},
    )
    nightly: dict[str, JsonValue] = {**PROMPT_STUDIO_BODY, "tags": ["nightly", "b"]}
    assert [200, 402] == [(await run(running, nightly)).status for _ in range(2)]
    assert 200 == (await run(running, PROMPT_STUDIO_BODY)).status
    own = await run(running, PROMPT_STUDIO_BODY)
    assert (402, True) == (own.status, "The budget of 0.08 per day" in str(own.json["detail"]))
    assert [200, 402] == [(await run(running, PROMPT_STUDIO_BODY, client="two")).status for _ in range(2)]
    shared = await run(running, PROMPT_STUDIO_BODY, client="two")
    assert "A budget that covers this run is exhausted." == shared.json["detail"]
    await settled_sums(session, running, "team:web")
    found = await get_budgets(session, running)
    assert {"nightly": "0", "account": "0.08", "mine": "0", "team:web": "0"} == {
        name: each["remaining"] for name, each in found.items()
    }
    assert {"client": "one", "workflow": "studio"} == found["mine"]["conditions"]  # type: ignore[comparison-overlap]


async def test_a_reload_changes_a_budget_in_use(
    gateway: StartGateway, upstream: FakeUpstream, session: aiohttp.ClientSession, run: PostRun
) -> None:
    """What is spent stays; the new amount, and the new price, hold for the next run."""
    upstream.default = DONE
    running = await gateway(providers=PROVIDERS, clients={"one": {"budget": monthly(0.05)}})
    assert [200, 402] == [(await run(running, PROMPT_STUDIO_BODY)).status for _ in range(2)]
    write_gateway_config(running, upstream.url, providers=PROVIDERS, clients={"one": {"budget": monthly(0.1)}})
    await wait_for_reloads(running, 1)
    assert [200, 402] == [(await run(running, PROMPT_STUDIO_BODY)).status for _ in range(2)]
    cheaper: JsonValue = {**PROVIDERS, "prompt_studio": {"price": "0.01"}}
    write_gateway_config(running, upstream.url, providers=cheaper, clients={"one": {"budget": monthly(0.09)}})
    await wait_for_reloads(running, 2)
    last = await run(running, PROMPT_STUDIO_BODY)
    assert (200, "0.01") == (last.status, last.headers["Runward-Cost"])
    assert amounts("0.09", "0", "0", "0") == await settled_sums(session, running, "client:one")
    write_gateway_config(running, upstream.url, clients={"one": {"budget": monthly(0.09)}})
    await wait_for_reloads(running, 3)
    [refused] = running.logs("reload_refused")
    assert "covers workflows without a price" in str(refused["places"])
    assert 402 == (await run(running, PROMPT_STUDIO_BODY)).status


async def test_a_restart_renews_no_budget(
    gateway: StartGateway, upstream: FakeUpstream, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Also after kill -9; a run in its hands is charged."""
    upstream.always("POST", STUDIO_RUN, DONE)
    restartable = RestartableGateway(gateway, session, tmp_path / "runward.db")
    await restartable.start(providers=PROVIDERS, clients={"one": {"budget": monthly(0.08)}})
    assert 200 == (await restartable.post(PROMPT_STUDIO_BODY)).status
    assert amounts("0.04", "0", "0", "0.04") == await settled_sums(session, restartable.current, "client:one")
    hanging = asyncio.create_task(restartable.post(PROMPT_STUDIO_BODY))

    async def hang(_connection: object) -> None:
        await asyncio.sleep(60)

    upstream.always("POST", STUDIO_RUN, hang)
    async with asyncio.timeout(20):
        while len(upstream.requests("POST", STUDIO_RUN)) < 2:
            await asyncio.sleep(0.02)
    await restartable.kill_and_restart()
    await asyncio.wait([hanging])
    assert 402 == (await restartable.post(PROMPT_STUDIO_BODY)).status
    found = (await get_budgets(session, restartable.current))["client:one"]
    assert ("0", "0.04") == (found["remaining"], found["reserved"])
    assert [(402, "budget_exhausted")] == [
        (answer.status, answer.json["code"]) for answer in [await restartable.post(PROMPT_STUDIO_BODY)]
    ]


async def test_a_background_run_above_the_budget_ends_with_its_reason(
    gateway: StartGateway, upstream: FakeUpstream, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Accepted, then not_run; the callback and the document say why, and what runs cost."""
    upstream.default = DONE
    restartable = RestartableGateway(gateway, session, tmp_path / "runward.db")
    await restartable.start(providers=PROVIDERS, clients={"one": {"budget": monthly(0.04)}})
    first, second = [await restartable.wait_for_end(await restartable.submit_async(PROMPT_STUDIO_BODY)) for _ in "12"]
    assert ("succeeded", {"amount": "0.04", "certainty": "spent"}) == (first["status"], first["cost"])
    assert ("not_run", {"amount": "0", "certainty": "none"}) == (second["status"], second["cost"])
    error = second["error"]
    assert isinstance(error, dict)
    assert "budget_exhausted" == error["code"]
    listed = {each["id"]: each["cost"] for each in await restartable.list_runs()}
    assert {first["id"]: first["cost"], second["id"]: second["cost"]} == listed


async def test_a_judgement_settles_what_was_unknown(
    gateway: StartGateway, upstream: FakeUpstream, session: aiohttp.ClientSession, run: PostRun
) -> None:
    """found_not_run gives back, found_paid spends; a judgement may be corrected. The outcome stays unknown."""
    upstream.always("POST", STUDIO_RUN, rst_after_request)
    running = await gateway(providers=PROVIDERS, clients={"one": {"budget": monthly(1)}})
    answer = await run(running, PROMPT_STUDIO_BODY)
    assert "0.04; certainty=unknown" == answer.headers["Runward-Cost"]
    assert amounts("0", "0.04", "0", "0.96") == await settled_sums(session, running, "client:one")
    assert amounts("0.04") == (await spend(running, client="one", certainty="unknown"),)
    url = f"{running.ops_url}/api/runs/{answer.json['run_id']}"
    for verdict, sums in (
        ("found_paid", amounts("0.04", "0", "0", "0.96")),
        ("found_not_run", amounts("0", "0", "0", "1")),
        ("found_paid", amounts("0.04", "0", "0", "0.96")),
    ):
        async with asyncio.timeout(20):
            while True:  # the record is written a moment after the response
                async with session.post(f"{url}/judge", json={"verdict": verdict}) as judged:
                    if judged.status == 200:
                        break
                await asyncio.sleep(0.05)
        assert sums == await settled_sums(session, running, "client:one")
    async with session.get(url) as shown:
        document = await shown.json()
    assert ("unknown", "0.04") == (document["status"], document["price"])
    assert {"amount": "0.04", "certainty": "unknown", "unknown": "0.04"} == document["cost"]


async def test_operators_see_what_is_spent(
    gateway: StartGateway, upstream: FakeUpstream, session: aiohttp.ClientSession, run: PostRun
) -> None:
    """The command, the attention list, the log and the plan of a replay."""
    upstream.script("POST", STUDIO_RUN, [DONE, reply(500, {"message": "no"})])
    running = await gateway(providers=PROVIDERS, clients={"one": {"budget": monthly(0.09)}})
    for _ in range(2):
        await run(running, PROMPT_STUDIO_BODY)
    assert amounts("0.08", "0", "0", "0.01") == await settled_sums(session, running, "client:one")
    command = [sys.executable, "-m", "gateway", "budgets", "--json", "--ops-url", running.ops_url]
    listed = await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    [budget] = [json.loads(line) for line in listed.stdout.splitlines()]
    assert ("client:one", "0.08", True) == (budget["budget"], budget["spent"], budget["exhausted"])
    async with session.get(f"{running.ops_url}/api/attention") as answer:
        items = [(each["kind"], each["subject"]) for each in (await answer.json())["items"] if "budget" in each["kind"]]
    assert [("budget_exhausted", "client:one")] == items
    assert [("client:one", 80)] == [(each["budget"], each["share"]) for each in running.logs("budget_warning")]
