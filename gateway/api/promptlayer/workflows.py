"""The workflows that a client may run, as PromptLayer's API shows them."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from gateway import strictjson
from gateway.api.pins import check_pin
from gateway.api.promptlayer.asked import name_in, number_in
from gateway.api.server import Request
from gateway.api.wire import answer
from gateway.problems import Pointer, Problem
from gateway.runs import answers
from gateway.runs.catalog import Catalog, Workflow
from gateway.runs.names import Pin
from providers.contract import JsonValue

_POINTERS = ("?label", "?version")
_MOST = 100
_USUAL = 30


@dataclass(frozen=True, slots=True)
class WorkflowsFace:
    """Shows names and ids, and what the configuration pins; what is inside a workflow is the provider's."""

    catalog: Catalog

    async def show(self, request: Request) -> web.Response:
        """Answer `GET /workflows/{name or id}`: the Python SDK asks for the id before it runs a workflow."""
        pin = _pin(request)
        workflow = self.catalog.find_as("promptlayer", name_in(request), request.client, pin)
        check_pin(workflow, pin, _POINTERS)
        shown = self._shown(workflow)
        members = {
            "success": True,
            "workflow": {"id": shown["id"], "name": shown["name"]},
            "workflow_id": shown["id"],
            "workflow_name": shown["name"],
            "version": shown["latest_version_number"],
            "release_labels": shown["release_labels"],
        }
        return answer(200, strictjson.write(members), answers.JSON)

    async def show_all(self, request: Request) -> web.Response:
        """Answer `GET /workflows`: the configured ones, by alias, a page at a time."""
        page, size = number_in(request, "page", 1), number_in(request, "per_page", _USUAL, most=_MOST)
        found = self.catalog.runnable(request.client)
        pages = -(-len(found) // size)
        members = {
            "items": [self._shown(workflow) for workflow in found[(page - 1) * size : page * size]],
            "page": page,
            "per_page": size,
            "pages": pages,
            "total": len(found),
            "has_next": page < pages,
            "has_prev": page > 1,
            "next_num": page + 1 if page < pages else None,
            "prev_num": page - 1 if page > 1 else None,
        }
        return answer(200, strictjson.write(members), answers.JSON)

    def _shown(self, workflow: Workflow) -> dict[str, JsonValue]:
        number = self.catalog.number(workflow)
        name = workflow.name if number is None else workflow.alias
        return {
            "id": name if number is None else number,
            "name": name,
            "latest_version_number": workflow.version,
            "release_labels": [] if workflow.label is None else [workflow.label],
        }


def _pin(request: Request) -> Pin:
    label = request.query.get("label")
    version = number_in(request, "version", most=2**31 - 1) if "version" in request.query else None
    if label is not None and version is not None:
        wrong = Pointer("?version", "label and version exclude each other")
        raise Problem("invalid_request", "1 thing(s) are wrong.", errors=(wrong,))
    return label, version
