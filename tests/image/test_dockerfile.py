"""Static checks of the Dockerfile and its lock files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.image.test_contents import locked
from tests.support.process import ROOT


def test_hadolint_has_nothing_to_say() -> None:
    """R101."""
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False, timeout=60)
    assert ("", 0) == (done.stdout + done.stderr, done.returncode)


def test_the_base_image_is_named_by_digest() -> None:
    [line] = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("ARG PYTHON_IMAGE=")]
    name, _, digest = line.removeprefix("ARG PYTHON_IMAGE=").partition("@sha256:")
    assert (64, "docker.io/library/python") == (len(digest), name.partition(":")[0])


def test_the_image_has_the_versions_of_the_lock_and_one_program_more() -> None:
    """R104: the tools of the build are in the other of its two locks, and not in the image."""
    project = locked("requirements.lock", "3.14.0")
    runtime, build = (locked(f"deploy/image/{name}.lock", "3.14.0") for name in ("runtime", "build"))
    assert {"dumb-init"} == set(runtime) - set(project)
    assert project == {name: version for name, version in (runtime | build).items() if name != "dumb-init"}
