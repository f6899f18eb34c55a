"""Cancellations that an operator requests: `POST /api/runs/{id}/cancel` of the operations port.

They do what the client's own `POST /runs/{id}/cancel` does, for the runs of every client.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from gateway.api.cancel_run import STOP_DETAILS, run_ended
from gateway.runs.durable.cancellation import RunCancellation
from gateway.runs.durable.codec import is_cancelled
from gateway.runs.durable.provider_cancellation import StopState
from gateway.store.records import Phase

CancelState: TypeAlias = Literal["cancelled"] | StopState
"""`cancelled`: no start was sent, and none will be. Otherwise the run was started: as `StopState`."""

_CANCELLED = "No start of the run was accepted, and none will be sent: nothing is paid."


@dataclass(frozen=True, slots=True)
class OperatorCancellation:
    """What a request could do. `status`: that of the run afterwards."""

    id: str
    client: str
    workflow: str
    status: str
    state: CancelState

    @property
    def detail(self) -> str:
        """Explanation of the state."""
        return _CANCELLED if self.state == "cancelled" else STOP_DETAILS[self.state]


class RunCanceller(Protocol):
    """Cancels runs in this process, or through a worker of it."""

    async def cancel(self, run_id: str, actor: str | None) -> OperatorCancellation:
        """Cancel a run. `actor`: name of the operator. Raises Problem, GatewayError and StoreUnavailable."""


@dataclass(frozen=True, slots=True)
class OperatorCancellations:
    """Cancels runs in this process, whichever replica they belong to."""

    cancellation: RunCancellation

    async def cancel(self, run_id: str, actor: str | None) -> OperatorCancellation:
        """Cancel a run, or ask its provider to stop it.

        Raises RunNotFound, Problem (run_ended), and StoreUnavailable; a repetition is safe.
        """
        run = await self.cancellation.cancel_for_operator(run_id, actor)
        state: CancelState = "cancelled"
        if not is_cancelled(run):
            if run.phase is Phase.DONE:
                raise run_ended(run)
            state = await self.cancellation.at_provider.stop(run)
        return OperatorCancellation(run.id, run.client, run.workflow, run.status, state)
