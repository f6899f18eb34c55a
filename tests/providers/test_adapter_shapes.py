"""Shapes of other providers' APIs, as short adapters: n8n webhooks, and runs of the LangGraph Platform.

Sources: docs.n8n.io, "Webhook node"; docs.langchain.com, LangGraph Platform API, "Stateless runs" and "Thread runs".
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from providers.contract import (
    UNREADABLE,
    Call,
    JsonValue,
    KeyHeader,
    Outcome,
    Pause,
    Reply,
    Run,
    Steps,
    ask,
    invalid,
    refusal,
    segment,
)
from providers.declarations import build_adapter
from providers.testing import AdapterContract, calls, drive


class WebhookOptions(BaseModel):
    """Options of `Webhook`."""

    model_config = ConfigDict(extra="forbid")

    header: str = "X-Webhook-Key"
    form: bool = False


class Webhook:
    """n8n: any path and method below /webhook starts a workflow; header and body are the operator's choice."""

    base_url = None
    supports_versions = False
    supports_nodes = False
    starts: tuple[str, ...] = ("* /webhook/*", "* /webhook-test/*")
    dialects: tuple[str, ...] = ()
    options_schema = WebhookOptions

    def __init__(self, dialect: str | None, options: WebhookOptions) -> None:
        del dialect
        self.key_header = KeyHeader(options.header)
        self._form = options.form

    def steps(self, run: Run) -> Steps:
        path = f"/webhook/{segment(run.workflow)}"
        if self._form:
            call = Call("PUT", path, "start", safe=False, form={k: str(v) for k, v in run.input.items()})
        else:
            call = Call("POST", path, "start", safe=False, json=dict(run.input))
        output = yield from ask(call, _webhook_output)
        return Outcome(succeeded=True, output=output)

    def follow(self, provider_run_id: str) -> None:
        """Return None: a webhook's response has no run id."""


def _webhook_output(reply: Reply) -> JsonValue:
    if reply.status != 200:
        raise refusal(reply)
    if reply.body is UNREADABLE:
        raise invalid("the response is not JSON")
    return reply.body


class LangGraph:
    """LangGraph Platform: a background run on a temporary thread, polled, its output read from the thread's state."""

    base_url = None
    key_header = KeyHeader("X-Api-Key")
    supports_versions = False
    supports_nodes = False
    starts: tuple[str, ...] = ("POST /runs*", "POST /threads/*/runs*")
    dialects: tuple[str, ...] = ()
    request_headers = ("X-Tenant-Id",)

    def __init__(self, dialect: str | None = None) -> None:
        del dialect

    def steps(self, run: Run) -> Steps:
        body: dict[str, JsonValue] = {
            "assistant_id": run.workflow,
            "input": dict(run.input),
            "metadata": dict(run.metadata),
            "on_completion": "keep",
        }
        if run.notify_url is not None:
            body["webhook"] = run.notify_url
        start = Call("POST", "/runs", "start", safe=False, json=body, headers={"X-Tenant-Id": "t1"})
        run_id = yield from ask(start, _run_id)
        yield Pause(run_id, will_notify=run.notify_url is not None)
        return (yield from self.follow(run_id))

    def follow(self, provider_run_id: str) -> Steps:
        """Poll the run; `provider_run_id` is "thread/run"."""
        thread, _, run = provider_run_id.partition("/")
        path = f"/threads/{segment(thread)}"
        poll = Call("GET", f"{path}/runs/{segment(run or thread)}", "poll", safe=True)
        while (status := (yield from ask(poll, _status))) in {"pending", "running"}:
            yield Pause(provider_run_id)
        if status != "success":
            return Outcome(succeeded=False, error=f"run {status}", provider_run_id=provider_run_id)
        state = Call("GET", f"{path}/state", "state", safe=True, query={"subgraphs": "false"})
        return Outcome(succeeded=True, output=(yield from ask(state, _values)), provider_run_id=provider_run_id)


def _member(reply: Reply, name: str) -> JsonValue:
    if reply.status != 200:
        raise refusal(reply)
    if not isinstance(reply.body, dict) or name not in reply.body:
        raise invalid(f"the response has no {name}")
    return reply.body[name]


def _run_id(reply: Reply) -> str:
    thread, run = _member(reply, "thread_id"), _member(reply, "run_id")
    if not isinstance(thread, str) or not isinstance(run, str) or {thread, run} & {"", ".", ".."}:
        raise invalid("the response has no ids")
    return f"{thread}/{run}"


def _status(reply: Reply) -> str:
    status = _member(reply, "status")
    if status not in {"pending", "running", "success", "error", "timeout", "interrupted"}:
        raise invalid("the run has no known status")
    return str(status)


def _values(reply: Reply) -> JsonValue:
    return _member(reply, "values")


class TestWebhook(AdapterContract):
    """The contract, with JSON bodies."""

    factory = Webhook


class TestFormWebhook(AdapterContract):
    """The contract, with form bodies and another header."""

    factory = Webhook
    options = {"form": True, "header": "X-Other"}  # noqa: RUF012 - ClassVar in the base class


class TestLangGraph(AdapterContract):
    """The contract."""

    factory = LangGraph
    run_id = "thread-1/run-1"


def test_a_webhook_answers_with_the_output_and_its_key_is_in_a_header_of_choice() -> None:
    adapter = build_adapter(Webhook, None, {"header": "X-N8N"})
    assert "X-N8N" == adapter.key_header.name
    steps, outcome = drive(adapter.steps(Run("orders/new", input={"a": 1})), [Reply(200, [{"b": 2}])])
    assert [Call("POST", "/webhook/orders%2Fnew", "start", safe=False, json={"a": 1})] == steps
    assert Outcome(succeeded=True, output=[{"b": 2}]) == outcome


def test_a_background_run_is_polled_and_its_state_read() -> None:
    replies = [
        Reply(200, {"thread_id": "t", "run_id": "r", "status": "pending"}),
        Reply(200, {"status": "running"}),
        Reply(200, {"status": "success"}),
        Reply(200, {"values": {"answer": 42}}),
    ]
    steps, outcome = drive(LangGraph().steps(Run("agent", notify_url="https://gateway.example/n")), replies)
    assert ["/runs", "/threads/t/runs/r", "/threads/t/runs/r", "/threads/t/state"] == [c.path for c in calls(steps)]
    assert Pause("t/r", will_notify=True) == steps[1]
    assert Outcome(succeeded=True, output={"answer": 42}, provider_run_id="t/r") == outcome
