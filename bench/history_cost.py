"""Benchmark of the history: what recording every run costs a gateway, as a ratio measured side by side.

    python -m bench.history_cost [STORE]    a SQLite file by default; memory://

Rounds alternate between a gateway that records all runs and one that records none; both have everything else on.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from bench.processes import run_load, start_gateway, start_provider

ROUNDS = 9
CONNECTIONS = 64
REQUESTS = 6_000
FIGURES = {"per_second": "requests/s", "p99": "p99 ms", "cpu_us": "CPU us/request"}


def compare(store: str | None) -> None:
    """Print the medians, and the median of the rounds' ratios."""
    rounds: list[tuple[dict[str, float], dict[str, float]]] = []
    with tempfile.TemporaryDirectory() as folder, start_provider() as provider:
        stores = [store or f"sqlite:////{Path(folder) / name}".replace("/////", "////") for name in ("all", "none")]
        with (
            start_gateway(provider, stores[0], settings={"history": {"keep": "all"}}) as recording,
            start_gateway(provider, stores[1], settings={"history": {"keep": "none"}}) as other,
        ):
            for server in (recording, other):
                run_load(server, connections=CONNECTIONS, requests=REQUESTS)  # warm-up
            for number in range(ROUNDS):
                order = (recording, other) if number % 2 else (other, recording)
                one = {server.port: run_load(server, connections=CONNECTIONS, requests=REQUESTS) for server in order}
                rounds.append((one[recording.port], one[other.port]))
    print(f"{'':16}{'recorded':>12}{'not':>12}{'ratio':>8}   ({ROUNDS} rounds, medians)")
    for figure, name in FIGURES.items():
        first, second = (statistics.median(each[side][figure] for each in rounds) for side in (0, 1))
        ratio = statistics.median(one[figure] / two[figure] for one, two in rounds)
        print(f"{name:16}{first:12.1f}{second:12.1f}{ratio:8.3f}")


if __name__ == "__main__":
    compare(sys.argv[1] if len(sys.argv) > 1 else None)
