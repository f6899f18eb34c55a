"""Request counters of the sandbox."""

from __future__ import annotations

from gateway.sandbox import CallCounts
from tests.sandbox.clients import Client, PromptLayerClient, PromptStudioClient, request


async def test_starts_polls_and_runs_are_counted_per_provider_and_workflow(
    client: Client, promptlayer: PromptLayerClient, prompt_studio: PromptStudioClient
) -> None:
    run = await promptlayer.run("echo")
    await promptlayer.results(run.id)
    await promptlayer.results(run.id)
    await promptlayer.run("throttled")
    await prompt_studio.run("dep_echo")
    await prompt_studio.run_instruction("dep_echo")
    got = await request(client, "GET", "/_sandbox/calls", {})
    assert {
        "promptlayer": {
            "starts": 2,
            "polls": 2,
            "runs": 1,
            "workflows": {
                "echo": {"starts": 1, "polls": 2, "runs": 1},
                "throttled": {"starts": 1, "polls": 0, "runs": 0},
            },
        },
        "prompt_studio": {
            "starts": 2,
            "polls": 0,
            "runs": 2,
            "workflows": {"dep_echo": {"starts": 2, "polls": 0, "runs": 2}},
        },
    } == got.json


async def test_delete_resets_the_counts(
    client: Client, promptlayer: PromptLayerClient, prompt_studio: PromptStudioClient, calls: CallCounts
) -> None:
    await promptlayer.run("echo")
    await prompt_studio.run("dep_echo")
    assert (1, 1) == (calls.promptlayer.starts, calls.prompt_studio.starts)
    assert 204 == (await request(client, "DELETE", "/_sandbox/calls", {})).status
    assert CallCounts() == calls


async def test_names_that_do_not_exist_share_one_count(
    promptlayer: PromptLayerClient, prompt_studio: PromptStudioClient, calls: CallCounts
) -> None:
    """Unknown names use bounded memory."""
    for n in range(3):
        await promptlayer.run(f"guess-{n}")
        await prompt_studio.run(f"guess-{n}")
        await promptlayer.results(n)
    assert ["(unknown)"] == list(calls.promptlayer.workflows)
    assert (3, 3, 0) == (calls.promptlayer.starts, calls.promptlayer.polls, calls.promptlayer.runs)
    assert (3, 0) == (calls.prompt_studio.starts, calls.prompt_studio.runs)
    assert ["(unknown)"] == list(calls.prompt_studio.workflows)


async def test_a_start_with_a_wrong_key_is_a_start_and_no_run(client: Client, calls: CallCounts) -> None:
    await PromptLayerClient(client, "pl_wrong").run("echo")
    await PromptStudioClient(client, "ps_wrong").run("dep_echo")
    assert (1, 0) == (calls.promptlayer.starts, calls.promptlayer.runs)
    assert (1, 0) == (calls.prompt_studio.starts, calls.prompt_studio.runs)
