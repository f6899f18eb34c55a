"""Callbacks of the PromptLayer emulator."""

from __future__ import annotations

import pytest
from pytest_aiohttp.plugin import AiohttpClient

from gateway.json import strict_json
from gateway.sandbox import create_application
from providers.contract import JsonValue
from tests.sandbox.clients import KEYS, PromptLayerClient
from tests.support.virtual_clock import VirtualClock

HOOK = "https://example.com/promptlayer/workflow-callback"


class Receiver:
    """Callback receiver that can fail."""

    def __init__(self) -> None:
        self.got: list[tuple[str, JsonValue]] = []
        self.unwell = False

    async def call(self, url: str, body: bytes) -> None:
        self.got.append((url, strict_json.read(body)))
        if self.unwell:
            raise OSError


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
async def promptlayer(clock: VirtualClock, receiver: Receiver, aiohttp_client: AiohttpClient) -> PromptLayerClient:
    return PromptLayerClient(await aiohttp_client(create_application(clock, keys=KEYS, post_callback=receiver.call)))


@pytest.mark.parametrize("every", [True, False])
async def test_the_results_are_posted_once_when_the_run_has_ended(
    promptlayer: PromptLayerClient,
    clock: VirtualClock,
    receiver: Receiver,
    every: bool,  # noqa: FBT001 - a value
) -> None:
    """202, then the id with the results in the requested format."""
    run = await promptlayer.run("slow", input_variables={"seconds": 3}, return_all_outputs=every, callback_url=HOOK)
    assert 202 == run.status
    await clock.run_for(2.9)
    assert [] == receiver.got
    await clock.run_for(60)
    shown = await promptlayer.results(run.id, all_outputs=str(every).lower())
    assert [(HOOK, {"workflow_version_execution_id": run.id, "final_output": shown.json})] == receiver.got


async def test_without_a_callback_url_nothing_is_posted(
    promptlayer: PromptLayerClient, clock: VirtualClock, receiver: Receiver
) -> None:
    assert 201 == (await promptlayer.run("echo")).status
    assert 429 == (await promptlayer.run("throttled", callback_url=HOOK)).status
    await clock.run_for(60)
    assert [] == receiver.got


async def test_a_failing_receiver_changes_nothing(
    promptlayer: PromptLayerClient, clock: VirtualClock, receiver: Receiver
) -> None:
    receiver.unwell = True
    run = await promptlayer.run("echo", callback_url=HOOK)
    await clock.run_for(60)
    assert (1, 200) == (len(receiver.got), (await promptlayer.results(run.id)).status)
