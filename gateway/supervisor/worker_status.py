"""Status of a worker for its supervisor (heartbeat): one line of JSON over a socket pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from gateway.observability.metric_types import ExemplarsByBucket, Labels, SeriesValues, TraceExemplar

MAX_LINE_BYTES = 64_000_000
"""Limit of a line in bytes, far above the size of all series."""


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """`reply_to`: number of the request, 0 for the unsolicited ones when the worker is ready, and when it exits.

    `ready`: the worker accepts new requests. `store_fails`: its last operation on the store failed.
    """

    reply_to: int = 0
    ready: bool = False
    metrics: Mapping[str, SeriesValues] = field(default_factory=dict)
    store_fails: bool = False
    exemplars: ExemplarsByBucket = field(default_factory=dict)

    @classmethod
    def decode(cls, line: bytes) -> WorkerStatus:
        """Parse the output of `encode`. Raises ValueError."""
        try:
            wire = _WIRE_STATUS.validate_json(line)
        except ValidationError:
            raise ValueError("is not a worker status") from None
        numbers = {name: dict(series) for name, series in wire.numbers.items()}
        exemplars = {(labels, bucket): found for labels, bucket, found in wire.exemplars}
        return cls(wire.question, wire.ready, numbers, wire.store_fails, exemplars)

    def encode(self) -> bytes:
        """Return the line for the socket."""
        families = {name: list(numbers.items()) for name, numbers in self.metrics.items()}
        exemplars = [(labels, bucket, found) for (labels, bucket), found in self.exemplars.items()]
        status = _WireStatus(self.reply_to, self.ready, families, self.store_fails, exemplars)
        return _WIRE_STATUS.dump_json(status) + b"\n"


@dataclass(frozen=True, slots=True)
class _WireStatus:
    """Series as pairs, because a JSON key cannot hold several labels."""

    question: int
    ready: bool
    numbers: dict[str, list[tuple[Labels, Sequence[float]]]]
    store_fails: bool = False  # absent in the status of an older worker, as what follows
    exemplars: list[tuple[Labels, int, TraceExemplar]] = field(default_factory=list)


_WIRE_STATUS = TypeAdapter(_WireStatus)
