"""What a worker tells its supervisor: one line of JSON over the socket that the two share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from gateway.observability.collectors import Labels, SeriesValues

MAX_LINE_BYTES = 64_000_000
"""Bytes of a line: more than any number of series comes to."""


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """`question` is the one that it answers, 0 where nobody asked: when it is ready, and at its end.

    `ready`: it takes new work. `store_fails`: the last thing that it asked of the store could not be done.
    """

    reply_to: int = 0
    ready: bool = False
    metrics: Mapping[str, SeriesValues] = field(default_factory=dict)
    store_fails: bool = False

    @classmethod
    def decode(cls, line: bytes) -> WorkerStatus:
        """Understand what `line` made; ValueError where it is something else."""
        try:
            wire = _WIRE_STATUS.validate_json(line)
        except ValidationError:
            raise ValueError("is not what a worker says") from None
        numbers = {name: dict(series) for name, series in wire.numbers.items()}
        return cls(wire.question, wire.ready, numbers, wire.store_fails)

    def encode(self) -> bytes:
        """As it goes over the socket."""
        families = {name: list(numbers.items()) for name, numbers in self.metrics.items()}
        return _WIRE_STATUS.dump_json(_WireStatus(self.reply_to, self.ready, families, self.store_fails)) + b"\n"


@dataclass(frozen=True, slots=True)
class _WireStatus:
    """JSON has no keys of several labels: pairs instead."""

    question: int
    ready: bool
    numbers: dict[str, list[tuple[Labels, Sequence[float]]]]
    store_fails: bool = False  # an older worker says nothing of it


_WIRE_STATUS = TypeAdapter(_WireStatus)
