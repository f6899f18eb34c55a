"""Concurrency limit of background runs (a bulkhead): of each client, and of each workflow, in this process."""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType

from gateway.errors import Overloaded
from gateway.runs.model import RunSpec

_RETRY_AFTER = 5  # seconds: the end of a run is not known


class BackgroundSlot(AbstractContextManager["BackgroundSlot"]):
    """Slot of one background run, or of a synchronous run, which needs none. Released on exit, unless kept."""

    __slots__ = ("_held", "_kept", "_limit", "_spec")

    def __init__(self, limit: BackgroundLimit, spec: RunSpec, *, held: bool) -> None:
        self._limit = limit
        self._spec = spec
        self._held = held
        self._kept = False

    def keep(self) -> None:
        """Hold the slot beyond the `with` statement, until `release`."""
        self._kept = True

    def release(self) -> None:
        """Release the slot. Is idempotent."""
        if self._held:
            self._held = False
            self._limit.release(self._spec)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._kept:
            self.release()


@dataclass(slots=True)
class BackgroundLimit:
    """Slots for background runs: `max_per_client`, and `max_per_workflow` over all clients."""

    max_per_client: int = 1000
    max_per_workflow: int = 5000
    _clients: Counter[str] = field(default_factory=Counter)
    _workflows: Counter[str] = field(default_factory=Counter)

    def acquire(self, spec: RunSpec) -> BackgroundSlot:
        """Acquire a slot; a synchronous run is not counted. Raises Overloaded."""
        if spec.synchronous:
            return BackgroundSlot(self, spec, held=False)
        if self._clients[spec.client] >= self.max_per_client:
            raise _limit_reached("client")
        if self._workflows[spec.workflow] >= self.max_per_workflow:
            raise _limit_reached("workflow")
        return self.acquire_unchecked(spec)

    def acquire_unchecked(self, spec: RunSpec) -> BackgroundSlot:
        """Acquire a slot for an adopted run, beyond the limits if need be."""
        self._clients[spec.client] += 1
        self._workflows[spec.workflow] += 1
        return BackgroundSlot(self, spec, held=True)

    def release(self, spec: RunSpec) -> None:
        """Release one slot."""
        for counter, name in ((self._clients, spec.client), (self._workflows, spec.workflow)):
            counter[name] -= 1
            if not counter[name]:
                del counter[name]  # clients may choose the names of workflows: their number is not bounded


def _limit_reached(scope: str) -> Overloaded:
    return Overloaded(f"Too many runs of this {scope} wait in the background.", retry_after=_RETRY_AFTER)
