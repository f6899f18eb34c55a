"""`runward callbacks replay`: what is asked of the operations port, and what is said of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.faults.upstream import closed_port

if TYPE_CHECKING:
    from tests.cli.conftest import Runward, Said

PAGE = 3


class OpsPort:
    """A gateway's operations port; `given_up` are listed, and those in `known` are made due."""

    def __init__(self) -> None:
        self.given_up: list[str] = []
        self.known: set[str] = set()
        self.replayed: list[str] = []
        self.asked: list[str] = []
        self.instead: tuple[int, bytes] | None = None

    def answer(self, method: str, target: str) -> tuple[int, bytes]:
        self.asked.append(f"{method} {target}")
        if self.instead is not None:
            return self.instead
        if method == "GET":
            after = parse_qs(urlsplit(target).query, keep_blank_values=True)["after"][0]
            runs = [run_id for run_id in self.given_up if run_id > after][:PAGE]
            return 200, json.dumps({"runs": runs, "next": runs[-1] if len(runs) == PAGE else None}).encode()
        run_id = target.rpartition("/")[2]
        if run_id not in self.known:
            return 404, b'{"code": "not_found", "detail": "No."}'
        self.replayed.append(run_id)
        return 202, json.dumps({"id": run_id, "callback": {"state": "pending"}}).encode()


@pytest.fixture
def port() -> OpsPort:
    return OpsPort()


@pytest.fixture
def url(port: OpsPort) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            status, content = port.answer(self.command, self.path)
            if self.command == "POST" and self.headers["Content-Type"] != "application/json":
                status, content = 415, b'{"code": "unsupported_media_type", "detail": "JSON."}'
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def replay(runward: Runward, url: str, *words: str) -> Said:
    return runward("callbacks", "replay", *words, RUNWARD_OPS_URL=url)


def test_each_run_that_is_named_is_due_again(runward: Runward, port: OpsPort, url: str) -> None:
    port.known = {"run_a", "run_b"}
    said = replay(runward, url, "run_a", "run_b")
    assert (0, "run_a\nrun_b\n", "due now: 2\n") == (said.code, said.out, said.err)
    assert ["run_a", "run_b"] == port.replayed


def test_a_run_without_a_callback_is_named_and_stops_no_other(runward: Runward, port: OpsPort, url: str) -> None:
    port.known = {"run_b"}
    said = replay(runward, url, "run_\x1b[2J", "run_b")
    assert (1, "run_b\n") == (said.code, said.out)
    assert "no callback to deliver: run_?[2J (" in said.err


def test_all_that_were_given_up_are_due_again_page_by_page(runward: Runward, port: OpsPort, url: str) -> None:
    port.given_up = [f"run_{n}" for n in range(7)]
    port.known = set(port.given_up)
    said = replay(runward, url, "--given-up")
    assert (0, port.given_up, 3) == (said.code, port.replayed, sum(asked.startswith("GET") for asked in port.asked))


def test_no_more_than_asked_for_and_it_is_said_that_there_are_more(runward: Runward, port: OpsPort, url: str) -> None:
    port.given_up = [f"run_{n}" for n in range(7)]
    port.known = set(port.given_up)
    said = replay(runward, url, "--given-up", "--limit", "4")
    assert (0, port.given_up[:4]) == (said.code, port.replayed)
    assert "there are more" in said.err


def test_ids_obey_no_terminal(runward: Runward, port: OpsPort, url: str) -> None:
    """What answers there may be anybody."""
    port.given_up, port.known = ["run_\x1b[2J"], {"run_%1B%5B2J"}
    assert "run_?[2J\n" == replay(runward, url, "--given-up").out


@pytest.mark.parametrize("words", [(), ("run_a", "--given-up")])
def test_it_wants_either_runs_or_all_of_them(runward: Runward, port: OpsPort, url: str, words: tuple[str, ...]) -> None:
    said = replay(runward, url, *words)
    assert (2, []) == (said.code, port.asked)
    assert "--given-up" in said.err


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ((404, b'{"code": "unknown_route", "detail": "No."}'), "is --ops-url right?"),
        ((405, b'{"code": "method_not_allowed", "detail": "No."}'), "is --ops-url right?"),
        ((200, b"<html>"), "is --ops-url right?"),
        (
            (503, b'{"code": "store_unavailable", "detail": "The store\\u001b can not."}'),
            "store_unavailable: The store?",
        ),
    ],
)
def test_what_else_is_answered_is_one_line_and_exit_code_2(
    runward: Runward, port: OpsPort, url: str, answer: tuple[int, bytes], complaint: str
) -> None:
    port.instead = answer
    said = replay(runward, url, "run_a")
    assert (2, "") == (said.code, said.out)
    [line] = said.err.splitlines()
    assert complaint in line


def test_a_gateway_that_is_not_there_is_named(runward: Runward) -> None:
    with closed_port() as url:
        said = replay(runward, url, "run_a")
    assert 2 == said.code
    assert f"{url} can not be asked" in said.err


def test_a_name_stays_one_segment(runward: Runward, port: OpsPort, url: str) -> None:
    replay(runward, url, "../../metrics")
    assert ["POST /callbacks/replay/..%2F..%2Fmetrics"] == port.asked
