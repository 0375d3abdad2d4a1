"""How well a prior draws in 2D: one sample for each of 200 prompts, named by the world classifier.

    python tests/benchmarks/prior_2d.py [--model FOLDER] [--omega 4] [--steps 50] [--sheet samples.png]

The pictures are drawn by ``diffusers.DiffusionPipeline`` alone, as anybody would. Prompts are distinct pairs
of object and colour, chosen with a fixed seed; pairs held out of training are reported apart.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import torch

from dreamfusion_pl.data.world.captions import held_out, plain_caption
from dreamfusion_pl.data.world.colors import COLORS
from dreamfusion_pl.data.world.objects.catalog import OBJECT_NAMES
from dreamfusion_pl.data.world.scenes import Item, WorldScene
from dreamfusion_pl.metrics.classifier import COLOR_NAMES, load_classifier


def choose_scenes(count: int, seed: int) -> list[WorldScene]:
    """Distinct plain objects."""
    pairs = [(name, color) for name in OBJECT_NAMES for color in COLORS]
    return [WorldScene((Item(*pair),)) for pair in random.Random(seed).sample(pairs, count)]


def main() -> None:
    """Draw, judge, print."""
    from diffusers import DiffusionPipeline

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    packaged = Path(__file__).parents[2] / "dreamfusion_pl" / "diffusion" / "builtin"
    parser.add_argument("--model", default=str(packaged))
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--omega", type=float, default=4.0, help="guidance, (1 + omega) eps(y) - omega eps()")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    scenes = choose_scenes(options.count, options.seed)
    pipeline = DiffusionPipeline.from_pretrained(options.model, low_cpu_mem_usage=False)
    pipeline.unet.float()
    pipeline.set_progress_bar_config(disable=True)
    rng = torch.Generator().manual_seed(options.seed)
    pictures, start = [], time.time()
    for first in range(0, len(scenes), 20):
        prompts = [plain_caption(scene) for scene in scenes[first : first + 20]]
        with torch.autocast("cpu", torch.bfloat16):
            drawn = pipeline(
                prompts,
                num_inference_steps=options.steps,
                guidance_scale=1.0 + options.omega,
                generator=rng,
                output_type="np",
                clean_caption=False,
            )
        pictures.append(torch.as_tensor(drawn.images))
    pictures = torch.cat(pictures).float()
    with torch.no_grad():
        scores = load_classifier()(pictures)
    right = [
        (
            OBJECT_NAMES[int(scores.object[i].argmax())] == scene.items[0].object,
            COLOR_NAMES[int(scores.color[i].argmax())] == scene.items[0].color,
            held_out(scene),
        )
        for i, scene in enumerate(scenes)
    ]
    print(
        f"{len(scenes)} samples in {time.time() - start:.0f} s, omega {options.omega}, {options.steps} steps"
    )
    groups = {"all": right, "seen": [r for r in right if not r[2]], "held out": [r for r in right if r[2]]}
    for label, rows in groups.items():
        if rows:
            objects, colors = (100 * sum(r[k] for r in rows) / len(rows) for k in (0, 1))
            print(f"{label}: {len(rows)} prompts, object {objects:.1f} %, colour {colors:.1f} %")
    if options.sheet:
        from PIL import Image

        rows = [torch.cat(list(row), dim=1) for row in pictures.split(20) if len(row) == 20]
        sheet = (torch.cat(rows) * 255).round().byte().numpy()
        Image.fromarray(sheet).resize((sheet.shape[1] * 2, sheet.shape[0] * 2), 0).save(options.sheet)


if __name__ == "__main__":
    main()
