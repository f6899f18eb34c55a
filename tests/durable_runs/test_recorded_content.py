"""Input and output of runs that are recorded only: in the store by choice, else nowhere."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from tests.durable_runs.test_encryption import data_of, encrypted_with, new_key
from tests.support.client import PROMPT_STUDIO_BODY
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.fake_upstream.responses import reply
from tests.support.gateway_restarts import RestartableGateway
from tests.support.waiting import WAIT_TIMEOUT

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.fake_upstream.upstream import FakeUpstream

CANARY = "canary-c0ffee77"
BODY: dict[str, JsonValue] = {**PROMPT_STUDIO_BODY, "input": {"prompt": CANARY, "at": f"{CANARY}@example.com"}}
RESULT: JsonValue = {"completion": CANARY}
ALL_REDACTED = ["/input/prompt", "/output", "email"]


async def wait_until_recorded(gateway: RestartableGateway, run_id: str) -> None:
    """Wait until the run is in lists."""
    async with asyncio.timeout(WAIT_TIMEOUT):
        while run_id not in {run["id"] for run in await gateway.list_runs()}:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("how", ["none", "all", "encrypted", "redacted", "none for the workflow"])
async def test_content_is_in_the_store_by_choice_only(
    how: str, gateway: StartGateway, session: aiohttp.ClientSession, upstream: FakeUpstream, tmp_path: Path
) -> None:
    """R95: by default neither in the store nor in the log or the metrics; encrypted or redacted as configured."""
    (tmp_path / "store").mkdir()
    settings: dict[str, dict[str, JsonValue]] = {
        "none": {},
        "all": {"keep": "all"},
        "encrypted": {"keep": "all", **encrypted_with(new_key(tmp_path / "key"))},
        "redacted": {"keep": "all", "redact": list(ALL_REDACTED)},
        "none for the workflow": {"keep": "all"},
    }
    workflows: JsonValue = {"studio": {"content": {"keep": "none"}}} if how == "none for the workflow" else {}
    restartable = RestartableGateway(
        gateway, session, tmp_path / "store" / "runward.db", content=settings[how], workflows=workflows,
        logs={"level": "debug"},
    )  # fmt: skip
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply(RESULT))
    running = await restartable.start()
    answered = await restartable.post(BODY)
    assert (200, RESULT) == (answered.status, answered.json["output"])  # never redacted
    assert CANARY.encode() in upstream.requests("POST", STUDIO_RUN)[0].body
    run_id = str(answered.json["id"])
    async with session.get(f"{running.ops_url}/metrics") as scraped:
        metrics = await scraped.text()
    await wait_until_recorded(restartable, run_id)
    shown = await restartable.get_run(run_id)
    expected = {"all": RESULT, "encrypted": RESULT, "redacted": "[redacted]"}.get(how)
    assert (expected, expected is None) == (shown["output"], shown.get("output_kept") is False)
    stored = data_of(tmp_path / "store")
    await restartable.current.stop()
    assert (how == "all",) * 2 == (CANARY.encode() in stored, CANARY.encode() in data_of(tmp_path / "store"))
    assert CANARY not in running.stdout + metrics
    assert "runward_history_content_dropped_total 0.0" in metrics


async def test_the_content_of_failed_runs(
    gateway: StartGateway, session: aiohttp.ClientSession, upstream: FakeUpstream, tmp_path: Path
) -> None:
    """`keep: failed`: nothing of a run that succeeded; the input of one that failed, read again after a restart."""
    (tmp_path / "store").mkdir()
    restartable = RestartableGateway(gateway, session, tmp_path / "store" / "runward.db", content={"keep": "failed"})
    upstream.script("POST", STUDIO_RUN, [prompt_studio_reply(RESULT), reply(500, {"message": "no"})])
    await restartable.start()
    fine, failed = await restartable.post(PROMPT_STUDIO_BODY), await restartable.post(BODY)
    assert [(200, None), (502, "failed")] == [(each.status, each.json.get("outcome")) for each in (fine, failed)]
    await restartable.current.stop()
    stored = data_of(tmp_path / "store")
    assert (False, True) == (json.dumps(RESULT).encode() in stored, CANARY.encode() in stored)
    await restartable.start()
    assert (await restartable.get_run(str(fine.json["id"])))["output_kept"] is False
    shown = await restartable.get_run(str(failed.json["run_id"]))
    assert ("failed", True, False) == (shown["status"], "error" in shown, "output_kept" in shown)
