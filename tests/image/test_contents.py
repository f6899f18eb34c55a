"""Contents of the image: the gateway and its dependencies only."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.image import programs
from tests.image.building import CANARY, EPOCH, Image, built
from tests.support.process import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # the first test of a process builds the image
_LIST = (
    "import json, importlib.metadata as m; "
    "print(json.dumps({d.metadata['Name'].lower().replace('_', '-'): d.version for d in m.distributions()}))"
)
_VERSION = "import platform; print(platform.python_version())"


def files(image: Image) -> Iterator[Path]:
    """Return all files and links, relative to the root."""
    return (path.relative_to(image.root) for path in image.root.rglob("*") if path.is_symlink() or not path.is_dir())


def python(image: Image, code: str) -> str:
    """Return the output of this code in the image's interpreter."""
    return programs.output(["chroot", "--userspec=10001:10001", image.root, "/opt/runward/bin/python", "-c", code])


def installed(image: Image) -> dict[str, str]:
    """Return the versions of the installed distributions, by name."""
    found: dict[str, str] = json.loads(python(image, _LIST))
    return found


def locked(name: str, python: str) -> dict[str, str]:
    """Return the versions that a lock file has for Linux and this Python version, by distribution."""
    lines = [line.removesuffix(" \\") for line in (ROOT / name).read_text().splitlines() if "==" in line]
    there = {"sys_platform": "linux", "python_full_version": python}
    wanted = [one for one in map(Requirement, lines) if one.marker is None or one.marker.evaluate(there)]
    return {one.name: str(one.specifier).removeprefix("==") for one in wanted}


def test_the_size_is_printed_and_documented(image: Image) -> None:
    """docs/deploy.md has it in MB, rounded to tens; the rest depends on the Python of the base."""
    print(f"the image has {image.size / 1e6:.0f} MB in {sum(1 for _ in files(image))} files")  # noqa: T201
    [stated] = [line for line in (ROOT / "docs" / "deploy.md").read_text().splitlines() if "MB unpacked" in line]
    told = int(stated.split(" MB unpacked")[0].split()[-1])
    assert told == pytest.approx(image.size / 1e6, rel=0.2)


def test_its_only_programs_are_the_interpreter_the_gateway_and_the_first_process(image: Image) -> None:
    """R101: no shell, no compiler, no package manager."""
    programs_there = {
        str(path)
        for path in files(image)
        if (image.root / path).lstat().st_mode & 0o111 and not (image.root / path).is_symlink()
    }
    loader = {path for path in programs_there if "/ld-" in path}
    interpreter = {path for path in programs_there if path.rpartition("/")[2].startswith("python3")}
    assert programs_there - loader - interpreter == {"opt/runward/bin/dumb-init", "opt/runward/bin/runward"}
    assert [1, 1] == [len(loader), len(interpreter)]


def test_what_is_installed_is_what_the_lock_names(image: Image) -> None:
    """R104: neither pip nor the tools of the build are among it."""
    expected = locked("deploy/image/runtime.lock", python(image, _VERSION).strip())
    assert expected == {name: version for name, version in installed(image).items() if name != "runward"}


def test_there_is_no_cache_and_no_trace_of_pip(image: Image) -> None:
    assert [] == [str(path) for path in files(image) if {".cache", "pip", "ensurepip", "setuptools"} & set(path.parts)]


def test_nothing_of_the_build_context_that_is_not_named_gets_in(image: Image) -> None:
    """The build context has files with a canary: an .env, secrets, a database."""
    paths = (image.root / path for path in files(image))
    assert [] == [path for path in paths if path.is_file() and CANARY.encode() in path.read_bytes()]


def test_no_file_has_the_rights_of_its_owner_and_none_but_tmp_is_open_to_all(image: Image) -> None:
    """R101: no set-user-id or set-group-id bit, and one world-writable directory."""
    modes = {path: path.lstat().st_mode for path in image.root.rglob("*") if not path.is_symlink()}
    assert [] == [path for path, mode in modes.items() if mode & (stat.S_ISUID | stat.S_ISGID)]
    assert [image.root / "tmp"] == [path for path, mode in modes.items() if mode & stat.S_IWOTH]


def test_the_user_owns_the_data_folder_and_nothing_else(image: Image) -> None:
    owned = {str(path.relative_to(image.root)): path.lstat().st_uid for path in image.root.rglob("*")}
    assert {"var/lib/runward": 10001} == {path: uid for path, uid in owned.items() if uid != 0}


def test_scanners_find_the_system_packages_that_libraries_came_from(image: Image) -> None:
    records = {path.name for path in (image.root / "var/lib/dpkg/status.d").iterdir()}
    assert {"libc6", "libssl3", "libsqlite3-0"} <= {name.removesuffix("t64") for name in records}


def test_its_labels_and_defaults_are_as_documented(image: Image) -> None:
    config = image.config
    labels = {name.rpartition(".")[2]: value for name, value in config["Labels"].items() if ".opencontainers." in name}
    assert ("Runward", "1.2.3", "Apache-2.0") == (labels["title"], labels["version"], labels["licenses"])
    assert {"created", "description", "licenses", "name", "revision", "source", "title", "version"} == set(labels)
    assert ("10001:10001", "/var/lib/runward", "SIGTERM") == (
        config["User"], config["WorkingDir"], config["StopSignal"],
    )  # fmt: skip
    assert {"8080/tcp", "9090/tcp"} == set(config["ExposedPorts"])
    assert "CMD" == config["Healthcheck"]["Test"][0]


def test_a_second_build_has_the_same_files(image: Image, tmp_path: Path) -> None:
    """From a copy of the sources with other file times, without cached layers."""
    sources = shutil.copytree(image.sources, tmp_path / "context", copy_function=shutil.copyfile)
    with built("localhost/runward:again", sources) as again:
        assert image.layers == again.layers
    assert {EPOCH} == {int(path.lstat().st_mtime) for path in (image.root / "opt").rglob("*") if path.is_file()}


def test_the_bill_of_materials_lists_what_is_installed(image: Image, tmp_path: Path) -> None:
    """R104: made as the release workflow makes it, from the environment in the image."""
    made = tmp_path / "sbom.json"
    programs.output([ROOT / ".venv/bin/python", ROOT / "deploy/image/sbom.py", image.root / "opt/runward", made])
    document = json.loads(made.read_text())
    listed = {one["name"].lower().replace("_", "-"): one["version"] for one in document["components"]}
    assert "CycloneDX" == document["bomFormat"]
    assert installed(image) == listed
