"""Units: durations, sizes and rates as written in the configuration, and as plain numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

_NUMBER = r"[0-9]{1,15}(?:\.[0-9]{1,9})?"
_SECONDS = {"ms": "0.001", "s": "1", "m": "60", "h": "3600", "d": "86400"}
_BYTES = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}
_PERIODS = {"s": 1.0, "m": 60.0, "h": 3600.0}

DURATION_PATTERN = f"^{_NUMBER}(?:{'|'.join(_SECONDS)})?$"
SIZE_PATTERN = f"^{_NUMBER}(?:{'|'.join(_BYTES)})?$"
RATE_PATTERN = f"^{_NUMBER}/(?:{'|'.join(_PERIODS)})$"

MAX_DURATION = 3660 * 86400.0
"""Ten years in seconds: within the range of timers."""
MIN_LEASE, MAX_LEASE = 2.0, 3600.0
"""Seconds. Shorter leases could expire during a slow store call; longer ones delay recovery after a crash."""
MAX_SIZE = 2**30
"""Largest size in bytes; bounded data is held in memory."""


@dataclass(frozen=True, slots=True)
class RateSpec:
    """`count` events in `per` seconds; both are positive."""

    count: float
    per: float


def parse_duration(value: object) -> float:
    """Read "10s", "500ms", "2m", "1h", "7d" or a bare number of seconds as seconds. Raises ValueError."""
    number, unit = _split_unit(value, DURATION_PATTERN)
    seconds = float(number * Decimal(_SECONDS[unit or "s"])) if number is not None else -1.0
    if not 0 <= seconds <= MAX_DURATION:
        raise ValueError("must be a duration such as 500ms, 10s, 2m, 1h or 7d")
    return seconds


def parse_size(value: object) -> int:
    """Read "1MB" (10^6), "1MiB" (2^20), "64kB" or a bare number of bytes as bytes. Raises ValueError."""
    number, unit = _split_unit(value, SIZE_PATTERN)
    count = number * _BYTES[unit or "B"] if number is not None else Decimal(0)
    if not 1 <= count <= MAX_SIZE or count != int(count):
        raise ValueError("must be a size such as 64kB, 1MB or 1MiB, and at most 1GiB")
    return int(count)


def parse_rate(value: object) -> RateSpec:
    """Read "50/s", "100/m" or "10/h". Raises ValueError."""
    if isinstance(value, RateSpec):
        return value
    match = re.fullmatch(RATE_PATTERN, value) if isinstance(value, str) else None
    count, _, period = match.group().partition("/") if match else ("0", "", "s")
    if not float(count) > 0:
        raise ValueError("must be a rate such as 50/s, 100/m or 10/h")
    return RateSpec(float(count), _PERIODS[period])


def _split_unit(value: object, pattern: str) -> tuple[Decimal | None, str]:
    """Split number and unit; (None, "") if `value` has another form."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = Decimal(str(value))
        return (number, "") if number.is_finite() else (None, "")
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        return None, ""
    text = value.rstrip("BGKMdhikms")
    return Decimal(text), value[len(text) :]


def _positive(seconds: float) -> float:
    if seconds == 0:
        raise ValueError("must be longer than 0")
    return seconds


def _check_header_size(size: int) -> int:
    if not 4_000 <= size <= 1_048_576:
        raise ValueError("must be from 4kB to 1MiB")
    return size


def _check_lease(seconds: float) -> float:
    if not MIN_LEASE <= seconds <= MAX_LEASE:
        raise ValueError("must be at least 2s and at most 1h")
    return seconds


def _schema(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": pattern}]})


DurationOrZero: TypeAlias = Annotated[float, BeforeValidator(parse_duration), _schema(DURATION_PATTERN)]
"""Seconds, 0 allowed."""
Duration: TypeAlias = Annotated[
    float, BeforeValidator(parse_duration), AfterValidator(_positive), _schema(DURATION_PATTERN)
]
"""Seconds, more than 0."""
Lease: TypeAlias = Annotated[
    float, BeforeValidator(parse_duration), AfterValidator(_check_lease), _schema(DURATION_PATTERN)
]
"""Seconds, from 2 to an hour."""
Size: TypeAlias = Annotated[int, BeforeValidator(parse_size), _schema(SIZE_PATTERN)]
"""Bytes, more than 0."""
HeaderSize: TypeAlias = Annotated[
    int, BeforeValidator(parse_size), AfterValidator(_check_header_size), _schema(SIZE_PATTERN)
]
"""Bytes, from 4 kB to 1 MiB."""
RateSetting: TypeAlias = Annotated[
    RateSpec, BeforeValidator(parse_rate), WithJsonSchema({"type": "string", "pattern": RATE_PATTERN})
]
