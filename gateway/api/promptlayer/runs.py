"""Start of a workflow run through PromptLayer's API, and its results.

Each run is stored, then started in the background. Its response waits until the start is acknowledged or refused, at
most `_MAX_START_WAIT` seconds. A run that may have been started is never answered with a status that the SDKs retry
(5xx, 429): a retry would be another run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.api.promptlayer.execution_ids import ExecutionIds
from gateway.api.promptlayer.requests import (
    LABEL_FIELD,
    VERSION_FIELD,
    RunWorkflow,
    query_boolean,
    query_integer,
    workflow_name,
)
from gateway.api.promptlayer.result_formats import (
    RESULT_FORMATS,
    client_context,
    execution_id_of_run,
    final_output,
    pending_results,
)
from gateway.api.version_pin import check_pin
from gateway.clock import Clock
from gateway.errors import IdempotencyInFlight, RunNotFound
from gateway.http.body import hold_stored, parse_json_body, read_json_body
from gateway.http.request import Request
from gateway.http.response import Response, make_response
from gateway.http.traceparent import request_traceparent
from gateway.json import strict_json
from gateway.runs import rendering
from gateway.runs.catalog import Catalog, Workflow
from gateway.runs.durable.idempotency_key import parse_key
from gateway.runs.durable.journal import DurableRun
from gateway.runs.durable.runs import DurableRuns
from gateway.runs.durable.start_response_gate import StartGate
from gateway.runs.idempotent_submission import Finished, Followed, InFlight, Replayed, Started, submit
from gateway.runs.model import RunRecord, RunSpec
from gateway.runs.run_reader import RunReader
from gateway.store.records import IdempotencyKey, Phase, RunOverview, StoredRun

_POINTERS = (f"/{LABEL_FIELD}", f"/{VERSION_FIELD}")
_REPLAYED_HEADERS = (("Idempotent-Replayed", "true"),)
_MAX_START_WAIT = 3.0  # seconds from the arrival of the request; the Python SDK waits 5 s for the response


@dataclass(frozen=True, slots=True)
class PromptLayerRunHandlers:
    """Handlers of runs and results: parse, call, render. Sizes in bytes, times in seconds.

    `check_callback_url` raises if a callback must not be sent to the URL; its second argument is the client.
    """

    durable_runs: DurableRuns
    reader: RunReader
    catalog: Catalog
    execution_ids: ExecutionIds
    check_callback_url: Callable[[str, str], Awaitable[None]]
    clock: Clock
    max_body: int
    body_timeout: float

    async def start(self, request: Request) -> Response:
        """Answer `POST /workflows/{name}/run`: 201, or 202 with a `callback_url`."""
        raw = await read_json_body(request, max_bytes=self.max_body, timeout=self.body_timeout)
        body = parse_json_body(RunWorkflow, raw)
        workflow = self.catalog.find_for_api("promptlayer", workflow_name(request), request.client, body.pin)
        check_pin(workflow, body.pin, _POINTERS)
        record = self._open_record(request, body, workflow)
        key = _idempotency_key(request, raw, record.spec.workflow)
        if body.callback_url is not None:
            await self.check_callback_url(body.callback_url, request.client_name)
        submission = await submit(
            self.durable_runs, record, key, callback_url=body.callback_url, id_source="channel_name_suffix"
        )
        match submission:
            case Started(run):
                return await self._start(request, run, workflow)
            case Replayed(stored):
                return await self._replay(stored)
            case Finished(run_id):
                return _started_response(await self._find_finished(run_id), _REPLAYED_HEADERS)
            case InFlight() | Followed():
                raise _in_flight()

    async def _start(self, request: Request, run: DurableRun, workflow: Workflow) -> Response:
        """Execute a new run; returns the response once the start is acknowledged. Raises RunError if it is refused.

        The request has no `run` while its response waits: a replica that shuts down must not answer for the run.
        """
        record, gate = run.record, StartGate(self.clock)
        self.durable_runs.run_in_background(run, workflow, gate=gate)
        error = await gate.wait_for_decision(record.started_monotonic + _MAX_START_WAIT - self.clock.monotonic())
        request.run = record
        if error is not None:
            raise error
        response = _started_response(run.stored)
        response.on_sent = gate.mark_sent
        return response

    async def _replay(self, stored: StoredRun) -> Response:
        """Return the response of an earlier request for the run, or raise the error with which its start is refused."""
        gate = self.durable_runs.gate_of(stored.id)
        error = None if gate is None else await gate.wait_for_decision(_MAX_START_WAIT)
        if error is not None:
            raise error
        if gate is None and stored.phase is Phase.SENDING:  # another replica may still refuse it
            raise _in_flight()
        return _started_response(stored, _REPLAYED_HEADERS)

    async def _find_finished(self, run_id: str) -> StoredRun:
        stored = await self.durable_runs.find(run_id)
        if stored is None:
            raise RunNotFound("The run of this key has ended and was deleted.")
        return stored

    async def get_results(self, request: Request) -> Response:
        """Answer `GET /workflow-version-execution-results`: 202 while the run is in progress, 200 once it has ended."""
        execution_id = query_integer(request, "workflow_version_execution_id", maximum=2**63 - 1)
        result_format = RESULT_FORMATS[query_boolean(request, "return_all_outputs")]
        run = await self.reader.find(self.execution_ids.run_id(request.client_name, execution_id))
        if run is None or run.client != request.client_name:
            raise RunNotFound("The client has no workflow execution with this id.")
        document = await self.reader.find_document(run) if run.phase is Phase.DONE else None
        if document is None:
            return make_response(
                202, strict_json.write(pending_results(run.status)), rendering.JSON_CONTENT_TYPE, _run_headers(run)
            )
        hold_stored(request, len(document))
        await self.durable_runs.collection.result_collected(run.id)
        return make_response(
            200,
            strict_json.write(final_output(document, result_format)),
            rendering.JSON_CONTENT_TYPE,
            _run_headers(run),
        )

    def _open_record(self, request: Request, body: RunWorkflow, workflow: Workflow) -> RunRecord:
        client, suffix = request.client_name, body.channel_name_suffix
        execution_id = (
            self.execution_ids.generate(self.clock)
            if suffix is None
            else self.execution_ids.for_channel(client, suffix)
        )
        spec = RunSpec(
            client=client,
            team=request.client.team,
            key_id=request.client.key_id,
            key_limits=request.client.key_limits,
            workflow=self._stored_workflow_name(workflow),
            timeout=workflow.max_timeout,
            input=body.input_variables or {},
            metadata=body.metadata or {},
            label=body.workflow_label_name,
            version=body.workflow_version_number,
            return_all_outputs=True,
            synchronous=False,
            traceparent=request_traceparent(request, self.clock),
            api="promptlayer",
            client_context=client_context(execution_id, all_outputs=body.return_all_outputs or False),
        )
        return RunRecord.create(
            spec, workflow.provider.name, self.clock, id=self.execution_ids.run_id(client, execution_id)
        )

    def _stored_workflow_name(self, workflow: Workflow) -> str:
        """Return the name by which a process that adopts the run finds the workflow."""
        configured = self.catalog.workflow_number(workflow) is not None
        return workflow.alias if configured else f"{workflow.provider.name}/{workflow.name}"


def _in_flight() -> IdempotencyInFlight:
    return IdempotencyInFlight("The first request for this run is still in progress.", retry_after=1)


def _idempotency_key(request: Request, raw: bytes, workflow: str) -> IdempotencyKey | None:
    """Return the Idempotency-Key; its fingerprint includes the API and the workflow."""
    values = request.head.idempotency_keys
    return parse_key(request.client_name, values, raw, path_name=f"promptlayer {workflow}")


def _started_response(run: StoredRun, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    status, verb = (201, "started") if run.callback_url is None else (202, "accepted")
    document = {
        "success": True,
        "message": f"Workflow execution {verb}",
        "warning": None,
        "workflow_version_execution_id": execution_id_of_run(run),
    }
    return make_response(
        status, strict_json.write(document), rendering.JSON_CONTENT_TYPE, (*_run_headers(run), *headers)
    )


def _run_headers(run: StoredRun | RunOverview) -> tuple[tuple[str, str], ...]:
    """Return the header fields that name the run in Runward's own API."""
    return ("Runward-Run-Id", run.id), ("Location", f"/runs/{run.id}")
