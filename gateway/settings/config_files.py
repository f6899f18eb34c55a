"""Files of the configuration: loads them and detects changes, for hot reload."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias

from gateway.settings.errors import SettingsError
from gateway.settings.load import RELATIVE_PATHS, config_path, load
from gateway.settings.model import Settings
from gateway.settings.sources.environment_and_secret_files import secret_files
from gateway.settings.sources.secret_locations import SECRET_PATHS
from gateway.settings.sources.tree_traversal import find
from gateway.settings.sources.yaml_file import read_yaml

FileFingerprints: TypeAlias = Mapping[Path, "_Fingerprint"]
_MAX_HASHED_BYTES = 2_000_000  # a larger file counts as changed whenever its status changes


@dataclass(frozen=True, slots=True)
class _Fingerprint:
    """`status`: device, inode, size and modification time of a file; `digest`: of its content."""

    status: tuple[int, ...] = field(compare=False)
    digest: bytes


@dataclass(frozen=True, slots=True)
class WatchedPaths:
    """`folders` to watch, and the `names` of the files in them whose changes matter."""

    folders: frozenset[Path]
    names: frozenset[str]


@dataclass(slots=True)
class ConfigFiles:
    """Configuration file (`path` or RUNWARD_CONFIG) with the secrets and certificates that it names.

    Mounted secret files, and certificates that the environment names, belong to it.
    """

    path: Path | None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    _files: frozenset[Path] = frozenset()
    _named_by_environment: frozenset[Path] = frozenset()
    _fingerprints: FileFingerprints = field(default_factory=dict)

    def load(self) -> Settings:
        """Load and check the files. Raises SettingsError; the files named before then stay under observation."""
        # Fingerprints are taken before the files are read, so that a change from here on is noticed afterwards.
        self._files = (self._find_files() or self._files) | self._named_by_environment
        self._fingerprints = self._take_fingerprints()
        settings = load(self.path, self.environ)
        found = frozenset(_certificate_files(settings)) - self._files
        self._named_by_environment |= found
        self._files |= found
        self._fingerprints = {**self._fingerprints, **_fingerprints(found, {})}
        return settings

    def changed(self) -> bool:
        """Return True if the content of a file differs from that at the last `load`."""
        current = self._take_fingerprints()
        if current != self._fingerprints:
            return True
        self._fingerprints = current  # another status of the same content
        return False

    def watched(self) -> WatchedPaths:
        """Folders to watch, and the file names in them whose changes matter."""
        files = {*self._files, *self._secret_files()}
        folders = frozenset(folder for path in files if (folder := path.parent).is_dir())
        return WatchedPaths(folders, frozenset(path.name for path in files))

    def _find_files(self) -> frozenset[Path]:
        """Paths of the configuration and the files named in it; empty if the YAML cannot be parsed."""
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
        return _fingerprints((*self._files, *self._secret_files()), self._fingerprints)


def _referenced_paths(tree: object) -> Iterator[str]:
    for pattern in SECRET_PATHS:
        for _, value in find(tree, pattern):
            if isinstance(value, dict) and isinstance(value.get("file"), str):
                yield value["file"]
    for path_pattern in RELATIVE_PATHS:
        yield from (value for _, value in find(tree, path_pattern) if isinstance(value, str))


def _certificate_files(settings: Settings) -> Iterator[Path]:
    for tls in (settings.server.tls, settings.server.ops_tls):
        if tls is not None:
            yield from (path for path in (tls.cert, tls.key, tls.client_ca) if path is not None)
    yield from (provider.ca_file for provider in settings.providers.values() if provider.ca_file is not None)


def _fingerprints(paths: Iterable[Path], known: FileFingerprints) -> FileFingerprints:
    """Fingerprints of the existing files; a file whose status is known is not read again."""
    return {path: fingerprint for path in paths if (fingerprint := _fingerprint(path, known.get(path)))}


def _fingerprint(path: Path, known: _Fingerprint | None) -> _Fingerprint | None:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return None
        numbers = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
        if known is not None and known.status == numbers:
            return known
        content = path.read_bytes() if status.st_size <= _MAX_HASHED_BYTES else repr(numbers).encode()
    except (OSError, ValueError):  # removed, or not readable; or an invalid path, which `load` reports
        return None
    return _Fingerprint(numbers, sha256(content).digest())
