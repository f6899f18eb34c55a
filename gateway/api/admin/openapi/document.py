"""OpenAPI 3.1 document of the operations port, generated from the operations of all groups."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version

from pydantic import BaseModel

from gateway.api.admin.openapi import (
    attention,
    audit,
    budgets,
    callbacks,
    configuration,
    console,
    documentation,
    health,
    judgement,
    keys,
    logs,
    operator_run,
    providers,
    replays,
    runs,
    session,
    usage,
)
from gateway.api.openapi.component_schemas import component_schemas
from gateway.api.openapi.operation import REQUEST_ID
from gateway.api.openapi.response_schemas import ProblemAnswer
from gateway.api.openapi.responses import HEADERS, OpenApiNode
from gateway.http.ops_authentication import SESSION_COOKIE

GROUPS = (
    runs.GROUP,
    operator_run.GROUP,
    replays.GROUP,
    judgement.GROUP,
    attention.GROUP,
    audit.GROUP,
    callbacks.GROUP,
    usage.GROUP,
    providers.GROUP,
    keys.GROUP,
    budgets.GROUP,
    logs.GROUP,
    console.GROUP,
    configuration.GROUP,
    session.GROUP,
    health.GROUP,
    documentation.GROUP,
)
"""Every operation of the port. A new module of handlers adds its group here."""

_DESCRIPTION = """\
Operations of a Runward gateway: runs, what needs an operator, callbacks, providers, the log, metrics. The API for
clients is on the public port; [its document](docs-public) is here too.

With `server.ops_keys`, a key of that list is required for everything but liveness and readiness; without it, none is.
A key with the role `viewer` may change nothing. A request that changes something needs
`Content-Type: application/json`. One with `Origin`, or with the cookie of a session, needs
the origin of this port and `X-Runward-Console: 1` as well."""
_KEY = "A key of `server.ops_keys`; without that setting none is required."


def openapi_document() -> OpenApiNode:
    """The document."""
    operations = [operation for group in GROUPS for operation in group.operations]
    requests = {model for operation in operations for model in operation.request_models}
    responses = {model for operation in operations for model in operation.response_models}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Runward operations",
            "version": version("runward"),
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": group.tag, "description": group.description} for group in GROUPS],
        "paths": _paths(),
        "components": {
            "schemas": component_schemas(_by_name(requests), _by_name({*responses, ProblemAnswer})),
            "headers": HEADERS,
            "parameters": {"RequestId": REQUEST_ID},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": _KEY},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-KEY", "description": _KEY},
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": SESSION_COOKIE,
                    "description": "A session of the console, from `POST /api/session`; it ends after 12 hours.",
                },
            },
        },
    }


def _by_name(models: Iterable[type[BaseModel]]) -> list[type[BaseModel]]:
    return sorted(models, key=lambda model: model.__name__)


def _paths() -> OpenApiNode:
    paths: dict[str, OpenApiNode] = {}
    for group in GROUPS:
        for operation in group.operations:
            paths.setdefault(operation.path, {})[operation.method.lower()] = operation.node(group.tag)
    return {**paths}
