"""`make bench-peers`: Runward beside a bare relay, nginx and gateways for LLMs, in one run; prints a table in Markdown.

    python -m bench.compare --install          installs the peers, each into a folder of its own below .venv/peers
    python -m bench.compare                    measures those that are installed; at most ten minutes
    python -m bench.compare NAME ...           only these (runward, relay, nginx, tensorzero, portkey, litellm)

The gateways have core 0, the load generator and the upstream core 1, if there are two. Only loopback is used.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.compare.figures import FIGURES, cells
from bench.compare.llm_gateways import LiteLlm, Portkey, TensorZero
from bench.compare.measurement import Measurement, Results
from bench.compare.native_programs import LARGE, SMALL, compile_programs
from bench.compare.peer import NotAvailable, Peer
from bench.compare.proxies import BareRelay, Nginx, Runward
from bench.compare.table import table

PEERS: tuple[Peer, ...] = (Nginx(), BareRelay(), Runward(), TensorZero(), Portkey(), LiteLlm())
_CACHE = Path(sys.prefix) / "peers"
_LIMIT = 450.0  # seconds after which no round begins; the last one and the readings of memory take up to two minutes
_INSTALLED = ".installed"


def install(peers: Sequence[Peer], cache: Path) -> None:
    """Install anew into folders of their names below `cache`; says which cannot be had, and why."""
    for peer in peers:
        folder = cache / peer.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            peer.install(folder)
        except NotAvailable as error:
            print(f"{peer.title} cannot be had: {error}", flush=True)
        else:
            (folder / _INSTALLED).touch()
            print(f"{peer.title} {peer.version(folder)} is installed", flush=True)


def compare(peers: Sequence[Peer], cache: Path, rounds: int) -> None:
    """Measure the installed peers and print the table."""
    installed = [peer for peer in peers if (cache / peer.name / _INSTALLED).exists()]
    for peer in peers:
        if peer not in installed:
            print(f"{peer.title} is left out: it is not installed (python -m bench.compare --install {peer.name})")
    with tempfile.TemporaryDirectory() as programs:
        compile_programs(Path(programs))
        found = Measurement(installed, cache, Path(programs), rounds=rounds, limit=_LIMIT).run()
    report(peers, cache, found)


def report(peers: Sequence[Peer], cache: Path, found: Results) -> None:
    """Print the table, and what has to be known to read it."""
    measured = [peer for peer in peers if found.samples["installed"].get(peer.name)]
    values = {figure.key: cells(found.samples[figure.key], figure.baseline) for figure in FIGURES}
    print(table({peer.name: peer.title for peer in measured}, FIGURES, values, found.remarks))
    cores = len(os.sched_getaffinity(0))
    print(f"\n{datetime.now(tz=UTC):%Y-%m-%d}, {platform.machine()}, {cores} cores, load {os.getloadavg()[1]:.1f}.")
    print(f"Medians of {found.rounds} interleaved rounds; in brackets, ratios to the bare relay.")
    print(f"Bodies of {SMALL} bytes, of requests and answers alike; large ones {LARGE}.")
    if found.ceiling:
        print(
            f"The load generator and the upstream without a gateway: {statistics.median(found.ceiling):.0f} requests/s."
        )
    print("Versions:", "; ".join(f"{peer.title} {peer.version(cache / peer.name)}" for peer in measured) + ".")
    for name, reason in found.left_out.items():
        print(f"{name} is left out: {reason}")


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=(__doc__ or "").partition("\n")[0])
    names = [peer.name for peer in PEERS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"participants: {', '.join(names)} (default: all)")
    parser.add_argument("--install", action="store_true", help="install instead of measuring")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each kind (default: 5)")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(names):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    peers = [peer for peer in PEERS if not arguments.names or peer.name in arguments.names]
    if arguments.install:
        install(peers, _CACHE)
        return
    try:
        compare(peers, _CACHE, arguments.rounds)
    except NotAvailable as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
