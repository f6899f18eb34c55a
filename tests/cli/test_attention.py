"""`runward attention`: a table, JSON lines, and the empty list."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.stub_port import PortRequest, stub_port

if TYPE_CHECKING:
    from tests.cli.conftest import RunCommand

ITEM = {
    "id": "att_1",
    "kind": "provider_overridden",
    "severity": "warning",
    "since": "2026-11-21T12:00:00.000Z",
    "subject": "studio",
    "summary": "set to suspended: \x1b[2J",
    "runbook": "docs/alerts.md",
    "action": "runward providers auto studio",
    "count": None,
}


@pytest.mark.parametrize(
    ("options", "items", "out", "err"),
    [
        ((), [], "", "nothing needs attention\n"),
        (("--json",), [], "", ""),
        (("--json",), [ITEM], json.dumps(ITEM) + "\n", ""),
    ],
)
def test_the_list(
    runward: RunCommand, options: tuple[str, ...], items: list[dict[str, Any]], out: str, err: str
) -> None:
    def answer(request: PortRequest) -> tuple[int, bytes]:
        assert ("GET", "/api/attention") == (request.method, request.target)
        return 200, json.dumps({"items": items, "checked_at": "2026-11-21T12:00:00.000Z"}).encode()

    with stub_port(answer) as url:
        result = runward("attention", *options, RUNWARD_OPS_URL=url)
    assert (0, out, err) == (result.code, result.out, result.err)


def test_the_table_has_no_control_characters(runward: RunCommand) -> None:
    with stub_port(lambda _: (200, json.dumps({"items": [ITEM]}).encode())) as url:
        result = runward("attention", RUNWARD_OPS_URL=url)
    assert ["SEVERITY", "SINCE", "SUMMARY", "ACTION"] == result.out.splitlines()[0].split()
    assert (
        "warning   2026-11-21T12:00:00.000Z  set to suspended: ?[2J  runward providers auto studio"
        == (result.out.splitlines()[1])
    )


def test_a_refusal_is_one_line(runward: RunCommand) -> None:
    with stub_port(lambda _: (401, b'{"code":"unauthorized","detail":"No."}')) as url:
        result = runward("attention", RUNWARD_OPS_URL=url)
    assert (2, "", True) == (result.code, result.out, "RUNWARD_OPS_KEY" in result.err)
