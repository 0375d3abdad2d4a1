"""Stage 4: training of a latent prior: autoencoder, pictures a second, then as many minutes as are left."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from safetensors.torch import load_file, save_file

from dreamfusion_pl.data.world.layers import trace_world
from dreamfusion_pl.data.world.pictures import WorldPictures
from dreamfusion_pl.runs import RunCommand
from gpu_stages.clock import timed
from gpu_stages.stage import Stage

BATCHES = (32, 128, 512)
STARTING, WRITING = 8.0, 15.0  # seconds kept for the begin and the end of training


class Until(Callback):
    """Ends training at a point of time, so that the weights are written."""

    def __init__(self, moment: float) -> None:
        self.moment = moment

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.should_stop or time.time() > self.moment


def run(stage: Stage) -> None:
    """The autoencoder, throughput by batch size, then training at the fastest."""
    count, begin = 4 if stage.tiny else 4000 if stage.left < 240.0 else 20_000, time.monotonic()
    data = [f"--data.count={count}", f"--data.cache_dir={stage.scratch}", "--seed_everything=0"]
    words = ["--config=denoiser.yaml", "--model.family=StableDiffusionFamily", "--data.size=64", *data]
    words += ["--model.family.size=64", f"--model.family.autoencoder={stage.scratch / 'autoencoder'}"]
    words += [f"--model.family.channels={[32, 64, 64] if stage.tiny else [64, 128, 192]}"]
    if stage.tiny:
        words += ["--model.sample_every=0", "--trainer.precision=32"]
    stage.attempt("pictures traced", lambda: traced(stage, count, begin))
    stage.attempt("autoencoder", lambda: encoded(stage, data), needs=30.0)
    rates: dict[int, float] = {}
    for batch in (2,) if stage.tiny else BATCHES:
        here = [*words, f"--data.batch_size={batch}", f"--model.output={stage.scratch / f'timed_{batch}'}"]

        def measure(batch: int = batch, here: list[str] = here) -> dict[str, Any]:
            found = timed(stage, here, seconds=4.0)
            rates[batch] = found["steps/s"]
            return {"batch": batch, "pictures/s": round(batch * found["steps/s"], 1), **found}

        stage.attempt(f"batch {batch}", measure, needs=25.0)
    if rates:
        batch = max(rates, key=lambda one: one * rates[one])
        stage.attempt("trained", lambda: trained(stage, words, batch, rates[batch]), needs=WRITING + 30.0)


def traced(stage: Stage, count: int, begin: float) -> dict[str, Any]:
    """Trace the pictures; the data module finds them by their name."""
    data = WorldPictures(count=count, size=64, cache_dir=str(stage.scratch))
    workers = 0 if stage.tiny else min(len(os.sched_getaffinity(0)), 16)
    layers = trace_world(count, data.size, data.seed, data.elevation_deg, workers=workers)
    np.savez(data.cache_file, **{name: field.numpy() for name, field in layers._asdict().items()})
    return {"pictures": count, "seconds": round(time.monotonic() - begin, 1)}


def encoded(stage: Stage, data: list[str]) -> dict[str, Any]:
    """Train the autoencoder for a tenth of the time that is left, at most two thousand steps."""
    steps, begin = 1 if stage.tiny else 2000, time.monotonic()
    until = time.time() + max(0.1 * stage.left, 20.0)
    size = ["--data.batch_size=2"] if stage.tiny else ["--data.batch_size=128"]
    words = [
        "--config=autoencoder.yaml",
        *data,
        *size,
        f"--trainer.max_steps={steps}",
        "--model.sample_every=0",
    ]
    where = [
        f"--model.output={stage.scratch / 'autoencoder'}",
        f"--trainer.logger.init_args.save_dir={stage.scratch}",
        *(["--trainer.precision=32"] if stage.tiny else []),
    ]
    losses = list[Any]()

    def prepare(model: LightningModule, trainer: Trainer) -> None:
        trainer.callbacks += [Until(until), Note(losses)]

    RunCommand("fit", [*words, *where], prepare)
    return {
        "steps": len(losses),
        "seconds": round(time.monotonic() - begin, 1),
        "loss": round(float(losses[-1]), 4),
    }


def trained(stage: Stage, words: list[str], batch: int, rate: float) -> dict[str, Any]:
    """Train a prior from scratch until shortly before the deadline; keep its weights."""
    steps = 2 if stage.tiny else max(int(0.85 * rate * (stage.left - WRITING - STARTING)), 10)
    folder, losses = stage.scratch / "denoiser", list[float]()

    def prepare(model: LightningModule, trainer: Trainer) -> None:
        trainer.callbacks.append(Until(stage.deadline - WRITING))
        trainer.callbacks.append(Note(losses))

    where = [f"--model.output={folder}", f"--trainer.logger.init_args.save_dir={stage.scratch}"]
    size = [f"--data.batch_size={batch}", f"--trainer.max_steps={steps}"]
    start = time.monotonic()
    RunCommand("fit", [*words, *size, *where], prepare)
    took = time.monotonic() - start
    keep(stage)
    return {
        "batch": batch,
        "steps": len(losses),
        "seconds": round(took, 1),
        "pictures": batch * len(losses),
        "loss at the start": round(float(torch.tensor([float(one) for one in losses[:20]]).mean()), 4),
        "loss at the end": round(float(torch.tensor([float(one) for one in losses[-20:]]).mean()), 4),
    }


class Note(Callback):
    """Keeps the loss of every step, on the device."""

    def __init__(self, losses: list[Any]) -> None:
        self.losses = losses

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        self.losses.append(outputs["loss"].detach())


def keep(stage: Stage) -> None:
    """Write the weights of all networks as one file in half precision, and their configurations."""
    weights, settings = {}, {}
    for part in ("unet", "text_encoder", "vae"):
        (file,) = (stage.scratch / "denoiser" / part).glob("*.safetensors")
        weights |= {f"{part}.{name}": value.half() for name, value in load_file(file).items()}
        config = stage.scratch / "denoiser" / part / "config.json"
        settings[part] = json.loads(config.read_text(encoding="utf-8"))
    save_file(weights, stage.out / "denoiser.safetensors")
    (stage.out / "denoiser.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
