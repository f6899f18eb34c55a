"""Routes of PromptLayer's API."""

from __future__ import annotations

from gateway.api.promptlayer.errors import render_problem
from gateway.api.promptlayer.runs import PromptLayerRunHandlers
from gateway.api.promptlayer.workflows import PromptLayerWorkflowHandlers
from gateway.http.request import Handler, Route, always, never
from gateway.http.router import with_double_slash


def routes(runs: PromptLayerRunHandlers, workflows: PromptLayerWorkflowHandlers) -> list[Route]:
    """The routes. Names in paths may contain slashes."""
    table: tuple[tuple[str, str, Handler, str], ...] = (
        ("POST", "/workflows/{path}/run", runs.start, "promptlayer_run"),
        ("GET", "/workflow-version-execution-results", runs.get_results, "promptlayer_results"),
        ("GET", "/workflows", workflows.list_workflows, "promptlayer_workflows"),
    )
    passed_through: tuple[tuple[str, str, Handler, str], ...] = (
        ("GET", "/workflows/{path}", workflows.get_workflow, "promptlayer_workflow"),  # of a workflow not configured
        ("POST", "/workflows/{path}/external-ids", workflows.passthrough, "promptlayer_workflow"),
        ("DELETE", "/workflows/{path}/external-ids", workflows.passthrough, "promptlayer_workflow"),
    )
    return with_double_slash(
        Route(
            method,
            path,
            handler,
            name,
            requires_key=True,
            render_problem=render_problem,
            streams=streams,
            starts_run=name == "promptlayer_run",
        )
        for rows, streams in ((table, never), (passed_through, always))
        for method, path, handler, name in rows
    )
