"""The face of the gateway itself: `POST /run`."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from gateway.api.server import Request
from gateway.api.tracing import read_traceparent
from gateway.api.wire import RunRequest, answer_run, parse, read_body
from gateway.clock import Clock
from gateway.problems import Pointer, Problem
from gateway.runs.catalog import Catalog, Workflow
from gateway.runs.engine import Engine
from gateway.runs.record import Order, RunRecord


@dataclass(frozen=True, slots=True)
class RunFace:
    """Parses, calls the engine, renders. Sizes in bytes, times in seconds."""

    engine: Engine
    catalog: Catalog
    clock: Clock
    max_body: int
    body_timeout: float

    async def start(self, request: Request) -> web.Response:
        """Answer `POST /run` when the run has ended."""
        if "Idempotency-Key" in request.headers:
            raise Problem("invalid_idempotency_key", "This version does not keep idempotency keys; send none.")
        body = parse(RunRequest, await read_body(request, limit=self.max_body, seconds=self.body_timeout))
        workflow = self.catalog.find(body.workflow, request.client)
        _check_version(body, workflow)
        if body.callback_url is not None:
            raise Problem("callback_url_refused", "This version does not deliver results to callbacks.")
        order = Order(
            client=request.client.name,
            workflow=body.workflow,
            timeout=min(body.timeout or workflow.timeout, workflow.max_timeout),
            input=body.input,
            metadata=body.metadata,
            label=body.label,
            version=body.version,
            return_all_outputs=body.return_all_outputs,
            traceparent=read_traceparent(request.headers.getall("traceparent", ()), self.clock),
            wanted=request.is_awaited(),
        )
        run = request.run = RunRecord.open(order, workflow.provider.name, self.clock)
        await self.engine.run(run, workflow)
        return answer_run(run)


def _check_version(body: RunRequest, workflow: Workflow) -> None:
    """Refuse a label or version that would be ignored."""
    asked = "label" if body.label is not None else "version" if body.version is not None else None
    if asked is None:
        return
    if not workflow.provider.adapter.versions:
        why = "this workflow's provider has no versions"
    elif workflow.pinned:
        why = "the configuration of this workflow pins one"
    else:
        return
    raise Problem("invalid_request", "1 thing(s) are wrong.", errors=(Pointer(f"/{asked}", why),))
