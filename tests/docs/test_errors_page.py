"""docs/errors.md equals the generated table of problems, and its outcomes agree with the retry table."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.api.docs.error_reference import ERROR_INFO, error_page
from gateway.problems import PROBLEMS
from gateway.runs.resilience.retry import RETRY_RULES
from providers.contract import Cause

PAGE = Path(__file__).parent.parent.parent / "docs" / "errors.md"


def test_the_page_is_as_generated() -> None:
    """`make errors` regenerates it."""
    assert error_page() == PAGE.read_text()


def test_every_error_code_is_documented() -> None:
    assert list(PROBLEMS) == list(ERROR_INFO)


@pytest.mark.parametrize("cause", RETRY_RULES)
def test_the_outcomes_of_a_providers_fault_are_documented(cause: Cause) -> None:
    rule = RETRY_RULES[cause]
    assert rule.ending in ERROR_INFO[rule.code].outcomes


def test_no_cell_breaks_the_table() -> None:
    rows = [line for line in error_page().splitlines() if line.startswith("| `")]
    assert {8} == {row.count("|") for row in rows}
    assert len(PROBLEMS) == len(rows)
