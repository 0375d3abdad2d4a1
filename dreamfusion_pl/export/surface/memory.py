"""Available memory, and checks that an export fits into it."""

from __future__ import annotations

import math
import os
from pathlib import Path

POINT_BYTES = 32  # peak memory per grid point during extraction
TEXEL_BYTES = 80  # peak memory per texel of a large texture with a normal map
CGROUPS = Path("/sys/fs/cgroup")
LAYOUTS = (  # cgroup files, versions 2 and 1: limit, usage, statistics, and the key of reclaimable memory
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)


def available_memory(cgroups: Path = CGROUPS) -> int | None:
    """Return the bytes that this process can use: the machine's memory, or what a container's limit leaves.

    None if the system does not report it.
    """
    known = [physical_memory(), *(_cgroup_memory(cgroups, *layout) for layout in LAYOUTS)]
    return min((amount for amount in known if amount is not None), default=None)


def physical_memory() -> int | None:
    """Return the bytes of memory in this machine; None if the system does not report it."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _cgroup_memory(cgroups: Path, limit: str, use: str, statistics: str, cached: str) -> int | None:
    """Return the bytes left under a control group's limit; None if there is no limit or no such group."""
    try:
        allowed, used = (int((cgroups / name).read_text("ascii")) for name in (limit, use))
        rows = dict(line.split() for line in (cgroups / statistics).read_text("ascii").splitlines())
        return max(allowed - used + int(rows[cached]), 0)
    except (OSError, ValueError, KeyError):
        return None


def check_fits(shape: list[int], memory: int | None) -> None:
    """Raise ValueError if a grid of this shape needs more than 80 % of ``memory`` bytes."""
    needed = POINT_BYTES * math.prod(shape)
    if memory is not None and needed > 0.8 * memory:
        fitting = int(max(shape) * (0.8 * memory / needed) ** (1 / 3))
        raise ValueError(
            f"a grid of {' x '.join(map(str, shape))} points needs about {needed / 1e9:.1f} GB and this "
            f"process can have {memory / 1e9:.1f} GB: take a resolution of {fitting} or less"
        )


def check_texture_fits(size: int, memory: int | None) -> None:
    """Raise ValueError if a texture of this height and width needs more than 80 % of ``memory`` bytes."""
    needed = TEXEL_BYTES * size**2
    if memory is not None and needed > 0.8 * memory:
        raise ValueError(
            f"a texture of {size} x {size} needs about {needed / 1e9:.1f} GB and this process can have "
            f"{memory / 1e9:.1f} GB: take a size of {int(math.sqrt(0.8 * memory / TEXEL_BYTES))} or less"
        )
