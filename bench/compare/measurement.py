"""The measuring run: cold starts, then all gateways at once under interleaved rounds of load."""

from __future__ import annotations

import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import Request, urlopen

from bench.compare.figures import DIRECT, added, not_sustained
from bench.compare.native_programs import LARGE, SMALL, FakeUpstream, Load, LoadResult, run_load
from bench.compare.peer import NotAvailable, Peer, Place, chat_body, http_request, size_of
from bench.compare.peer_process import PeerProcess
from bench.processes import free_port

ALONE = Load(connections=1, seconds=2)
MOST = Load(connections=64, seconds=2.5)
SUSTAINED = Load(connections=128, seconds=2.5)
OPEN = Load(connections=256, seconds=3, rate=200)
LARGE_BODIES = Load(connections=16, seconds=3)
WARM_UP = Load(connections=64, seconds=1)
UPSTREAM_DELAY = 20  # ms, for SUSTAINED
SETTLING = 5.0  # seconds from the load with large bodies to the last reading of memory
KINDS = {"alone": ALONE, "most": MOST, "open": OPEN, "sustained": SUSTAINED}
_STARTS = 3


@dataclass(slots=True)
class Results:
    """Samples by figure and participant; remarks by figure and participant, which take the place of a value."""

    samples: dict[str, dict[str, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    remarks: dict[tuple[str, str], str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    ceiling: list[float] = field(default_factory=list)
    rounds: int = 0

    def note(self, figure: str, name: str, value: float) -> None:
        """Add a sample."""
        self.samples[figure][name].append(value)


@dataclass(slots=True)
class _Participant:
    name: str
    port: int
    requests: Mapping[int, bytes]
    process: PeerProcess | None = None


class Measurement:
    """One run over `peers`, whose packages are in folders of their names below `cache`.

    No round begins after `limit` seconds.
    """

    def __init__(self, peers: Sequence[Peer], cache: Path, programs: Path, *, rounds: int, limit: float) -> None:
        self._peers = list(peers)
        self._cache = cache
        self._programs = programs
        self._rounds = rounds
        self._ends = time.monotonic() + limit
        self._participants: list[_Participant] = []
        self.results = Results()

    def run(self) -> Results:
        """Measure everything that the time permits."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            upstream = stack.enter_context(FakeUpstream(self._programs))
            self._measure_cold_starts(folder, upstream)
            self._start_all(stack, folder, upstream)
            self._measure_latency_and_throughput(upstream)
            self._measure_memory()
        for peer in self._peers:
            tree = peer.package_tree(self._cache / peer.name)
            self.results.note("installed", peer.name, size_of(tree) / 1e6)
        return self.results

    def _measure_cold_starts(self, folder: Path, upstream: FakeUpstream) -> None:
        for number in range(_STARTS - 1):  # the last one is that of the gateways that stay
            for peer in list(self._peers):
                with ExitStack() as stack:
                    self._start(peer, self._place(peer, folder / f"{peer.name}-{number}", upstream), stack)

    def _place(self, peer: Peer, files: Path, upstream: FakeUpstream) -> Place:
        files.mkdir()
        return Place(self._cache / peer.name, files, free_port(), upstream.port)

    def _start_all(self, stack: ExitStack, folder: Path, upstream: FakeUpstream) -> None:
        headers = {"Authorization": "Bearer sk-bench-0123"}
        direct = {size: http_request("/v1/chat/completions", chat_body(size), headers) for size in (SMALL, LARGE)}
        self._participants = [_Participant(DIRECT, upstream.port, direct)]
        for peer in list(self._peers):
            place = self._place(peer, folder / peer.name, upstream)
            requests = {size: peer.request(place, size) for size in (SMALL, LARGE)}
            process = self._start(peer, place, stack)
            if process is not None:
                self._participants.append(_Participant(peer.name, process.port, requests, process))
        time.sleep(1)
        self._note_resident("idle")

    def _start(self, peer: Peer, place: Place, stack: ExitStack) -> PeerProcess | None:
        """Start a gateway and note how long it took; None if it cannot be started, and then it is left out."""
        try:
            process = stack.enter_context(PeerProcess(peer.launch(place), place))
            taken = process.wait_until_ready(peer.request(place, SMALL))
        except (NotAvailable, OSError) as error:
            self._peers.remove(peer)
            self.results.left_out[peer.name] = str(error)
            _tell(f"{peer.name} is left out: {error}")
            return None
        self.results.note("cold_start", peer.name, taken)
        self.results.note("start_cpu", peer.name, process.cpu_seconds())
        _tell(f"cold start: {peer.name} {taken:.2f} s")
        return process

    def _note_resident(self, figure: str) -> None:
        for one in self._participants:
            if one.process:
                self.results.note(figure, one.name, one.process.resident() / 1e6)

    def _measure_latency_and_throughput(self, upstream: FakeUpstream) -> None:
        for one in self._participants:
            run_load(self._programs, one.port, one.requests[SMALL], WARM_UP)
        for number in range(self._rounds):
            if time.monotonic() > self._ends:
                break
            for kind, load in KINDS.items():
                _set_delay(upstream, UPSTREAM_DELAY if kind == "sustained" else 0)
                for one in self._participants:
                    self._round(kind, one, load)
            self.results.rounds += 1
            _tell(f"round {number + 1} of {self._rounds}")
        _set_delay(upstream, 0)
        for name, text in not_sustained(self.results.samples["open"], OPEN.rate).items():
            self.results.remarks |= {(figure, name): text for figure in _figures_of("open")}
        self.results.ceiling = self.results.samples["most"].pop(DIRECT, [])
        for loop in ("alone", "open"):
            for quantile in ("p50", "p99"):
                found = added(self.results.samples[f"{quantile}_{loop}"])
                self.results.samples[f"added_{quantile}_{loop}"].update(found)

    def _round(self, kind: str, one: _Participant, load: Load) -> None:
        if any((figure, one.name) in self.results.remarks for figure in _figures_of(kind)):
            return
        before = one.process.cpu_seconds() if one.process else 0.0
        result = run_load(self._programs, one.port, one.requests[SMALL], load)
        spent = (one.process.cpu_seconds() if one.process else 0.0) - before
        if remark := _remark(result):
            self.results.remarks |= {(figure, one.name): remark for figure in _figures_of(kind)}
            return
        figures = {f"p50_{kind}": result.p50, f"p99_{kind}": result.p99, kind: result.per_second}
        if kind == "most" and one.process:
            figures["cpu_us"] = spent / result.requests * 1e6
        for figure, value in figures.items():
            self.results.note(figure, one.name, value)

    def _measure_memory(self) -> None:
        for one in self._participants:
            if one.process:
                seen = [one.process.resident()]
                self._load_large_bodies(one, one.process, seen)
                self.results.note("loaded", one.name, max(seen) / 1e6)
                _tell(f"large bodies: {one.name}")
        time.sleep(SETTLING)
        self._note_resident("after")

    def _load_large_bodies(self, one: _Participant, process: PeerProcess, seen: list[int]) -> None:
        result = run_load(
            self._programs,
            one.port,
            one.requests[LARGE],
            LARGE_BODIES,
            meanwhile=lambda: seen.append(process.resident()),
        )
        if result.failed:
            self.results.remarks["loaded", one.name] = f"{result.failed} of {result.requests} requests failed"


def _remark(result: LoadResult) -> str | None:
    """Return what takes the place of the values of a round that does not count."""
    if result.failed or not result.requests:
        return f"{result.failed} of {result.requests} requests failed"
    return None


def _figures_of(kind: str) -> tuple[str, ...]:
    """Return the rows of the table that come from rounds of one kind."""
    if kind in {"alone", "open"}:
        return (f"added_p50_{kind}", f"added_p99_{kind}")
    return ("most", "p99_most", "cpu_us") if kind == "most" else (kind,)


def _set_delay(upstream: FakeUpstream, milliseconds: int) -> None:
    request = Request(f"http://127.0.0.1:{upstream.port}/control/delay/{milliseconds}", method="POST")
    with urlopen(request, timeout=10) as answer:
        answer.read()


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
