"""Image build by buildah without a daemon and a registry, on a Debian base created by debootstrap."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.image import programs
from tests.support.process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

EPOCH = 1_700_000_000
"""SOURCE_DATE_EPOCH of the builds."""
CANARY = "canary-4a1f0c6e9b"
"""Stands in files that a build must not take over."""
_STORAGE = ROOT / ".venv" / "image"  # kept: the base is made once
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_SOURCES = ("gateway", "providers", "deploy", "pyproject.toml", "README.md", "LICENSE", "Dockerfile", ".dockerignore")
_STRAY = (
    ".env",
    ".git/config",
    "deploy/compose/secrets/runward_store__password",
    "gateway/__pycache__/app.cpython-311.pyc",
    "secrets/promptlayer",
    "var/runward.db",
)


def buildah(*arguments: str | Path) -> str:
    """Run buildah with a separate storage; returns standard output."""
    where: list[str | Path] = ["--storage-driver", "vfs", "--root", _STORAGE / "storage", "--runroot", _STORAGE / "run"]
    return programs.output(["buildah", *where, *arguments]).strip()


@dataclass(frozen=True, slots=True)
class Image:
    """An image in the storage, built from the context in `sources`.

    `root` is its root file system, unpacked; `config` is what Docker reads.
    """

    sources: Path
    root: Path
    config: dict[str, Any]
    layers: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.lstat().st_size for path in self.root.rglob("*") if not path.is_dir())


def base() -> str:
    """Return the name of the base image with Debian's Python; created at the first use."""
    name = f"localhost/runward-base:{programs.codename()}"
    if name in buildah("images", "--format", "{{.Name}}:{{.Tag}}").splitlines():
        return name
    with _container("scratch") as container:
        folder = buildah("mount", container)
        programs.output(
            ["debootstrap", "--variant=minbase", "--include=python3,python3-venv,ca-certificates",
             str(programs.codename()), folder]
        )  # fmt: skip
        buildah("commit", "--quiet", container, name)
    return name


def context(folder: Path) -> Path:
    """Create a copy of the sources in `folder`, with additional files that must not be in an image."""
    for name in _SOURCES:
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    for name in _STRAY:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(CANARY)
    return folder


@contextmanager
def built(name: str, sources: Path) -> Iterator[Image]:
    """Build the image from `sources`, and unpack it until the context ends."""
    downloads = _STORAGE / "pip"
    downloads.mkdir(parents=True, exist_ok=True)
    buildah(
        "bud", "--quiet", "--isolation", "chroot", "--format", "docker", "--layers=false", "--timestamp", str(EPOCH),
        "--volume", f"{downloads}:/root/.cache/pip", "--build-arg", "PIP_NO_CACHE_DIR=",
        "--volume", f"{_CERTIFICATES}:/run/certificates.crt:ro", "--build-arg", "PIP_CERT=/run/certificates.crt",
        "--build-arg", f"SOURCE_DATE_EPOCH={EPOCH}", "--build-arg", f"PYTHON_IMAGE={base()}",
        "--build-arg", "VERSION=1.2.3", "--tag", name, sources,
    )  # fmt: skip
    described = json.loads(buildah("inspect", "--type", "image", name))
    with _container(name) as container:
        yield Image(
            sources,
            Path(buildah("mount", container)),
            described["Docker"]["config"],
            tuple(described["OCIv1"]["rootfs"]["diff_ids"]),
        )


@contextmanager
def _container(image: str) -> Iterator[str]:
    name = buildah("from", "--pull-never", image) if image != "scratch" else buildah("from", image)
    try:
        yield name
    finally:
        buildah("rm", name)
