"""Stage 3: eight fits in one process against one: one batched call of the embedded prior a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dreamfusion_pl.commands.together import Fit, fit_together
from dreamfusion_pl.run_folder.layout import read_status
from gpu_stages.stage import PROMPT, TINY_SCENE, Stage

BARE = Path(__file__).parent.parent / "bare.yaml"  # leaves a checkpoint only


def run(stage: Stage) -> None:
    """One fit, then several."""
    for count in (2,) if stage.tiny else (1, 8):
        stage.attempt(f"together {count}", lambda count=count: measured(stage, count), needs=20.0)


def measured(stage: Stage, count: int) -> dict[str, Any]:
    """Run ``count`` fits together; steps a second are those of all fits."""
    steps, folder = 2 if stage.tiny else 200, stage.scratch / f"together_{count}"
    words = [f"--config={BARE}", "--trainer.enable_progress_bar=false", "--trainer.logger.init_args.name="]
    words += [f"--prompt={PROMPT}", f"--trainer.max_steps={steps}", *(TINY_SCENE if stage.tiny else ())]
    folders = [folder / str(index) for index in range(count)]
    fits = [
        Fit(
            [
                *words,
                f"--seed_everything={index}",
                f"--trainer.logger.init_args.save_dir={folder.as_posix()}",
            ],
            str(folder / "log.txt"),
        )
        for index, folder in enumerate(folders)
    ]
    codes = fit_together(fits)
    for folder, code in zip(folders, codes, strict=True):
        if code:
            raise RuntimeError((folder / "log.txt").read_text(encoding="utf-8").strip().splitlines()[-1])
    found = [read_status(path.parent) for path in folder.glob("**/status.json")]
    seconds = max(one["seconds"] for one in found)
    return {
        "device": found[0]["device"],
        "fits": count,
        "steps": steps,
        "seconds": seconds,
        "steps/s of all": round(count * steps / max(seconds, 0.1), 1),
    }
