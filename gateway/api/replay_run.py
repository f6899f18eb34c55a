"""Handler of `POST /runs/{id}/replay`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from gateway.api.run_request import Metadata, Tags
from gateway.api.start_run import stored_response
from gateway.errors import IdempotencyInFlight, InputNotKept, RunNotFound
from gateway.http.body import hold_stored, parse_json_body, read_json_body
from gateway.http.request import Request
from gateway.http.response import Response
from gateway.http.traceparent import request_traceparent
from gateway.runs import rendering
from gateway.runs.durable.idempotency_key import parse_key
from gateway.runs.idempotent_submission import Finished, Followed, InFlight, Replayed, Started
from gateway.runs.run_reader import RunReader
from gateway.runs.run_replay import ReplayEdit, RunReplayer, check_replayable

_REPLAYED_HEADERS = (("Idempotent-Replayed", "true"),)
_NO_BODY = b"{}"


class ReplayRequest(BaseModel):
    """The body of `POST /runs/{id}/replay`."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, hide_input_in_errors=True, title="ReplayRequest"
    )

    input: Annotated[
        dict[str, Any] | None, Field(description="Replaces the whole input of the run; by default it is the same.")
    ] = None
    metadata: Annotated[Metadata | None, Field(description="Replaces the metadata of the run.")] = None
    tags: Annotated[Tags | None, Field(description="Replaces the tags of the run.")] = None
    include_unknown: Annotated[
        bool, Field(description="Replay the run although its outcome is `unknown`: it may be paid for twice.")
    ] = False
    callback_url: Annotated[
        str | None,
        Field(
            max_length=2048,
            description="URL that receives the replay when it has ended. That of the run is not used again.",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class ReplayRunHandler:
    """Handler for the client's own runs. Sizes in bytes, times in seconds.

    `check_callback_url` raises if a callback must not be sent to the URL; its second argument is the client.
    StoreUnavailable becomes the problem `store_unavailable`.
    """

    replayer: RunReplayer
    reader: RunReader
    check_callback_url: Callable[[str, str], Awaitable[None]]
    max_body: int
    body_timeout: float

    async def replay(self, request: Request) -> Response:
        """Start a new run with the input of one that has ended: 202, also for a repeated request.

        Raises RunNotFound, ReplayRefused, and as `RunHandler.start`.
        """
        raw = await self._read_body(request)
        body = parse_json_body(ReplayRequest, raw)
        run_id, client = request.path_param, request.client_name
        key = parse_key(client, request.head.idempotency_keys, raw, path_name=f"replay {run_id}")
        run = await self.reader.find(run_id)
        if run is None or run.client != client:
            raise RunNotFound("The client has no run with this id.")
        check_replayable(run, include_unknown=body.include_unknown)
        if body.callback_url is not None:
            await self.check_callback_url(body.callback_url, client)
        stored = await self.reader.store.get_run(run_id)
        if stored is None:
            raise InputNotKept(run_id=run_id, run_status=run.status)
        hold_stored(request, 2 * len(stored.order))
        traceparent = request_traceparent(request, self.replayer.clock)
        edit = ReplayEdit(body.input, body.metadata, body.tags, body.callback_url)
        submission, workflow = await self.replayer.submit(stored, request.client, edit, key, traceparent=traceparent)
        match submission:
            case Started(new):
                request.run = new.record
                request.discard_input()
                accepted = rendering.render_new(new.record)
                self.replayer.durable_runs.run_in_background(new, workflow)
                return stored_response(accepted)
            case Replayed(earlier):
                return stored_response(rendering.render_accepted(earlier), _REPLAYED_HEADERS)
            case Finished(_, response):
                return stored_response(response, _REPLAYED_HEADERS)
            case InFlight() | Followed():
                raise IdempotencyInFlight(retry_after=1)

    async def _read_body(self, request: Request) -> bytes:
        """Return the body, or an empty object if there is none."""
        if not request.body and not request.content_length and "Transfer-Encoding" not in request.headers:
            return _NO_BODY
        return await read_json_body(request, max_bytes=self.max_body, timeout=self.body_timeout)
