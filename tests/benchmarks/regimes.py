"""Every shipped configuration makes an object; the embedded prior stands in for other models.

    python tests/benchmarks/regimes.py --out regimes [--only paper] [--seeds 2] [--jobs 2]

A configuration is taken as it is (scene, background, cameras, lights, losses, optimizer, views a step,
schedules), except for what the embedded prior demands (``stand_in.STAND_IN``) and the number of steps, with
the learning rate that goes with it. Overlays that differ in the model only are one regime. Writes
``regimes.json``, ``regimes.md`` and ``regimes.png``, a row of previews for each object, to be looked at.
Finished fits are not repeated.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import imageio.v3 as imageio
import torch
import yaml
from fits import Fit, is_finished, run_fits
from stand_in import OWN, REGIMES, build, words_of
from tables import table

from dreamfusion_pl import rng
from dreamfusion_pl.configuration import parsing
from dreamfusion_pl.evaluation.ground_truth import judge_result
from dreamfusion_pl.export.files.images import write_png
from dreamfusion_pl.types import Views

PROMPTS = ("a red chair", "a blue mug", "a green car")
HUB_STEPS = ("--trainer.max_steps=1500", "--trainer.val_check_interval=1500")
# Steps that take minutes on two cores, instead of hours on a GPU.
PAPER_STEPS = (
    "--trainer.max_steps=400",
    "--trainer.val_check_interval=400",
    "--model.learning_rate=4e-4",  # 1e-4 is for 15,000 steps
    "--data.resolution=32",  # the network is slow
    "--data.num_test_views=8",
)
SHORTER = {**dict.fromkeys(OWN, ()), "paper": PAPER_STEPS}
NOTHING, WALL = 0.02, 0.9  # mean opacity of training views


class Regime(NamedTuple):
    """Configurations that are the same with the embedded prior."""

    names: tuple[str, ...]
    words: tuple[str, ...]


def regimes(only: list[str]) -> list[Regime]:
    """Group the chosen configurations by what a fit would do."""
    groups: dict[str, list[str]] = {}
    for name in only:
        tree = parsing.read_configuration([*words_of(name), "--prompt", "a red chair"])
        groups.setdefault(yaml.safe_dump({key: tree[key] for key in ("model", "data")}), []).append(name)
    return [
        Regime(tuple(names), (*words_of(names[0]), *SHORTER.get(names[0], HUB_STEPS)))
        for names in groups.values()
    ]


@torch.no_grad()
def start(regime: str, num_steps: int = 24) -> float:
    """Mean opacity of the first training pictures."""
    model, data = build(regime)
    model.renderer.update_occupancy(model.scene, 0.0, rng.generator(0, "occupancy"))
    views = [data.draw(step, 0.0, 16) for step in range(num_steps)]
    one_by_one = [Views(*(field[:1] for field in view)) for view in views]
    return float(torch.stack([model(view, needs_normals=False).opacity.mean() for view in one_by_one]).mean())


def row(regime: Regime, fit: Fit) -> dict[str, Any]:
    """All that is measured of one object."""
    status = json.loads((fit.folder / "status.json").read_text(encoding="utf-8"))
    end = status["metrics"]["opacity"]
    return {
        "configuration": ", ".join(regime.names),
        "prompt": fit.prompt,
        "seed": fit.seed,
        "steps": status["step"],
        "minutes": status["seconds"] / 60.0,
        "opacity at the start": start(regime.names[0]),
        "opacity at the end": end,
        "ends as": "nothing" if end < NOTHING else "wall" if end > WALL else "object",
        **judge_result(fit.folder)._asdict(),
    }


def previews(fits: list[Fit]) -> torch.Tensor:
    """The colour rows of the last previews, one below the other, [n H, B W, 3]."""
    rows = []
    for fit in fits:
        sheet = imageio.imread(max((fit.folder / "renders").glob("step_*.png")))
        rows.append(torch.from_numpy(sheet[: sheet.shape[1] // 4]) / 255.0)
    return torch.cat(rows)


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table for docs/."""
    numbers = ("opacity at the start", "opacity at the end", "iou", "yaw_deg", "chamfer", "f_score", "named")
    header = ["configuration", "prompt", "seed", "steps", "minutes", "ends as", *numbers]
    cells = [
        [
            *(str(one[name]) for name in header[:4]),
            f"{one['minutes']:.1f}",
            one["ends as"],
            *(f"{one[name]:.3f}" if name != "yaw_deg" else f"{one[name]:.0f}" for name in numbers),
        ]
        for one in rows
    ]
    return table(header, cells)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=REGIMES, default=list(REGIMES))
    parser.add_argument("--prompts", nargs="+", default=list(PROMPTS), help="prompts of the procedural world")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    options, fit_options = parser.parse_known_args()
    rows, done = [], []
    for regime in regimes(options.only):
        fits = [
            Fit(prompt, seed, options.out / regime.names[0] / f"{prompt.replace(' ', '_')}_{seed}", words)
            for words in [(*regime.words, *fit_options)]
            for seed in range(options.seeds)
            for prompt in options.prompts
        ]
        run_fits(fits, options.jobs)
        finished = [fit for fit in fits if is_finished(fit)]
        if not finished:
            continue  # run_fits has said why
        rows += [row(regime, fit) for fit in finished]
        done += finished
        (options.out / "regimes.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
        (options.out / "regimes.md").write_text(markdown(rows) + "\n", encoding="utf-8")
        write_png(previews(done), options.out / "regimes.png")
        print(markdown(rows), flush=True)


if __name__ == "__main__":
    main()
