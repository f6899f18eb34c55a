"""The example adapter packages under examples/: installed beside Runward as a user does, their own tests run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.process import ROOT

PACKAGES = sorted(path.parent for path in (ROOT / "examples").glob("*/pyproject.toml"))

pytestmark = pytest.mark.slow  # installs packages


def python(*arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run this Python; all output is in `stdout`."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
        check=False,
    )


def test_there_is_an_example() -> None:
    assert ["runward-dify"] == [package.name for package in PACKAGES]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_its_own_tests_pass_without_this_repository(package: Path, tmp_path: Path) -> None:
    """In another folder, with the contents of the wheel: contract test, fake provider, gateway process."""
    target = tmp_path / "installed"
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(target)]
    installed = python("-m", "pip", "install", *options, str(package), cwd=tmp_path)
    assert 0 == installed.returncode, installed.stdout
    words = ("-q", "-p", "no:cacheprovider", "--rootdir", str(package), str(package / "tests"))
    done = python("-m", "pytest", *words, cwd=tmp_path, PYTHONPATH=str(target))
    assert 0 == done.returncode, done.stdout
    assert re.search(r"^[1-9]\d* passed", done.stdout, re.MULTILINE), done.stdout
