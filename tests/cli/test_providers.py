"""`runward providers`: requests to the operations port, tables, and messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.cli.stub_port import PortRequest, stub_port
from tests.support.fake_upstream.upstream import closed_port

if TYPE_CHECKING:
    from tests.cli.conftest import RunCommand

STUDIO = {
    "provider": "prompt_studio",
    "mode": "suspended",
    "note": "garbage \x1b[2J",
    "since": "2026-11-21T12:00:00.000Z",
    "circuits": {"triage": "open", "other": "closed"},
}
LAYER: dict[str, object] = {"provider": "promptlayer", "mode": "auto", "note": "", "since": None, "circuits": {}}


class StubProviders:
    """Stub of an operations port with two providers."""

    def __init__(self) -> None:
        self.received: list[tuple[str, str, object]] = []

    def answer(self, method: str, target: str, body: bytes) -> tuple[int, object]:
        self.received.append((method, target, json.loads(body) if body else None))
        if method == "GET":
            return 200, {"providers": [STUDIO, LAYER]}
        if target != "/providers/override/prompt_studio":
            return 404, {"code": "provider_not_found", "detail": "No."}
        if len(self.received[-1][2]["note"]) > 200:  # type: ignore[index]
            return 422, {"code": "invalid_request", "detail": "The request body is invalid: 1 error."}
        return 200, STUDIO


@pytest.fixture
def port() -> StubProviders:
    return StubProviders()


@pytest.fixture
def url(port: StubProviders) -> Iterator[str]:
    def answer(request: PortRequest) -> tuple[int, bytes]:
        status, document = port.answer(request.method, request.target, request.body)
        return status, json.dumps(document).encode()

    with stub_port(answer) as serving:
        yield serving


def test_the_list_is_a_table_without_control_characters(runward: RunCommand, url: str) -> None:
    result = runward("providers", "list", RUNWARD_OPS_URL=url)
    assert (0, "") == (result.code, result.err)
    assert [
        ["PROVIDER", "MODE", "SINCE", "CIRCUITS", "NOT", "CLOSED", "NOTE"],
        ["prompt_studio", "suspended", "2026-11-21T12:00:00.000Z", "triage", "open", "garbage", "?[2J"],
        ["promptlayer", "auto", "-", "-", "-"],
    ] == [line.split() for line in result.out.splitlines()]


def test_as_json_each_provider_is_one_line(runward: RunCommand, url: str) -> None:
    """As the gateway sent it, in ASCII; so is the provider that a command changed."""
    result = runward("providers", "list", "--json", RUNWARD_OPS_URL=url)
    assert (0, "") == (result.code, result.err)
    assert [STUDIO, LAYER] == [json.loads(line) for line in result.out.splitlines()]
    assert "\x1b" not in result.out
    changed = runward("providers", "auto", "prompt_studio", "--json", RUNWARD_OPS_URL=url)
    assert STUDIO == json.loads(changed.out)


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        (("suspend", "prompt_studio", "--note", "garbage"), {"mode": "suspended", "note": "garbage"}),
        (("open", "prompt_studio", "--note", "garbage"), {"mode": "open", "note": "garbage"}),
        (("close", "prompt_studio"), {"mode": "closed", "note": ""}),
        (("auto", "prompt_studio"), {"mode": "auto", "note": ""}),
    ],
)
def test_each_command_sets_its_mode(
    runward: RunCommand, port: StubProviders, url: str, words: tuple[str, ...], sent: dict[str, str]
) -> None:
    result = runward("providers", *words, RUNWARD_OPS_URL=url)
    assert 0 == result.code
    assert [("POST", "/providers/override/prompt_studio", sent)] == port.received
    assert "prompt_studio" in result.out


def test_an_unknown_provider_is_exit_code_1(runward: RunCommand, port: StubProviders, url: str) -> None:
    """Its name stays one segment of the path."""
    result = runward("providers", "suspend", "../x\x1b", RUNWARD_OPS_URL=url)
    assert (1, "", "runward: no provider is called ../x?\n") == (result.code, result.out, result.err)
    assert ["/providers/override/..%2Fx%1B"] == [target for _, target, _ in port.received]


def test_a_refusal_is_exit_code_2(runward: RunCommand, url: str) -> None:
    result = runward("providers", "suspend", "prompt_studio", "--note", "x" * 201, RUNWARD_OPS_URL=url)
    assert (2, "") == (result.code, result.out)
    assert "invalid_request" in result.err


def test_an_unreachable_gateway_and_a_key_in_the_arguments_are_exit_code_2(runward: RunCommand) -> None:
    with closed_port() as url:
        for words in (("list",), ("suspend", "prompt_studio")):
            result = runward("providers", *words, RUNWARD_OPS_URL=url)
            assert 2 == result.code
            assert "cannot be reached" in result.err
            secret = runward("providers", *words, "--ops-key", "rw_secret-key", RUNWARD_OPS_URL=url)
            assert (2, False) == (secret.code, "rw_secret-key" in secret.err)
