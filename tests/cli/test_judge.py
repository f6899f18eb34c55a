"""`runward runs judge`: its request to the operations port, and what it prints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.cli.stub_port import PortRequest, stub_port

if TYPE_CHECKING:
    from tests.cli.conftest import RunCommand

JUDGED = {
    "id": "run_a",
    "judgement": {"verdict": "found_paid", "note": "invoice\x1b 4711", "at": "2026-11-21T12:00:00.000Z"},
}
REFUSALS = {
    "/api/runs/run_b/judge": (404, {"code": "not_found", "detail": "No run has this id."}),
    "/api/runs/run_c/judge": (409, {"code": "run_not_unknown", "detail": "It succeeded."}),
    "/api/runs/run_d/judge": (503, {"code": "store_unavailable", "detail": "Away.", "retryable": True}),
}


@pytest.fixture
def received() -> list[tuple[str, str, object]]:
    return []


@pytest.fixture
def url(received: list[tuple[str, str, object]]) -> Iterator[str]:
    def answer(request: PortRequest) -> tuple[int, bytes]:
        received.append((request.method, request.target, json.loads(request.body)))
        status, document = REFUSALS.get(request.target, (200, JUDGED))
        return status, json.dumps(document).encode()

    with stub_port(answer) as serving:
        yield serving


def test_a_judgement_is_sent_and_printed(
    runward: RunCommand, url: str, received: list[tuple[str, str, object]]
) -> None:
    result = runward("runs", "judge", "run_a", "--paid", "--note", "invoice", RUNWARD_OPS_URL=url)
    assert (0, "") == (result.code, result.err)
    assert [("POST", "/api/runs/run_a/judge", {"verdict": "found_paid", "note": "invoice"})] == received
    assert ["run_a", "found_paid", "2026-11-21T12:00:00.000Z", "invoice?", "4711"] == result.out.splitlines()[1].split()
    printed = runward("runs", "judge", "run_a", "--not-run", "--json", RUNWARD_OPS_URL=url)
    assert ("found_not_run", JUDGED) == (received[1][2]["verdict"], json.loads(printed.out))  # type: ignore[index]


@pytest.mark.parametrize(
    ("run_id", "code", "text"),
    [("run_b", 1, "not_found"), ("run_c", 1, "run_not_unknown"), ("run_d", 2, "may be repeated")],
)
def test_a_refusal_is_one_line(runward: RunCommand, url: str, run_id: str, code: int, text: str) -> None:
    result = runward("runs", "judge", run_id, "--paid", RUNWARD_OPS_URL=url)
    assert (code, "", 1, True) == (result.code, result.out, result.err.count("\n"), text in result.err)


@pytest.mark.parametrize("options", [(), ("--paid", "--not-run")])
def test_the_verdict_is_one_of_two(runward: RunCommand, url: str, options: tuple[str, ...]) -> None:
    result = runward("runs", "judge", "run_a", *options, RUNWARD_OPS_URL=url)
    assert (2, True) == (result.code, "--paid or --not-run" in result.err)
