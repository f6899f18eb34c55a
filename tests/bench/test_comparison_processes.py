"""The C programs of the comparison, and the processes of a participant."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from bench.compare.native_programs import FakeUpstream, Load, compile_programs, run_load
from bench.compare.peer import Launch, NotAvailable, Place, chat_body, http_request, run_body
from bench.compare.peer_process import PeerProcess
from bench.compare.proxies import BareRelay
from bench.processes import free_port

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler"),
]
CHAT = http_request("/v1/chat/completions", chat_body(200), {})


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    compile_programs(folder)
    return folder


@pytest.fixture(scope="module")
def upstream(programs: Path) -> Iterator[FakeUpstream]:
    with FakeUpstream(programs, small=400, large=20_000) as upstream:
        yield upstream


def ask(upstream: FakeUpstream, path: str, body: bytes = b"{}") -> bytes:
    with urlopen(Request(f"http://127.0.0.1:{upstream.port}{path}", body, method="POST"), timeout=10) as answer:
        read: bytes = answer.read()
    return read


def test_answers_of_both_kinds_have_the_size_of_the_request(upstream: FakeUpstream) -> None:
    for path, start in (("/v1/chat/completions", b'{"id":"chatcmpl-1"'), ("/v1/workflows/dep/run", b'{"result":')):
        for size, expected in ((200, 400), (20_000, 20_000)):
            answer = ask(upstream, path, chat_body(size))
            assert answer.startswith(start)
            assert expected == len(answer)


def test_a_closed_loop_waits_for_each_response(programs: Path, upstream: FakeUpstream) -> None:
    """With a delay of 50 ms no more than 4 x 20 requests can be answered in a second."""
    ask(upstream, "/control/delay/50")
    try:
        found = run_load(programs, upstream.port, CHAT, Load(connections=4, seconds=1))
    finally:
        ask(upstream, "/control/delay/0")
    assert 0 == found.failed
    assert 4 <= found.requests <= 84
    assert found.p50 >= 50


def test_an_open_loop_sends_the_requests_that_are_due(programs: Path, upstream: FakeUpstream) -> None:
    found = run_load(programs, upstream.port, CHAT, Load(connections=8, seconds=1, rate=100))
    assert (100, 0) == (found.requests, found.failed)


def test_a_time_counts_from_when_the_request_was_due(programs: Path, upstream: FakeUpstream) -> None:
    """One connection serves 20 requests/s, so that at 40/s the later ones wait for the earlier ones."""
    ask(upstream, "/control/delay/50")
    try:
        found = run_load(programs, upstream.port, CHAT, Load(connections=1, seconds=1, rate=40))
    finally:
        ask(upstream, "/control/delay/0")
    assert 40 == found.requests
    assert found.p99 >= 40 * 50 - 1000


def test_large_bodies_arrive_whole(programs: Path, upstream: FakeUpstream) -> None:
    request = http_request("/run", run_body(20_000), {})
    found = run_load(programs, upstream.port, request, Load(connections=4, seconds=0.2))
    assert 0 == found.failed
    assert found.requests >= 4


def test_a_participant_is_measured_and_ended(programs: Path, upstream: FakeUpstream, tmp_path: Path) -> None:
    peer = BareRelay()
    place = Place(tmp_path, tmp_path, free_port(), upstream.port)
    request = peer.request(place, 200)
    with PeerProcess(peer.launch(place), place) as process:
        assert process.wait_until_ready(request) > 0
        before = process.cpu_seconds()
        found = run_load(programs, process.port, request, Load(connections=4, seconds=0.5))
        assert 0 == found.failed
        assert process.cpu_seconds() > before > 0
        assert process.resident() > 1_000_000
    with pytest.raises(OSError, match="refused"):
        ask(process, "/run")  # type: ignore[arg-type]


def test_children_are_counted_and_ended(tmp_path: Path) -> None:
    """A child that ignores SIGTERM would outlive its parent."""
    ignore = "import signal as s, time; s.signal(s.SIGTERM, s.SIG_IGN)"
    child = f"{ignore}; taken = bytearray(80_000_000); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    place = Place(tmp_path, tmp_path, free_port(), 0)
    with PeerProcess(Launch([sys.executable, "-c", parent]), place) as process:
        while process.resident() < 80_000_000:
            assert process._process.poll() is None
    assert process._drain.returncode is not None  # its pipe has no writer left


def test_a_participant_that_ends_is_left_out_with_its_message(tmp_path: Path) -> None:
    launch = Launch([sys.executable, "-c", "import sys; sys.exit('no such setting')"])
    place = Place(tmp_path, tmp_path, free_port(), 0)
    with PeerProcess(launch, place) as process, pytest.raises(NotAvailable, match="ended with 1: no such setting"):
        process.wait_until_ready(CHAT)


def test_a_participant_in_python_may_keep_bytecode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a start would compile every changed module, which an installed package does not."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    launch = Launch([sys.executable, "-c", "import sys; sys.exit(f'{sys.dont_write_bytecode=}')"])
    place = Place(tmp_path, tmp_path, free_port(), 0)
    with PeerProcess(launch, place) as process, pytest.raises(NotAvailable, match="dont_write_bytecode=False"):
        process.wait_until_ready(CHAT)
