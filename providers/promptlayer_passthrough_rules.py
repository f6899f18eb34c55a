"""Calls of PromptLayer's official SDKs that start no runs, for passthrough.

Sources: the packages themselves. Python 1.5.16 and 1.3.0 (`utils.py`, `otlp.py`, `span_exporter.py`, `skills/`,
`tables/`), and JavaScript 1.3.6 (`src/utils`, `src/span-exporter.ts`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

SDK_CALLS: Mapping[str, str] = MappingProxyType(
    {
        "POST /prompt-templates/*": "templates.get, run",
        "GET /prompt-templates": "templates.all",
        "POST /rest/prompt-templates": "templates.publish",
        "POST /track-request": "run, .openai, .anthropic",
        "POST /log-request": "log_request",
        "POST /library-track-metadata": "track.metadata",
        "POST /library-track-score": "track.score",
        "POST /library-track-prompt": "track.prompt",
        "POST /track-group": "track.group",
        "POST /create-group": "group.create",
        "POST /v1/traces": "tracing (Python from 1.5)",
        "POST /spans-bulk": "tracing (JavaScript, earlier Python)",
        "GET /api/public/v2/skill-collections/*": "skills.pull",
        "POST /api/public/v2/skill-collections": "skills.publish",
        "PATCH /api/public/v2/skill-collections/*": "skills.update: name",
        "POST /api/public/v2/skill-collections/*": "skills.update: files",
        "GET /api/public/v2/tables": "tables.list, evals",
        "POST /api/public/v2/tables": "tables.create, evals",
        "GET /api/public/v2/tables/*": "tables: reads, evals",
        "POST /api/public/v2/tables/*": "tables: additions and calculations, evals",
        "PATCH /api/public/v2/tables/*": "tables: changes, evals",
        "DELETE /api/public/v2/tables/*": "tables: deletions",
        "POST /api/public/v2/dataset-versions/add-trace": "tables.imports.add_trace, evals",
        "GET /api/public/v2/traces/*": "evals",
        "GET /api/public/v2/requests/*": "evals",
    }
)
"""What the SDKs' functions call, by passthrough rule: a method and a path; `*` at the end matches any continuation."""
