"""Stage 1: the default fit on the GPU and on the CPU: time, and the object against the truth."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from fakes import SMALL_CALLBACKS

from dreamfusion_pl.evaluation.ground_truth import judge_result
from dreamfusion_pl.run_folder.layout import read_status
from dreamfusion_pl.runs import RunCommand
from gpu_stages.stage import PROMPT, TINY_SCENE, Stage

TINY = ("--trainer.max_steps=2", "--trainer.val_check_interval=2", "--data.views_per_step=1")


def run(stage: Stage) -> None:
    """The default fit wherever the trainer puts it, then on the CPU."""
    places = ["auto", "cpu"] if torch.cuda.is_available() else ["cpu"]
    for place in places:
        words = [f"--trainer.accelerator={place}", *((*tiny_fit(stage), *TINY) if stage.tiny else ())]
        name = "on the CPU" if place == "cpu" else "on the GPU"
        stage.attempt(f"default fit {name}", lambda words=words: fitted(stage, words), needs=20.0)


def tiny_fit(stage: Stage) -> tuple[str, ...]:
    """Options of a whole fit, with callbacks that make a small object."""
    file = stage.scratch / "callbacks.yaml"
    file.write_text(yaml.safe_dump({"trainer": {"callbacks": SMALL_CALLBACKS}}), encoding="utf-8")
    return (f"--config={file}", *TINY_SCENE, "--data.num_val_views=2")


def fitted(stage: Stage, words: list[str], judged: bool = True) -> dict[str, Any]:
    """Run a whole fit and judge its object; the last preview goes to the stage's results."""
    begin, folder = time.monotonic(), stage.scratch / f"{stage.name}_{time.monotonic_ns()}"
    where = [f"--trainer.logger.init_args.save_dir={folder}", "--trainer.logger.init_args.name="]
    RunCommand("fit", [f"--prompt={PROMPT}", *words, *where])
    seconds = time.monotonic() - begin
    (place,) = [path.parent for path in folder.glob("**/status.json")]
    show(place, stage)
    status = read_status(place)
    columns = {"device": status["device"], "steps": status["step"], "seconds": round(seconds, 1)}
    if not judged:
        return columns
    found = judge_result(place)
    return {
        **columns,
        "IoU": round(found.iou, 3),
        "named": round(found.named, 3),
        "object": bool(found.object),
    }


def show(place: Path, stage: Stage) -> None:
    """Copy the last preview of a run to the results, the first such picture of a stage only."""
    previews, picture = sorted((place / "renders").glob("*.png")), stage.out / f"{stage.name}.png"
    if previews and not picture.exists():
        shutil.copyfile(previews[-1], picture)
