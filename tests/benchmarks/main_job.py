"""Quality of the main job against exact geometry: 24 or 48 prompts, several seeds, with ceiling and floor.

    python tests/benchmarks/main_job.py --out runs --seeds 2 --jobs 2 [any option of fit]

Every result is made by the command that a user types, in a process of its own. Then geometry is compared
after alignment, albedo in matching views, and the world classifier looks from eight sides. The ceiling is the
same scene fitted with squared error to true pictures for the same number of steps; the floor scores results
against the objects of other prompts. Writes ``results.json`` and prints a table; finished parts are not
repeated.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from fits import Fit, run_fits
from jsonargparse import ArgumentParser
from prompts import PROMPTS
from pytorch_lightning.cli import instantiate_class
from tables import table

from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.data.views import RandomViews
from dreamfusion_pl.data.world.captions import held_out, parse
from dreamfusion_pl.data.world.scenes import WorldScene
from dreamfusion_pl.data.world.tracer import render_world
from dreamfusion_pl.evaluation.finished_runs import load
from dreamfusion_pl.evaluation.ground_truth import NOTHING, Judgement, judge, overlap_with
from dreamfusion_pl.evaluation.run_settings import RunSettings, settings_of
from dreamfusion_pl.rng import generator
from dreamfusion_pl.scene.base import Scene


def scene_of(prompt: str) -> WorldScene:
    """The scene that a prompt names."""
    scene = parse(prompt)
    assert scene is not None, prompt
    return scene


def folder_of(out: Path, prompt: str, seed: int) -> Path:
    """The run folder of a prompt and seed."""
    return out / f"seed_{seed}" / prompt.replace(" ", "_")


def measure(
    model: DreamFusion, prompt: str, other: str, settings: RunSettings
) -> dict[str, float | bool | str]:
    """All figures of one result; ``other`` is the prompt whose object serves as the floor."""
    scene = scene_of(prompt)
    return {
        "prompt": prompt,
        "held_out": held_out(scene),
        **judge(model, scene, settings)._asdict(),
        "floor_iou": overlap_with(model, scene_of(other), settings),
    }


def remembered(path: Path, make: Callable[[], dict]) -> dict:
    """What a file holds, made anew if it has been written before a measure was added."""
    if path.exists():
        known = json.loads(path.read_text())
        if set(Judgement._fields) <= set(known):
            return known
    path.write_text(json.dumps(make()))
    return json.loads(path.read_text())


def fresh_scene(settings: dict[str, Any]) -> Scene:
    """Build an untrained scene from a run's configuration."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--scene", type=Scene)
    return parser.instantiate(parser.parse_object({"scene": settings})).scene


def unshaded_views(settings: dict[str, Any]) -> RandomViews:
    """Build the training views of a run's configuration, without light."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(RandomViews, "views")
    views = parser.parse_object({"views": {**settings, "shaded_probability": 0.0}})
    return parser.instantiate(views).views


def ceiling(prompt: str, run: Path) -> DreamFusion:
    """Fit the run's scene class to true pictures with squared error: same views, optimizer and steps."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    scene, model, steps = scene_of(prompt), load(run), config["trainer"]["max_steps"]
    torch.manual_seed(0)
    model.scene = fresh_scene(config["model"]["init_args"]["scene"])
    occupancy = model.renderer.occupancy
    model.renderer.occupancy = type(occupancy)(occupancy.resolution) if occupancy else None
    views = unshaded_views(config["data"]["init_args"])
    own = instantiate_class((), config["model"]["init_args"]["prior"]).resolution
    optimizer = model.make_optimizer(model.scene.param_groups(model.learning_rate))
    rates = [group["lr"] for group in optimizer.param_groups]
    for step in range(steps):
        model.progress = step / steps
        factor = model.warmup(model.progress) * model.decay(model.progress)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        if step % model.occupancy_interval == 0:
            model.renderer.update_occupancy(model.scene, model.progress, generator(0, "occupancy", step=step))
        batch = views.draw(step, model.progress, views.side(model.progress, own))
        truth = render_world(scene, batch).over(batch.background)
        loss = 1000.0 * (model(batch, needs_normals=False).rgb - truth).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.progress = 1.0
    return model


def _judged(run: Path, prompt: str, other: str, settings: RunSettings) -> dict:
    return measure(load(run), prompt, other, settings)


