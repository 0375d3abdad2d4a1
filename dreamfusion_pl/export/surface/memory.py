"""How much memory there is, and whether what an export needs fits into it."""

from __future__ import annotations

import math
import os
from pathlib import Path

POINT_BYTES = 32  # memory that a grid's point takes at most, from the field to the surface
TEXEL_BYTES = 80  # and a large texture's texel, with a normal map, from the charts to the file
CGROUPS = Path("/sys/fs/cgroup")
LAYOUTS = (  # of control groups, version 2 and 1: limit, use, statistics, and in these what can be given up
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)


def available_memory(cgroups: Path = CGROUPS) -> int | None:
    """Bytes that this process may take: the machine's, or what a container's limit leaves of them.

    None where the system does not say.
    """
    known = [physical_memory(), *(_left(cgroups, *layout) for layout in LAYOUTS)]
    return min((amount for amount in known if amount is not None), default=None)


def physical_memory() -> int | None:
    """Bytes of memory in this machine; None where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _left(cgroups: Path, limit: str, use: str, statistics: str, cached: str) -> int | None:
    """Bytes under a control group's limit; None where there is no limit, or no such group."""
    try:
        allowed, used = (int((cgroups / name).read_text()) for name in (limit, use))
        rows = dict(line.split() for line in (cgroups / statistics).read_text().splitlines())
        return max(allowed - used + int(rows[cached]), 0)
    except (OSError, ValueError, KeyError):
        return None


def check_fits(shape: list[int], memory: int | None) -> None:
    """Raise ValueError where a grid of this shape needs more than four fifths of ``memory`` bytes."""
    needed = POINT_BYTES * math.prod(shape)
    if memory is not None and needed > 0.8 * memory:
        fitting = int(max(shape) * (0.8 * memory / needed) ** (1 / 3))
        raise ValueError(
            f"a grid of {' x '.join(map(str, shape))} points needs about {needed / 1e9:.1f} GB and this "
            f"process can have {memory / 1e9:.1f} GB: take a resolution of {fitting} or less"
        )


def check_texture_fits(size: int, memory: int | None) -> None:
    """Raise ValueError where a texture of this height and width needs more than that."""
    needed = TEXEL_BYTES * size**2
    if memory is not None and needed > 0.8 * memory:
        raise ValueError(
            f"a texture of {size} x {size} needs about {needed / 1e9:.1f} GB and this process can have "
            f"{memory / 1e9:.1f} GB: take a size of {int(math.sqrt(0.8 * memory / TEXEL_BYTES))} or less"
        )
