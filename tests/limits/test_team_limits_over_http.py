"""Limits of a team as its clients see them; upstream calls are counted at the fake upstream."""

from __future__ import annotations

from pathlib import Path

from gateway.auth.keys import hash_key, new_key
from gateway.clock import SystemClock
from providers.contract import JsonValue
from tests.security.gateway_harness import running_gateway
from tests.support.raw_client import build_run, send_request

KEYS = {name: new_key(SystemClock()) for name in ("app", "batch", "other")}


def client(name: str, team: str | None) -> JsonValue:
    """Return the configuration of a client in this team."""
    return {"keys": [{"hash": hash_key(KEYS[name])}], "workflows": ["*"], **({} if team is None else {"team": team})}


async def test_the_clients_of_a_team_share_its_daily_quota_and_others_do_not(tmp_path: Path) -> None:
    team_of = {"app": "shop", "batch": "shop", "other": None}
    clients: JsonValue = {name: client(name, team) for name, team in team_of.items()}
    teams: JsonValue = {"shop": {"limits": {"daily": 3}}}
    async with running_gateway(tmp_path, clients=clients, teams=teams) as harness:
        replies = [
            await send_request(harness.url, build_run(headers={"Authorization": f"Bearer {KEYS[name]}"}, client=None))
            for name in ("app", "batch", "app", "batch", "app", "other")
        ]
        assert [200, 200, 200, 429, 429, 200] == [reply.status for reply in replies]
        assert 4 == len(harness.upstream.requests("POST"))
        refused = {name.lower(): value for name, value in replies[3].headers}
    assert '"team-daily";q=3;w=86400' == refused["ratelimit-policy"]
    assert refused["ratelimit"].startswith('"team-daily";r=0;t=')
