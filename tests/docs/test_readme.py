"""Examples and commands of README.md and the pages beside it are valid."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest
import yaml

from gateway.api.openapi.response_schemas import ProblemAnswer, RunAnswer
from gateway.cli.demo.banner import PROVIDER_EXAMPLES
from gateway.problems import PROBLEMS
from gateway.settings import load
from tests.support.configuration import PROVIDER_SECRETS, gateway_config, merged
from tests.support.process import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def blocks(page: str, language: str) -> list[str]:
    """Return the fenced code blocks of a page, without list indentation."""
    found = re.findall(rf"^ *```{language}\n(.*?)^ *```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(block) for block in found]


def test_the_configuration_in_the_readme_is_accepted(tmp_path: Path) -> None:
    """Within 15 lines and without warnings."""
    [text] = blocks("README.md", "yaml")
    (tmp_path / "gateway.yaml").write_text(text)
    environ = {
        "PROMPTLAYER_API_KEY": PROVIDER_SECRETS["PROMPTLAYER_API_KEY"],
        "RUNWARD_PROVIDERS__PROMPT_STUDIO__API_KEY": PROVIDER_SECRETS["PROMPT_STUDIO_API_KEY"],
    }
    settings = load(tmp_path / "gateway.yaml", environ)
    assert [] == settings.warnings()
    assert 15 >= text.count("\n")


def test_the_answers_in_the_readme_are_as_the_gateway_gives_them() -> None:
    """Exactly the documented fields; the problem is in the table."""
    run, problem = (json.loads(text) for text in blocks("README.md", "json"))
    assert set(run) == set(RunAnswer.model_fields) - {"outputs", "tags", "replay_of", "cost"}
    RunAnswer.model_validate(run)
    problem_answer = ProblemAnswer.model_validate(problem, extra="forbid")
    kind = PROBLEMS[problem_answer.code]
    assert (kind.status, kind.title) == (problem_answer.status, problem_answer.title)


def test_the_command_in_the_readme_is_that_of_the_demo() -> None:
    line, _ = [text for text in blocks("README.md", "sh") if text.startswith("curl")]
    assert PROVIDER_EXAMPLES[0][1] == json.loads(shlex.split(line.replace("\\\n", " "))[-1])


def test_the_providers_configuration_in_contributing_is_accepted(tmp_path: Path) -> None:
    """Except the adapter, which tests/providers/test_third_party_adapter.py installs."""
    [text] = blocks("CONTRIBUTING.md", "yaml")
    config = merged(gateway_config("http://127.0.0.1:1", "http://127.0.0.1:1"), yaml.safe_load(text))
    (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(config))
    settings = load(tmp_path / "gateway.yaml", {**PROVIDER_SECRETS, "ECHO_QUEUE_KEY": "queue_1c0b6e5f9a"})
    assert "echo_queue" == settings.providers["echo_queue"].adapter


def test_every_command_that_is_shown_exists() -> None:
    """`runward …` and `make …` in every page."""
    text = "\n".join(block for page in ("README.md", "CONTRIBUTING.md") for block in blocks(page, "sh"))
    shown = {line.split()[0] for line in re.findall(r"\brunward ((?:keys )?[a-z]+)", text)}
    help_text = subprocess.run(
        [sys.executable, "-m", "gateway", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set() == shown - set(re.findall(r"^  (\w+) ", help_text.stdout, re.MULTILINE))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set() == set(re.findall(r"^make ([a-z]+)", text, re.MULTILINE)) - targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_has_a_target(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert [] == [link for link in links if not (page.parent / link).exists()]


def test_ci_runs_the_command_of_the_readme() -> None:
    run = ROOT / ".ci" / "run"
    assert run.stat().st_mode & 0o111
    assert "make test\n" in blocks("README.md", "sh")
    assert "make test" == run.read_text().splitlines()[-1]
