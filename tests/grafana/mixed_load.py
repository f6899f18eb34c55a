"""Mixed load: one provider account per behaviour, several clients, and a record of what was answered."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.alerts.fault_scenario import DONE, in_rotation
from tests.support.client import PROMPT_STUDIO_BODY, PostRun, auth_headers
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.provider_responses import (
    LAYER_RESULTS,
    LAYER_RUN,
    node,
    promptlayer_done,
    promptlayer_running,
    promptlayer_started,
)
from tests.support.fake_upstream.responses import reply
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    import aiohttp

    from providers.contract import JsonValue
    from tests.support.fake_upstream.connection import ReceivedRequest
    from tests.support.fake_upstream.faults import ResponseScript
    from tests.support.fake_upstream.upstream import FakeUpstream, Predicate
    from tests.support.process import GatewayProcess

LAYER_DONE = promptlayer_done({"Answer": node("because")})
LATE_POLLS = 40  # polls, each 50 ms or more after the last, until a run of `late` has ended
RUNS: Mapping[tuple[str, str], int] = {
    ("one", "studio"): 6,
    ("two", "studio"): 4,
    ("one", "layer"): 3,
    ("one", "failing"): 3,
    ("one", "broken"): 2,
    ("one", "throttling"): 6,
    ("one", "locked"): 2,
    ("one", "handed_on"): 2,
    ("two", "narrow"): 4,
    ("one", "down"): 12,
    ("one", "late"): 1,
}
"""Number of runs by client and workflow, in one round."""
ANSWERS: Mapping[str, ResponseScript] = {
    "failing": reply(500, {"message": "the workflow failed"}),
    "broken": faults.rst_after_request,
    "throttling": in_rotation(reply(429, {}, {"Retry-After": "0"}), DONE, DONE),
    "locked": reply(401, {"message": "no"}),
    "narrow": faults.delayed(0.3, DONE),
}
REACHED = ("prompt_studio", "promptlayer", "late", *ANSWERS)
"""The providers whose calls arrive at the fake upstream."""


def script_all(upstream: FakeUpstream) -> None:
    """Script the upstream for every account."""
    upstream.default = DONE
    upstream.always("POST", LAYER_RUN, promptlayer_started(787))
    upstream.always("GET", LAYER_RESULTS, LAYER_DONE)
    for account, script in ANSWERS.items():
        upstream.route(_belongs_to(account), script)
    upstream.always("POST", "/late/workflows/late/run", promptlayer_started(788))
    upstream.always("GET", "/late" + LAYER_RESULTS, LAYER_DONE)
    upstream.script("GET", "/late" + LAYER_RESULTS, [promptlayer_running()] * LATE_POLLS)


def overrides(url: str, down_url: str, store_url: str) -> dict[str, JsonValue]:
    """Return additions to the tests' configuration; `down_url` refuses every connection."""
    accounts: dict[str, JsonValue] = {name: _account(f"{url}/{name}") for name in ANSWERS}
    accounts["narrow"] = _account(f"{url}/narrow") | {"limits": {"concurrency": 1, "max_wait": "100ms"}}
    accounts["down"] = _account(down_url)
    accounts["idle"] = _account(f"{url}/idle")
    accounts["late"] = _account(f"{url}/late", "promptlayer")
    workflows: dict[str, JsonValue] = {name: {"provider": name, "name": name, "timeout": "3s"} for name in accounts}
    workflows["late"] = {"provider": "late", "name": "late", "timeout": "1s"}
    workflows["studio"] = {"price": "0.04", "budget": {"amount": 1000, "per": "month"}}
    workflows["broken"] = {"provider": "broken", "name": "broken", "timeout": "3s", "price": "0.25"}
    workflows["handed_on"] = {"provider": "locked", "name": "handed_on", "fallback": ["studio"]}
    return {
        "server": {"public_url": "https://gateway.example"},
        "store": {"url": store_url},
        "providers": accounts,
        "workflows": workflows,
        "clients": {"two": {"limits": {"rate": "5/s", "burst": 5}}},
        "callbacks": {"secrets": [{"env": "RUNWARD_CALLBACK_SECRET"}], "allow": ["127.0.0.1/32"]},
        "polling": {"first": "50ms", "max": "50ms", "timeout": "2s", "follow_for": "20s"},
    }


