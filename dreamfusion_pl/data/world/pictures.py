"""Captioned images of the world for training a text-to-image model (paper 2)."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from dreamfusion_pl.atomic import replacing
from dreamfusion_pl.data.world import captions
from dreamfusion_pl.data.world.colors import COLORS, PATTERNS
from dreamfusion_pl.data.world.layers import PAIRS, Layers, trace_world
from dreamfusion_pl.data.world.objects.catalog import OBJECT_NAMES
from dreamfusion_pl.data.world.scenes import RELATIONS, Item, WorldScene
from dreamfusion_pl.data.world.tracer import compose
from dreamfusion_pl.device.user_cache import user_cache
from dreamfusion_pl.rng import generator
from dreamfusion_pl.types import PictureBatch

VIEW_NAMED = 0.9  # share of captions that name the view
ELEVATION_NAMED = 0.7  # share of those that name its elevation too
COLOR_NAMED = 0.95  # share of captions that name the colours


def scene_of(layers: Layers, index: int, colors: tuple[str, str]) -> WorldScene:
    """Return the scene of image ``index`` with the given colours."""
    first, pair, second = layers.layout[index].tolist()
    pattern = [PATTERNS[i] for i in layers.patterns[index].tolist()]
    items = [Item(OBJECT_NAMES[first], colors[0], pattern[0])]
    if pair < 0:
        return WorldScene(tuple(items))
    items.append(Item(OBJECT_NAMES[second], colors[1], pattern[1]))
    return WorldScene(tuple(items), PAIRS[pair][1])


def _color(name: str, rng: random.Random, held_out: bool) -> str:
    color = rng.choice(tuple(COLORS))
    while not held_out and captions.pair_held_out(name, color):
        color = rng.choice(tuple(COLORS))
    return color


def color_scene(layers: Layers, index: int, rng: random.Random, held_out: bool = False) -> WorldScene:
    """Return the scene of image ``index`` in random colours; ``held_out`` also allows held-out pairs."""
    first, _, second = layers.layout[index].tolist()
    one = _color(OBJECT_NAMES[first], rng, held_out)
    other = _color(OBJECT_NAMES[second], rng, held_out) if second >= 0 else one
    return scene_of(layers, index, (one, other))


def _view(elevation_deg: float, azimuth_deg: float, rng: random.Random) -> str:
    naming = captions.view_and_elevation if rng.random() < ELEVATION_NAMED else captions.view_words
    return naming(elevation_deg, azimuth_deg)


def backgrounds(colors: Tensor, rng: torch.Generator) -> Tensor:
    """Sample solid backgrounds [B, 3] that tend to differ from the objects' colours [B, K, 3]."""
    candidates = torch.rand(2, colors.shape[0], 3, generator=rng)
    white = torch.rand(2, colors.shape[0], 1, generator=rng) < 0.15
    candidates = torch.where(white, torch.ones(()), candidates)
    gap = (candidates[:, :, None, :] - colors).abs().sum(dim=-1).amin(dim=-1)
    return torch.where((gap[0] > gap[1])[:, None], candidates[0], candidates[1])


def compose_batch(layers: Layers, indices: Tensor, scenes: list[WorldScene], rng: torch.Generator) -> Tensor:
    """Compose images [B, H, W, 3] from layers, in the scenes' colours, over random backgrounds."""
    names = [[scene.items[0].color, scene.items[-1].color] for scene in scenes]
    colors = torch.tensor([[COLORS[name] for name in pair] for pair in names])
    drawing = compose(layers.layers[indices].float() / 255.0, colors)
    return drawing.over(backgrounds(colors, rng))


def _indices(names: tuple[str, ...]) -> Tensor:
    return torch.tensor([OBJECT_NAMES.index(name) for name in names], dtype=torch.long)


def _check_names(argument: str, names: tuple[str, ...], known: tuple[str, ...]) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"{argument} does not know {unknown}; the world has {', '.join(known)}")


def _shows(layers: Layers, name: str) -> Tensor:
    """Return 1 for pictures whose first object has this name, or which show this pattern or relation, [N]."""
    first, pair, second = layers.layout.T
    if name in OBJECT_NAMES:
        return (first == OBJECT_NAMES.index(name)).float()
    if name in RELATIONS:
        rows = torch.tensor([row for row, related in enumerate(PAIRS) if related[1] == name])
        return torch.isin(pair, rows).float()
    found = layers.patterns == PATTERNS.index(name)
    return (found[:, 0] | (found[:, 1] & (second >= 0))).float()


class _Batches(IterableDataset):
    """An endless stream of batches, each a pure function of (seed, rank, step)."""

    def __init__(self, module: WorldPictures, layers: Layers) -> None:
        self.module = module
        self.layers = layers

    def __iter__(self) -> Iterator[PictureBatch]:
        step = self.module.first_step
        while True:
            yield self.module.batch(self.layers, step)
            step += 1


