"""Stored keys at the operations port of one process and of a supervisor: the same, their number is bounded."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from gateway.api.admin import keys as handlers
from tests.support.clock import ManualClock
from tests.support.key_administration import KeyAdministration
from tests.support.runs_port import runs_port

if TYPE_CHECKING:
    import aiohttp

    from tests.support.process import GatewayProcess

CONFIG: dict[str, Any] = {"clients": {"one": {"workflows": ["support-*"]}}}


@pytest.mark.parametrize("supervised", [False, True])
async def test_the_number_of_keys_is_bounded_also_with_those_that_ended(
    monkeypatch: pytest.MonkeyPatch, session: aiohttp.ClientSession, *, supervised: bool
) -> None:
    monkeypatch.setattr(handlers, "MAX_KEYS", 2)
    async with runs_port(ManualClock(), supervised=supervised, config=CONFIG) as port:
        gateway = cast("GatewayProcess", SimpleNamespace(ops_url=port.url))
        keys = KeyAdministration(session, gateway)
        first, _ = await keys.create(workflows=["support-eu-*"]), await keys.create()
        await keys.change(first["id"], "revoke")
        status, document = await keys.send("POST", "", {"client": "one", "name": "app"})
        assert (409, "too_many_keys", False) == (status, document["code"], document["retryable"])
        assert "There are 2 stored keys" in document["detail"]
        assert 2 == len((await keys.send("GET", ""))[1]["keys"])


async def test_an_unavailable_store_is_a_problem(session: aiohttp.ClientSession) -> None:
    async with runs_port(ManualClock(), config=CONFIG) as port:
        keys = KeyAdministration(session, cast("GatewayProcess", SimpleNamespace(ops_url=port.url)))
        created = await keys.create()
        await port.store.close()
        requests: tuple[tuple[str, str, Any], ...] = (
            ("GET", "", None),
            ("GET", f"/{created['id']}", None),
            ("POST", "", {"client": "one", "name": "app"}),
            ("POST", "/check", {"key": created["key"]}),
            *(
                ("POST", f"/{created['id']}/{act}", {"at": None} if act == "expire" else {})
                for act in ("rotate", "revoke", "expire")
            ),
        )
        for method, path, body in requests:
            status, document = await keys.send(method, path, body)
            assert (503, "store_unavailable", True) == (status, document["code"], document["retryable"]), path
