"""The paths of PromptLayer's API that are answered here, each also with a doubled slash in front.

That is what its SDKs send where their base URL ends in a slash.
"""

from __future__ import annotations

from gateway.api.promptlayer.errors import refuse
from gateway.api.promptlayer.runs import RunsFace
from gateway.api.promptlayer.workflows import WorkflowsFace
from gateway.api.server import Handler, Route


def routes(runs: RunsFace, workflows: WorkflowsFace) -> list[Route]:
    """The table of the face. Names in paths may hold slashes."""
    table: tuple[tuple[str, str, Handler, str], ...] = (
        ("POST", "/workflows/{path}/run", runs.start, "promptlayer_run"),
        ("GET", "/workflow-version-execution-results", runs.results, "promptlayer_results"),
        ("GET", "/workflows/{path}", workflows.show, "promptlayer_workflow"),
        ("GET", "/workflows", workflows.show_all, "promptlayer_workflows"),
    )
    return [
        Route(method, slash + path, handler, name, keyed=True, refuse=refuse)
        for method, path, handler, name in table
        for slash in ("", "/")
    ]
