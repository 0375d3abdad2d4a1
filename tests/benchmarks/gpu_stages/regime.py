"""Stage 5: an overlay's regime at full length, with the embedded prior in place of its model."""

from __future__ import annotations

from benchmarks.stand_in import words_of

from gpu_stages.clock import timed
from gpu_stages.default_fit import fitted, tiny_fit
from gpu_stages.stage import PROMPT, Stage

REGIME, FULL = "stable_diffusion", 10_000
ENDING = 40.0  # seconds kept for turntable, mesh and judgement


def run(stage: Stage) -> None:
    """Time the regime, then fit as many of its steps as the time allows, all of them if it can be."""
    words = [*words_of(REGIME), *(tiny_fit(stage) if stage.tiny else ())]
    found = stage.attempt(
        f"{REGIME}, steps", lambda: timed(stage, [*words, f"--prompt={PROMPT}"], 4.0, waits=True)
    )
    if found is None:
        return
    can = int(0.85 * found["steps/s"] * (stage.left - ENDING))
    steps = 2 if stage.tiny else min(FULL, can)
    if steps < 2 or (steps < 200 and not stage.tiny):
        stage.row(f"{REGIME}, {FULL} steps", result="no time left")
        return
    length = [f"--trainer.max_steps={steps}", f"--trainer.val_check_interval={steps}"]
    stage.attempt(
        f"{REGIME}, {steps} of {FULL} steps",
        lambda: fitted(stage, [*words, *length], judged=not stage.tiny),
    )
