"""Label values come from the configuration and the code alone, whatever clients and providers send (R93)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.auth.keys import new_key
from gateway.clock import SystemClock
from gateway.observability.metrics import Metrics
from gateway.problems import PROBLEMS
from providers.contract import Cause
from tests.support.client import PROMPT_STUDIO_BODY, PostRun, auth_headers, post_run
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.fake_upstream.responses import reply

if TYPE_CHECKING:
    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.fake_upstream.upstream import FakeUpstream

DOCS = Path(__file__).parent.parent.parent / "docs"
HOSTILE = "hostile-5c1f"
PROVIDERS = {"promptlayer", "prompt_studio"}
WORKFLOWS = {"studio", "layer", "(gone)", *(f"{name}/*" for name in PROVIDERS)}
ALLOWED = {
    "client": {"", "one", "two"},
    "workflow": WORKFLOWS,
    "fallback": WORKFLOWS,
    "provider": {"", *PROVIDERS},  # "": of a request that was refused before it had a run
    "code": set(PROBLEMS),
    "cause": {cause.value for cause in Cause},
    "outcome": {"succeeded", "failed", "unknown", "not_run"},
    "api": {"run", "promptlayer", "prompt_studio"},
    "operation": {"start", "poll", "cancel", "passthrough"},
}


def test_the_bound_of_every_family_with_labels_is_documented() -> None:
    page = (DOCS / "metrics.md").read_text().partition("## Number of series")[2].partition("\n## ")[0]
    documented = set(re.findall(r"^\| `(runward_\w+)` \|", page, re.MULTILINE))
    labelled = {
        name
        for name, family in Metrics()._families.items()
        if getattr(family, "labels", ()) and not callable(family.labels)
    }
    gauges = {"runward_circuit_state", "runward_keys", "runward_provider_override", "runward_build_info"}
    gauges |= {"runward_issuer_keys_timestamp_seconds", "runward_budget_remaining_ratio", "runward_attention_items"}
    assert labelled | gauges | {"runward_overhead_seconds"} == documented
    assert len(PROBLEMS) <= 60
    assert len(Cause) <= 15


async def test_names_from_outside_become_no_label_values(
    gateway: StartGateway, upstream: FakeUpstream, session: aiohttp.ClientSession, run: PostRun
) -> None:
    """Clients, workflows, routes, methods, codes and statuses that are not configured."""
    answers = [prompt_studio_reply(HOSTILE), reply(418, {"code": HOSTILE, "error": HOSTILE}), reply(299, {})]
    upstream.script("POST", STUDIO_RUN, answers * 10)
    upstream.default = prompt_studio_reply("x")
    scope: JsonValue = {"workflows": ["*", "prompt_studio/*", "promptlayer/*"]}
    running = await gateway(clients={"one": scope})
    for number in range(10):
        name = f"{HOSTILE}-{number}"
        for workflow in ("studio", name, f"prompt_studio/{name}", f"promptlayer/{name}", f"{name}/{name}"):
            await run(running, {**PROMPT_STUDIO_BODY, "workflow": workflow})
        stranger = {"Authorization": f"Bearer {new_key(SystemClock())}", "X-Client": name}
        await post_run(session, running.url, PROMPT_STUDIO_BODY, stranger)
        for method, path in ((name.upper(), "/run"), ("GET", f"/{name}"), ("GET", f"/runs/{name}"), ("PUT", "/run")):
            async with session.request(method, running.url + path, headers=auth_headers("one")) as answer:
                await answer.read()
    samples = await running.metrics()
    assert any(sample.labels.get("workflow") == "prompt_studio/*" for sample in samples)
    values = {(name, value) for sample in samples for name, value in sample.labels.items()}
    assert [] == [value for _, value in values if HOSTILE in value.lower()]
    assert [] == [(name, value) for name, value in values if name in ALLOWED and value not in ALLOWED[name]]
    routes = {value for name, value in values if name == "route"}
    documented = (DOCS / "metrics.md").read_text().partition("`runward_requests_total` |")[2].partition("\n")[0]
    assert routes <= set(re.findall(r"`(\w+)`", documented))
