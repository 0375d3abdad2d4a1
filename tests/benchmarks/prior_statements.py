"""Whether a prior draws what a prompt states in 2D: the side, the pattern, the relation of two objects.

    python tests/benchmarks/prior_statements.py [--model FOLDER] [--omega 3] [--steps 30] [--sheet FILE]
    python tests/benchmarks/prior_statements.py --check

Each prompt has rivals that differ in one statement: other sides, other patterns, objects or colours that have
changed places, one object alone. A sample counts if the nearest of all true pictures, from many cameras, is
one of its own prompt and not of a rival, and near enough (``FAR``). Pictures are compared by colours and by
outline, after both have been cropped to the object.
``--check`` judges the measure: true pictures from other cameras in place of samples, which should be right;
the same pictures blurred to a fog, and those of the next prompt, which should be wrong.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from dreamfusion_pl.data.orbit import orbit
from dreamfusion_pl.data.world.captions import held_out, pair_held_out, plain_caption, related_pairs
from dreamfusion_pl.data.world.colors import COLORS, PATTERNS
from dreamfusion_pl.data.world.scenes import Item, WorldScene
from dreamfusion_pl.data.world.tracer import Drawing, render_world

SIDES = {"front view": 0.0, "left side view": 90.0, "back view": 180.0, "right side view": 270.0}
SIDED = ("chair", "sofa", "bed", "mug", "car", "bus", "train", "airplane", "boat", "helicopter")
SIDED += ("duck", "cat", "dog", "rabbit", "fish", "penguin", "turtle")
PATTERNED = ("ball", "cube", "cylinder", "mug", "chair", "apple", "car", "duck", "fish", "house")
ELEVATIONS = (0.0, 25.0, 50.0)
AZIMUTHS = tuple(22.5 * k for k in range(16))
# Mean square difference from which a picture shows nothing of the kind; nine tenths of the true pictures from
# other cameras are nearer, and nearly all that were blurred to a fog are farther, but for patterns.
FAR = {"side": 0.04, "pattern": 0.08, "relation": 0.04}
SIDE, CROP = 48, 32  # pixels of a true picture, and of what is compared


class Look(NamedTuple):
    """A scene and the azimuths in degrees that it may be seen from."""

    scene: WorldScene
    azimuths: tuple[float, ...]


class Question(NamedTuple):
    """A prompt, what is to be seen, and what is not."""

    kind: str
    prompt: str
    answer: Look
    rivals: list[Look]


def sides(rng: random.Random) -> Iterator[Question]:
    """Objects with a front and two different profiles, from four sides."""
    for name in SIDED:
        color = rng.choice([color for color in COLORS if not pair_held_out(name, color)])
        scene = WorldScene((Item(name, color),))
        looks = {
            side: Look(scene, (azimuth - 15.0, azimuth, azimuth + 15.0)) for side, azimuth in SIDES.items()
        }
        for side, look in looks.items():
            rivals = [other for other in looks.values() if other is not look]
            yield Question("side", f"{plain_caption(scene)}, {side}", look, rivals)


def patterns(rng: random.Random) -> Iterator[Question]:
    """Objects in each pattern."""
    for name in PATTERNED:
        color = rng.choice([color for color in COLORS if not pair_held_out(name, color)])
        looks = {p: Look(WorldScene((Item(name, color, p),)), AZIMUTHS) for p in PATTERNS}
        for pattern, look in looks.items():
            if pattern != "plain":
                rivals = [other for other in looks.values() if other is not look]
                yield Question("pattern", plain_caption(look.scene), look, rivals)


def relations(rng: random.Random, count: int) -> Iterator[Question]:
    """Two objects of different colours, one on or next to the other."""
    for first, relation, second in rng.sample(related_pairs(), count):
        colors = rng.sample(sorted(COLORS), 2)
        a, b = Item(first, colors[0]), Item(second, colors[1])
        recolored = (Item(first, colors[1]), Item(second, colors[0]))
        rivals = [WorldScene(recolored, relation), WorldScene((a,)), WorldScene((b,))]
        if relation == "on":
            rivals += [WorldScene((b, a), "on"), WorldScene((a, b), "next to")]
        else:
            rivals.append(WorldScene((a, b), "on"))
        scene = WorldScene((a, b), relation)
        yield Question(
            f"relation, {relation}",
            plain_caption(scene),
            Look(scene, AZIMUTHS),
            [Look(rival, AZIMUTHS) for rival in rivals],
        )


def drawings(look: Look, size: int, distance: float = 1.5, tilt: float = 0.0) -> Drawing:
    """Draw a look in N pictures of ``size`` pixels, from its azimuths and all elevations."""
    azimuths = [azimuth for azimuth in look.azimuths for _ in ELEVATIONS]
    views = [
        orbit([azimuth + tilt], elevation + tilt, distance, 1.2, size, size)
        for azimuth, elevation in zip(azimuths, ELEVATIONS * len(look.azimuths), strict=True)
    ]
    return render_world(look.scene, type(views[0])(*map(torch.cat, zip(*views, strict=True))), supersample=1)


def cropped(premultiplied: Tensor) -> Tensor:
    """Crop pictures [N, H, W, 4] of colour and alpha to the square around the object: [N, C, C, 4].

    The colours are then over gray, so that an outline counts by alpha, whatever the object's colour.
    """
    parts = []
    for picture in premultiplied:
        mask = picture[..., 3] > 0.5
        if not bool(mask.any()):
            parts.append(torch.zeros(4, CROP, CROP))
            continue
        rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        clean = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].permute(2, 0, 1)
        high, wide = clean.shape[1:]
        above, left = abs(min(high - wide, 0)) // 2, abs(min(wide - high, 0)) // 2
        square = torch.zeros(4, max(high, wide), max(high, wide))
        square[:, above : above + high, left : left + wide] = clean
        parts.append(torch.nn.functional.interpolate(square[None], (CROP, CROP), mode="area")[0])
    found = torch.stack(parts).permute(0, 2, 3, 1)
    return torch.cat([found[..., :3] + 0.5 * (1.0 - found[..., 3:]), found[..., 3:]], dim=-1)


def cut_out(picture: Tensor) -> Tensor:
    """Premultiplied colour and alpha [H, W, 4] of a picture [H, W, 3]: what differs from its border."""
    border = torch.cat([picture[0], picture[-1], picture[:, 0], picture[:, -1]]).median(0).values
    alpha = ((picture - border).abs().amax(-1, keepdim=True) > 0.15).float()
    return torch.cat([picture * alpha, alpha], dim=-1)


def over_a_contrast(drawing: Drawing) -> Tensor:
    """Composite drawings over the corner of the colour cube that is farthest from their colours."""
    corners = torch.tensor([[r, g, b] for r in (0.1, 0.9) for g in (0.1, 0.9) for b in (0.1, 0.9)])
    found = drawing.rgb[drawing.alpha > 0.99]
    gaps = (corners[:, None] - found).abs().amax(-1)
    return drawing.over(corners[gaps.quantile(0.02, dim=1).argmax()].expand(len(drawing.rgb), 3))


def is_right(picture: Tensor, question: Question, known: dict[Look, Tensor]) -> bool:
    """Return whether the true picture that is nearest to a picture [H, W, 3] is one of the prompt's own."""
    seen = cropped(cut_out(picture)[None])

    def nearest(look: Look) -> float:
        if look not in known:
            drawing = drawings(look, SIDE)
            known[look] = cropped(torch.cat([drawing.rgb, drawing.alpha[..., None]], dim=-1))
        return float((known[look] - seen).square().mean((1, 2, 3)).min())

    return nearest(question.answer) < min(FAR[question.kind.split(",")[0]], *map(nearest, question.rivals))


