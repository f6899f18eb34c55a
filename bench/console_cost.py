"""Benchmark of the console: its first paint from a gateway that was just started, and what an open tab costs a gateway.

    python -m bench.console_cost [PAINTS [ROUNDS]]

Needs Chromium. Every paint is that of a new gateway and a new profile without a cache, beside that of a page of one
line from a bare file server in the same browser: on a busy machine the difference says more. Periods with a tab on the
overview and without one alternate; the cost of the tab is the difference of the gateway's processor time.
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from bench.processes import ServerProcess, free_port, run_load, start_gateway, start_provider

PAINTS, ROUNDS = 7, 3
PERIOD = 20.0  # seconds
RUNS = 2_000  # in the store before
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


@contextmanager
def gateway(provider: ServerProcess, folder: str, name: str) -> Iterator[tuple[ServerProcess, str]]:
    """Start a gateway on a new SQLite file; yields it and the URL of its console."""
    port = free_port()
    settings = {"server": {"port": 0, "ops_port": port, "max_in_flight": 20_000}}
    with start_gateway(provider, f"sqlite:///{Path(folder) / name}", settings=settings) as server:
        yield server, f"http://127.0.0.1:{port}/console"


def first_paint(browser: Browser, url: str, awaited: str) -> tuple[float, float, float]:
    """Open a page in a new profile; returns milliseconds to the first paint, and until `awaited` is there.

    The last number: milliseconds of processor time of the page's thread until then, which the machine's load
    changes little.
    """
    context = browser.new_context()
    page = context.new_page()
    devtools = context.new_cdp_session(page)
    devtools.send("Performance.enable", {"timeDomain": "threadTicks"})
    try:
        started = time.monotonic()
        page.goto(url)
        page.locator(awaited).first.wait_for()
        shown = (time.monotonic() - started) * 1000
        metrics = {each["name"]: each["value"] for each in devtools.send("Performance.getMetrics")["metrics"]}
        page.wait_for_function(_PAINTED)
        return float(page.evaluate(_PAINTED)), shown, float(metrics["TaskDuration"]) * 1000
    finally:
        context.close()


@contextmanager
def one_line(folder: str) -> Iterator[str]:
    """Serve a page of one line; yields its URL."""
    place, port = Path(folder) / "page", free_port()
    place.mkdir()
    (place / "index.html").write_text("<!doctype html><title>page</title><p>page</p>")
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(place)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
                break
            except OSError:
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.kill()
        process.wait()


def processor_share(server: ServerProcess, page: Page) -> float:
    """Return the share of a core that the gateway takes in a period. The page is kept responsive meanwhile."""
    cpu, started = server.cpu_seconds(), time.monotonic()
    page.wait_for_timeout(PERIOD * 1000)
    return (server.cpu_seconds() - cpu) / (time.monotonic() - started)


def measure_paints(browser: Browser, provider: ServerProcess, folder: str, paints: int) -> None:
    """Print the times of first paints, and their differences to those of a page of one line."""
    console, plain, gateways = [], [], []
    with one_line(folder) as line_url:
        for number in range(paints):
            with gateway(provider, folder, f"paint-{number}.db") as (server, url):
                before = server.cpu_seconds()
                console.append(first_paint(browser, url, ".figures"))
                gateways.append((server.cpu_seconds() - before) * 1000)
            plain.append(first_paint(browser, line_url, "p"))
    rows = (
        ("first paint", [each[0] for each in console]),
        ("figures shown", [each[1] for each in console]),
        ("one-line page", [each[0] for each in plain]),
        ("difference", [one[0] - other[0] for one, other in zip(console, plain, strict=True)]),
        ("CPU of the page", [each[2] for each in console]),
        ("CPU of a gateway", gateways),
    )
    for name, values in rows:
        print(f"{name:18}{statistics.median(values):8.0f} ms median {max(values):8.0f} ms worst of {paints}")


def measure(paints: int, rounds: int) -> None:
    """Print the figures, and how busy the machine was."""
    program = next((path for path in map(shutil.which, PROGRAMS) if path), None)
    if program is None:
        raise SystemExit(f"none of {', '.join(PROGRAMS)} is installed")
    print(f"load of the machine before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores")
    with (
        tempfile.TemporaryDirectory() as folder,
        start_provider() as provider,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        measure_paints(browser, provider, folder, paints)
        with gateway(provider, folder, "tab.db") as (server, url):
            run_load(server, connections=16, requests=RUNS)
            page = browser.new_page()
            shares: dict[str, list[float]] = {"without": [], "with": []}
            for _ in range(rounds):
                page.goto("about:blank")
                page.wait_for_timeout(2000)
                shares["without"].append(processor_share(server, page))
                page.goto(url)
                page.locator(".figures").first.wait_for()
                page.wait_for_timeout(2000)
                shares["with"].append(processor_share(server, page))
        costs = [one - other for one, other in zip(shares["with"], shares["without"], strict=True)]
        for name, values in (*shares.items(), ("the tab", costs)):
            print(f"{name:16}{statistics.median(values):8.2%} of a core, median of {rounds} periods of {PERIOD:.0f} s")
        browser.close()
    print(f"load of the machine after: {os.getloadavg()[0]:.2f}")


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:3]]
    measure(*given, *(PAINTS, ROUNDS)[len(given) :])
