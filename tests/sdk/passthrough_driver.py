"""Driver of an official Python SDK: makes every call that is no run, and prints the errors by call as the last line.

The environment has base URL and key. It runs in an environment of its own, so nothing of ours is imported here. Model
vendors are replaced by a module without a network.
"""

from __future__ import annotations

import io
import json
import sys
import types
import zipfile
from collections.abc import Callable
from typing import Any

CHAT = {"type": "chat", "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}


class _Completions:
    __module__ = "openai.resources.chat.completions"

    def create(self, **_: Any) -> dict[str, Any]:
        return {"choices": []}


class _Chat:
    __module__ = "openai.resources.chat"

    def __init__(self) -> None:
        self.completions = _Completions()


class OpenAI:
    """Client of a model vendor."""

    __module__ = "openai"

    def __init__(self, **_: Any) -> None:
        self.chat = _Chat()


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/SKILL.md", "text")
    return file.getvalue()


def _calls(app: Any, traced: Any) -> dict[str, Callable[[], Any]]:
    times = {"request_start_time": 1.0, "request_end_time": 2.0}
    calls: dict[str, Callable[[], Any]] = {
        "templates.get": lambda: app.templates.get("a/b c"),
        "templates.all": app.templates.all,
        "templates.publish": lambda: app.templates.publish({"prompt_name": "p", "prompt_template": CHAT}),
        "run": lambda: app.run("p"),
        ".openai": lambda: app.openai.OpenAI().chat.completions.create(model="m", messages=[]),
        "log_request": lambda: app.log_request(provider="openai", model="m", input=CHAT, output=CHAT, **times),
        "track.metadata": lambda: app.track.metadata(5, {"a": "b"}),
        "track.score": lambda: app.track.score(5, 90),
        "track.prompt": lambda: app.track.prompt(5, "p", {}),
        "track.group": lambda: app.track.group(5, 3),
        "group.create": app.group.create,
        "tracing": lambda: _trace(traced),
    }
    if hasattr(app, "skills"):
        calls |= _skill_calls(app.skills)
    if hasattr(app, "tables"):
        calls |= _table_calls(app)
    return calls


def _trace(traced: Any) -> None:
    traced.run("p")
    if not traced.tracer_provider.force_flush():
        raise RuntimeError("the spans were not exported")


def _skill_calls(skills: Any) -> dict[str, Callable[[], Any]]:
    body = {"name": "s", "provider": "openai"}
    return {
        "skills.pull": lambda: skills.pull("a b"),
        "skills.pull zip": lambda: skills.pull("a b", format="zip"),
        "skills.publish": lambda: skills.publish(body),
        "skills.publish zip": lambda: skills.publish(body, zip=_zip()),
        "skills.update name": lambda: skills.update("a b", name="t"),
        "skills.update files": lambda: skills.update("a b", file_updates=[{"path": "x", "content": "y"}]),
    }


def _table_calls(app: Any) -> dict[str, Callable[[], Any]]:
    from promptlayer.tables import api  # noqa: PLC0415 - only newer versions have it

    where = (app.api_key, app.base_url, True)
    tables = app.tables
    sheets = tables.sheets("t")
    sheet = sheets.for_sheet("s")
    return {
        "tables.list": tables.list,
        "tables.create": lambda: tables.create({"title": "t"}),
        "tables.get": lambda: tables.get("t"),
        "tables.update": lambda: tables.update("t", {"title": "u"}),
        "tables.delete": lambda: tables.delete("t"),
        "sheets.list": sheets.list,
        "sheets.create": lambda: sheets.create({"title": "s"}),
        "sheet.get": sheet.get,
        "sheet.delete": sheet.delete,
        "columns.delete": lambda: sheet.columns.delete("c"),
        "cells.update": lambda: sheet.cells.update("c", {"value": 1}),
        "cells.recalculate": lambda: sheet.cells.recalculate("c"),
        "versions.create": sheet.versions.create,
        "score.recalculate": sheet.score.recalculate,
        "status_counts": sheet.status_counts,
        "imports.add_trace": lambda: tables.imports.add_trace({"trace_id": "t", "sheet_id": "s"}),
        "traces": lambda: api.get_trace(*where, "t"),
        "requests": lambda: api.get_request(*where, 5),
    }


def main() -> None:
    """Make every call once."""
    module: Any = types.ModuleType("openai")
    module.OpenAI = OpenAI
    sys.modules["openai"] = module
    from promptlayer import PromptLayer  # noqa: PLC0415 - after the module that it imports

    errors = {}
    calls = _calls(PromptLayer(), PromptLayer(enable_tracing=True))
    for name, call in calls.items():
        try:
            call()
        except Exception as error:  # noqa: BLE001 - the test decides what it should be
            errors[name] = f"{type(error).__name__}: {error}"
    sys.stdout.write("\n" + json.dumps({"calls": list(calls), "errors": errors}) + "\n")


main()
