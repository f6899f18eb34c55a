"""Descriptions of PromptLayer's workflows."""

from __future__ import annotations

import pytest

from gateway.sandbox import DEFAULT_WORKFLOWS
from providers.contract import JsonValue
from tests.sandbox.clients import PromptLayerClient


async def test_a_workflow_is_described_with_its_nodes_and_edges(promptlayer: PromptLayerClient) -> None:
    got = await promptlayer.get("/workflows/support-triage")
    assert isinstance(got.json, dict)
    nodes, edges = got.json.pop("nodes"), got.json.pop("edges")
    assert {
        "success": True,
        "workflow_id": 1,
        "workflow_name": "support-triage",
        "version": 3,
        "workflow_version_id": 103,
        "commit_message": "Version 3",
        "required_input_variables": {"message": "string"},
        "release_labels": ["staging"],
        "created_at": "2026-01-15T09:00:00Z",
        "workflow": {
            "id": 1,
            "workspace_id": 1,
            "user_id": None,
            "name": "support-triage",
            "is_draft": False,
            "is_deleted": False,
        },
    } == got.json
    assert isinstance(nodes, list)
    assert isinstance(edges, list)
    without_ids = [{k: v for k, v in x.items() if k != "id"} for x in [*nodes, *edges] if isinstance(x, dict)]
    assert [
        {
            "workflow_version_id": 103,
            "name": "Classify",
            "node_type": "PROMPT_TEMPLATE",
            "is_output_node": False,
            "configuration": {},
            "dependencies": ["message"],
        },
        {
            "workflow_version_id": 103,
            "name": "Reply",
            "node_type": "PROMPT_TEMPLATE",
            "is_output_node": True,
            "configuration": {},
            "dependencies": ["Classify"],
        },
        {"source_node_name": "Classify", "target_node_name": "Reply", "is_and": True, "conditionals": []},
    ] == without_ids


@pytest.mark.parametrize(
    ("path", "status", "version"),
    [
        ("support-triage?version=1", 200, 1),
        ("support-triage?label=production", 200, 2),
        ("1", 200, 3),
        ("team/summarise", 200, 1),
        ("team%2Fsummarise", 200, 1),
        ("support-triage?version=4", 404, None),
        ("support-triage?label=beta", 404, None),
        ("support-triage?label=production&version=2", 422, None),
        ("support-triage?version=0", 422, None),
        ("missing", 404, None),
    ],
)
async def test_a_version_is_chosen_by_label_or_number(
    promptlayer: PromptLayerClient, path: str, status: int, version: int | None
) -> None:
    got = await promptlayer.get(f"/workflows/{path}")
    assert isinstance(got.json, dict)
    assert (status, version) == (got.status, got.json.get("version"))


async def test_a_version_shows_its_own_labels(promptlayer: PromptLayerClient) -> None:
    labels = []
    for version in (1, 2, 3):
        got = await promptlayer.get(f"/workflows/support-triage?version={version}")
        assert isinstance(got.json, dict)
        labels.append(got.json["release_labels"])
    assert [[], ["production"], ["staging"]] == labels


async def test_the_pages_of_the_list_make_the_whole(promptlayer: PromptLayerClient) -> None:
    names: list[JsonValue] = []
    page: JsonValue = 1
    while page is not None:
        got = await promptlayer.get(f"/workflows?page={page}&per_page=4")
        assert isinstance(got.json, dict)
        assert (page != 1, got.json["next_num"] is not None) == (got.json["has_prev"], got.json["has_next"])
        assert len(DEFAULT_WORKFLOWS.workflows) == got.json["total"]
        items = got.json["items"]
        assert isinstance(items, list)
        names += [item["name"] for item in items if isinstance(item, dict)]
        page = got.json["next_num"]
    assert [w.name for w in DEFAULT_WORKFLOWS.workflows] == names


async def test_an_item_of_the_list(promptlayer: PromptLayerClient) -> None:
    got = await promptlayer.get("/workflows?per_page=1")
    assert isinstance(got.json, dict)
    assert [
        {
            "id": 1,
            "workspace_id": 1,
            "user_id": None,
            "name": "support-triage",
            "is_deleted": False,
            "latest_version_number": 3,
            "release_labels": ["production", "staging"],
            "external_ids": [],
        }
    ] == got.json["items"]


@pytest.mark.parametrize(
    ("query", "status"), [("page=0", 400), ("per_page=101", 400), ("page=x", 422), ("page=9", 200)]
)
async def test_pages_are_numbers_in_bounds(promptlayer: PromptLayerClient, query: str, status: int) -> None:
    assert status == (await promptlayer.get(f"/workflows?{query}")).status
