"""Handler of `POST /run`, the gateway's own API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from gateway.api.run_request import MAX_START_BEFORE, RunRequest, run_response
from gateway.api.version_pin import check_pin
from gateway.auth.client import Client
from gateway.clock import Clock
from gateway.errors import IdempotencyInFlight, RunError
from gateway.http.body import hold_replay, parse_json_body, read_json_body
from gateway.http.request import Request
from gateway.http.response import Response, make_response
from gateway.http.traceparent import request_traceparent
from gateway.problems import FieldError, invalid_body
from gateway.runs import rendering
from gateway.runs.catalog import Catalog, Workflow
from gateway.runs.durable.idempotency_key import parse_key
from gateway.runs.durable.runs import DurableRuns
from gateway.runs.executor import RunExecutor
from gateway.runs.history import HistoryRecorder
from gateway.runs.idempotent_submission import Finished, Followed, InFlight, Replayed, Started, followed_error, submit
from gateway.runs.model import RunRecord, RunSpec, always_connected
from gateway.runs.recorded_content import HeldContent
from gateway.store.records import IdempotencyKey, StoredResponse

_REPLAYED_HEADERS = (("Idempotent-Replayed", "true"),)


@dataclass(frozen=True, slots=True)
class RunHandler:
    """Handler of `POST /run`: parse, call, render. Sizes in bytes, times in seconds.

    `check_callback_url` raises if a callback must not be sent to the URL; its second argument is the client.
    """

    executor: RunExecutor
    history: HistoryRecorder
    durable_runs: DurableRuns
    catalog: Catalog
    check_callback_url: Callable[[str, str], Awaitable[None]]
    clock: Clock
    max_body: int
    body_timeout: float

    async def start(self, request: Request) -> Response:
        """Answer `POST /run`: when the run has ended, or at once if the client does not wait."""
        raw = await read_json_body(request, max_bytes=self.max_body, timeout=self.body_timeout)
        body = parse_json_body(RunRequest, raw)
        key = parse_key(request.client_name, request.head.idempotency_keys, raw)
        synchronous = body.callback_url is None and not request.head.prefers_async
        is_traced = request.span is not None or request.head.traceparents
        traceparent = request_traceparent(request, self.clock) if is_traced else ""
        workflow = self._find_workflow(body, request.client)
        start_before = None if body.start_before is None else await self._start_before(body.start_before, key)
        client_connected = request.connection_check() if synchronous else None
        run = self._create_run(
            request.client,
            body,
            workflow,
            start_before=start_before,
            traceparent=traceparent,
            client_connected=client_connected,
        )
        if synchronous and key is None:
            content = self.history.hold_content(workflow, len(raw)) if self.history.holds_content else None
            request.run = run
            request.discard_input()
            del raw, body
            return await self._execute_unstored(run, workflow, content)
        if body.callback_url is not None:
            await self.check_callback_url(body.callback_url, request.client_name)
        match await submit(self.durable_runs, run, key, callback_url=body.callback_url):
            case Started(durable_run):
                request.run = run
                request.discard_input()
                del raw, body
                if run.spec.synchronous:
                    response = await self.durable_runs.run_and_wait(durable_run, workflow, request.request_id)
                    return stored_response(response)
                accepted = rendering.render_new(run)
                self.durable_runs.run_in_background(durable_run, workflow)
                return stored_response(accepted)
            case Finished(_, response):
                hold_replay(request, len(response.body))
                return stored_response(response, _REPLAYED_HEADERS)
            case Replayed(stored):
                return stored_response(rendering.render_accepted(stored), _REPLAYED_HEADERS)
            case Followed(stored):
                raise followed_error(stored)
            case InFlight():
                raise IdempotencyInFlight(retry_after=1)

    async def start_in_background(
        self, client: Client, body: RunRequest, key: IdempotencyKey | None
    ) -> tuple[str, bool]:
        """Start a run for which no client waits; returns its id, and whether an earlier request with the key had it.

        Raises as `start`: GatewayError for refusals, and Problem for an invalid body.
        """
        workflow = self._find_workflow(body, client)
        start_before = None if body.start_before is None else await self._start_before(body.start_before, key)
        run = self._create_run(client, body, workflow, start_before=start_before)
        if body.callback_url is not None:
            await self.check_callback_url(body.callback_url, client.name)
        match await submit(self.durable_runs, run, key, callback_url=body.callback_url):
            case Started(durable_run):
                self.durable_runs.run_in_background(durable_run, workflow)
                return run.id, False
            case Finished(run_id, _):
                return run_id, True
            case Replayed(stored) | Followed(stored):
                return stored.id, True
            case InFlight():
                raise IdempotencyInFlight(retry_after=1)

    def _find_workflow(self, body: RunRequest, client: Client) -> Workflow:
        """Return the workflow that a request names. Raises as `Catalog.find`, and Problem if it refuses the release."""
        workflow = self.catalog.find(body.workflow, client)
        if body.label is not None or body.version is not None:
            check_pin(workflow, (body.label, body.version))
        return workflow

    def _create_run(
        self,
        client: Client,
        body: RunRequest,
        workflow: Workflow,
        *,
        start_before: float | None,
        traceparent: str = "",
        client_connected: Callable[[], bool] | None = None,
    ) -> RunRecord:
        """Return a new run of a client. `client_connected`: None if no client waits for the run."""
        spec = RunSpec(  # by position: so many arguments by name take twice as long
            client.name,
            body.workflow,
            min(body.timeout or workflow.timeout, workflow.max_timeout),
            body.input,
            body.metadata,
            body.tags,
            body.label,
            body.version,
            body.return_all_outputs,
            traceparent,
            client_connected is not None,
            start_before,
            client.team,
            client.key_id,
            client.key_limits,
            client_connected or always_connected,
        )
        return RunRecord.create(spec, workflow.provider.name, self.clock)

    async def _execute_unstored(self, run: RunRecord, workflow: Workflow, content: HeldContent | None) -> Response:
        """Execute a run that is not durable, and record it; if its client's deadline has passed, it becomes durable."""
        try:
            await self.executor.run(run, workflow)
        except RunError as error:
            if not await self.durable_runs.follow_unstored(run, workflow, error):
                self.history.record(run, error, content)
            raise
        except asyncio.CancelledError:  # the replica shuts down
            if not await self.durable_runs.leave_unstored(run):
                self.history.record(run, None, content)
            raise
        response = run_response(run)
        if content is not None:
            content.answer = response.body
        self.history.record(run, None, content)
        return response

    async def _start_before(self, start_before: float | datetime, key: IdempotencyKey | None) -> float:
        """Return the time, in seconds since 1970. Raises Problem if it has passed, unless the key was used before."""
        now = self.clock.now().timestamp()
        if not isinstance(start_before, datetime):
            return now + start_before
        start_at = start_before.timestamp()
        if start_at > now + MAX_START_BEFORE:
            raise invalid_body(FieldError("/start_before", f"must be at most {MAX_START_BEFORE} s ahead"))
        if start_at <= now:
            store = self.durable_runs.store
            if key is None or await store.get_idempotency_record(key.client, key.text) is None:
                raise invalid_body(FieldError("/start_before", "has passed"))
        return start_at


def stored_response(stored: StoredResponse, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """Return a stored response with its header fields in their order, followed by `headers`."""
    content_type = dict(stored.headers)["Content-Type"]
    other_headers = [field for field in stored.headers if field[0] != "Content-Type"]
    return make_response(stored.status, stored.body, content_type, (*other_headers, *headers))
