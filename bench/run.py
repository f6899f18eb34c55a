"""`make bench`: the gateway compared with a bare aiohttp relay in the same run, as ratios.

Rounds alternate, so that what the machine does meanwhile meets both; the medians of the rounds' ratios are printed.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

from bench.processes import HERE, KEY, ServerProcess, run_load, start_gateway, start_provider, start_relay

ROUNDS = 7
CONNECTIONS = 64
REQUESTS = 6_000
RUNS_IN_FLIGHT = 5_000
FIGURES = {"per_second": "requests/s", "p50": "p50 ms", "p99": "p99 ms", "cpu_us": "CPU us/request"}


def compare_throughput() -> None:
    """Throughput, latency and processor time."""
    rounds: list[tuple[dict[str, float], dict[str, float]]] = []
    with start_provider() as provider, start_relay(provider) as bare, start_gateway(provider) as ours:
        for server in (bare, ours):
            run_load(server, connections=CONNECTIONS, requests=REQUESTS)  # warm-up
        for _ in range(ROUNDS):
            one = [run_load(server, connections=CONNECTIONS, requests=REQUESTS) for server in (bare, ours)]
            rounds.append((one[0], one[1]))
    print(f"{'':16}{'bare relay':>12}{'gateway':>12}{'ratio':>8}   ({ROUNDS} rounds, medians)")
    for figure, name in FIGURES.items():
        ratio = statistics.median(ours[figure] / bare[figure] for bare, ours in rounds)
        bare_figure = statistics.median(bare[figure] for bare, _ in rounds)
        our_figure = statistics.median(ours[figure] for _, ours in rounds)
        print(f"{name:16}{bare_figure:12.1f}{our_figure:12.1f}{ratio:8.2f}")


def compare_memory() -> None:
    """Resident memory: idle, and per run in flight at a slow provider."""
    with start_provider(delay=20.0) as provider:
        for name, make in (("bare relay", start_relay), ("gateway", start_gateway)):
            with make(provider) as server:
                print(f"{name:12} idle {server.resident() / 1e6:6.1f} MB", end="", flush=True)
                held = _memory_per_run(server)
                print(f"   {held / 1000:6.1f} kB for each of {RUNS_IN_FLIGHT} runs in flight")


def compare_start() -> None:
    """Cold start: from the start of the process until its ports are open, with the store in memory."""
    rounds: dict[str, list[tuple[float, float]]] = {"bare relay": [], "gateway": []}
    with start_provider() as provider:
        for _ in range(ROUNDS + 1):
            for name, start in (("bare relay", start_relay), ("gateway", start_gateway)):
                begun = time.perf_counter()
                with start(provider) as server:
                    rounds[name].append((time.perf_counter() - begun, server.cpu_seconds()))
    medians = {
        name: [statistics.median(figures) * 1000 for figures in zip(*measured[1:], strict=True)]  # the first warms up
        for name, measured in rounds.items()
    }
    for name, (wall, cpu) in medians.items():
        print(f"{name:12} ready after {wall:5.0f} ms, processor time {cpu:4.0f} ms")
    wall_ratio, cpu_ratio = (ours / bare for ours, bare in zip(medians["gateway"], medians["bare relay"], strict=True))
    print(f"{'ratio':12} ready after {wall_ratio:8.2f}, processor time {cpu_ratio:7.2f}")


def _memory_per_run(server: ServerProcess) -> float:
    """Start many runs at once; returns bytes of memory per pending run."""
    before = server.resident()
    command = [
        sys.executable,
        str(HERE / "load_generator.py"),
        str(server.port),
        str(RUNS_IN_FLIGHT),
        str(RUNS_IN_FLIGHT),
        KEY,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        time.sleep(14)
        taken = server.resident() - before
        out, _ = process.communicate(timeout=120)
    if json.loads(out)["statuses"] != {"200": RUNS_IN_FLIGHT}:
        raise SystemExit(f"not every request was answered with 200: {out}")
    return taken / RUNS_IN_FLIGHT


if __name__ == "__main__":
    compare_start()
    if "--start" in sys.argv:
        raise SystemExit
    compare_throughput()
    compare_memory()