def fog(picture: Tensor) -> Tensor:
    """Blur a picture [H, W, 3] over a quarter of its width."""
    wide = torch.nn.functional.avg_pool2d(
        torch.nn.functional.pad(picture.permute(2, 0, 1)[None], [8] * 4, mode="replicate"), 17, stride=1
    )
    return wide[0].permute(1, 2, 0)


def drawn(questions: list[Question], options: argparse.Namespace) -> list[Tensor]:
    """Draw one sample for each prompt with diffusers alone."""
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(options.model, low_cpu_mem_usage=False)
    pipeline.unet.float()
    pipeline.set_progress_bar_config(disable=True)
    rng, pictures = torch.Generator().manual_seed(options.seed), []
    for first in range(0, len(questions), 20):
        with torch.autocast("cpu", torch.bfloat16):
            found = pipeline(
                [question.prompt for question in questions[first : first + 20]],
                num_inference_steps=options.steps,
                guidance_scale=1.0 + options.omega,
                generator=rng,
                output_type="np",
            )
        pictures += list(torch.as_tensor(found.images).float())
    return pictures


def report(label: str, questions: list[Question], pictures: list[Tensor]) -> None:
    """Print the share of right pictures of each kind."""
    known: dict[Look, Tensor] = {}
    right = [is_right(*pair, known) for pair in zip(pictures, questions, strict=True)]
    for kind in dict.fromkeys(question.kind for question in questions):
        for unseen in (False, True):
            rows = [
                good
                for good, question in zip(right, questions, strict=True)
                if question.kind == kind and held_out(question.answer.scene) == unseen
            ]
            if rows:
                share, seen = 100 * sum(rows) / len(rows), "held out" if unseen else "seen"
                print(f"{label}{kind}, {seen}: {len(rows)} prompts, {share:.0f} % right", flush=True)


def main() -> None:
    """Draw, judge, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    packaged = Path(__file__).parents[2] / "dreamfusion_pl" / "diffusion" / "builtin"
    parser.add_argument("--model", default=str(packaged))
    parser.add_argument("--omega", type=float, default=3.0, help="guidance, (1 + omega) eps(y) - omega eps()")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--relations", type=int, default=60, help="number of relations")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--check", action="store_true", help="judge the measure with true pictures")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    questions = [*sides(rng), *patterns(rng), *relations(rng, options.relations)]
    if options.check:
        angles = [rng.randrange(len(question.answer.azimuths) * len(ELEVATIONS)) for question in questions]
        true = [
            over_a_contrast(drawings(question.answer, 64, distance=1.6, tilt=7.0))[angle]
            for question, angle in zip(questions, angles, strict=True)
        ]
        report("true pictures: ", questions, true)
        report("blurred to a fog: ", questions, [fog(picture) for picture in true])
        report("pictures of the next prompt: ", questions, [*true[1:], true[0]])
        return
    pictures = drawn(questions, options)
    report("", questions, pictures)
    if options.sheet:
        from PIL import Image

        rows = [torch.cat(pictures[i : i + 20], dim=1) for i in range(0, len(pictures) - 19, 20)]
        Image.fromarray((torch.cat(rows) * 255).round().byte().numpy()).save(options.sheet)


if __name__ == "__main__":
    main()
