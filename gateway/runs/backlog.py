"""How many runs are kept in the background: of each client, and of each workflow."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from gateway.problems import Problem
from gateway.runs.record import Order

_RETRY = 5  # seconds: nobody knows when one of them will have ended


@dataclass(slots=True)
class Backlog:
    """At most `of_client` of one client, and `of_workflow` of one workflow over all clients, in this process."""

    of_client: int = 1000
    of_workflow: int = 5000
    _clients: Counter[str] = field(default_factory=Counter)
    _workflows: Counter[str] = field(default_factory=Counter)

    def enter(self, order: Order) -> None:
        """One more. Raises Problem("overloaded") where there is no place for it."""
        if self._clients[order.client] >= self.of_client:
            raise _full("client")
        if self._workflows[order.workflow] >= self.of_workflow:
            raise _full("workflow")
        self.take_up(order)

    def take_up(self, order: Order) -> None:
        """One more that was let in before, by a process that is gone: it is not refused."""
        self._clients[order.client] += 1
        self._workflows[order.workflow] += 1

    def leave(self, order: Order) -> None:
        """One less."""
        for counter, name in ((self._clients, order.client), (self._workflows, order.workflow)):
            counter[name] -= 1
            if not counter[name]:
                del counter[name]  # the names of workflows may come from clients


def _full(whose: str) -> Problem:
    detail = f"Too many runs of this {whose} wait in the background."
    return Problem("overloaded", detail, retry_after=_RETRY, extra={"outcome": "not_run"})