@final
class WorldPictures(LightningDataModule):
    """Captioned images of the procedural world, traced once and recoloured every time they are used.

    Args:
        batch_size: images per batch.
        size: height and width in pixels.
        count: number of images to trace; each is used with all colours and backgrounds.
        seed: seed of geometry, cameras, lights, colours and wordings.
        elevation_deg: lowest and highest camera elevation in degrees.
        more_of: objects, patterns and relations that are shown three times as often, for example because
            an object's sides differ; what is listed twice is shown five times as often, and so on.
        only: show single objects from this list only, for example for a curriculum; empty: the whole world.
        held_out: also show colour-object pairs that are held out of the prior's training (for classifiers).
        cache_dir: folder for traced images; default ``~/.cache/dreamfusion_pl`` (or ``XDG_CACHE_HOME``).
    """

    def __init__(
        self,
        batch_size: int = 64,
        size: int = 32,
        count: int = 32_000,
        seed: int = 0,
        elevation_deg: tuple[float, float] = (-10.0, 80.0),
        more_of: tuple[str, ...] = (),
        only: tuple[str, ...] = (),
        held_out: bool = False,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__()
        if min(batch_size, size, count) < 1:
            raise ValueError(
                f"batch_size, size and count must be positive, got {batch_size}, {size}, {count}"
            )
        _check_names("more_of", more_of, (*OBJECT_NAMES, *PATTERNS[1:], *RELATIONS))
        _check_names("only", only, OBJECT_NAMES)
        self.batch_size, self.size, self.count, self.seed = batch_size, size, count, seed
        self.more_of, self.only = tuple(more_of), tuple(only)
        self.elevation_deg = (float(elevation_deg[0]), float(elevation_deg[1]))
        self.held_out = held_out
        self.cache_dir = Path(cache_dir) if cache_dir else user_cache()
        self._layers: Layers | None = None

    @property
    def first_step(self) -> int:
        """Step of the first batch: the trainer's current step."""
        return self.trainer.global_step if self.trainer is not None else 0

    @property
    def cache_file(self) -> Path:
        """File of the traced images; its name depends on the settings and on the world's source code."""
        digest = hashlib.blake2b(digest_size=6)
        digest.update(repr((self.size, self.count, self.seed, self.elevation_deg)).encode())
        for source in sorted(Path(__file__).parent.rglob("*.py")):
            if source.stem != "sheet":
                digest.update(source.read_bytes())
        return self.cache_dir / f"world-{self.size}-{self.count}-{digest.hexdigest()}.npz"

    def prepare_data(self) -> None:
        """Trace the images unless they are cached."""
        if self.cache_file.exists():
            return
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        layers = trace_world(self.count, self.size, self.seed, self.elevation_deg, workers=workers)
        with replacing(self.cache_file) as temporary:
            np.savez(temporary, **{name: field.numpy() for name, field in layers._asdict().items()})

    def setup(self, stage: str | None = None) -> None:
        """Load the traced images."""
        if self._layers is None:
            with np.load(self.cache_file) as stored:
                self._layers = Layers(*[torch.from_numpy(stored[name]) for name in Layers._fields])

    def _choose(self, layers: Layers, rng: torch.Generator) -> Tensor:
        """Sample the indices of a batch's images, [batch_size].

        Raises:
            ValueError: no picture shows what is asked for.
        """
        first, second = layers.layout[:, 0], layers.layout[:, 2]
        weights = 1.0 + 2.0 * sum((_shows(layers, name) for name in self.more_of), torch.zeros(len(first)))
        if self.only:
            weights = weights * (torch.isin(first, _indices(self.only)) & (second < 0))
            if not weights.any():
                raise ValueError(
                    f"none of the {len(first)} pictures shows one of {list(self.only)} alone: "
                    "raise --data.count, or name more objects in --data.only"
                )
        return torch.multinomial(weights, self.batch_size, replacement=True, generator=rng)

    def batch(self, layers: Layers, step: int) -> PictureBatch:
        """Make the batch of a step: sample layers, colour them, add backgrounds and captions."""
        rank = self.trainer.global_rank if self.trainer is not None else 0
        rng = generator(self.seed, "pictures", rank, step)
        words = random.Random(int(torch.randint(2**62, (), generator=rng)))
        indices = self._choose(layers, rng)
        scenes = [color_scene(layers, index, words, self.held_out) for index in indices.tolist()]
        texts = []
        angles = layers.angles_deg[indices].tolist()
        for scene, (elevation, azimuth) in zip(scenes, angles, strict=True):
            view = _view(elevation, azimuth, words) if words.random() < VIEW_NAMED else ""
            texts.append(captions.describe(scene, words, view, name_colors=words.random() < COLOR_NAMED))
        return PictureBatch(compose_batch(layers, indices, scenes, rng), texts)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return an endless loader; ``max_steps`` ends training."""
        assert self._layers is not None, "setup() loads the pictures first"
        return DataLoader(_Batches(self, self._layers), batch_size=None)
