"""The metrics of all workers as if they were one gateway's: what was counted never becomes less."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from gateway.tallies import Labels, Numbers

Families: TypeAlias = Mapping[str, Numbers]
_Sums: TypeAlias = dict[str, dict[Labels, tuple[float, ...]]]

GAUGES: Mapping[str, Callable[[float, float], float]] = MappingProxyType(
    {
        "runward_requests_in_flight": float.__add__,
        "runward_circuit_state": max,  # 1 for every state that any worker's circuit is in
        "runward_store_durable": min,
        "runward_limits_shared": min,
        "runward_config_last_reload_success": min,
        "runward_config_last_reload_success_timestamp_seconds": min,
        "runward_build_info": max,
    }
)
"""How the gauges of living workers come together; a worker that is gone has none. Everything else is a sum."""


class Totals:
    """Sums over the living and the dead."""

    def __init__(self) -> None:
        self._gone: _Sums = {}
        self._told: _Sums = {}

    def retire(self, last: Families) -> None:
        """A worker is gone; these were its last numbers."""
        _add(self._gone, last)

    def merged(self, living: Iterable[Families]) -> Families:
        """The sums now, given the numbers of those who live."""
        sums = {name: dict(numbers) for name, numbers in self._gone.items()}
        gauges: _Sums = {}
        for families in living:
            _add(sums, families)
            _join(gauges, families)
        # Seconds are added up in another order once a worker is gone, and may come out less by the last bit: for
        # Prometheus that would be a counter that began anew.
        for name, numbers in sums.items():
            told = self._told.setdefault(name, {})
            for labels, values in numbers.items():
                told[labels] = _each(max, told.get(labels, values), values)
        return {**{name: dict(numbers) for name, numbers in self._told.items()}, **gauges}


def _add(sums: _Sums, families: Families) -> None:
    for name, numbers in families.items():
        if name not in GAUGES:
            _fold(float.__add__, sums.setdefault(name, {}), numbers)


def _join(gauges: _Sums, families: Families) -> None:
    for name in GAUGES.keys() & families.keys():
        _fold(GAUGES[name], gauges.setdefault(name, {}), families[name])


def _fold(how: Callable[[float, float], float], into: dict[Labels, tuple[float, ...]], numbers: Numbers) -> None:
    for labels, values in numbers.items():
        known = into.get(labels)
        into[labels] = tuple(map(float, values)) if known is None else _each(how, known, values)


def _each(how: Callable[[float, float], float], one: Iterable[float], other: Iterable[float]) -> tuple[float, ...]:
    # Of different lengths only where workers of two versions live side by side for a while.
    return tuple(how(float(a), float(b)) for a, b in zip(one, other, strict=False))
