"""Stateless randomness: a generator is a function of (seed, stream, rank, step).

No generator state is stored. Ranks draw different numbers, a resumed run draws the same numbers as an
uninterrupted one, and the same seed gives the same object.
"""

from __future__ import annotations

import hashlib

import torch


def generator(
    seed: int, stream: str, rank: int = 0, step: int = 0, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Return a generator that is determined by (seed, stream, rank, step) alone.

    Args:
        seed: the run's seed.
        stream: name of the consumer, for example ``"views"``; streams are independent.
        rank: global rank of the process.
        step: training step.
        device: the generator's device.
    """
    key = hashlib.blake2b(f"{seed}/{stream}/{rank}/{step}".encode(), digest_size=8).digest()
    return torch.Generator(device=device).manual_seed(int.from_bytes(key, "little") >> 1)
