"""Collector of the image's root file system: an environment, its interpreter, and the shared libraries of both.

Runs in the build stage, with the base image's interpreter: `python3 collect.py /opt/runward /rootfs`. Files keep their
paths. Byte code is compiled in advance, since the root file system is read-only at run time; every time stamp is
SOURCE_DATE_EPOCH, so that two builds have the same files. Needs a Debian base: dpkg names the packages that the copied
files belong to, and their records are written to /var/lib/dpkg/status.d, where vulnerability scanners find them.
"""

from __future__ import annotations

import compileall
import os
import py_compile
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_NOT_COPIED = frozenset(
    {
        *(
            "__pycache__",
            "dist-packages",
            "site-packages",
        ),  # of the base image; those of the environment are copied separately
        *("ensurepip", "idlelib", "lib2to3", "pydoc_data", "test", "tkinter", "turtledemo", "turtle.py"),
    }
)
_NEEDS_A_DISPLAY = "_tkinter."
_COMMANDS = ("python", "runward", "dumb-init")
_SYSTEM_FILES = ("etc/ld.so.cache", "etc/os-release", "etc/ssl/certs/ca-certificates.crt", "etc/ssl/openssl.cnf")
_FOLDERS = ("etc/runward", "run/secrets/runward", "var/lib")
_ID = 10001
_AT_ONCE = 500  # paths in one question to dpkg
_WRITTEN = {
    "etc/passwd": f"root:x:0:0::/:/nonexistent\nrunward:x:{_ID}:{_ID}::/var/lib/runward:/nonexistent\n",
    "etc/group": f"root:x:0:\nrunward:x:{_ID}:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}


@dataclass(frozen=True)
class Root:
    """New root file system in the folder `top`."""

    top: Path

    def place(self, path: Path) -> Path:
        """Return the location of an absolute path in it; parents are resolved, the path itself is not."""
        return self.top / (path.parent.resolve() / path.name).relative_to("/")

    def copy(self, path: Path) -> None:
        """Copy a file once; a symbolic link is copied with its target."""
        placed = self.place(path)
        if placed.is_symlink() or placed.exists():
            return
        placed.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            placed.symlink_to(path.readlink())
            self.copy(path.parent.resolve() / path.readlink())
        else:
            shutil.copyfile(path, placed)
            placed.chmod(0o755 if path.parent.name == "bin" or path.name.startswith("ld-") else 0o644)

    def copy_tree(self, top: Path) -> None:
        """Copy a folder without the top-level names in `_NOT_COPIED`, and without byte code."""
        for folder, folders, files in os.walk(top):
            left_out = _NOT_COPIED if Path(folder) == top else {"__pycache__"}
            folders[:] = sorted(set(folders) - left_out)
            for name in sorted(set(files) - left_out):
                if not name.startswith(_NEEDS_A_DISPLAY) and not name.endswith((".a", ".pyc")):
                    self.copy(Path(folder) / name)

    def files(self) -> list[Path]:
        """Return all regular files, sorted."""
        return sorted(path for path in self.top.rglob("*") if path.is_file() and not path.is_symlink())

    def write(self, name: str, text: str) -> None:
        """Write a file that only its owner may write."""
        path = self.top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o644)


def collect(environment: Path, root: Root) -> None:
    """Fill the root file system."""
    stdlib = Path(sysconfig.get_path("stdlib")).resolve()
    for name in _COMMANDS:
        root.copy(environment / "bin" / name)
    root.copy(environment / "pyvenv.cfg")
    for folder in (stdlib, *environment.glob("lib/python*/site-packages"), environment / "libexec"):
        root.copy_tree(folder)
    _copy_libraries(root)
    for path in (Path("/", name) for name in _SYSTEM_FILES):
        if path.exists():
            root.copy(path)
    _record_packages(root)
    _write_rest(root)


def _copy_libraries(root: Root) -> None:
    """Copy the shared libraries of the copied programs and libraries, and the links to the loader."""
    for name in ("lib", "lib64"):
        if Path("/", name).is_symlink():
            (root.top / name).symlink_to(Path("/", name).readlink())
    for path in root.files():
        for library in _libraries(path):
            root.copy(library)


def _write_rest(root: Root) -> None:
    for name, text in _WRITTEN.items():
        root.write(name, text)
    for name in _FOLDERS:
        (root.top / name).mkdir(parents=True, exist_ok=True)
    (root.top / "tmp").mkdir(mode=0o1777)
    (root.top / "tmp").chmod(0o1777)


def _libraries(path: Path) -> Iterator[Path]:
    """Return the shared libraries that the loader would load for a program or library, recursively."""
    with path.open("rb") as file:
        if file.read(4) != b"\x7fELF":
            return
    listed = subprocess.run(["ldd", str(path)], capture_output=True, text=True, check=False)  # noqa: S607
    for line in listed.stdout.splitlines():
        words = line.split()
        found = words[2] if "=>" in words and len(words) > 2 else words[0]
        if found.startswith("/") and not found.startswith("/rootfs"):
            yield Path(found)


def _record_packages(root: Root) -> None:
    """Write the records and the licences of the Debian packages that files were copied from."""
    paths = [str(Path("/", path.relative_to(root.top))) for path in root.files()]
    spellings = [spelled for path in paths for spelled in (path, path.removeprefix("/usr"))]  # /usr was merged once
    names: set[str] = set()
    for start in range(0, len(spellings), _AT_ONCE):
        command = ["dpkg-query", "-S", *spellings[start : start + _AT_ONCE]]
        owned = subprocess.run(command, capture_output=True, text=True, check=False)
        names |= {line.split(": ")[0] for line in owned.stdout.splitlines()}
    for name in sorted(names):
        record = subprocess.run(["dpkg-query", "-s", name], capture_output=True, text=True, check=True)  # noqa: S607
        short = name.partition(":")[0]
        root.write(f"var/lib/dpkg/status.d/{short}", record.stdout)
        licence = Path("/usr/share/doc", short, "copyright")
        if licence.exists():
            root.copy(licence)


def _compile(root: Root) -> None:
    """Compile all modules; files that are not valid Python are skipped."""
    for path in root.files():
        if path.suffix == ".py":
            compileall.compile_file(
                path, stripdir=str(root.top), prependdir="/", quiet=2, force=True,
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )  # fmt: skip


def _set_times(root: Root, seconds: int) -> None:
    for path in sorted(root.top.rglob("*"), reverse=True):
        os.utime(path, (seconds, seconds), follow_symlinks=False)
    os.utime(root.top, (seconds, seconds))


def main(environment: str, top: str) -> None:
    """Collect, compile, and set the time stamps."""
    root = Root(Path(top))
    root.top.mkdir()
    collect(Path(environment), root)
    _compile(root)
    _set_times(root, int(os.environ.get("SOURCE_DATE_EPOCH", "0")))


if __name__ == "__main__":
    main(*sys.argv[1:])
