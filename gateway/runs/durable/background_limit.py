"""How many runs are kept in the background: of each client, and of each workflow."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from gateway.errors import Overloaded
from gateway.runs.model import RunSpec

_RETRY_AFTER = 5  # seconds: nobody knows when one of them will have ended


@dataclass(slots=True)
class BackgroundLimit:
    """At most `of_client` of one client, and `of_workflow` of one workflow over all clients, in this process."""

    max_per_client: int = 1000
    max_per_workflow: int = 5000
    _clients: Counter[str] = field(default_factory=Counter)
    _workflows: Counter[str] = field(default_factory=Counter)

    def acquire(self, spec: RunSpec) -> None:
        """One more. Raises Overloaded where there is no place for it."""
        if self._clients[spec.client] >= self.max_per_client:
            raise _limit_reached("client")
        if self._workflows[spec.workflow] >= self.max_per_workflow:
            raise _limit_reached("workflow")
        self.acquire_unchecked(spec)

    def acquire_unchecked(self, spec: RunSpec) -> None:
        """One more that was let in before, by a process that is gone: it is not refused."""
        self._clients[spec.client] += 1
        self._workflows[spec.workflow] += 1

    def release(self, spec: RunSpec) -> None:
        """One less."""
        for counter, name in ((self._clients, spec.client), (self._workflows, spec.workflow)):
            counter[name] -= 1
            if not counter[name]:
                del counter[name]  # the names of workflows may come from clients


def _limit_reached(scope: str) -> Overloaded:
    detail = f"Too many runs of this {scope} wait in the background."
    return Overloaded(detail, retry_after=_RETRY_AFTER)
