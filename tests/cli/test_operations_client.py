"""The client of the operations port: targets, errors, exit codes, bounds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from gateway.cli.errors import CliError
from gateway.cli.operations import client as client_module
from gateway.cli.operations.client import OpsClient, OpsProblem, encode_query
from gateway.problems import FieldError, Problem
from tests.cli.stub_port import PortRequest, stub_port

if TYPE_CHECKING:
    from tests.cli.conftest import RunCommand


def answer_with(status: int, content: bytes) -> tuple[CliError, list[PortRequest]]:
    """Return the error of a request that gets this answer."""
    received: list[PortRequest] = []

    def answer(request: PortRequest) -> tuple[int, bytes]:
        received.append(request)
        return status, content

    with stub_port(answer) as url, pytest.raises(CliError) as failed:
        OpsClient(url, "").get("runs")
    return failed.value, received


def test_segments_and_parameters_stay_what_they_are() -> None:
    """Whatever characters they have."""
    received: list[PortRequest] = []

    def answer(request: PortRequest) -> tuple[int, bytes]:
        received.append(request)
        return 201, b'{"a": 1}'

    with stub_port(answer) as url:
        client = OpsClient(url + "/behind/", "key")
        assert {"a": 1} == client.get("runs", "a/b?c#d é", query={"tag": ["x y", "a&b"], "limit": 5, "none": None})
        assert {"a": 1} == client.post("runs", body={"b": [None]}, query={"q": "ü=+"})
    get, post = received
    assert "/behind/runs/a%2Fb%3Fc%23d%20%C3%A9?tag=x%20y&tag=a%26b&limit=5" == get.target
    assert ("/behind/runs?q=%C3%BC%3D%2B", {"b": [None]}) == (post.target, json.loads(post.body))
    assert {"Bearer key"} == {request.authorization for request in received}
    assert b"" == get.body


def test_no_parameters_are_no_query() -> None:
    assert "" == encode_query({"a": None, "b": ()})


def test_numbers_and_truth_are_written_as_json_has_them() -> None:
    assert "a=0&b=1.5&c=true&d=false" == encode_query({"a": 0, "b": 1.5, "c": True, "d": False})


@pytest.mark.parametrize(
    ("problem", "text", "exit_code"),
    [
        (Problem("not_found", "No such run."), "not_found: No such run.", 1),
        (Problem("run_ended"), "run_ended: The run has ended.", 1),
        (
            Problem("invalid_request", "1 error.", errors=(FieldError("?limit", "too\nlarge\x1b"),)),
            "invalid_request: 1 error; ?limit: too large?",
            2,
        ),
        (
            Problem("invalid_request", "1 error.", errors=(FieldError("", "should be an object"),)),
            "invalid_request: 1 error; the whole body: should be an object",
            2,
        ),
        (
            Problem("unauthorized"),
            "unauthorized: A valid gateway key is required; set RUNWARD_OPS_KEY, or name a file with --ops-key-file",
            2,
        ),
        (
            Problem("store_unavailable"),
            "store_unavailable: The store is unavailable; the command may be repeated",
            2,
        ),
        (
            Problem("forbidden", "Cross-origin requests are not allowed."),
            "forbidden: Cross-origin requests are not allowed.",
            2,
        ),
        (Problem("internal"), "internal: Internal server error.", 2),
        (
            Problem("unknown_route"),
            "unknown_route: check --ops-url, and whether the gateway is older than this command",
            2,
        ),
    ],
)
def test_a_problem_is_one_line_with_its_code_and_detail(problem: Problem, text: str, exit_code: int) -> None:
    """Exit code 1 for what the command names, 2 for anything else."""
    error, _ = answer_with(problem.status, problem.document("req_1"))
    assert (text, exit_code) == (error.format_message(), error.exit_code)
    if isinstance(error, OpsProblem):
        assert (problem.status, problem.code, problem.text) == (error.status, error.code, error.detail)


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (200, b"<html>"),
        (200, b"[]"),
        (302, b'{"code": "not_found"}'),
        (404, b"[]"),
        (404, b"{}"),
        (404, b'{"code": ["not_found"]}'),
        (502, b""),
    ],
)
def test_the_answer_of_another_server_is_named_as_such(status: int, content: bytes) -> None:
    error, received = answer_with(status, content)
    assert (2, 1) == (error.exit_code, len(received))
    assert f"status {status}, not a response of the operations port: check --ops-url" == error.format_message()


def test_a_response_without_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_MAX_RESPONSE", 100)
    error, _ = answer_with(200, b'{"a": "' + 100 * b"x" + b'"}')
    assert (2, True) == (error.exit_code, "has more than 100 bytes" in error.format_message())


def test_an_empty_key_file_is_named_by_its_option(runward: RunCommand) -> None:
    result = runward("providers", "list", "--ops-key-file", "/dev/null")
    assert (2, "") == (result.code, result.out)
    assert "runward: no key: set RUNWARD_OPS_KEY, or name a file with --ops-key-file\n" == result.err
