"""The command ``world``: draw a contact sheet of the procedural world."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from dreamfusion_pl.data.world.captions import parse
from dreamfusion_pl.data.world.colors import COLORS
from dreamfusion_pl.data.world.layers import sample_views
from dreamfusion_pl.data.world.objects.catalog import OBJECT_NAMES, OBJECTS
from dreamfusion_pl.data.world.scenes import Item, WorldScene
from dreamfusion_pl.data.world.tracer import render_world
from dreamfusion_pl.rng import generator


def main(args: Sequence[str]) -> int:
    """Draw the sheet; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m dreamfusion_pl world", description="Draw a contact sheet of the procedural world."
    )
    parser.add_argument("--out", type=Path, default=Path("world.png"), help="picture to write")
    parser.add_argument(
        "--prompt", action="append", help="draw this instead of every object; may be repeated"
    )
    parser.add_argument("--size", type=int, default=64, help="pixels of one view")
    parser.add_argument("--views", type=int, default=4, help="random views of each object")
    parser.add_argument("--seed", type=int, default=0, help="seed of views, lights and colours")
    options = parser.parse_args(args)
    if options.size < 8 or options.views < 1:
        print("dreamfusion_pl: error: --size must be 8 or more and --views 1 or more", file=sys.stderr)
        return 2
    scenes = [parse(prompt) for prompt in options.prompt] if options.prompt else _all_objects(options.seed)
    for prompt, scene in zip(options.prompt or (), scenes, strict=False):
        if scene is None:
            print(f"dreamfusion_pl: error: the world cannot show {prompt!r}; {known()}", file=sys.stderr)
            return 2
    picture = contact_sheet([scene for scene in scenes if scene], options.views, options.size, options.seed)
    try:
        _write(picture, options.out)
    except (OSError, ValueError) as error:
        print(f"dreamfusion_pl: error: cannot write {options.out}: {error}", file=sys.stderr)
        return 1
    print(f"{len(scenes)} scenes of {options.views} views each: {options.out}")
    if any(scene.relation for scene in scenes if scene):
        print("note: the world has relations of two objects, but the embedded prior does not draw them")
    return 0


def known() -> str:
    """Return the world's objects and colours in one sentence."""
    return f"it knows {', '.join(OBJECTS)}, in {', '.join(COLORS)}"


def _all_objects(seed: int) -> list[WorldScene | None]:
    rng = random.Random(seed)
    return [WorldScene((Item(name, rng.choice(tuple(COLORS))),)) for name in OBJECT_NAMES]


def contact_sheet(scenes: Sequence[WorldScene], views: int, size: int, seed: int, columns: int = 4) -> Tensor:
    """Draw random views of scenes, one scene per cell, ``columns`` cells per row: [H, W, 3] in [0, 1]."""
    cells = []
    for index, scene in enumerate(scenes):
        chosen = sample_views(views, size, generator(seed, "sheet", step=index), (-10.0, 60.0))
        cells.append(torch.cat(list(render_world(scene, chosen).over(chosen.background)), dim=1))
    columns = min(columns, len(cells))
    while len(cells) % columns:
        cells.append(torch.ones_like(cells[0]))
    rows = [torch.cat(cells[i : i + columns], dim=1) for i in range(0, len(cells), columns)]
    return torch.cat(rows, dim=0)


def _write(picture: Tensor, path: Path) -> None:
    import imageio.v3 as imageio

    path.parent.mkdir(parents=True, exist_ok=True)
    imageio.imwrite(path, (picture * 255).round().byte().numpy())
