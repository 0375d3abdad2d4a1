"""Quality of the main job against exact geometry: 24 prompts, several seeds, with ceiling and floor.

    python tests/benchmarks/main_job.py --out runs --seeds 2 --jobs 2 [any option of fit]

Every result is made by the command that a user types, in a process of its own. Then geometry is compared
after
alignment, albedo in matching views, and the world classifier looks from eight sides. The ceiling is the same
scene class fitted with squared error to true pictures for the same number of steps; the floor scores results
against the objects of other prompts. Writes ``results.json`` and prints a table; finished parts are not
repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
import yaml
from prompts import HELD_OUT, PROMPTS
from pytorch_lightning.cli import instantiate_class
from torch import Tensor

from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.data.views import RandomViews, orbit
from dreamfusion_pl.data.world.captions import held_out, parse
from dreamfusion_pl.data.world.scenes import WorldScene
from dreamfusion_pl.data.world.tracer import render_world
from dreamfusion_pl.export.mesh import extract, surface_threshold
from dreamfusion_pl.metrics.alignment import Alignment, align
from dreamfusion_pl.metrics.classifier import load_classifier
from dreamfusion_pl.metrics.geometry import (
    albedo_error,
    chamfer_distance,
    distance_surface,
    overlap,
    solid_of,
    surface_points,
)
from dreamfusion_pl.metrics.recognition import recognized
from dreamfusion_pl.rng import generator
from dreamfusion_pl.types import Views

AZIMUTHS = [45.0 * i for i in range(8)]
GRAY = (0.72, 0.72, 0.72)


def scene_of(prompt: str) -> WorldScene:
    """The scene that a prompt names."""
    scene = parse(prompt)
    assert scene is not None, prompt
    return scene


def fit_all(out: Path, seeds: int, jobs: int, options: Sequence[str]) -> None:
    """Run every fit that has not finished, ``jobs`` at a time with an equal share of the cores."""
    todo = [
        (p, s) for s in range(seeds) for p in PROMPTS if not (folder_of(out, p, s) / "object.glb").exists()
    ]
    environment = dict(os.environ, OMP_NUM_THREADS=str(max(1, (os.cpu_count() or 1) // jobs)))

    def run(job: tuple[str, int]) -> None:
        prompt, seed = job
        target = folder_of(out, prompt, seed)
        target.parent.mkdir(parents=True, exist_ok=True)
        start = time.time()
        command = [
            sys.executable,
            "-m",
            "dreamfusion_pl",
            "fit",
            "--prompt",
            prompt,
            "--seed_everything",
            str(seed),
        ]
        where = [
            "--trainer.logger.init_args.save_dir",
            str(target.parent),
            "--trainer.logger.init_args.name",
            "",
        ]
        version = ["--trainer.logger.init_args.version", target.name]
        log = subprocess.run(
            [*command, *where, *version, *options], env=environment, capture_output=True, text=True
        )
        if log.returncode:
            print(f"{prompt} seed {seed} failed ({log.returncode}):\n{log.stderr[-2000:]}", flush=True)
        print(f"{prompt}, seed {seed}: {time.time() - start:.0f} s", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(run, todo))


def folder_of(out: Path, prompt: str, seed: int) -> Path:
    """The run folder of a prompt and seed."""
    return out / f"seed_{seed}" / prompt.replace(" ", "_")


def matching_views(alignment: Alignment, views: Views) -> Views:
    """Views of the truth moved so that they see the result in the same pixels."""
    rotation = alignment.rotation(views.origin)
    return views._replace(origin=alignment.to_result(views.origin), rotation=rotation @ views.rotation)


@torch.no_grad()
def albedo_of(model: DreamFusion, views: Views) -> tuple[Tensor, Tensor]:
    """Albedo over the background and opacity."""
    rendering = model(views, needs_normals=False)
    return rendering.albedo, rendering.opacity


def judge(model: DreamFusion, prompt: str, other: str) -> dict[str, float | bool | str]:
    """All figures of one result; ``other`` is the prompt whose object serves as the floor."""
    scene, floor = scene_of(prompt), scene_of(other)
    name, color = scene.items[0].object, scene.items[0].color
    threshold = surface_threshold(model.scene, model.progress)
    solid = solid_of(model.scene, threshold, progress=model.progress)
    mesh = extract(model.scene, threshold=threshold, progress=model.progress)
    fit, wrong = align(solid, scene.distance), align(solid, floor.distance)
    truth_surface = surface_points(*distance_surface(scene.distance), seed=1)
    chamfer = chamfer_distance(fit.to_truth(surface_points(mesh.vertices, mesh.faces)), truth_surface)
    views = orbit(AZIMUTHS, 15.0, 1.5, 1.2, 64, 64, GRAY)
    truth = render_world(scene, views)
    albedo, opacity = albedo_of(model, matching_views(fit, views))
    seen = recognized(load_classifier(), albedo_of(model, views)[0], name, color)
    return {
        "prompt": prompt,
        "held_out": held_out(scene),
        "iou": overlap(solid, scene.distance, fit),
        "chamfer": chamfer,
        "albedo_error": albedo_error(albedo, opacity, truth.over(views.background), truth.alpha),
        "object": seen[0],
        "color": seen[1],
        "floor_iou": overlap(solid, floor.distance, wrong),
    }


def ceiling(prompt: str, run: Path) -> DreamFusion:
    """Fit the run's scene class to true pictures with squared error: same views, optimizer and steps."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    scene, model, steps = scene_of(prompt), load(run), config["trainer"]["max_steps"]
    torch.manual_seed(0)
    model.scene = instantiate_class((), config["model"]["init_args"]["scene"])
    occupancy = model.renderer.occupancy
    model.renderer.occupancy = type(occupancy)(occupancy.resolution) if occupancy else None
    views = RandomViews(**{**config["data"]["init_args"], "shaded_probability": 0.0})
    optimizer = model.make_optimizer(model.scene.param_groups(model.learning_rate))
    rates = [group["lr"] for group in optimizer.param_groups]
    for step in range(steps):
        model.progress = step / steps
        factor = model.warmup(model.progress) * model.decay(model.progress)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        if step % model.occupancy_interval == 0:
            model.renderer.update_occupancy(model.scene, model.progress, generator(0, "occupancy", step=step))
        batch = views.draw(step, model.progress, model.prior.resolution)
        truth = render_world(scene, batch).over(batch.background)
        loss = 1000.0 * (model(batch, needs_normals=False).rgb - truth).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.progress = 1.0
    return model


