"""What a worker tells its supervisor: one line of JSON over the socket that the two share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from gateway.tallies import Labels, Numbers

LONGEST = 64_000_000
"""Bytes of a line: more than any number of series comes to."""


@dataclass(frozen=True, slots=True)
class Report:
    """`question` is the one that it answers, 0 where nobody asked: when it is ready, and at its end.

    `ready`: it takes new work. `store_fails`: the last thing that it asked of the store could not be done.
    """

    question: int = 0
    ready: bool = False
    numbers: Mapping[str, Numbers] = field(default_factory=dict)
    store_fails: bool = False

    @classmethod
    def read(cls, line: bytes) -> Report:
        """Understand what `line` made; ValueError where it is something else."""
        try:
            said = _SPOKEN.validate_json(line)
        except ValidationError:
            raise ValueError("is not what a worker says") from None
        numbers = {name: dict(series) for name, series in said.numbers.items()}
        return cls(said.question, said.ready, numbers, said.store_fails)

    def line(self) -> bytes:
        """As it goes over the socket."""
        spoken = {name: list(numbers.items()) for name, numbers in self.numbers.items()}
        return _SPOKEN.dump_json(_Spoken(self.question, self.ready, spoken, self.store_fails)) + b"\n"


@dataclass(frozen=True, slots=True)
class _Spoken:
    """JSON has no keys of several labels: pairs instead."""

    question: int
    ready: bool
    numbers: dict[str, list[tuple[Labels, Sequence[float]]]]
    store_fails: bool = False  # an older worker says nothing of it


_SPOKEN = TypeAdapter(_Spoken)
