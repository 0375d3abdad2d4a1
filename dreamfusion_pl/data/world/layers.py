"""Traces images of the world from random views, as layers that can be recoloured."""

from __future__ import annotations

import multiprocessing
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dreamfusion_pl.data import cameras
from dreamfusion_pl.data.world import captions
from dreamfusion_pl.data.world.colors import PATTERNS
from dreamfusion_pl.data.world.objects.catalog import OBJECT_NAMES
from dreamfusion_pl.data.world.scenes import Layout
from dreamfusion_pl.data.world.tracer import draw_layers
from dreamfusion_pl.rng import generator
from dreamfusion_pl.types import Views

CHUNK = 16  # views of one layout that are traced together
RELATED = 0.28  # share of images with two objects
PATTERNED = 0.25  # probability that an item has a pattern
PAIRS = tuple(pair for pair in captions.related_pairs() if not captions.relation_held_out(pair[0], pair[2]))


class Layers(NamedTuple):
    """Images that are not coloured yet, and their contents."""

    layers: Tensor  # [N, H, W, 8] uint8, see tracer.draw_layers
    layout: Tensor  # [N, 3] int64: first object, relation (-1, or a row of PAIRS), second object (-1: none)
    patterns: Tensor  # [N, 2] int64, indices into PATTERNS
    angles_deg: Tensor  # [N, 2] elevation and azimuth


def sample_views(count: int, size: int, rng: torch.Generator, elevation_deg: tuple[float, float]) -> Views:
    """Sample cameras and lights for images of the world.

    The distributions are the paper's (3.2, A.2). The ranges of distance and focal length are narrower, so
    that the object fills a small image. About a third of the images have ambient light only, like the albedo
    renders that the prior sees during distillation.

    Args:
        count: number of views B.
        size: height and width in pixels.
        rng: random generator.
        elevation_deg: lowest and highest elevation.
    """
    elevation = cameras.sample_elevations_deg(count, *elevation_deg, 0.3, rng)
    azimuth = cameras.sample_azimuths_deg(count, False, rng)
    origin = cameras.positions(elevation, azimuth, 1.4 + 0.2 * torch.rand(count, generator=rng))
    origin = origin + 0.05 * (2.0 * torch.rand(count, 3, generator=rng) - 1.0)
    target = 0.03 * torch.randn(count, 3, generator=rng)
    up = torch.tensor([0.0, 0.0, 1.0]) + 0.02 * torch.randn(count, 3, generator=rng)
    ambient = 0.2 + 0.3 * torch.rand(count, generator=rng)
    ambient = torch.where(torch.rand(count, generator=rng) < 0.35, torch.ones(count), ambient)
    return Views(
        origin=origin,
        rotation=cameras.look_at(origin, target, up),
        focal=1.05 + 0.3 * torch.rand(count, generator=rng),
        elevation_deg=elevation,
        azimuth_deg=azimuth,
        light=cameras.sample_lights(origin, 0.8, 1.5, rng),
        ambient=ambient,
        diffuse=1.0 - ambient,
        textureless=torch.zeros(count, dtype=torch.bool),
        background=torch.ones(count, 3),
        solid=torch.ones(count, dtype=torch.bool),
        jitter=torch.zeros(count, size, size),
    )


def trace_chunk(chunk: int, seed: int, size: int, elevation_deg: tuple[float, float], device: str) -> Layers:
    """Trace ``CHUNK`` views of one random layout; a pure function of its arguments."""
    rng = generator(seed, "world", step=chunk)
    draws = torch.rand(4, generator=rng)
    if draws[0] < RELATED:
        pair = int(draws[1] * len(PAIRS))
        first, relation, second = PAIRS[pair]
        layout, code = (
            Layout((first, second), relation),
            (OBJECT_NAMES.index(first), pair, OBJECT_NAMES.index(second)),
        )
    else:
        index = chunk % len(OBJECT_NAMES)
        layout, code = Layout((OBJECT_NAMES[index],)), (index, -1, -1)
    pattern = [1 + int(d / PATTERNED * (len(PATTERNS) - 1)) if d < PATTERNED else 0 for d in draws[2:]]
    views = sample_views(CHUNK, size, rng, elevation_deg)
    on_device = Views(*[field.to(device) for field in views])
    layers = draw_layers(layout, tuple(PATTERNS[i] for i in pattern[: len(layout.objects)]), on_device)
    return Layers(
        (layers * 255.0).round().byte().cpu(),
        torch.tensor(code).expand(CHUNK, 3),
        torch.tensor(pattern).expand(CHUNK, 2),
        torch.stack([views.elevation_deg, views.azimuth_deg], dim=-1),
    )


def _trace_numpy(arguments: tuple[int, int, int, tuple[float, float], str]) -> list[np.ndarray]:
    torch.set_num_threads(1)
    return [field.numpy() for field in trace_chunk(*arguments)]


def trace_world(
    count: int,
    size: int,
    seed: int,
    elevation_deg: tuple[float, float],
    device: str = "cpu",
    workers: int = 0,
) -> Layers:
    """Trace about ``count`` images of the world.

    Args:
        count: number of images, rounded up to whole chunks.
        size: height and width in pixels.
        seed: random seed.
        elevation_deg: lowest and highest elevation.
        device: device to trace on.
        workers: number of worker processes; 0 traces in this process.
    """
    jobs = [(chunk, seed, size, elevation_deg, device) for chunk in range(-(-count // CHUNK))]
    if workers:
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            chunks = pool.map(_trace_numpy, jobs, chunksize=8)
    else:
        chunks = [_trace_numpy(job) for job in jobs]
    return Layers(*[torch.from_numpy(np.concatenate(fields)) for fields in zip(*chunks, strict=True)])
