"""Completion of commands, options and values in bash, zsh and fish."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.process import ROOT, inherited_environment

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import CommandResult, RunCommand

CASES = [
    (
        "runward ",
        {
            "serve",
            "demo",
            "check",
            "run",
            "keys",
            "config",
            "runs",
            "attention",
            "budgets",
            "callbacks",
            "providers",
            "logs",
            "audit",
            "usage",
        },
    ),
    ("runward runs ", {"list", "show", "tail", "judge", "cancel", "replay", "show-replay", "abort-replay"}),
    ("runward runs list --waiting-for ", {"limit", "breaker", "backoff", "store"}),
    ("runward pro", {"providers"}),
    ("runward audit ", {"list", "export", "verify"}),
    ("runward audit list --result ", {"begun", "succeeded", "refused", "failed"}),
    ("runward providers ", {"list", "suspend", "open", "close", "auto"}),
    ("runward providers s", {"suspend"}),
    ("runward keys ", {"new", "hash", "list", "rotate", "revoke", "expire", "check"}),
    ("runward keys rotate key_1 --keep ", {"current", "previous"}),
    ("runward callbacks list --state ", {"pending", "delivered", "gave_up"}),
    ("runward usage ", {"export"}),
    ("runward usage --certainty ", {"none", "spent", "unknown"}),
    ("runward serve --w", {"--workers"}),
    ("runward serve --config gate", set[str]()),  # the shell completes file names
]
"""What is typed, and all that may follow; hidden commands and options are not among it."""


def complete_bash(runward: RunCommand, typed: str) -> CommandResult:
    """Ask as the function for bash does."""
    index = str(len(typed.split(" ")) - 1)
    return runward(_RUNWARD_COMPLETE="complete_bash", COMP_WORDS=typed, COMP_CWORD=index)


@pytest.mark.parametrize(("typed", "expected"), CASES)
def test_bash_gets_the_words(runward: RunCommand, typed: str, expected: set[str]) -> None:
    result = complete_bash(runward, typed)
    assert (0, expected, "") == (result.code, set(result.out.split()), result.err)


@pytest.mark.parametrize(("typed", "expected"), CASES)
def test_zsh_gets_the_words_with_their_help(runward: RunCommand, typed: str, expected: set[str]) -> None:
    result = runward(_RUNWARD_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS=typed)
    assert (0, "") == (result.code, result.err)
    assert ("_arguments" if expected else "_files") == result.out.split()[0]
    assert [] == [word for word in expected if f'"{word}"' not in result.out]


@pytest.mark.parametrize(("typed", "expected"), CASES)
def test_fish_gets_the_words_with_their_help(runward: RunCommand, typed: str, expected: set[str]) -> None:
    asked = {"_RUNWARD_COMPLETE": "complete_fish", "_TYPER_COMPLETE_ARGS": typed}
    result = runward(_TYPER_COMPLETE_FISH_ACTION="get-args", **asked)
    assert (0, expected) == (result.code, {line.partition("\t")[0] for line in result.out.splitlines() if line})
    is_argument = runward(_TYPER_COMPLETE_FISH_ACTION="is-args", **asked)
    assert bool(expected) == (is_argument.code == 0)


def test_invalid_settings_do_not_disturb_it(runward: RunCommand) -> None:
    """Nor are they read."""
    environment = {"RUNWARD_WORKERS": "many", "RUNWARD_OPS_URL": "?", "RUNWARD_CONFIG": "/no/such/file"}
    asked = {"_RUNWARD_COMPLETE": "complete_bash", "COMP_WORDS": "runward serve --w", "COMP_CWORD": "2"}
    assert "--workers\n" == runward(**asked, **environment).out


def test_bash_completion_waits_for_no_heavy_library() -> None:
    code = "import sys, gateway.cli\ntry: gateway.cli.main()\nfinally: print(*sys.modules, file=sys.stderr)"
    asked = {"_RUNWARD_COMPLETE": "complete_bash", "COMP_WORDS": "runward pro", "COMP_CWORD": "1"}
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=inherited_environment() | asked,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "providers\n" == result.stdout
    assert set() == {"aiohttp", "rich", "uvloop", "yaml"} & set(result.stderr.split())  # Typer itself uses pydantic


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Environment with the command `runward` in the path, and a home directory of its own."""
    command = tmp_path / "bin" / "runward"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m gateway "$@"\n')
    command.chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    inherited = inherited_environment()
    return {**inherited, "PATH": f"{command.parent}:{inherited['PATH']}", "HOME": str(home)}


def run_shell(environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a shell."""
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


ASK_BASH = "COMP_WORDS=(runward providers s); COMP_CWORD=2; _runward_completion runward; echo ${COMPREPLY[@]}"


@pytest.mark.parametrize(
    "load", ["source <(_RUNWARD_COMPLETE=source_bash runward)", 'eval "$(runward --show-completion)"']
)
def test_bash_completes_with_the_script(environment: dict[str, str], load: str) -> None:
    """It is the function that bash has for the command."""
    result = run_shell(environment, "bash", "--norc", "-c", f"{load}; {ASK_BASH}; complete -p runward")
    assert ("suspend\ncomplete -o default -F _runward_completion runward\n", "") == (result.stdout, result.stderr)


def test_installed_for_bash_it_works_in_the_next_shell(environment: dict[str, str]) -> None:
    installed = run_shell(environment, "bash", "--norc", "-c", "runward --install-completion; exit $?")
    assert (0, "") == (installed.returncode, installed.stderr)
    assert "suspend\n" == run_shell(environment, "bash", "--norc", "-c", f"source ~/.bashrc; {ASK_BASH}").stdout


def test_a_home_that_cannot_be_written_is_one_line(environment: dict[str, str]) -> None:
    failed = run_shell(
        {**environment, "HOME": "/proc"}, "bash", "--norc", "-c", "runward --install-completion; exit $?"
    )
    assert (2, "") == (failed.returncode, failed.stdout)
    [line] = failed.stderr.splitlines()
    assert line.startswith("runward: /proc/.bashrc cannot be written (")


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_completes_with_the_script(environment: dict[str, str]) -> None:
    script = '_RUNWARD_COMPLETE=source_fish runward | source; complete -C "runward providers s"'
    assert "suspend" == run_shell(environment, "fish", "-c", script).stdout.partition("\t")[0]
