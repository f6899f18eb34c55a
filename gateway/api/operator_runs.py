"""Runs that an operator requests on behalf of a client: `POST /api/run` of the operations port.

They go the way of a client's own `POST /run`: the same body, scope, limits and idempotency keys. Such a run is durable
and in the background, and an operator names a key for it, so that a repeated request does not start it twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Protocol, cast

from pydantic import BaseModel, ConfigDict, Field

from gateway.api.run_request import RunRequest
from gateway.api.start_run import RunHandler
from gateway.auth.client import Client
from gateway.http.body import parse_json_body
from gateway.json import strict_json
from gateway.problems import FieldError, Problem, invalid_body
from gateway.runs.durable.idempotency_key import parse_key


class OperatorRunRequest(BaseModel):
    """The body of `POST /api/run`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    client: Annotated[
        str, Field(min_length=1, max_length=512, description="Client of the configuration for which the run is.")
    ]
    idempotency_key: Annotated[
        str,
        Field(
            min_length=1,
            max_length=255,
            description="As the header field of `POST /run`: a repetition with the same key starts nothing again.",
        ),
    ]
    run: Annotated[RunRequest, Field(description="The body of `POST /run`.")]


@dataclass(frozen=True, slots=True)
class OperatorRun:
    """A run that was stored. `replayed`: an earlier request with the key has started it."""

    id: str
    client: str
    workflow: str
    replayed: bool


class OperatorRunStarter(Protocol):
    """Starts runs in this process, or in a worker of it."""

    async def start(self, body: bytes) -> OperatorRun:
        """Store and start the run of a body of `POST /api/run`. Raises Problem and GatewayError."""


@dataclass(frozen=True, slots=True)
class OperatorRuns:
    """Starts runs in this process. `find_client` returns a client of the configuration by its name."""

    runs: RunHandler
    find_client: Callable[[str], Client | None]
    is_draining: Callable[[], bool]

    async def start(self, body: bytes) -> OperatorRun:
        """Store and start the run of a body of `POST /api/run`.

        Raises Problem for an invalid body or an unknown client, and as `RunHandler.start_in_background`.
        """
        order = parse_json_body(OperatorRunRequest, body)
        client = self.find_client(order.client)
        if client is None:
            raise invalid_body(FieldError("/client", "is not a client of the configuration"))
        if self.is_draining():
            raise Problem("overloaded", "The replica is shutting down.", retry_after=1)
        members = cast("dict[str, object]", strict_json.read(body))
        key = parse_key(client.name, [order.idempotency_key], strict_json.write(members["run"]))
        run_id, replayed = await self.runs.start_in_background(client, order.run, key)
        return OperatorRun(run_id, client.name, order.run.workflow, replayed)
