"""docs/reliability.md tells what the code does and what the tests show, and nothing else."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from gateway.problems import PROBLEMS
from gateway.runs.retry import RULES, Again
from gateway.settings.routes import ProviderLimits, ProviderSettings, WorkflowSettings
from gateway.settings.sections import BreakerSettings, PollingSettings, RetrySettings, Section, ServerSettings
from gateway.settings.units import duration, size

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "reliability.md").read_text()
NUMBERS = range(1, 105)
NAMED = re.compile(r"\bR(\d{2,3})(?:(?: to |\.\.)R?(\d{2,3}))?\b")
WORDS = {Again.NEVER: "never", Again.ONCE: "once", Again.RETRY: "again"}
SECTIONS: dict[str, type[Section]] = {
    "retries": RetrySettings,
    "breaker": BreakerSettings,
    "polling": PollingSettings,
    "server": ServerSettings,
    "providers.*": ProviderSettings,
    "providers.*.limits": ProviderLimits,
    "workflows.*": WorkflowSettings,
}


def rows(first: str) -> list[list[str]]:
    """The cells of every row whose first cell fits the pattern."""
    found = re.findall(rf"^\| ({first}) \|(.*)\|$", PAGE, re.MULTILINE)
    return [[name, *(cell.strip() for cell in rest.split("|"))] for name, rest in found]


@cache
def functions(path: Path) -> dict[str, str]:
    """The tests of a file, with their docstrings."""
    tree = ast.parse(path.read_text())
    found = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {node.name: ast.get_docstring(node) or "" for node in found if node.name.startswith("test")}


def numbers(docstring: str) -> Iterator[int]:
    """The requirements that a docstring names: R01, R02 to R04, R56..R60."""
    for first, last in NAMED.findall(docstring):
        yield from range(int(first), int(last or first) + 1)


@cache
def naming() -> dict[int, list[str]]:
    """For each requirement the tests that name it."""
    found = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for name, docstring in functions(path).items():
            for number in numbers(docstring):
                found[number].append(f"{path.relative_to(TESTS)}::{name}")
    return found


def test_the_retry_table_is_the_codes() -> None:
    """Each cause with what it means for a start and a poll, and what the client reads."""
    told = {cause.strip("`"): cells for cause, _, *cells in rows("`[a-z_]+`")}
    real = {
        cause.value: [
            rule.sent.value,
            WORDS[rule.start],
            WORDS[rule.poll],
            f"{PROBLEMS[rule.code].status} `{rule.code}`",
            f"`{rule.ending}`",
            "yes" if rule.trips else "no",
        ]
        for cause, rule in RULES.items()
    }
    assert real == told


def test_the_defaults_are_the_settings() -> None:
    """Each default as it is written there means the number that is used."""
    told = rows(r"`[a-z]+\.[a-z.*_]+`")
    assert len(told) > 15
    for name, default, _ in told:
        section, _, field = name.strip("`").rpartition(".")
        used = SECTIONS[section].model_fields[field].default
        read = size(default) if default.endswith("MB") else duration(default)
        assert (name, used) == (name, read)


def test_every_requirement_stands_there_once() -> None:
    """All 104, in order."""
    assert [f"R{number:02}" for number in NUMBERS] == [name for name, *_ in rows(r"R\d+")]


@pytest.mark.parametrize("number", NUMBERS)
def test_what_is_said_to_show_a_requirement_names_it(number: int) -> None:
    """Every named test exists and names the requirement; "not yet" stands where none does, and only there."""
    [[_, _, shown]] = rows(f"R{number:02}")
    named = re.findall(r"`([\w/]+\.py::\w+)`", shown)
    assert [] == [test for test in named if test not in naming()[number]]
    assert ("not yet" == shown) == (naming()[number] == []) == (named == [])
