"""`runward budgets`: a table, JSON lines, and the empty list."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.stub_port import PortRequest, stub_port

if TYPE_CHECKING:
    from tests.cli.conftest import RunCommand

BUDGET = {
    "budget": "client:shop",
    "window": "2026-11\x1b[2J",
    "amount": "100",
    "spent": "96.5",
    "unknown": "0.04",
    "reserved": "0",
    "remaining": "3.46",
    "hard": True,
}
TABLE = """\
BUDGET       WINDOW       AMOUNT  SPENT  UNKNOWN  RESERVED  REMAINING
client:shop  2026-11?[2J  100     96.5   0.04     0         3.46
"""


@pytest.mark.parametrize(
    ("options", "budgets", "out", "err"),
    [
        ((), [BUDGET], TABLE, ""),
        ((), [], "", "no budget is configured\n"),
        (("--json",), [], "", ""),
        (("--json",), [BUDGET], json.dumps(BUDGET) + "\n", ""),
    ],
)
def test_the_list(
    runward: RunCommand, options: tuple[str, ...], budgets: list[dict[str, Any]], out: str, err: str
) -> None:
    def answer(request: PortRequest) -> tuple[int, bytes]:
        assert ("GET", "/api/budgets") == (request.method, request.target)
        return 200, json.dumps({"budgets": budgets, "read_at": "2026-11-21T12:00:00.000Z"}).encode()

    with stub_port(answer) as url:
        result = runward("budgets", *options, RUNWARD_OPS_URL=url)
    assert (0, out, err) == (result.code, result.out, result.err)
