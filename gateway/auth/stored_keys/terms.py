"""Terms of a stored key: its name, its scope, its limits and its creator, as the store keeps them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.json import strict_json
from gateway.limits.config import ClientLimitsConfig, RateLimit

Positive = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, slots=True)
class KeyTerms:
    """`workflows`: patterns; empty: all workflows of the client. `created_by`: name of an operations key, if known."""

    name: str
    workflows: tuple[str, ...] = ()
    limits: ClientLimitsConfig = field(default_factory=ClientLimitsConfig)
    created_by: str | None = None

    @property
    def own_limits(self) -> ClientLimitsConfig | None:
        """The limits; None if there are none."""
        return None if self.limits == ClientLimitsConfig() else self.limits

    def encode(self) -> bytes:
        """Return the terms for the store; what is not set is left out."""
        limits = self.limits
        members: dict[str, object] = {
            "name": self.name,
            "workflows": self.workflows,
            "rate": None if limits.rate is None else (limits.rate.count, limits.rate.per),
            "burst": limits.burst,
            "concurrency": limits.concurrency,
            "daily": limits.daily,
            "created_by": self.created_by,
        }
        return strict_json.write({name: value for name, value in members.items() if value not in (None, ())})


class _StoredTerms(BaseModel):
    # A member that is not known may be a restriction of a later version: such a key is not accepted.
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    workflows: tuple[str, ...] = ()
    rate: tuple[float, float] | None = None
    burst: Positive | None = None
    concurrency: Positive | None = None
    daily: Positive | None = None
    created_by: str | None = None


def decode_terms(stored: bytes) -> KeyTerms:
    """Return stored terms. Raises ValueError for those of a later version."""
    try:
        read = _StoredTerms.model_validate_json(stored)
        rate = None if read.rate is None else RateLimit(*read.rate)
    except ValidationError:
        raise ValueError("these terms are not of this version") from None
    limits = ClientLimitsConfig(rate, read.burst, read.concurrency, read.daily)
    return KeyTerms(read.name, read.workflows, limits, read.created_by)
