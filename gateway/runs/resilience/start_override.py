"""Override of a provider's circuit breakers by an operator: its starts are suspended, refused or never refused."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class OverrideMode(enum.Enum):
    """What an operator has set for a provider.

    SUSPENDED: no start is sent, and background runs wait. OPEN: no start is sent, as if every circuit were open.
    CLOSED: the circuits refuse no start, whatever their state.
    """

    SUSPENDED = "suspended"
    OPEN = "open"
    CLOSED = "closed"


@dataclass(slots=True, eq=False)
class StartOverride:
    """The override of one provider, which all of its circuit breakers read; `mode` is None without one."""

    mode: OverrideMode | None = None
