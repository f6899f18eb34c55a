"""Bodies of requests about stored keys."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from gateway.auth.stored_keys.terms import KeyTerms
from gateway.limits.config import ClientLimitsConfig, RateLimit
from gateway.settings.types.fields import NAME_PATTERN, Count, Scope, Timestamp, check_name
from gateway.settings.types.units import DURATION_PATTERN, RateSetting, parse_duration

MAX_GRACE = 7 * 86_400.0
"""Longest grace of a rotation, in seconds."""
DEFAULT_GRACE = 86_400.0

_NAME = r"^[^\x00-\x20\x7f]([^\x00-\x1f\x7f]{0,98}[^\x00-\x20\x7f])?$"
_MAX_KEY = 1000  # characters


def _check_key_name(text: str) -> str:
    if not re.fullmatch(_NAME, text):
        raise ValueError("must have 1 to 100 characters, no control characters, and no space at either end")
    return text


def _check_grace(seconds: float) -> float:
    if seconds > MAX_GRACE:
        raise ValueError("must be at most 7d")
    return seconds


_Grace = Annotated[
    float,
    BeforeValidator(parse_duration),
    AfterValidator(_check_grace),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": MAX_GRACE},
                {"type": "string", "pattern": DURATION_PATTERN},
            ]
        }
    ),
]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class KeyLimits(_Body):
    """Limits of a key, which hold beside those of its client. Without a value, there is no such limit."""

    rate: Annotated[RateSetting | None, Field(description="Rate of starts: 50/s, 100/m, 10/h.")] = None
    burst: Annotated[Count | None, Field(description="Starts at once; needs a rate.")] = None
    concurrency: Annotated[Count | None, Field(description="Runs in flight.")] = None
    daily: Annotated[Count | None, Field(description="Runs per UTC day.")] = None

    @model_validator(mode="after")
    def _require_rate_for_burst(self) -> KeyLimits:
        if self.burst is not None and self.rate is None:
            raise ValueError("burst limits nothing without a rate")
        return self

    @property
    def config(self) -> ClientLimitsConfig:
        """The limits."""
        rate = None if self.rate is None else RateLimit(self.rate.count, self.rate.per)
        return ClientLimitsConfig(rate, self.burst, self.concurrency, self.daily)


class CreateKeyRequest(_Body):
    """The body of `POST /api/keys`."""

    client: Annotated[
        str,
        AfterValidator(check_name),
        WithJsonSchema({"type": "string", "pattern": NAME_PATTERN}),
        Field(description="Name of a client of the configuration."),
    ]
    name: Annotated[
        str,
        AfterValidator(_check_key_name),
        WithJsonSchema({"type": "string", "pattern": _NAME}),
        Field(description="What the key is for, for operators."),
    ]
    workflows: Annotated[
        list[Scope] | None,
        Field(
            min_length=1,
            max_length=100,
            description="Patterns within those of the client. Without it, all that the client may run.",
        ),
    ] = None
    expires: Annotated[Timestamp | None, Field(description="Without it, the key does not expire.")] = None
    limits: KeyLimits = KeyLimits()

    def terms(self, created_by: str | None) -> KeyTerms:
        """Return the terms of the key."""
        return KeyTerms(self.name, tuple(self.workflows or ()), self.limits.config, created_by)


class RotateKeyRequest(_Body):
    """The body of `POST /api/keys/{id}/rotate`."""

    grace: Annotated[_Grace, Field(description="Time for which the previous text stays valid, at most 7d.")] = (
        DEFAULT_GRACE
    )
    keep: Annotated[
        Literal["current", "previous"] | None,
        Field(
            description="Which text stays valid for the grace while that of an earlier rotation runs; the other one "
            "ends at once. `previous`: the current one was never given to an app."
        ),
    ] = None


class ExpireKeyRequest(_Body):
    """The body of `POST /api/keys/{id}/expire`."""

    at: Annotated[Timestamp | None, Field(description="Null: the key does not expire.")]


class CheckKeyRequest(_Body):
    """The body of `POST /api/keys/check`."""

    key: Annotated[str, Field(min_length=1, max_length=_MAX_KEY)]
