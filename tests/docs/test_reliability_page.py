"""docs/reliability.md agrees with the code and the tests."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from gateway.problems import PROBLEMS
from gateway.runs.resilience.retry import RETRY_RULES, Repeat
from gateway.settings.providers_workflows_clients import ProviderLimitSettings, ProviderSettings, WorkflowSettings
from gateway.settings.sections import BreakerSettings, PollingSettings, RetrySettings, Section, ServerSettings
from gateway.settings.types.units import parse_duration, parse_size

TESTS = Path(__file__).parent.parent
PAGE = (TESTS.parent / "docs" / "reliability.md").read_text()
NUMBERS = range(1, 105)
NAMED = re.compile(r"\bR(\d{2,3})(?:(?: to |\.\.)R?(\d{2,3}))?\b")
REPEAT_WORDS = {Repeat.NEVER: "never", Repeat.ONCE: "once", Repeat.RETRY: "again", Repeat.SLOWLY: "slowly"}
SECTIONS: dict[str, type[Section]] = {
    "retries": RetrySettings,
    "breaker": BreakerSettings,
    "polling": PollingSettings,
    "server": ServerSettings,
    "providers.*": ProviderSettings,
    "providers.*.limits": ProviderLimitSettings,
    "workflows.*": WorkflowSettings,
}


def rows(first: str) -> list[list[str]]:
    """Return the cells of every row whose first cell matches the pattern."""
    found = re.findall(rf"^\| ({first}) \|(.*)\|$", PAGE, re.MULTILINE)
    return [[name, *(cell.strip() for cell in rest.split("|"))] for name, rest in found]


@cache
def docstrings_of_tests(path: Path) -> dict[str, str]:
    """Return the tests of a file with their docstrings."""
    tree = ast.parse(path.read_text())
    found = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {node.name: ast.get_docstring(node) or "" for node in found if node.name.startswith("test")}


def requirement_numbers(docstring: str) -> Iterator[int]:
    """Return the requirements that a docstring names: R01, R02 to R04, R56..R60."""
    for first, last in NAMED.findall(docstring):
        yield from range(int(first), int(last or first) + 1)


@cache
def requirement_tests() -> dict[int, list[str]]:
    """Return the tests that name each requirement."""
    found = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for name, docstring in docstrings_of_tests(path).items():
            for number in requirement_numbers(docstring):
                found[number].append(f"{path.relative_to(TESTS)}::{name}")
    return found


def test_the_retry_table_is_the_codes() -> None:
    """Each cause with its meaning for a start and a poll, and its problem code."""
    documented = {cause.strip("`"): cells for cause, _, *cells in rows("`[a-z_]+`")}
    actual = {
        cause.value: [
            rule.dispatched.value,
            REPEAT_WORDS[rule.repeat_start],
            REPEAT_WORDS[rule.repeat_poll],
            f"{PROBLEMS[rule.code].status} `{rule.code}`",
            f"`{rule.ending}`",
            "yes" if rule.trips_breaker else "no",
        ]
        for cause, rule in RETRY_RULES.items()
    }
    assert actual == documented


def test_the_defaults_are_the_settings() -> None:
    """Each documented default equals the value in the settings."""
    documented = rows(r"`[a-z]+\.[a-z.*_]+`")
    assert len(documented) > 15
    for name, default, _ in documented:
        section, _, field = name.strip("`").rpartition(".")
        used = SECTIONS[section].model_fields[field].default
        read = parse_size(default) if default.endswith("MB") else parse_duration(default)
        assert (name, used) == (name, read)


def test_every_requirement_is_listed_once() -> None:
    """All 104 requirements, in order."""
    assert [f"R{number:02}" for number in NUMBERS] == [name for name, *_ in rows(r"R\d+")]


@pytest.mark.parametrize("number", NUMBERS)
def test_each_listed_test_names_its_requirement(number: int) -> None:
    """Every named test exists and names the requirement; "not yet" stands only for requirements without a test."""
    [[_, _, shown]] = rows(f"R{number:02}")
    named = re.findall(r"`([\w/]+\.py::\w+)`", shown)
    assert [] == [test for test in named if test not in requirement_tests()[number]]
    assert ("not yet" == shown) == (requirement_tests()[number] == []) == (named == [])
