"""The files that a configuration is read from: loads them, and tells when one of them is another."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from gateway.settings.complaints import SettingsError
from gateway.settings.environment import secret_files
from gateway.settings.load import PATHS, load, path_of
from gateway.settings.model import Settings
from gateway.settings.sources import SECRETS
from gateway.settings.tree import find
from gateway.settings.yaml_file import read

Marks: TypeAlias = Mapping[Path, tuple[int, ...]]
"""What tells a file from another, or from itself once it was written to; one that is not there has no mark."""


@dataclass(slots=True)
class ConfigFiles:
    """The file in `path`, or that RUNWARD_CONFIG names; the secrets and certificates that it names; mounted secrets."""

    path: Path | None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    _named: frozenset[Path] = frozenset()
    _marks: Marks = field(default_factory=dict)

    def load(self) -> Settings:
        """Load and check them. Raises SettingsError; then what was named before counts as named still."""
        # Before they are read: what changes from here on is noticed afterwards.
        self._named = self._find() or self._named
        self._marks = self._look()
        return load(self.path, self.environ)

    def changed(self) -> bool:
        """Whether anything is not as it was when `load` was called last."""
        return self._look() != self._marks

    def folders(self) -> frozenset[Path]:
        """Where to watch: a mounted file changes by a change of its folder, as the link `..data` there is replaced."""
        folders = {path.parent for path in self._named}
        if mounted := self._mounted():
            folders.add(mounted[0].parent)
        return frozenset(folder for folder in folders if folder.is_dir())

    def _find(self) -> frozenset[Path]:
        """Every file by name; nothing where the configuration can not even be parsed."""
        try:
            path = path_of(self.path, self.environ)
            return frozenset({path, *(path.parent / name for name in _names(read(path).tree))})
        except SettingsError:
            return frozenset()

    def _mounted(self) -> list[Path]:
        try:
            return list(secret_files(self.environ))
        except SettingsError:
            return []

    def _look(self) -> Marks:
        paths = (*self._named, *self._mounted())
        return {path: mark for path in paths if (mark := _mark(path))}


def _names(tree: object) -> Iterator[str]:
    for way in SECRETS:
        for _, value in find(tree, way):
            if isinstance(value, dict) and isinstance(value.get("file"), str):
                yield value["file"]
    for way in PATHS:
        yield from (value for _, value in find(tree, way) if isinstance(value, str))


def _mark(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except (OSError, ValueError):  # gone; or no path at all, which `load` says better
        return ()
    if not stat.S_ISREG(found.st_mode):
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
