"""Dify workflow apps: one blocking request, then polls if the run is not finished.

Source: docs.dify.ai, API reference, "Workflow Runs" (Service API 1.0.0).

    POST /v1/workflows/run                 {"inputs": …, "response_mode": "blocking", "user": …}
    POST /v1/workflows/{workflow_id}/run   the same, in one published version
         200 {"workflow_run_id": …, "task_id": …, "data": {"status": …, "outputs": …, "error": …}}
    GET  /v1/workflows/run/{run_id}        200 {"status": …, "outputs": …, "error": …}
    POST /v1/workflows/tasks/{task_id}/stop   {"user": …}   200 {"result": "success"}

The API key selects the app, so the workflow's name is not sent. A failed run is a 200. A run is polled by one id and
stopped by another: while it is in progress, its id for the gateway is "run:task".
"""

from __future__ import annotations

from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field

from providers.contract import (
    Call,
    CancelSteps,
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
    can_cancel = True
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
        run_id, task_id, outcome = yield from ask(Call("POST", path, "start", safe=False, json=body), _read_start)
        if outcome is not None:
            return replace(outcome, provider_run_id=run_id)
        return (yield from self.follow(_join(run_id, task_id)))

    def follow(self, provider_run_id: str) -> Steps:
        """Poll the run until it is finished; `provider_run_id` is "run:task", or "run" alone."""
        run_id, _ = _split(provider_run_id)
        poll = Call("GET", f"/v1/workflows/run/{segment(run_id)}", "poll", safe=True)
        while True:
            yield Pause(provider_run_id)
            outcome = yield from ask(poll, _read_run)
            if outcome is not None:
                return replace(outcome, provider_run_id=run_id)

    def cancel(self, provider_run_id: str) -> CancelSteps | None:
        """Ask Dify to stop the task of a run; None where its response did not name one."""
        _, task_id = _split(provider_run_id)
        return self._stop(task_id) if task_id else None

    def _stop(self, task_id: str) -> CancelSteps:
        """Dify answers alike for every task: whether the run was stopped, its polls say."""
        path = f"/v1/workflows/tasks/{segment(task_id)}/stop"
        return (yield from ask(Call("POST", path, "cancel", safe=True, json={"user": self._options.user}), _read_stop))


def _join(run_id: str, task_id: str) -> str:
    return f"{run_id}:{task_id}" if task_id or ":" in run_id else run_id


def _split(provider_run_id: str) -> tuple[str, str]:
    """Return the id of the run, and that of its task or ""."""
    run_id, separator, task_id = provider_run_id.rpartition(":")
    return (run_id, task_id) if separator else (provider_run_id, "")


def _read_start(reply: Reply) -> tuple[str, str, Outcome | None]:
    """Return the run's id, the id of its task or "", and its outcome where it is finished."""
    document = _document(reply)
    run_id, task_id = document.get("workflow_run_id"), document.get("task_id")
    if not isinstance(run_id, str) or run_id in {"", ".", ".."}:
        raise invalid("the response has no workflow_run_id")
    stoppable = isinstance(task_id, str) and task_id not in {".", ".."} and ":" not in task_id
    return run_id, str(task_id) if stoppable else "", _outcome(document.get("data"))


def _read_stop(reply: Reply) -> bool:
    if _document(reply).get("result") != "success":
        raise invalid("the response has no result")
    return True


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
