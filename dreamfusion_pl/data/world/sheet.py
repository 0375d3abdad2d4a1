"""The command ``world``: draw a labelled contact sheet of the procedural world."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from dreamfusion_pl.data.labels import BLACK, WHITE, label, label_width
from dreamfusion_pl.data.orbit import GRAY, orbit
from dreamfusion_pl.data.world.captions import parse, plain_caption, related_pairs
from dreamfusion_pl.data.world.colors import COLORS, PATTERNS
from dreamfusion_pl.data.world.layers import sample_views
from dreamfusion_pl.data.world.objects.catalog import OBJECT_NAMES, OBJECTS
from dreamfusion_pl.data.world.scenes import RELATIONS, Item, WorldScene
from dreamfusion_pl.data.world.tracer import render_world
from dreamfusion_pl.rng import generator
from dreamfusion_pl.types import Views

COLUMNS = 4  # scenes per row


def main(args: Sequence[str]) -> int:
    """Draw the sheet; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m dreamfusion_pl world",
        description="Draw a labelled contact sheet of the procedural world: every object, and a row for each "
        "pattern and relation.",
    )
    parser.add_argument("--out", type=Path, default=Path("world.png"), help="picture to write")
    parser.add_argument("--prompt", action="append", help="draw this instead of everything; may be repeated")
    parser.add_argument("--size", type=int, default=64, help="pixels of one view")
    parser.add_argument(
        "--views", type=int, default=4, help="views of each object: from the front and left, then random ones"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of views, lights and colours")
    options = parser.parse_args(args)
    if options.size < 8 or options.views < 1:
        print("dreamfusion_pl: error: --size must be 8 or more and --views 1 or more", file=sys.stderr)
        return 2
    try:
        parts = [Section("", _named(options.prompt))] if options.prompt else _everything(options.seed)
        _write(contact_sheet(parts, options.views, options.size, options.seed), options.out)
    except UnknownSceneError as error:
        print(f"dreamfusion_pl: error: {error}", file=sys.stderr)
        return 2
    except (OSError, ValueError) as error:
        print(f"dreamfusion_pl: error: cannot write {options.out}: {error}", file=sys.stderr)
        return 1
    scenes = [scene for part in parts for scene in part.scenes]
    print(f"{len(scenes)} scenes of {options.views} views each: {options.out}")
    return 0


def known() -> str:
    """Return the world's objects and colours in one sentence."""
    return f"it knows {', '.join(OBJECTS)}, in {', '.join(COLORS)}"


class UnknownSceneError(ValueError):
    """A prompt names nothing that the world can show."""


class Section(NamedTuple):
    """Part of a sheet."""

    title: str  # "": none
    scenes: list[WorldScene]


def _named(prompts: list[str]) -> list[WorldScene]:
    scenes = []
    for prompt in prompts:
        scene = parse(prompt)
        if scene is None:
            raise UnknownSceneError(f"the world cannot show {prompt!r}; {known()}")
        scenes.append(scene)
    return scenes


def _everything(seed: int) -> list[Section]:
    """Return every object, and a row of examples of every pattern and of every relation."""
    rng = random.Random(seed)

    def item(name: str, pattern: str = "plain") -> Item:
        return Item(name, rng.choice(tuple(COLORS)), pattern)

    sections = [Section("objects", [WorldScene((item(name),)) for name in OBJECT_NAMES])]
    for pattern in PATTERNS[1:]:
        names = rng.sample(OBJECT_NAMES, COLUMNS)
        sections.append(Section(pattern, [WorldScene((item(name, pattern),)) for name in names]))
    for relation in RELATIONS:
        pairs = rng.sample([pair for pair in related_pairs() if pair[1] == relation], COLUMNS)
        scenes = [WorldScene((item(first), item(second)), relation) for first, _, second in pairs]
        sections.append(Section(relation, scenes))
    return sections


def contact_sheet(sections: Sequence[Section], views: int, size: int, seed: int) -> Tensor:
    """Draw views of scenes on gray, a labelled cell for each scene, ``COLUMNS`` cells per row.

    The first view of each is from its front and left, the others are random ones.

    Args:
        sections: the scenes, and the titles above them.
        views: views of each scene.
        size: height and width of one view in pixels.
        seed: seed of views and lights.

    Returns:
        The picture, [H, W, 3] in [0, 1]. Cells are wider than their views where a label needs it.
    """
    count = max(len(section.scenes) for section in sections)
    columns = min(COLUMNS, count)
    labels = [plain_caption(scene) for section in sections for scene in section.scenes]
    width = max(views * size, *(label_width(words) for words in labels))
    titles = max(label_width(section.title) for section in sections)
    width = max(width, -(-titles // columns))
    bands, index = [], 0
    for section in sections:
        if section.title:
            bands.append(label(section.title, columns * width, behind=BLACK, ink=WHITE))
        cells = []
        for scene in section.scenes:
            cells.append(_cell(scene, views, size, generator(seed, "sheet", step=index), width))
            index += 1
        while len(cells) % columns:
            cells.append(torch.tensor(GRAY).expand_as(cells[0]))
        bands += [torch.cat(cells[i : i + columns], dim=1) for i in range(0, len(cells), columns)]
    return torch.cat(bands, dim=0)


def _cell(scene: WorldScene, views: int, size: int, rng: torch.Generator, width: int) -> Tensor:
    first = orbit([35.0], 20.0, 1.4, 1.25, size, size)
    first = first._replace(
        light=torch.tensor([[0.4, 1.0, 1.2]]), ambient=first.ambient * 0.35, diffuse=first.ambient * 0.65
    )
    others = sample_views(views, size, rng, (-10.0, 60.0))
    chosen = Views(*(torch.cat([one, more[1:]]) for one, more in zip(first, others, strict=True)))
    behind = torch.tensor(GRAY)
    strip = torch.cat(list(render_world(scene, chosen).over(behind.expand(views, 3))), dim=1)
    room = behind.expand(size, width - strip.shape[1], 3)
    words = label(plain_caption(scene), width, behind=GRAY)
    return torch.cat([torch.cat([strip, room], dim=1), words])


def _write(picture: Tensor, path: Path) -> None:
    import imageio.v3 as imageio

    path.parent.mkdir(parents=True, exist_ok=True)
    imageio.imwrite(path, (picture * 255).round().byte().numpy())
