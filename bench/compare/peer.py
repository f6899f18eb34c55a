"""What a gateway has to tell to be compared: how it is installed, started and asked."""

from __future__ import annotations

import os
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


class NotAvailable(Exception):
    """The peer cannot be measured on this machine; the text says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a gateway is started: its package folder, an empty folder for files, its port and that of the upstream."""

    packages: Path
    files: Path
    port: int
    upstream: int

    @property
    def upstream_url(self) -> str:
        """Base URL of the upstream, without a path."""
        return f"http://127.0.0.1:{self.upstream}"


@dataclass(frozen=True, slots=True)
class Launch:
    """Command of a gateway, variables added to its environment, and the file for a port that it chooses itself."""

    command: list[str]
    env: Mapping[str, str] = field(default_factory=dict)
    port_file: Path | None = None


class Peer(ABC):
    """A gateway that takes part. `name` is also the name of its folder below the cache folder."""

    name: str
    title: str

    @abstractmethod
    def install(self, folder: Path) -> None:
        """Install into the empty `folder`, and nowhere else. Raises NotAvailable."""

    @abstractmethod
    def version(self, folder: Path) -> str:
        """Version installed in `folder`."""

    @abstractmethod
    def launch(self, place: Place) -> Launch:
        """Return the command that serves on `place.port` of loopback; writes its configuration to `place.files`."""

    @abstractmethod
    def request(self, place: Place, size: int) -> bytes:
        """Return one HTTP request whose body has `size` bytes."""

    def package_tree(self, folder: Path) -> Path:
        """Return the folder whose size is the installed size."""
        return folder


def chat_body(size: int, model: str = "bench") -> bytes:
    """Return a chat completion request of `size` bytes."""
    before = b'{"model":"%s","messages":[{"role":"user","content":"' % model.encode()
    return _filled(before, b'"}]}', size)


def run_body(size: int) -> bytes:
    """Return a request of `size` bytes for POST /run."""
    return _filled(b'{"workflow":"studio","input":{"prompt":"', b'"}}', size)


def http_request(path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """Return a POST request with a JSON body."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def _filled(before: bytes, after: bytes, size: int) -> bytes:
    missing = size - len(before) - len(after)
    if missing < 0:
        raise ValueError(f"a body has at least {len(before) + len(after)} bytes")
    return before + b"x" * missing + after


def run_installer(command: list[str], *, cwd: Path | None = None) -> str:
    """Run a package client; returns its output. Raises NotAvailable with the last line it wrote."""
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=1200, check=False)
    except FileNotFoundError:
        raise NotAvailable(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise NotAvailable(f"{command[0]} did not end within 20 minutes") from None
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise NotAvailable(f"{command[0]} failed" + (f": {lines[-1].strip()[:200]}" if lines else ""))
    return done.stdout


def install_python_packages(folder: Path, *arguments: str) -> None:
    """Create a virtual environment in `folder` and install packages into it."""
    run_installer([sys.executable, "-m", "venv", "--without-pip", str(folder)])
    pip = [sys.executable, "-m", "pip", "--python", str(python_of(folder)), "--quiet", "--disable-pip-version-check"]
    run_installer([*pip, "install", *arguments])


def python_of(folder: Path) -> Path:
    """Interpreter of the virtual environment in `folder`."""
    return folder / "bin" / "python"


def site_packages(folder: Path) -> Path:
    """Folder of the packages of the virtual environment in `folder`."""
    return next((folder / "lib").glob("python*/site-packages"))


def python_package_version(folder: Path, package: str) -> str:
    """Version of an installed package."""
    code = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"
    return run_installer([str(python_of(folder)), "-c", code, package]).strip()


def size_of(tree: Path) -> int:
    """Bytes that the files of a folder occupy, as `du` counts them; each file once, however many links it has."""
    occupied: dict[tuple[int, int], int] = {}
    for folder, _, files in os.walk(tree):
        for name in files:
            stat = (Path(folder) / name).lstat()
            occupied[stat.st_dev, stat.st_ino] = stat.st_blocks * 512
    return sum(occupied.values())
