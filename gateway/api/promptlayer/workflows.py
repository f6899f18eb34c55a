"""Workflows that a client may run, in the format of PromptLayer's API."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.api.promptlayer.requests import query_integer, workflow_name
from gateway.api.version_pin import check_pin
from gateway.errors import WorkflowNotFound
from gateway.http.request import AnyResponse, Handler, Request
from gateway.http.response import Response, make_response
from gateway.json import strict_json
from gateway.problems import invalid_parameter
from gateway.runs import rendering
from gateway.runs.api_name_index import VersionPin
from gateway.runs.catalog import Catalog, Workflow
from providers.contract import JsonValue

_POINTERS = ("?label", "?version")
_MAX_PAGE_SIZE = 100
_DEFAULT_PAGE_SIZE = 30
_SUBRESOURCES = ("/labels", "/external-ids")
_LIST_PARAMETERS = {"page", "per_page"}


@dataclass(frozen=True, slots=True)
class PromptLayerWorkflowHandlers:
    """Handlers for names, ids and configured versions of workflows. A workflow's nodes are not available.

    `passthrough`: handler of requests that are not served here.
    """

    catalog: Catalog
    passthrough: Handler

    async def get_workflow(self, request: Request) -> AnyResponse:
        """Handle `GET /workflows/{name or id}`: the Python SDK looks up the id before it runs a workflow.

        A name may contain slashes: a path that names no workflow may name a sub-resource of one.
        """
        pin = _requested_pin(request)
        name = workflow_name(request)
        try:
            workflow = self.catalog.find_for_api("promptlayer", name, request.client, pin)
        except WorkflowNotFound:
            if name.endswith(_SUBRESOURCES):
                return await self.passthrough(request)
            raise
        check_pin(workflow, pin, _POINTERS)
        rendered = self._render_workflow(workflow)
        members = {
            "success": True,
            "workflow": {"id": rendered["id"], "name": rendered["name"]},
            "workflow_id": rendered["id"],
            "workflow_name": rendered["name"],
            "version": rendered["latest_version_number"],
            "release_labels": rendered["release_labels"],
        }
        return make_response(200, strict_json.write(members), rendering.JSON_CONTENT_TYPE)

    async def list_workflows(self, request: Request) -> Response:
        """Handle `GET /workflows`: a page of the configured workflows, ordered by alias.

        PromptLayer's filters and orders are refused: ignored, they would return workflows that were not asked for.
        """
        for name in request.query:
            if name not in _LIST_PARAMETERS:
                raise invalid_parameter(name, "is not supported here: the workflows of the key are listed by alias")
        page = query_integer(request, "page", 1)
        size = query_integer(request, "per_page", _DEFAULT_PAGE_SIZE, maximum=_MAX_PAGE_SIZE)
        workflows = self.catalog.list_runnable(request.client)
        pages = -(-len(workflows) // size)
        members = {
            "items": [self._render_workflow(workflow) for workflow in workflows[(page - 1) * size : page * size]],
            "page": page,
            "per_page": size,
            "pages": pages,
            "total": len(workflows),
            "has_next": page < pages,
            "has_prev": page > 1,
            "next_num": page + 1 if page < pages else None,
            "prev_num": page - 1 if page > 1 else None,
        }
        return make_response(200, strict_json.write(members), rendering.JSON_CONTENT_TYPE)

    def _render_workflow(self, workflow: Workflow) -> dict[str, JsonValue]:
        workflow_id = self.catalog.workflow_number(workflow)
        name = workflow.name if workflow_id is None else workflow.alias
        return {
            "id": name if workflow_id is None else workflow_id,
            "name": name,
            "latest_version_number": workflow.version if isinstance(workflow.version, int) else None,
            "release_labels": [] if workflow.label is None else [workflow.label],
        }


def _requested_pin(request: Request) -> VersionPin:
    label = request.query.get("label")
    version = query_integer(request, "version", maximum=2**31 - 1) if "version" in request.query else None
    if label is not None and version is not None:
        raise invalid_parameter("version", "label and version are mutually exclusive")
    return label, version
