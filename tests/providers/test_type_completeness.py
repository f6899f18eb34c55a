"""Type completeness of `providers`, which authors of adapters import: py.typed, and every public type is known."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.process import ROOT


@pytest.mark.process
def test_every_public_symbol_of_providers_has_a_known_type(tmp_path: Path) -> None:
    """`pyright --verifytypes`, on a copy: it reads installed packages, and not the folder that it runs in."""
    shutil.copytree(ROOT / "providers", tmp_path / "site" / "providers")
    words = ("--pythonpath", sys.executable, "--ignoreexternal", "--outputjson", "--verifytypes", "providers")
    done = subprocess.run(
        [Path(sys.executable).parent / "basedpyright", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    report = json.loads(done.stdout)["typeCompleteness"]
    unknown = [symbol["name"] for symbol in report["symbols"] if symbol["isExported"] and not symbol["isTypeKnown"]]
    assert [] == unknown
    assert report["pyTypedPath"].endswith("providers/py.typed")
    assert 1 == report["completenessScore"]
