"""Dify workflow apps: one blocking request, then polls if the run is not finished.

Source: docs.dify.ai, API reference, "Workflow Runs" (Service API 1.0.0).

    POST /v1/workflows/run                 {"inputs": …, "response_mode": "blocking", "user": …}
    POST /v1/workflows/{workflow_id}/run   the same, in one published version
         200 {"workflow_run_id": …, "data": {"status": …, "outputs": …, "error": …}}
    GET  /v1/workflows/run/{run_id}        200 {"status": …, "outputs": …, "error": …}

The API key selects the app, so the workflow's name is not sent. A failed run is a 200.
"""

from __future__ import annotations

from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field

from providers.contract import (
    Call,
    JsonValue,
    KeyHeader,
    Outcome,
    Pause,
    ProviderFault,
    Reply,
    Run,
    Steps,
    ask,
    clean,
    invalid,
    refusal,
    segment,
)

_PAID_PATHS = (
    "workflows/run",
    "workflows/*/run",
    "chat-messages",
    "completion-messages",
    "audio-to-text",
    "text-to-audio",
)
_UNFINISHED = {"running", "paused"}  # paused: the run waits for a person


class DifyOptions(BaseModel):
    """Setting `options` of the provider."""

    model_config = ConfigDict(extra="forbid")

    user: str = Field(default="runward", min_length=1, max_length=200)
    """End user that Dify attributes the runs to; its API requires one."""


class Dify:
    """Adapter of Dify."""

    base_url = "https://api.dify.ai"
    key_header = KeyHeader("Authorization", "Bearer ")
    supports_versions = True
    supports_nodes = False
    releases = ("text",)
    starts = tuple(f"POST /v1/{path}" for path in _PAID_PATHS)
    dialects: tuple[str, ...] = ()
    options_schema = DifyOptions

    def __init__(self, dialect: str | None, options: DifyOptions) -> None:
        if dialect is not None:
            raise ValueError("Dify has no dialects")
        self._options = options

    def steps(self, run: Run) -> Steps:
        """Start the run in blocking mode; follow it where the response says that it is not finished."""
        path = "/v1/workflows/run" if run.version is None else f"/v1/workflows/{segment(str(run.version))}/run"
        body: JsonValue = {"inputs": dict(run.input), "response_mode": "blocking", "user": self._options.user}
        run_id, outcome = yield from ask(Call("POST", path, "start", safe=False, json=body), _read_start)
        if outcome is not None:
            return replace(outcome, provider_run_id=run_id)
        return (yield from self.follow(run_id))

    def follow(self, provider_run_id: str) -> Steps:
        """Poll the run until it is finished."""
        poll = Call("GET", f"/v1/workflows/run/{segment(provider_run_id)}", "poll", safe=True)
        while True:
            yield Pause(provider_run_id)
            outcome = yield from ask(poll, _read_run)
            if outcome is not None:
                return replace(outcome, provider_run_id=provider_run_id)


def _read_start(reply: Reply) -> tuple[str, Outcome | None]:
    """Return the run's id, and its outcome where it is finished."""
    document = _document(reply)
    run_id = document.get("workflow_run_id")
    if not isinstance(run_id, str) or run_id in {"", ".", ".."}:
        raise invalid("the response has no workflow_run_id")
    return run_id, _outcome(document.get("data"))


def _read_run(reply: Reply) -> Outcome | None:
    return _outcome(_document(reply))


def _document(reply: Reply) -> dict[str, JsonValue]:
    if reply.status != 200:
        raise _rejection(reply)
    if not isinstance(reply.body, dict):
        raise invalid("the response is not an object")
    return reply.body


def _outcome(data: JsonValue) -> Outcome | None:
    match data:
        case {"status": "succeeded", "outputs": outputs}:
            return Outcome(succeeded=True, output=outputs)
        case {"status": "partial-succeeded", "outputs": outputs}:
            return Outcome(succeeded=True, output=outputs, warning="Some nodes of the workflow failed.")
        case {"status": "failed" | "stopped" as status, "error": error}:
            return Outcome(succeeded=False, error=clean(error) if isinstance(error, str) and error else f"run {status}")
        case {"status": str(status)} if status in _UNFINISHED:
            return None
    raise invalid("the response has no known status or no result")


def _rejection(reply: Reply) -> ProviderFault:
    """Create the fault of an error response: {"status": …, "code": …, "message": …}."""
    message = reply.body.get("message") if isinstance(reply.body, dict) else None
    return refusal(reply, message if isinstance(message, str) else "")
