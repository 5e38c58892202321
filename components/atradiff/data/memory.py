"""How much memory there is to plan with."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

UNKNOWN = 2**62
"""Where the system does not say what it has: more than anybody needs."""
LIMITS = {"": "memory.max", "memory": "memory.limit_in_bytes"}
"""The file of a group's limit, by what the kernel calls the tree of groups: the one tree of cgroup v2 has no name."""


def memory_bytes(root: Path = Path("/")) -> int:
    """What this process may have: the machine's memory, or less where a container or a control group allows less.

    `root` is the folder in which the system's own lie.
    """
    try:
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        machine = UNKNOWN
    return min([machine, *_group_limits(root)])


def _group_limits(root: Path) -> list[int]:
    """The limits of the control groups that this process is in. A container may see its own group as the topmost, and what is above it not at all."""
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    limits: list[int] = []
    for line in groups:
        _, trees, path = line.split(":", 2)
        for tree in LIMITS.keys() & trees.split(","):
            group = PurePosixPath(path.lstrip("/"))
            for folder in (group, *group.parents):
                limits += _limit(root / "sys/fs/cgroup" / tree / folder / LIMITS[tree])
    return limits


def _limit(file: Path) -> list[int]:
    """The number that stands there, if one does: v2 writes `max` where there is no limit."""
    try:
        text = file.read_text().strip()
    except OSError:
        return []
    return [int(text)] if text.isdecimal() else []
