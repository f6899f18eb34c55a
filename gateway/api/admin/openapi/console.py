"""Operations of the console: its page, and what only it shows."""

from __future__ import annotations

from gateway.api.admin.openapi.operations import Answer, Operation, OperationGroup
from gateway.api.openapi.responses import OpenApiNode

_PAGE: OpenApiNode = {"text/html": {"schema": {"type": "string"}}}

GROUP = OperationGroup(
    "Console",
    "The console for operators.",
    (
        Operation(
            "GET",
            "/console",
            "console",
            "The console",
            {200: Answer("The page; it asks for a key where one is required.", _PAGE)},
            requires_key=False,
        ),
    ),
)
