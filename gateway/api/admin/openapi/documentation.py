"""Operations of `gateway.api.docs.page` on the operations port."""

from __future__ import annotations

from gateway.api.admin.openapi.operations import Answer, Operation, OperationGroup
from gateway.api.openapi.responses import OpenApiNode, json_content

_PAGE: OpenApiNode = {"text/html": {"schema": {"type": "string"}}}
_DOCUMENT: OpenApiNode = json_content({"type": "object"})

GROUP = OperationGroup(
    "Documentation",
    "This document, and that of the public port.",
    (
        Operation("GET", "/openapi.json", "openapi", "This document", {200: Answer("The document.", _DOCUMENT)}),
        Operation("GET", "/docs", "docs", "A page that displays this document", {200: Answer("The page.", _PAGE)}),
        Operation(
            "GET",
            "/openapi-public.json",
            "publicOpenapi",
            "The document of the public port",
            {200: Answer("The document.", _DOCUMENT)},
        ),
        Operation(
            "GET",
            "/docs-public",
            "publicDocs",
            "A page that displays the document of the public port",
            {200: Answer("The page.", _PAGE)},
        ),
    ),
)
