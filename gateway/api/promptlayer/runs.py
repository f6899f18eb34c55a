"""Running a workflow through PromptLayer's API, and asking for its results.

Every run is kept before it is answered, and starts afterwards. From then on no answer is a 5xx or a 429: the SDKs would
send the request again, and that would be another run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from gateway import strictjson
from gateway.api.promptlayer.execution_ids import ExecutionIds
from gateway.api.promptlayer.requests import (
    LABEL_FIELD,
    VERSION_FIELD,
    RunWorkflow,
    query_boolean,
    query_integer,
    workflow_name,
)
from gateway.api.promptlayer.results import RESULT_FORMATS, final_output, pending_results
from gateway.api.version_pin import check_pin
from gateway.clock import Clock
from gateway.http.body import parse_json_body, read_json_body
from gateway.http.response import SingleWriteResponse, make_response
from gateway.http.server import Request
from gateway.http.traceparent import read_traceparent
from gateway.problems import Problem
from gateway.runs import rendering
from gateway.runs.catalog import Catalog, Workflow
from gateway.runs.durable.codec import decode_spec, same_spec
from gateway.runs.durable.idempotency import parse_key
from gateway.runs.durable.response_sent import ResponseSent
from gateway.runs.durable.runs import DurableRuns
from gateway.runs.model import RunRecord, RunSpec
from gateway.store.contract import IdempotencyKey, IdempotencyRecord, Phase, StoredRun

_POINTERS = (f"/{LABEL_FIELD}", f"/{VERSION_FIELD}")
_REPLAYED_HEADERS = (("Idempotent-Replayed", "true"),)


@dataclass(frozen=True, slots=True)
class PromptLayerRunHandlers:
    """Parses, calls the desk, renders. Sizes in bytes, times in seconds; `check_callback` as in `RunFace`."""

    durable_runs: DurableRuns
    catalog: Catalog
    execution_ids: ExecutionIds
    check_callback_url: Callable[[str], Awaitable[None]]
    clock: Clock
    max_body: int
    body_timeout: float

    async def start(self, request: Request) -> web.Response:
        """Answer `POST /workflows/{name}/run`: 201, or 202 where there is a `callback_url`."""
        raw = await read_json_body(request, max_bytes=self.max_body, timeout=self.body_timeout)
        body = parse_json_body(RunWorkflow, raw)
        workflow = self.catalog.find_for_api("promptlayer", workflow_name(request), request.client, body.pin)
        check_pin(workflow, body.pin, _POINTERS)
        run = self._open_record(request, body, workflow)
        key = _idempotency_key(request, raw, run.spec.workflow)
        if body.callback_url is not None:
            await self.check_callback_url(body.callback_url)
        try:
            existing = await self.durable_runs.persist(run, key, callback_url=body.callback_url)
        except ValueError:
            return await self._replay_channel(run, body.callback_url)
        if existing is not None and key is not None:
            return await self._replay_key(existing, key)
        request.run, response_sent = run, ResponseSent(self.clock)
        response = _started_response(self.durable_runs.stored_run(run))
        response.on_sent = response_sent.mark_sent
        self.durable_runs.run_in_background(run, workflow, response_sent=response_sent)
        return response

    async def get_results(self, request: Request) -> web.Response:
        """Answer `GET /workflow-version-execution-results`: 202 while the run goes on, 200 once it has ended."""
        execution_id = query_integer(request, "workflow_version_execution_id", maximum=2**63 - 1)
        result_format = RESULT_FORMATS[query_boolean(request, "return_all_outputs")]
        run = await self.durable_runs.find(self.execution_ids.run_id(request.client_name, execution_id))
        if run is None or run.client != request.client_name:
            raise Problem("not_found", "The client has no workflow execution with this id.")
        if run.document is None:
            return make_response(
                202, strictjson.write(pending_results(run.status)), rendering.JSON_CONTENT_TYPE, _run_headers(run)
            )
        return make_response(
            200,
            strictjson.write(final_output(run.document, result_format)),
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
            workflow=self._stored_workflow_name(workflow),
            timeout=workflow.max_timeout,
            input=body.input_variables or {},
            metadata=body.metadata or {},
            label=body.workflow_label_name,
            version=body.workflow_version_number,
            return_all_outputs=True,
            synchronous=False,
            traceparent=read_traceparent(request.headers.getall("traceparent", ()), self.clock),
            api="promptlayer",
            number=execution_id,
            all_outputs=body.return_all_outputs or False,
        )
        return RunRecord.create(
            spec, workflow.provider.name, self.clock, id=self.execution_ids.run_id(client, execution_id)
        )

    def _stored_workflow_name(self, workflow: Workflow) -> str:
        """What the gateway's own clients call it, so that whoever takes the run up finds it."""
        configured = self.catalog.workflow_number(workflow) is not None
        return workflow.alias if configured else f"{workflow.provider.name}/{workflow.name}"

    async def _replay_channel(self, run: RunRecord, callback_url: str | None) -> web.Response:
        """Answer a request whose `channel_name_suffix` has a run already."""
        earlier = await self._load_confirmed(run.id)
        if not same_spec(decode_spec(earlier), run.spec) or earlier.callback_url != callback_url:
            raise Problem("idempotency_mismatch", "This channel_name_suffix was used with another body.")
        return _started_response(earlier, _REPLAYED_HEADERS)

    async def _replay_key(self, existing: IdempotencyRecord, key: IdempotencyKey) -> web.Response:
        """Answer a request whose Idempotency-Key was used before."""
        if existing.key.fingerprint != key.fingerprint:
            raise Problem("idempotency_mismatch", "This key was used with another body.")
        if existing.response is not None and await self.durable_runs.find(existing.run_id) is None:
            raise Problem("not_found", "The run of this key has ended, and is no longer kept.")
        return _started_response(await self._load_confirmed(existing.run_id), _REPLAYED_HEADERS)

    async def _load_confirmed(self, run_id: str) -> StoredRun:
        """Read a run that is promised a second time: not before it is sure that it was promised a first time.

        Another replica that could not write it down in time refused it, and is about to forget it.
        """
        earlier = await self.durable_runs.find(run_id)
        if earlier is None or (earlier.phase is Phase.QUEUED and not self.durable_runs.owns(run_id)):
            raise Problem("idempotency_in_flight", "The first request for this run is just being taken.", 1)
        return earlier


def _idempotency_key(request: Request, raw: bytes, workflow: str) -> IdempotencyKey | None:
    """The Idempotency-Key. The same one for another workflow, or for `POST /run`, is used with another body."""
    values = request.headers.getall("Idempotency-Key", ())
    return parse_key(request.client_name, values, raw, path_name=f"promptlayer {workflow}")


def _started_response(run: StoredRun, headers: tuple[tuple[str, str], ...] = ()) -> SingleWriteResponse:
    status, verb = (201, "started") if run.callback_url is None else (202, "accepted")
    document = {
        "success": True,
        "message": f"Workflow execution {verb}",
        "warning": None,
        "workflow_version_execution_id": rendering.promptlayer_number(run),
    }
    return make_response(
        status, strictjson.write(document), rendering.JSON_CONTENT_TYPE, (*_run_headers(run), *headers)
    )


def _run_headers(run: StoredRun) -> tuple[tuple[str, str], ...]:
    """What the run is called outside of this face."""
    return ("Runward-Run-Id", run.id), ("Location", f"/runs/{run.id}")