def load(run: Path) -> DreamFusion:
    """The model of a finished run, with averaged weights."""
    return DreamFusion.load_from_checkpoint(run / "checkpoints" / "last.ckpt", weights_only=False)


def summary(rows: list[dict], label: str) -> str:
    """One line of the table."""
    if not rows:
        return ""

    def mean(key: str) -> float:
        return sum(float(row[key]) for row in rows) / len(rows)

    return (
        f"| {label} | {len(rows)} | {mean('iou'):.3f} | {mean('chamfer'):.4f} | {mean('albedo_error'):.3f} "
        f"| {100 * mean('object'):.0f} % | {100 * mean('color'):.0f} % |"
    )


def main() -> None:
    """Run what is missing, judge everything, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument(
        "--steps", type=int, default=400, help="steps of the ceiling's fits, those of the runs"
    )
    options, fit_options = parser.parse_known_args()
    fit_all(options.out, options.seeds, options.jobs, fit_options)
    torch.set_num_threads(os.cpu_count() or 1)
    rows, ceilings = [], []
    for seed in range(options.seeds):
        for index, prompt in enumerate(PROMPTS):
            run = folder_of(options.out, prompt, seed)
            if not (run / "object.glb").exists():
                continue
            cached = run / "judgement.json"
            if not cached.exists():
                cached.write_text(json.dumps(judge(load(run), prompt, PROMPTS[(index + 11) % len(PROMPTS)])))
            rows.append({**json.loads(cached.read_text()), "seed": seed})
            print(rows[-1], flush=True)
            if seed == 0:
                known = run / "ceiling.json"
                if not known.exists():
                    known.write_text(json.dumps(judge(ceiling(prompt, run), prompt, prompt)))
                ceilings.append(json.loads(known.read_text()))
    unseen = [row for row in rows if row["prompt"] in HELD_OUT]
    (options.out / "results.json").write_text(json.dumps({"results": rows, "ceiling": ceilings}, indent=1))
    floor = sum(float(row["floor_iou"]) for row in rows) / max(len(rows), 1)
    print("| | results | IoU | Chamfer | albedo error | object | colour |\n|---|---|---|---|---|---|---|")
    print(summary(rows, "all prompts"))
    print(summary([row for row in rows if row not in unseen], "seen in training"))
    print(summary(unseen, "held out"))
    print(summary(ceilings, "ceiling: true pictures"))
    print(f"| floor: another prompt's object | {len(rows)} | {floor:.3f} | | | | |")


if __name__ == "__main__":
    main()
