"""`runward logs level`: requests to the operations port, output, and messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.cli.stub_port import PortRequest, stub_port

if TYPE_CHECKING:
    from tests.cli.conftest import RunCommand

SHOWN = {"level": "debug", "configured": "info", "overridden": True, "until": "2026-11-21T12:10:00.000Z"}
Received = list[tuple[str, str, object]]


@pytest.fixture
def received() -> Received:
    return []


@pytest.fixture
def url(received: Received) -> Iterator[str]:
    def answer(request: PortRequest) -> tuple[int, bytes]:
        received.append((request.method, request.target, json.loads(request.body) if request.body else None))
        return 200, json.dumps(SHOWN).encode()

    with stub_port(answer) as serving:
        yield serving


def test_without_a_level_it_is_shown(runward: RunCommand, received: Received, url: str) -> None:
    result = runward("logs", "level", RUNWARD_OPS_URL=url)
    assert (0, "") == (result.code, result.err)
    rows = [line.split() for line in result.out.splitlines()]
    assert [["LEVEL", "UNTIL", "CONFIGURED"], ["debug", "2026-11-21T12:10:00.000Z", "info"]] == rows
    assert [("GET", "/logs/level", None)] == received


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        (("debug", "--for", "10m"), {"level": "debug", "for": 600}),
        (("error", "--for", "90"), {"level": "error", "for": 90}),
        (("warning",), {"level": "warning"}),
        (("configured",), {"level": "configured"}),
    ],
)
def test_a_level_is_set(
    runward: RunCommand, received: Received, url: str, words: tuple[str, ...], sent: dict[str, object]
) -> None:
    result = runward("logs", "level", *words, "--json", RUNWARD_OPS_URL=url)
    assert (0, SHOWN) == (result.code, json.loads(result.out))
    assert [("PUT", "/logs/level", sent)] == received


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("debug", "--for", "soon"), "--for must be a duration such as 500ms, 10s, 2m, 1h or 7d"),
        (("--for", "10m"), "--for needs a level"),
        (("loud",), "'loud' is not one of"),
    ],
)
def test_what_makes_no_sense_is_not_sent(
    runward: RunCommand, received: Received, url: str, words: tuple[str, ...], message: str
) -> None:
    result = runward("logs", "level", *words, RUNWARD_OPS_URL=url)
    assert 2 == result.code
    assert message in result.err
    assert [] == received
