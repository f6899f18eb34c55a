"""Audit records of the gateway itself: starts, reloads with the hashes of the configurations, graceful shutdowns."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from pydantic import SecretStr

from gateway.app.system_audit import ACTIONS
from gateway.http.request import Route
from gateway.settings import Settings
from gateway.settings.configuration_hash import configuration_hash
from tests.api.admin.test_openapi import one_process_routes, supervisor_routes
from tests.support.gateway_restarts import RestartableGateway
from tests.support.process import ROOT
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from tests.conftest import StartGateway

PROVIDER = {"adapter": "prompt_studio", "base_url": "https://api.example.com", "api_key": "first-secret-key"}


def settings(**sections: Any) -> Settings:
    return Settings.model_validate({"providers": {"a": PROVIDER}, **sections})


def test_the_hash_of_a_configuration_has_no_secrets() -> None:
    first = configuration_hash(settings())
    assert re.fullmatch("[0-9a-f]{64}", first)
    assert first == configuration_hash(
        settings(providers={"a": {**PROVIDER, "api_key": SecretStr("other-secret-key")}})
    )
    assert first == configuration_hash(settings(retries={"attempts": 3}))  # the default


@pytest.mark.parametrize(
    "sections",
    [
        {"retries": {"attempts": 4}},
        {"clients": {"app": {"workflows": ["*"], "keys": [{"hash": "sha256:" + "a" * 64}]}}},
        {"server": {"trusted_proxies": ["192.0.2.0/24"]}},
        {"server": {"ops_keys": [{"hash": "sha256:" + "b" * 64}]}},
        {"store": {"url": "redis://localhost/0", "password": "store-secret"}},
    ],
)
def test_any_other_setting_changes_the_hash(sections: dict[str, Any]) -> None:
    assert configuration_hash(settings()) != configuration_hash(settings(**sections))


async def audit(session: aiohttp.ClientSession, url: str) -> list[dict[str, Any]]:
    """Return the records, oldest first."""
    async with session.get(f"{url}/api/audit?order=oldest") as answer:
        assert 200 == answer.status
        records: list[dict[str, Any]] = (await answer.json())["records"]
        return records


async def test_starts_reloads_and_drains_are_recorded(
    gateway: StartGateway, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """R100: those that are refused too; the chain goes on after a restart."""
    restartable = RestartableGateway(gateway, session, tmp_path / "runward.db")
    running = await restartable.start()
    first = running.config.read_text()
    running.config.write_text("server: {")
    await wait_until(lambda: running.logs("reload_refused"))
    running.config.write_text(yaml.safe_dump({**yaml.safe_load(first), "retries": {"attempts": 7}}))
    await wait_until(lambda: running.logs("reloaded"))
    running.config.write_text(first)
    await wait_until(lambda: len(running.logs("reloaded")) == 2)
    assert 0 == await running.stop()
    again = await restartable.start()
    await wait_until(lambda: again.logs("audit_record"))
    found = await audit(session, again.ops_url)
    assert [
        ("gateway.start", "succeeded"),
        ("configuration.reload", "refused"),
        *(2 * [("configuration.reload", "begun"), ("configuration.reload", "succeeded")]),
        ("gateway.drain", "begun"),
        ("gateway.drain", "succeeded"),
        ("gateway.start", "succeeded"),
    ] == [(each["action"], each["result"]) for each in found]
    assert {("system", "system", "")} == {(each["actor"], each["via"], each["address"]) for each in found}
    assert list(range(1, 10)) == [each["sequence"] for each in found]
    started, refused, begun, ended, back, _, *_, restarted = (each["details"] for each in found)
    assert {"before": started["configuration"], "errors": "1"} == refused
    assert begun == ended
    assert begun["before"] == started["configuration"] == restarted["configuration"]
    assert begun["after"] == back["before"] != begun["before"] == back["after"]
    logged = [line["hash"] for line in again.logs("audit_record")]
    assert logged == [found[-1]["hash"]]


async def test_every_action_is_documented() -> None:
    """In docs/audit.md, which names no others."""
    routes: list[Route] = [*one_process_routes(), *supervisor_routes()]
    actions = {each.action for each in routes if each.action} | set(ACTIONS)
    [table] = re.findall(
        r"\| action \| target \| details \|\n(.*?)\n\n", (ROOT / "docs/audit.md").read_text(), re.DOTALL
    )
    named = {name for line in table.splitlines() for name in re.findall("`([a-z_.]+)`", line.split("|")[1])}
    assert actions == named
