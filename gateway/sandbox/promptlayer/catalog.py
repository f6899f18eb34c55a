"""Emulator of PromptLayer: workflow catalog (reference/get-workflow, list-workflows)."""

from __future__ import annotations

from uuid import NAMESPACE_URL, uuid5

from aiohttp import web

from gateway.sandbox.http_json import json_response
from gateway.sandbox.model import SandboxWorkflow
from gateway.sandbox.promptlayer.validation import (
    PageQuery,
    VersionQuery,
    bad_request,
    check_key,
    not_found,
    read_query,
    unprocessable,
)

_WORKSPACE = 1
_CREATED = "2026-01-15T09:00:00Z"
_MAX_PER_PAGE = 100


class WorkflowCatalogRoutes:
    """Handlers of the list of workflows and their details. `workflows` by name and by id."""

    def __init__(self, key: str, workflows: dict[str, SandboxWorkflow]) -> None:
        self._key = key
        self._workflows = workflows
        self._listed = sorted({w.id: w for w in workflows.values()}.values(), key=lambda w: w.id)

    def routes(self) -> list[web.RouteDef]:
        """Return the routes. They must follow the run route, because a name may contain a `/`."""
        return [web.get("/workflows", self._list), web.get("/workflows/{name:.+}", self._get)]

    async def _list(self, request: web.Request) -> web.Response:
        check_key(request, self._key)
        query = read_query(PageQuery, request)
        if query.page < 1 or not 1 <= query.per_page <= _MAX_PER_PAGE:
            raise bad_request("Invalid pagination parameters")
        first = (query.page - 1) * query.per_page
        items = [_list_item(w) for w in self._listed[first : first + query.per_page]]
        return json_response({"items": items, **_paging(query, len(self._listed))})

    async def _get(self, request: web.Request) -> web.Response:
        check_key(request, self._key)
        query = read_query(VersionQuery, request)
        workflow = self._workflows.get(request.match_info["name"])
        if workflow is None:
            raise not_found("Workflow")
        if query.version is not None and query.label is not None:
            raise unprocessable("version and label are mutually exclusive")
        version = workflow.resolve_version(query.label, query.version)
        if version is None:
            raise not_found("Workflow version")
        return json_response(_workflow_document(workflow, version))


def _list_item(workflow: SandboxWorkflow) -> dict[str, object]:
    return {
        "id": workflow.id,
        "workspace_id": _WORKSPACE,
        "user_id": None,
        "name": workflow.name,
        "is_deleted": False,
        "latest_version_number": workflow.versions,
        "release_labels": sorted(workflow.labels),
        "external_ids": [],
    }


def _paging(query: PageQuery, total: int) -> dict[str, object]:
    pages = -(-total // query.per_page)
    has_next, has_prev = query.page < pages, query.page > 1
    return {
        "page": query.page,
        "per_page": query.per_page,
        "total": total,
        "pages": pages,
        "has_next": has_next,
        "has_prev": has_prev,
        "next_num": query.page + 1 if has_next else None,
        "prev_num": query.page - 1 if has_prev else None,
    }


def _workflow_document(workflow: SandboxWorkflow, version: int) -> dict[str, object]:
    version_id = workflow.id * 100 + version
    return {
        "success": True,
        "workflow_id": workflow.id,
        "workflow_name": workflow.name,
        "version": version,
        "workflow_version_id": version_id,
        "commit_message": f"Version {version}",
        "required_input_variables": workflow.inputs,
        "release_labels": sorted(label for label, number in workflow.labels.items() if number == version),
        "created_at": _CREATED,
        "nodes": _nodes(workflow, version_id),
        "edges": _edges(workflow, version_id),
        # Not in the OpenAPI file, but in recorded responses; the official Python SDK reads `workflow.id`.
        "workflow": {
            "id": workflow.id,
            "workspace_id": _WORKSPACE,
            "user_id": None,
            "name": workflow.name,
            "is_draft": False,
            "is_deleted": False,
        },
    }


def _nodes(workflow: SandboxWorkflow, version_id: int) -> list[dict[str, object]]:
    names = [node.name for node in workflow.nodes]
    return [
        {
            "id": _uuid(version_id, node.name),
            "workflow_version_id": version_id,
            "name": node.name,
            "node_type": node.node_type,
            "is_output_node": node.is_output,
            "configuration": {},
            "dependencies": names[position - 1 : position] if position else list(workflow.inputs or ()),
        }
        for position, node in enumerate(workflow.nodes)
    ]


def _edges(workflow: SandboxWorkflow, version_id: int) -> list[dict[str, object]]:
    return [
        {
            "id": _uuid(version_id, f"{source.name}>{target.name}"),
            "source_node_name": source.name,
            "target_node_name": target.name,
            "is_and": True,
            "conditionals": [],
        }
        for source, target in zip(workflow.nodes, workflow.nodes[1:], strict=False)
    ]


def _uuid(version_id: int, name: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"sandbox:{version_id}:{name}"))
