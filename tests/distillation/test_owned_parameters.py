"""A distillation may own parameters: trained, saved, resumed, but in no average and in no finished object."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import LearnedMean, small_model
from pytorch_lightning import Trainer

from dreamfusion_pl.callbacks.average import WeightAverage
from dreamfusion_pl.callbacks.checkpoints import LastCheckpoints
from dreamfusion_pl.cli import main
from dreamfusion_pl.data.views import RandomViews
from dreamfusion_pl.evaluation.finished_runs import load


def fit(folder: Path, steps: int, resume: Path | None = None) -> tuple[Trainer, Any]:
    model = small_model(distillation=LearnedMean())
    if resume:
        torch.nn.init.constant_(model.distillation.mean, 7.0)
    trainer = Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        callbacks=[WeightAverage(0.9), LastCheckpoints(3)],
        logger=False,
        default_root_dir=folder,
        limit_val_batches=0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    views = RandomViews(views_per_step=2, look_resolution=8, num_val_views=2)
    trainer.fit(model, datamodule=views, ckpt_path=resume)
    return trainer, model


def test_it_is_trained_by_a_loss_of_its_own_that_is_logged(tmp_path):
    trainer, model = fit(tmp_path, 6)
    metrics = trainer.callback_metrics
    terms = [metrics[f"loss/{name}"] for name in ("distillation", "mean")]
    regularizers = 1e-5 * metrics["loss/opacity"] + 1e-5 * metrics["loss/orientation"]
    unit = model.prior.resolution**2  # without guidance
    torch.testing.assert_close(metrics["loss"], sum(terms) + unit * regularizers)
    assert model.distillation.mean.abs().min() > 0.0
    rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
    assert rates == pytest.approx([0.03, 0.003, 0.015])  # planes, layers, the distillation's own


def test_resuming_is_exact(tmp_path):
    _, whole = fit(tmp_path / "whole", 6)
    fit(tmp_path / "half", 6)
    checkpoints = tmp_path / "half" / "checkpoints"
    _, resumed = fit(tmp_path / "resumed", 6, resume=checkpoints / "previous.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_it_is_in_checkpoints_as_it_is_and_in_no_average(tmp_path):
    _, model = fit(tmp_path, 6)
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    averaged, current = (saved[name] for name in ("state_dict", "current_model_state"))
    assert torch.equal(averaged["distillation.mean"], current["distillation.mean"])
    assert torch.equal(model.distillation.mean, current["distillation.mean"])
    assert not torch.equal(averaged["scene.features.planes"], current["scene.features.planes"])


RUN = """
model:
  init_args:
    distillation: {class_path: fakes.LearnedMean}
"""


def test_a_run_of_the_command_line_and_its_object(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text(RUN)
    small = str(Path(__file__).parents[1] / "small.yaml")
    words = ["--config", small, "--config", "own.yaml", "--prompt", "a red ball"]
    assert main(["fit", *words]) == 0
    run = tmp_path / "lightning_logs" / "version_0"
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert saved["distillation.mean"].abs().min() > 0.0
    model = load(run)  # without the distillation
    assert torch.equal(model.scene.state_dict()["features.planes"], saved["scene.features.planes"])
    assert main(["validate", "--resume", str(run)]) == 0  # with it
