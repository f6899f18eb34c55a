"""A request to cancel a run: by its client, or by an operator."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.errors import RunCancelled

_MAX_ACTOR = 200  # characters


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """A request to cancel a run. `actor`: name of the operator, empty if it is not known."""

    by_operator: bool = False
    actor: str = ""

    @classmethod
    def of_operator(cls, actor: str | None) -> CancelRequest:
        """Return the request of an operator, with a bounded name."""
        return cls(by_operator=True, actor=(actor or "")[:_MAX_ACTOR])

    @property
    def event_values(self) -> tuple[str | None, ...]:
        """Values of the event `cancel_requested` of a timeline."""
        return ("operator", self.actor or None) if self.by_operator else ()

    def error(self) -> RunCancelled:
        """Return a new error with which the run ends. Clients are told that an operator cancelled it, not its name."""
        return RunCancelled("An operator cancelled the run." if self.by_operator else "")


CLIENT_REQUEST = CancelRequest()
"""The request of the client of the run."""
