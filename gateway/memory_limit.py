"""Memory limit of the process: of its control group (container), the groups around it, or the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def memory_limit(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the smallest limit in bytes: of the control groups (v1 or v2) around the process, and of the machine."""
    limits = [limit for path in _limit_files(proc, cgroups) if (limit := _read_limit(path)) is not None]
    return min([*limits, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")])


def _limit_files(proc: Path, cgroups: Path) -> Iterator[Path]:
    """Yield the limit files of the process's group and its parents; in a container, its group is the root."""
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = cgroups / "memory" if controllers else cgroups
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        relative = PurePosixPath(group).relative_to("/")
        if ".." not in relative.parts:
            yield from (root / parent / name for parent in (relative, *relative.parents))


def _read_limit(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # no such file, or "max"
        return None
