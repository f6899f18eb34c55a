"""Progress of a bulk replay, as the store keeps it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, cast

from gateway.json import strict_json


@dataclass(slots=True)
class ReplayProgress:
    """The first `done` runs of the plan were dealt with. Times are in seconds since 1970.

    `already_started`: runs that were replayed before the bulk replay was started, or by a client with another body.
    `refused`: numbers by reason, which is an error code, `changed` or `unknown_client`.
    """

    done: int = 0
    started: int = 0
    already_started: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    started_at: float | None = None
    ended_at: float | None = None

    def encode(self) -> bytes:
        """Return the progress as the store keeps it."""
        names = ("done", "started", "already_started", "refused", "started_at", "ended_at")
        return strict_json.write({name: getattr(self, name) for name in names})


def decode_progress(text: bytes) -> ReplayProgress:
    """Return stored progress; `{}` is that of a plan."""
    members = cast("dict[str, Any]", strict_json.read_stored(text))
    return ReplayProgress(refused=Counter(members.pop("refused", {})), **members)
