"""`runward runs cancel`: its requests to the operations port, what it prints, and its exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.cli.stub_port import PortRequest, stub_port

if TYPE_CHECKING:
    from tests.cli.conftest import RunCommand


def answer_of(run_id: str, state: str) -> dict[str, object]:
    """Return the document of a run."""
    return {"id": run_id, "status": "running", "cancel": {"state": state, "detail": f"It is\x1b {state}."}}


ANSWERS: dict[str, tuple[int, dict[str, object]]] = {
    "run_a": (200, answer_of("run_a", "cancelled")),
    "run_b": (202, answer_of("run_b", "stopping")),
    "run_c": (202, answer_of("run_c", "too_late")),
    "run_d": (404, {"code": "not_found", "detail": "No run has this id."}),
    "run_e": (409, {"code": "run_ended", "detail": "It has ended."}),
    "run_f": (503, {"code": "store_unavailable", "detail": "Away.", "retryable": True}),
    "run_g": (403, {"code": "forbidden", "detail": "This caller has the role viewer."}),
}


@pytest.fixture
def received() -> list[PortRequest]:
    return []


@pytest.fixture
def url(received: list[PortRequest]) -> Iterator[str]:
    def answer(request: PortRequest) -> tuple[int, bytes]:
        received.append(request)
        status, document = ANSWERS[request.target.split("/")[3]]
        return status, json.dumps(document).encode()

    with stub_port(answer) as serving:
        yield serving


def test_each_run_is_cancelled(runward: RunCommand, url: str, received: list[PortRequest]) -> None:
    result = runward("runs", "cancel", "run_a", "run_b", RUNWARD_OPS_URL=url)
    assert (0, "") == (result.code, result.err)
    assert ["run_a  cancelled: It is? cancelled.", "run_b  stopping: It is? stopping."] == result.out.splitlines()
    assert [("POST", f"/api/runs/{name}/cancel", b"") for name in ("run_a", "run_b")] == [
        (each.method, each.target, each.body) for each in received
    ]


def test_those_that_go_on_or_have_ended_are_named(runward: RunCommand, url: str, received: list[PortRequest]) -> None:
    """The runs after them are cancelled all the same."""
    result = runward("runs", "cancel", "run_d", "run_c", "run_e", "run_a", RUNWARD_OPS_URL=url)
    assert (1, 4, 4) == (result.code, len(received), len(result.out.splitlines()))
    assert "runward: not cancelled: run_d, run_e; may go on: run_c\n" == result.err
    assert "run_e  run_ended: It has ended." == result.out.splitlines()[2]


def test_each_line_is_a_document_of_the_port(runward: RunCommand, url: str) -> None:
    result = runward("runs", "cancel", "run_a", "run_e", "--json", RUNWARD_OPS_URL=url)
    error = {"code": "run_ended", "detail": "It has ended."}
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert (1, [ANSWERS["run_a"][1], {"id": "run_e", "error": error}]) == (result.code, lines)


@pytest.mark.parametrize(("refused", "text"), [("run_f", "may be repeated"), ("run_g", "forbidden")])
def test_a_refusal_ends_the_command(
    runward: RunCommand, url: str, received: list[PortRequest], refused: str, text: str
) -> None:
    """What was done before is printed."""
    result = runward("runs", "cancel", "run_a", refused, "run_b", RUNWARD_OPS_URL=url)
    assert (2, 2, 1, True) == (result.code, len(received), len(result.out.splitlines()), text in result.err)


def test_an_id_is_required(runward: RunCommand) -> None:
    assert 2 == runward("runs", "cancel").code
