"""Commands and options, and errors for invalid ones."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from gateway.settings import load
from gateway.settings.configuration_hash import configuration_hash
from gateway.settings.schema import render_schema
from tests.support.configuration import PROVIDER_SECRETS
from tests.support.process import ROOT

if TYPE_CHECKING:
    from tests.cli.conftest import RunCommand

COMMANDS = ("serve", "demo", "check", "run", "keys", "config", "runs", "callbacks", "providers", "logs", "audit")


def test_help_lists_every_command_and_so_does_no_command_at_all(runward: RunCommand) -> None:
    asked, alone = runward("--help"), runward()
    assert (0, "") == (asked.code, asked.err)
    assert [] == [name for name in COMMANDS if f"\n  {name} " not in asked.out]
    assert asked.out.split() == alone.out.split()


@pytest.mark.parametrize(
    "words",
    [(name,) for name in COMMANDS]
    + [
        ("keys", "new"),
        ("config", "schema"),
        ("config", "hash"),
        ("callbacks", "replay"),
        ("callbacks", "list"),
        ("providers", "list"),
        ("logs", "level"),
        ("runs", "list"),
        ("runs", "tail"),
    ],
)
def test_every_command_explains_itself(runward: RunCommand, words: tuple[str, ...]) -> None:
    result = runward(*words, "--help")
    assert (0, "") == (result.code, result.err)
    assert re.match(rf"Usage: .*{' '.join(words)} \[OPTIONS\]", result.out)


def test_help_waits_for_no_heavy_library() -> None:
    """Commands import servers, models and tables only when needed."""
    look = "import sys, gateway.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set() == {"aiohttp", "pydantic", "rich", "uvloop", "yaml"} & set(loaded.stdout.split())


def test_the_version_is_that_of_the_package(runward: RunCommand) -> None:
    assert f"runward {version('runward')}\n" == runward("--version").out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("serv",), "No such command 'serv'"),
        (("serve", "--prot", "1"), "No such option: --prot"),
        (("demo", "--port", "99999"), "65535"),
        (("demo", "--port", "8000", "--ops-port", "8000"), "must differ"),
        (("keys",), "Missing command"),
        (("run",), "Missing argument 'workflow'. Try --help."),
        (("runs", "list", "--status", "oops"), "Invalid value for '--status': 'oops' is not one of"),
        (("runs", "judge", "run_1"), "give --paid or --not-run. Try --help."),
        (("serve",), "RUNWARD_CONFIG"),
        (("serve", "--config", "no-such-file.yaml"), "no-such-file.yaml: cannot be read"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(runward: RunCommand, words: tuple[str, ...], complaint: str) -> None:
    result = runward(*words)
    assert (2, "") == (result.code, result.out)
    [line] = result.err.splitlines()
    assert line.startswith("runward: ")
    assert complaint in line


def test_the_schema_is_the_settings_own(runward: RunCommand) -> None:
    assert render_schema() == runward("config", "schema").out


def test_the_hash_of_a_configuration_is_that_of_its_records(runward: RunCommand) -> None:
    path = ROOT / "config" / "gateway.yaml"
    result = runward("config", "hash", "--config", str(path), **PROVIDER_SECRETS)
    assert (0, configuration_hash(load(path)) + "\n") == (result.code, result.out)
    result = runward("config", "hash", "--config", "no-such-file.yaml")
    assert (2, True) == (result.code, "cannot be read" in result.err)
