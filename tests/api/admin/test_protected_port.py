"""A port without keys on the network: it plans replays, and starts none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from gateway.api.admin.protected_port import require_protected_port
from gateway.problems import Problem
from gateway.settings import Settings
from tests.support.clock import ManualClock
from tests.support.runs_port import run_id, runs_port

if TYPE_CHECKING:
    from providers.contract import JsonValue

HASH = "sha256:" + 64 * "a"
LOGIN: dict[str, Any] = {
    "issuers": {"corp": {"url": "https://login.example.com"}},
    "console": {
        "login": {
            "issuer": "corp",
            "client_id": "runward",
            "url": "https://ops.example.com",
            "roles": {"claim": "groups", "operator": ["platform"]},
        }
    },
}


@pytest.mark.parametrize(
    ("config", "allowed"),
    [
        ({}, True),
        ({"server": {"ops_host": "0.0.0.0"}}, False),
        ({"server": {"ops_host": "10.0.0.1"}}, False),
        ({"server": {"ops_host": "0.0.0.0", "ops_keys": [{"hash": HASH}]}}, True),
        ({"server": {"ops_host": "0.0.0.0"}, **LOGIN}, True),
    ],
)
def test_a_port_is_protected_by_keys_a_log_in_or_its_address(config: dict[str, Any], *, allowed: bool) -> None:
    settings = Settings.model_validate(config)
    if allowed:
        require_protected_port(settings, "this can be done")
    else:
        with pytest.raises(Problem, match="forbidden") as refused:
            require_protected_port(settings, "this can be done")
        assert "this can be done only if server.ops_host is a loopback address" in refused.value.detail


@pytest.mark.parametrize("supervised", [False, True], ids=["process", "supervisor"])
async def test_a_port_that_others_reach_without_a_key_starts_no_replays(*, supervised: bool) -> None:
    async with (
        runs_port(ManualClock(), supervised=supervised, config={"server": {"ops_host": "0.0.0.0"}}) as port,
        aiohttp.ClientSession() as session,
    ):
        await port.start(1)
        await port.end(1, "failed")

        async def send(**body: JsonValue) -> tuple[int, dict[str, Any]]:
            async with session.post(port.url + "/api/replays", json={"ids": [run_id(1)], **body}) as answer:
                return answer.status, await answer.json(content_type=None)

        status, plan = await send()
        assert (200, 1) == (status, plan["plan"]["total"])
        status, problem = await send(plan=plan["id"], dry_run=False)
        assert (403, "forbidden") == (status, problem["code"])
        async with session.get(f"{port.url}/api/replays/{plan['id']}") as answer:
            assert "planned" == (await answer.json())["state"]