def _ceiling(run: Path, prompt: str, settings: RunSettings) -> dict:
    return measure(ceiling(prompt, run), prompt, prompt, settings)


def summary(rows: list[dict], label: str) -> str:
    """One line of the table."""
    if not rows:
        return ""

    def mean(key: str) -> float:
        return sum(float(row[key]) for row in rows) / len(rows)

    return (
        f"| {label} | {len(rows)} | {mean('iou'):.3f} | {mean('iou_free'):.3f} "
        f"| {100 * mean('backwards'):.0f} % "
        f"| {mean('chamfer'):.4f} | {mean('f_score'):.3f} | {mean('normal_consistency'):.3f} "
        f"| {mean('albedo_error'):.3f} | {100 * mean('object'):.0f} % | {100 * mean('color'):.0f} % "
        f"| {100 * mean('named'):.0f} % | {mean('worst_lead'):.2f} |"
    )


def by_prompt(rows: list[dict]) -> str:
    """A row for each prompt, with the figures of its seeds one after the other."""
    found: dict[str, list[dict]] = {}
    for row in rows:
        found.setdefault(row["prompt"], []).append(row)

    def cell(results: list[dict], key: str) -> str:
        return " / ".join(f"{float(one[key]):.3f}" for one in results)

    keys = ("iou", "f_score", "normal_consistency", "albedo_error", "named")
    cells = [[prompt, *(cell(results, key) for key in keys)] for prompt, results in found.items()]
    return table(["prompt", "IoU", "F-score", "normals", "albedo error", "named"], cells)


def main() -> None:
    """Run what is missing, judge everything, print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument(
        "--prompts", choices=PROMPTS, default="first", help="the second 24 have relations and patterns"
    )
    parser.add_argument("--ceilings", type=int, default=48, help="number of prompts that have one")
    options, fit_options = parser.parse_known_args()
    prompts = PROMPTS[options.prompts]
    runs = [
        Fit(prompt, seed, folder_of(options.out, prompt, seed), tuple(fit_options))
        for seed in range(options.seeds)
        for prompt in prompts
    ]
    run_fits(runs, options.jobs)
    torch.set_num_threads(os.cpu_count() or 1)
    rows, ceilings = [], []
    for seed in range(options.seeds):
        for index, prompt in enumerate(prompts):
            run = folder_of(options.out, prompt, seed)
            if not (run / "object.glb").exists():  # an object that never came counts
                held = held_out(scene_of(prompt))
                lost = {"prompt": prompt, "held_out": held, **NOTHING._asdict(), "floor_iou": 0.0}
                rows.append({**lost, "chamfer": 1.0, "seed": seed})
                continue
            other, settings = prompts[(index + 11) % len(prompts)], settings_of(run)
            found = remembered(run / "judgement.json", partial(_judged, run, prompt, other, settings))
            rows.append({**found, "seed": seed})
            print(rows[-1], flush=True)
            if seed == 0 and index < options.ceilings:
                best = remembered(run / "ceiling.json", partial(_ceiling, run, prompt, settings))
                ceilings.append(best)
    unseen = [row for row in rows if row["held_out"]]
    related = [row for row in rows if scene_of(row["prompt"]).relation]
    patterned = [row for row in rows if scene_of(row["prompt"]).items[0].pattern != "plain"]
    (options.out / "results.json").write_text(json.dumps({"results": rows, "ceiling": ceilings}, indent=1))
    floor = sum(float(row["floor_iou"]) for row in rows) / max(len(rows), 1)
    columns = "IoU | IoU, free yaw | backwards | Chamfer | F-score | normals | albedo error"
    looks = "object | colour | object, strict | worst lead"
    print(by_prompt(rows))
    print(f"| | results | {columns} | {looks} |\n|{'---|' * 13}")
    print(summary(rows, "all prompts"))
    print(summary([row for row in rows if row not in unseen], "seen in training"))
    print(summary(unseen, "held out"))
    print(summary(related, "relations"))
    print(summary(patterned, "patterns"))
    print(summary(ceilings, "ceiling: true pictures"))
    print(f"| floor: another prompt's object | {len(rows)} | {floor:.3f} |{' |' * 10}")


if __name__ == "__main__":
    main()
