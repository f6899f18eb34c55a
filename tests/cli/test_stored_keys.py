"""`runward keys` at a running gateway: requests to the operations port, and where the text of a key is printed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from gateway.auth.keys import new_key
from gateway.clock import SystemClock
from tests.cli.stub_port import PortRequest, stub_port

if TYPE_CHECKING:
    from tests.cli.conftest import RunCommand

TEXT = new_key(SystemClock())
KEY: dict[str, Any] = {
    "id": "key_1",
    "client": "shop",
    "name": "app\x1b[2J",
    "state": "active",
    "supported": True,
    "workflows": ["support-*"],
    "limits": {"rate": "5/s", "burst": None, "concurrency": None, "daily": None},
    "expires": None,
    "created": "2026-11-21T12:00:00.000Z",
    "created_by": "ann",
    "rotated": None,
    "previous_until": "2026-11-22T12:00:00.000Z",
    "revoked": None,
    "last_used": "2026-11-21T12:01:00.000Z",
}


class StubKeys:
    """Stub of an operations port with 150 keys."""

    def __init__(self) -> None:
        self.received: list[tuple[str, str, Any]] = []
        self.accepts = True

    def answer(self, method: str, target: str, body: bytes) -> tuple[int, object]:
        self.received.append((method, target, json.loads(body) if body else None))
        if method == "GET":
            first = "before" not in target
            count = 100 if first else 50
            return 200, {"keys": [KEY] * count, "next": "7" if first else None}
        if "key_9" in target:
            return 404, {"code": "key_not_found", "detail": "No."}
        if target.endswith("check"):
            why = None if self.accepts else "revoked"
            return 200, {"accepted": self.accepts, "why": why, "source": "store", "client": "shop", "stored": KEY}
        return 200, {**KEY, "key": TEXT} if target.endswith(("keys", "rotate")) else KEY


@pytest.fixture
def port() -> StubKeys:
    return StubKeys()


@pytest.fixture
def url(port: StubKeys) -> Iterator[str]:
    def answer(request: PortRequest) -> tuple[int, bytes]:
        status, document = port.answer(request.method, request.target, request.body)
        return status, json.dumps(document).encode()

    with stub_port(answer) as serving:
        yield serving


def test_a_new_key_goes_to_standard_output_alone(runward: RunCommand, port: StubKeys, url: str) -> None:
    words = ("--client", "shop", "--name", "app", "--workflow", "a", "--workflow", "b-*", "--expires", "2027-01-31")
    result = runward("keys", "new", *words, "--rate", "5/s", "--daily", "9", RUNWARD_OPS_URL=url)
    assert (0, f"{TEXT}\n") == (result.code, result.out)
    assert "key_1" in result.err
    assert "\x1b" not in result.err
    assert TEXT not in result.err
    body = {
        "client": "shop",
        "name": "app",
        "workflows": ["a", "b-*"],
        "expires": "2027-01-31",
        "limits": {"rate": "5/s", "daily": 9},
    }
    assert [("POST", "/api/keys", body)] == port.received


def test_without_a_name_no_gateway_is_asked(runward: RunCommand, port: StubKeys, url: str) -> None:
    """As ever, also where RUNWARD_OPS_URL is set; what only a stored key has is refused."""
    assert 0 == runward("keys", "new", "--client", "shop", RUNWARD_OPS_URL=url).code
    for words in (("--workflow", "a"), ("--rate", "5/s"), ("--daily", "9"), ("--json",)):
        result = runward("keys", "new", *words, RUNWARD_OPS_URL=url)
        assert (2, "", True) == (result.code, result.out, "needs --name" in result.err)
    assert [] == port.received


@pytest.mark.parametrize(
    ("words", "body"),
    [
        (("rotate", "key_1"), {"grace": "24h"}),
        (("rotate", "key_1", "--grace", "0"), {"grace": "0"}),
        (("rotate", "key_1", "--keep", "previous"), {"grace": "24h", "keep": "previous"}),
        (("revoke", "key_1"), None),
        (("expire", "key_1", "2027-01-31"), {"at": "2027-01-31"}),
        (("expire", "key_1", "never"), {"at": None}),
    ],
)
def test_each_command_sends_its_request(
    runward: RunCommand, port: StubKeys, url: str, words: tuple[str, ...], body: object
) -> None:
    result = runward("keys", *words, RUNWARD_OPS_URL=url)
    assert (0, [("POST", f"/api/keys/key_1/{words[0]}", body)]) == (result.code, port.received)
    if words[0] == "rotate":
        assert f"{TEXT}\n" == result.out
        assert "2026-11-22T12:00:00.000Z" in result.err
    else:
        assert TEXT not in result.out
        assert "key_1" in result.out
    unknown = runward("keys", words[0], "key_9", *words[2:], RUNWARD_OPS_URL=url)
    assert (1, "") == (unknown.code, unknown.out)
    assert "key_not_found" in unknown.err


def test_the_list_is_read_page_by_page(runward: RunCommand, port: StubKeys, url: str) -> None:
    result = runward("keys", "list", "--client", "shop", "--limit", "120", RUNWARD_OPS_URL=url)
    lines = result.out.splitlines()
    assert (0, 121, True) == (result.code, len(lines), "there are more" in result.err)
    assert ["key_1", "shop", "app?[2J", "active", "support-*", "-", "2026-11-21T12:01:00.000Z", "ann"] == (
        lines[1].split()
    )
    assert ["/api/keys?client=shop&limit=100", "/api/keys?client=shop&limit=100&before=7"] == [
        target for _, target, _ in port.received
    ]
    as_json = runward("keys", "list", "--json", "--limit", "2", RUNWARD_OPS_URL=url)
    assert [KEY] * 2 == [json.loads(line) for line in as_json.out.splitlines()]


def test_a_key_is_tried_from_standard_input(runward: RunCommand, port: StubKeys, url: str) -> None:
    accepted = runward("keys", "check", stdin=TEXT + "\n", RUNWARD_OPS_URL=url)
    assert (0, [("POST", "/api/keys/check", {"key": TEXT})]) == (accepted.code, port.received)
    assert "client shop, from the store" in accepted.err
    port.accepts = False
    refused = runward("keys", "check", stdin=TEXT, RUNWARD_OPS_URL=url)
    assert (1, True) == (refused.code, "refused: revoked" in refused.err)
    for result in (accepted, refused):
        assert TEXT not in result.out + result.err
    assert 2 == runward("keys", "check", stdin="", RUNWARD_OPS_URL=url).code
