"""Integrity of the installed SDKs: equal to the published packages; lock files name no package index."""

from __future__ import annotations

import csv
import hashlib
import json
from base64 import urlsafe_b64encode
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.sdk.official_sdks import HERE, JAVASCRIPT, NODE_MODULES, OLDER_SDK_PATH, PYTHON, require_sdk
from tests.support.process import ROOT

FILES = HERE / "js" / "promptlayer.sha256"


def changed_files(site: Path, record: Path) -> list[str]:
    """Return files that differ from the RECORD of the wheel."""
    listed = [(name, digest) for name, digest, _ in csv.reader(record.read_text().splitlines()) if digest]
    assert any(name.startswith("promptlayer/") for name, _ in listed)
    return [name for name, digest in listed if digest != f"sha256={_digest(site / name)}"]


def _digest(path: Path) -> str:
    return urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).decode().rstrip("=")


def test_the_newest_for_python_is_as_its_wheel_says() -> None:
    """The lock file has the hash of the wheel, and the wheel those of its files."""
    found = distribution("promptlayer")
    assert "1.5.16" == found.version
    site = Path(str(found.locate_file("")))
    assert [] == changed_files(site, site / "promptlayer-1.5.16.dist-info" / "RECORD")


def test_the_older_one_for_python_is_as_its_wheel_says() -> None:
    require_sdk(PYTHON[2])
    assert [] == changed_files(OLDER_SDK_PATH, OLDER_SDK_PATH / "promptlayer-1.3.0.dist-info" / "RECORD")


def test_the_one_for_javascript_is_as_it_was_published() -> None:
    """The lock file has the hash of the archive, which npm verifies; its unpacked files are unchanged."""
    require_sdk(JAVASCRIPT)
    locked = json.loads((HERE / "js" / "package-lock.json").read_text())["packages"]["node_modules/promptlayer"]
    installed = json.loads((NODE_MODULES / ".package-lock.json").read_text())["packages"]["node_modules/promptlayer"]
    assert ("1.3.6", locked["integrity"]) == (installed["version"], installed["integrity"])
    files = sorted(path for path in (NODE_MODULES / "promptlayer").rglob("*") if path.is_file())
    found = {str(path.relative_to(NODE_MODULES)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    lines = [line.split("  ") for line in FILES.read_text().splitlines()]
    listed = {name: digest for digest, name in lines}
    assert listed == found


@pytest.mark.parametrize("name", ["requirements-1.3.0.lock", "js/package-lock.json", "js/.npmrc"])
def test_no_list_says_where_packages_come_from(name: str) -> None:
    """The index is a setting of the machine; hashes identify the packages."""
    text = (ROOT / "tests" / "sdk" / name).read_text()
    assert [] == [word for word in ('"resolved"', "registry=", "index-url", "/-/", "files.python") if word in text]


def test_every_package_for_javascript_has_a_hash() -> None:
    packages = json.loads((HERE / "js" / "package-lock.json").read_text())["packages"]
    assert [] == [name for name, package in packages.items() if name and not package.get("integrity")]
