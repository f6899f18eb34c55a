"""Memory of the process: its limit (of the container, or the machine's memory), and what the allocator gives back."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_M_MMAP_THRESHOLD = -3  # mallopt(3)
_MMAP_THRESHOLD = 1 << 20  # bytes


def give_back_large_blocks() -> None:
    """Let glibc return blocks over 1 MiB to the system as soon as they are freed; other allocators are not changed.

    By default it does so only until the first large block was freed; then it keeps them, fragmented, in its heap.
    """
    try:
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD)
    except (AttributeError, OSError, TypeError):  # no glibc
        return


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
