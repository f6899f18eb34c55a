"""Processor time a request with many configured clients and workflows, and with many runs open, beside a small gateway.

    python -m bench.growth

Rounds alternate between the gateways. Open runs wait at a provider that does not answer meanwhile.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from bench.processes import HERE, KEY, ServerProcess, gateway_config, run_load, start_gateway, start_provider
from gateway.auth.keys import hash_key, new_key
from gateway.clock import SystemClock

ROUNDS = 7
CONNECTIONS = 64
REQUESTS = 6_000
CONFIGURED = 1_000
OPEN_RUNS = 9_000  # two descriptors each, of the 20 000 that many systems allow
HELD_SECONDS = 240.0
"""Seconds that the slow provider takes; the rounds with open runs end before."""


def many_sections(provider_port: int, count: int) -> dict[str, Any]:
    """Return configuration with `count` more clients and workflows, each client with its own key and limits."""
    config: Any = gateway_config(provider_port)
    limits, clock = config["clients"]["bench"]["limits"], SystemClock()
    workflows = {f"w{n}": {"provider": "prompt_studio", "name": f"dep{n}"} for n in range(count)}
    clients = {
        f"c{n}": {"keys": [{"hash": hash_key(new_key(clock))}], "workflows": [f"w{n}"], "limits": limits}
        for n in range(count)
    }
    return {"workflows": {**config["workflows"], **workflows}, "clients": {**config["clients"], **clients}}


def slow_sections(provider_port: int, slow_port: int) -> dict[str, Any]:
    """Return configuration with the workflow `held` at a provider of its own."""
    config: Any = gateway_config(provider_port)
    slow = {
        **config["providers"]["prompt_studio"],
        "base_url": f"http://127.0.0.1:{slow_port}",
        "adapter": "prompt_studio",
    }
    held = {**config["workflows"]["studio"], "provider": "slow", "timeout": f"{HELD_SECONDS:.0f}s"}
    return {
        "providers": {**config["providers"], "slow": slow},
        "workflows": {**config["workflows"], "held": held},
    }


def compare(title: str, small: ServerProcess, large: ServerProcess) -> None:
    """Print the processor time a request of both, and the median of the rounds' ratios."""
    for server in (small, large):
        run_load(server, connections=CONNECTIONS, requests=REQUESTS)  # warm-up
    rounds = [
        [run_load(each, connections=CONNECTIONS, requests=REQUESTS)["cpu_us"] for each in (small, large)]
        for _ in range(ROUNDS)
    ]
    ratio = statistics.median(many / few for few, many in rounds)
    few, many = (statistics.median(times) for times in zip(*rounds, strict=True))
    print(f"{title:44}{few:8.1f}{many:8.1f} us{ratio:8.2f}", flush=True)


@contextmanager
def open_runs(server: ServerProcess, count: int) -> Iterator[None]:
    """Hold this number of runs open meanwhile."""
    command = [sys.executable, str(HERE / "load_generator.py"), str(server.port), str(count), str(count), KEY, "held"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        deadline, expected = time.monotonic() + 60, 2 * count  # a descriptor for the client, and one for the provider
        while server.descriptors() < expected and time.monotonic() < deadline:
            time.sleep(0.2)
        if server.descriptors() < expected:
            process.kill()
            raise SystemExit("the runs were not started in time")
        try:
            yield
            if process.poll() is not None:
                raise SystemExit(
                    f"the runs ended too early: {json.loads(process.stdout.read() if process.stdout else '')}"
                )
        finally:
            process.kill()


def main() -> None:
    """Print a row for each kind of growth."""
    print(f"{'':44}{'few':>8}{'many':>8}   {'ratio':>8}   ({ROUNDS} rounds, medians)")
    with start_provider() as provider, start_provider(HELD_SECONDS) as slow:
        many: Mapping[str, object] = many_sections(provider.port, CONFIGURED)
        with start_gateway(provider) as small, start_gateway(provider, settings=many) as large:
            compare(f"{CONFIGURED} clients and workflows", small, large)
        sections = slow_sections(provider.port, slow.port)
        with (
            start_gateway(provider, settings=sections) as small,
            start_gateway(provider, settings=sections) as large,
            open_runs(large, OPEN_RUNS),
        ):
            compare(f"{OPEN_RUNS} open runs", small, large)


if __name__ == "__main__":
    main()
