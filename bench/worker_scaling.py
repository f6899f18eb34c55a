"""Benchmark of workers: `--workers 2` compared with `--workers 1` on the same Redis server, in the same run.

    python -m bench.worker_scaling redis://127.0.0.1:6379/0        a running server that may be emptied

Nothing is pinned: the load, the provider and the server want a part of the same cores, as told beside the ratios.
"""

from __future__ import annotations

import socket
import statistics
import sys
import time
from contextlib import ExitStack

from bench.processes import ServerProcess, run_load, start_gateway, start_provider

ROUNDS = 7
CONNECTIONS = 64
REQUESTS = 6_000
BURSTS = 20
BURST_CONNECTIONS = 50
FIGURES = {"per_second": "requests/s", "p50": "p50 ms", "p99": "p99 ms", "cpu_us": "CPU us/request", "most": "busier %"}


def measure(server: ServerProcess) -> dict[str, float]:
    """Run one round; `most` is the share of the busiest worker in percent."""
    before = server.cpu_of_workers()
    figures = run_load(server, connections=CONNECTIONS, requests=REQUESTS, core=None)
    spent = [now - then for now, then in zip(server.cpu_of_workers(), before, strict=True)]
    figures["most"] = 100 * max(spent) / sum(spent) if spent else 100
    return figures


def measure_burst(server: ServerProcess) -> float:
    """Open connections at once; returns the share of the worker with the most, in percent."""
    before = server.descriptors_of_workers()
    with ExitStack() as opened:
        connections = [
            opened.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))
            for _ in range(BURST_CONNECTIONS)
        ]
        for each in connections:  # a response means that a worker has accepted
            each.sendall(b"GET /healthz HTTP/1.1\r\nHost: bench\r\n\r\n")
            each.recv(4096)
        accepted = [now - then for now, then in zip(server.descriptors_of_workers(), before, strict=True)]
    deadline = time.monotonic() + 30
    while sum(server.descriptors_of_workers()) > sum(before) and time.monotonic() < deadline:
        time.sleep(0.01)
    return 100 * max(accepted) / BURST_CONNECTIONS


def main(url: str) -> None:
    """Print the medians of all rounds, and of the rounds' ratios; then the shares of bursts."""
    with (
        start_provider(core=None) as provider,
        start_gateway(provider, url, core=None) as alone,
        start_gateway(provider, url, workers=2, core=None) as both,
    ):
        bursts = [measure_burst(both) for _ in range(BURSTS)]
        for server in (alone, both):
            run_load(server, connections=CONNECTIONS, requests=REQUESTS, core=None)  # warm-up
        rounds = [(measure(alone), measure(both)) for _ in range(ROUNDS)]
    print(f"{'':16}{'1 process':>12}{'2 workers':>12}{'ratio':>8}   ({ROUNDS} rounds, medians)")
    for figure, name in FIGURES.items():
        ratio = statistics.median(two[figure] / one[figure] for one, two in rounds)
        one_figure = statistics.median(one[figure] for one, _ in rounds)
        two_figure = statistics.median(two[figure] for _, two in rounds)
        print(f"{name:16}{one_figure:12.1f}{two_figure:12.1f}{ratio:8.2f}")
    print("ratio of requests/s in each round:", *(f"{b['per_second'] / a['per_second']:.2f}" for a, b in rounds))
    shares = f"median {statistics.median(bursts):.0f} %, most {max(bursts):.0f} %"
    print(f"busier worker in {BURSTS} bursts of {BURST_CONNECTIONS} connections: {shares}")


if __name__ == "__main__":
    main(sys.argv[1])