@dataclass(slots=True)
class Answered:
    """What the clients were answered: outcomes by client, codes, and the number of runs."""

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    codes: Counter[str] = field(default_factory=Counter)
    refused: dict[str, Counter[str]] = field(default_factory=dict)

    @property
    def runs(self) -> int:
        """The number of runs that ended."""
        return sum(counter.total() for counter in self.outcomes.values())

    def ended(self, client: str, outcome: str, code: str = "") -> None:
        """Note the end of a run."""
        self.outcomes.setdefault(client, Counter())[outcome] += 1
        if code:
            self.codes[code] += 1

    def refuse(self, client: str, code: str) -> None:
        """Note an answer that was a problem."""
        self.refused.setdefault(client, Counter())[code] += 1


class MixedLoad:
    """Sends the load to a gateway, and notes the answers."""

    def __init__(self, run: PostRun, gateway: GatewayProcess, receiver: str) -> None:
        self.answered, self.gateway = Answered(), gateway
        self._run, self._receiver = run, receiver

    async def send(self, session: aiohttp.ClientSession) -> None:
        """Send every kind of run and request once round."""
        runs = [(client, workflow) for (client, workflow), count in RUNS.items() for _ in range(count)]
        await asyncio.gather(*(self._wait_for(client, workflow) for client, workflow in runs))
        await asyncio.gather(*(self._in_background(name, session) for name in ("studio", "broken", "failing")))
        await self._refused(session)

    async def _wait_for(self, client: str, workflow: str) -> None:
        answer = await self._run(self.gateway, {**PROMPT_STUDIO_BODY, "workflow": workflow}, client=client)
        code = str(answer.json.get("code", ""))
        self.answered.ended(client, str(answer.json.get("outcome", answer.json.get("status"))), code)
        if code:
            self.answered.refuse(client, code)

    async def _in_background(self, workflow: str, session: aiohttp.ClientSession) -> None:
        body = {**PROMPT_STUDIO_BODY, "workflow": workflow, "callback_url": f"{self._receiver}/hook"}
        accepted = await self._run(self.gateway, body, Prefer="respond-async")
        assert 202 == accepted.status, accepted.body
        url = f"{self.gateway.url}/runs/{accepted.json['id']}"
        async with session.get(url + "?wait=10", headers=auth_headers("one")) as answer:
            run = await answer.json()
        self.answered.ended("one", run["status"], (run.get("error") or {}).get("code", ""))

    async def _refused(self, session: aiohttp.ClientSession) -> None:
        """Send requests that are refused before there is a run, and a forged hint."""
        invalid = await self._run(self.gateway, {"workflow": 1})
        assert 422 == invalid.status
        self.answered.refuse("one", "invalid_request")
        headers = {"Authorization": "Bearer rw_no"}
        async with session.post(f"{self.gateway.url}/run", json={}, headers=headers) as answer:
            assert 401 == answer.status
        self.answered.refuse("", "unauthorized")
        self.answered.codes.update(["invalid_request", "unauthorized"])
        async with session.post(f"{self.gateway.url}/hints/forged", json={}) as answer:
            assert answer.status < 500


async def reload_twice(gateway: GatewayProcess) -> None:
    """Have the configuration refused once, and then applied."""
    text = gateway.config.read_text()
    gateway.config.write_text("server: {")
    await wait_until(lambda: gateway.logs("reload_refused"))
    gateway.config.write_text(text.replace("max_body: 1MB", "max_body: 2MB"))
    await wait_until(lambda: gateway.logs("reloaded"))


def _belongs_to(account: str) -> Predicate:
    def belongs(request: ReceivedRequest) -> bool:
        return request.path.startswith(f"/{account}/")

    return belongs


def _account(url: str, adapter: str = "prompt_studio") -> dict[str, JsonValue]:
    key = "PROMPTLAYER_API_KEY" if adapter == "promptlayer" else "PROMPT_STUDIO_API_KEY"
    return {"adapter": adapter, "base_url": url, "api_key": {"env": key}}
