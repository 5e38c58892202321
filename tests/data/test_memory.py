from __future__ import annotations

from pathlib import Path

import pytest

from atradiff.data.memory import memory_bytes

MACHINE = memory_bytes(Path("/nowhere"))
LITTLE, LESS = MACHINE // 4, MACHINE // 8


def system(root: Path, groups: str, limits: dict[str, str]) -> Path:
    """A folder in which the kernel's words on control groups lie, by their paths under /sys/fs/cgroup."""
    for path, text in {"proc/self/cgroup": groups, **{f"sys/fs/cgroup/{path}": text for path, text in limits.items()}}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


@pytest.mark.parametrize(
    ("groups", "limits", "expected"),
    [
        ("0::/\n", {"memory.max": f"{LITTLE}\n"}, LITTLE),  # a container sees its own group as the topmost
        ("0::/a/b\n", {"memory.max": "max\n", "a/memory.max": f"{LESS}\n", "a/b/memory.max": f"{LITTLE}\n"}, LESS),
        ("0::/a\n", {"a/memory.max": "max\n"}, MACHINE),
        ("0::/a\n", {"a/memory.max": f"{8 * MACHINE}\n"}, MACHINE),
        ("9:cpu,cpuacct:/x\n4:memory:/docker/1a2b\n0::/\n", {"memory/memory.limit_in_bytes": f"{LITTLE}\n"}, LITTLE),
        ("4:memory:/a\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n", "memory/a/memory.limit_in_bytes": f"{LESS}\n"}, LESS),
        ("", {}, MACHINE),
    ],
)
def test_a_limit_of_any_control_group_around_counts(tmp_path: Path, groups: str, limits: dict[str, str], expected: int) -> None:
    assert memory_bytes(system(tmp_path, groups, limits)) == expected


def test_there_is_some_memory() -> None:
    assert 2**24 < memory_bytes() <= MACHINE
