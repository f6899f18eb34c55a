"""Memory limit of the process: of its control group, its parents', or the machine's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.memory_limit import memory_limit

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
LIMIT = 1 << 26


def limit_of(root: Path, group: str, files: dict[str, str]) -> int:
    """Return the limit of a process in `group` with these files under /sys/fs/cgroup."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(group)
    for name, text in files.items():
        path = root / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return memory_limit(root / "proc", root / "cgroup")


@pytest.mark.parametrize(
    ("group", "files", "expected"),
    [
        ("0::/\n", {"memory.max": f"{LIMIT}\n"}, LIMIT),
        ("0::/\n", {"memory.max": "max\n"}, MACHINE),
        ("0::/\n", {}, MACHINE),
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": f"{LIMIT}\n"}, LIMIT),
        ("0::/a/b\n", {"a/b/memory.max": f"{LIMIT}\n", "a/memory.max": f"{2 * LIMIT}\n"}, LIMIT),
        ("0::/../x\n", {"memory.max": "1\n"}, MACHINE),
        ("5:cpu,memory:/k\n1:name=systemd:/\n", {"memory/k/memory.limit_in_bytes": f"{LIMIT}\n"}, LIMIT),
        ("5:memory:/gone\n", {"memory/memory.limit_in_bytes": f"{LIMIT}\n"}, LIMIT),
        ("5:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, MACHINE),
    ],
    ids=["v2", "v2 unlimited", "no file", "parent", "own", "outside", "v1", "v1 in a container", "v1 unlimited"],
)
def test_the_smallest_limit_counts(tmp_path: Path, group: str, files: dict[str, str], expected: int) -> None:
    assert expected == limit_of(tmp_path, group, files)


def test_without_control_groups_the_memory_of_the_machine_counts(tmp_path: Path) -> None:
    assert MACHINE == memory_limit(tmp_path, tmp_path)
