"""The files that a configuration is read from: loads them, and tells when one of them is another."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from gateway.settings.environment import secret_files
from gateway.settings.errors import SettingsError
from gateway.settings.load import RELATIVE_PATHS, config_path, load
from gateway.settings.model import Settings
from gateway.settings.sources import SECRET_PATHS
from gateway.settings.tree import find
from gateway.settings.yaml_file import read_yaml

FileFingerprints: TypeAlias = Mapping[Path, tuple[int, ...]]
"""What tells a file from another, or from itself once it was written to; one that is not there has no mark."""


@dataclass(slots=True)
class ConfigFiles:
    """The file in `path`, or that RUNWARD_CONFIG names; the secrets and certificates that it names; mounted secrets."""

    path: Path | None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    _files: frozenset[Path] = frozenset()
    _fingerprints: FileFingerprints = field(default_factory=dict)

    def load(self) -> Settings:
        """Load and check them. Raises SettingsError; then what was named before counts as named still."""
        # Before they are read: what changes from here on is noticed afterwards.
        self._files = self._find_files() or self._files
        self._fingerprints = self._take_fingerprints()
        return load(self.path, self.environ)

    def changed(self) -> bool:
        """Whether anything is not as it was when `load` was called last."""
        return self._take_fingerprints() != self._fingerprints

    def folders(self) -> frozenset[Path]:
        """Where to watch: a mounted file changes by a change of its folder, as the link `..data` there is replaced."""
        folders = {path.parent for path in self._files}
        if mounted := self._secret_files():
            folders.add(mounted[0].parent)
        return frozenset(folder for folder in folders if folder.is_dir())

    def _find_files(self) -> frozenset[Path]:
        """Every file by name; nothing where the configuration can not even be parsed."""
        try:
            path = config_path(self.path, self.environ)
            return frozenset({path, *(path.parent / name for name in _referenced_paths(read_yaml(path).tree))})
        except SettingsError:
            return frozenset()

    def _secret_files(self) -> list[Path]:
        try:
            return list(secret_files(self.environ))
        except SettingsError:
            return []

    def _take_fingerprints(self) -> FileFingerprints:
        paths = (*self._files, *self._secret_files())
        return {path: fingerprint for path in paths if (fingerprint := _fingerprint(path))}


def _referenced_paths(tree: object) -> Iterator[str]:
    for pattern in SECRET_PATHS:
        for _, value in find(tree, pattern):
            if isinstance(value, dict) and isinstance(value.get("file"), str):
                yield value["file"]
    for path_pattern in RELATIVE_PATHS:
        yield from (value for _, value in find(tree, path_pattern) if isinstance(value, str))


def _fingerprint(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except (OSError, ValueError):  # gone; or no path at all, which `load` says better
        return ()
    if not stat.S_ISREG(status.st_mode):
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
