"""Denoised pictures that several steps are fitted to."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from fakes import small_model
from gaussians import condition, gradient, guided, levels, pictures
from pytorch_lightning import Callback, Trainer

from dreamfusion_pl.callbacks.average import WeightAverage
from dreamfusion_pl.callbacks.checkpoints import LastCheckpoints
from dreamfusion_pl.callbacks.safety import Safety
from dreamfusion_pl.cli import main
from dreamfusion_pl.data.views import RandomViews
from dreamfusion_pl.diffusion.closed_form import GaussianPrior
from dreamfusion_pl.diffusion.noise import Uniform
from dreamfusion_pl.distillation.sds import ScoreDistillation
from dreamfusion_pl.distillation.variants.reconstruction import IterativeReconstruction

HERE = {"guidance_scale": 3.0, "t_min": 0.4, "t_max": 0.7}


def reconstruction(**options) -> IterativeReconstruction:
    return IterativeReconstruction(weighting=Uniform(), **{**HERE, **options})


def test_one_pass_is_sds():
    sds = ScoreDistillation(weighting=Uniform(), **HERE)
    for batches in (1, 3):
        once = reconstruction(batches=batches, passes=1)
        for seed in range(5):
            z, once.step = pictures(3), seed
            found = gradient(once, z, condition(3), seed=seed)
            torch.testing.assert_close(found, gradient(sds, z, condition(3), seed=seed))


def test_later_passes_pull_to_the_first_target_and_do_not_ask_the_prior():
    t, batches, passes = 0.6, 2, 3
    distillation = reconstruction(t_min=t, t_max=t + 1e-9, batches=batches, passes=passes)
    (alpha, sigma), targets = levels(t), {}
    for call in range(2 * batches * passes):
        z, place = pictures(2, seed=call), call % (batches * passes)
        distillation.step = call
        slot = place % batches
        if place < batches:
            generator = torch.Generator().manual_seed(call)
            torch.rand(1, 2, generator=generator)
            z_t = alpha * z + sigma * torch.randn(z.shape, generator=generator, dtype=z.dtype)
            targets[slot] = (z_t - sigma * guided(z_t, t, 3.0)) / alpha
        with patch.object(
            GaussianPrior, "predict", autospec=True, side_effect=GaussianPrior.predict
        ) as asked:
            found = gradient(distillation, z, condition(2), seed=call)
        assert asked.call_count == int(place < batches)
        expected = alpha / sigma * (z - targets[slot])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_views_are_seen_again_in_the_order_of_the_targets():
    distillation = reconstruction(batches=2, passes=3)
    assert [distillation.view_step(step) for step in range(14)] == [0, 1] * 3 + [6, 7] * 3 + [12, 13]
    assert [ScoreDistillation(weighting=Uniform(), **HERE).view_step(step) for step in (0, 5)] == [0, 5]


class Cameras(Callback):
    """Remembers the cameras and the lighting of every step."""

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.seen.append(torch.cat([batch.origin, batch.ambient[:, None]], dim=1))


def fit(folder: Path, resume: Path | None = None, accumulate: int = 1):
    cameras = Cameras()
    trainer = Trainer(
        max_steps=11,
        max_epochs=-1,
        accelerator="cpu",
        accumulate_grad_batches=accumulate,
        callbacks=[WeightAverage(0.9), LastCheckpoints(7), cameras],
        logger=False,
        default_root_dir=folder,
        limit_val_batches=0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    scene = small_model(distillation=reconstruction(batches=2, passes=3))
    views = RandomViews(views_per_step=2, look_resolution=8, albedo_fraction=0.25, shaded_probability=1.0)
    trainer.fit(scene, datamodule=views, ckpt_path=resume)
    return scene, cameras.seen


def test_a_fit_sees_its_views_again(tmp_path):
    for accumulate in (1, 2):
        _, seen = fit(tmp_path, accumulate=accumulate)
        for index, views in enumerate(seen):
            first = seen[index // 6 * 6 + index % 2]
            assert torch.equal(views, first)
            assert index < 6 or not torch.equal(views, seen[index - 6])
        assert bool((seen[0][:, 3] == 1.0).all() and (seen[-1][:, 3] < 1.0).all())  # shading has begun


def test_resuming_within_a_block_is_exact(tmp_path):
    whole, _ = fit(tmp_path / "whole")
    saved = tmp_path / "whole" / "checkpoints" / "previous.ckpt"
    assert torch.load(saved, weights_only=True)["global_step"] == 7  # the second step of a block
    resumed, _ = fit(tmp_path / "resumed", resume=saved)
    for name, value in whole.scene.state_dict().items():
        assert torch.equal(resumed.scene.state_dict()[name], value), name


def test_another_device_asks_anew_after_resuming():
    first = reconstruction(batches=1, passes=3)
    for first.step in range(2):
        gradient(first, pictures(2), condition(2), seed=first.step)
    state = first.state_dict()
    same, other = (reconstruction(batches=1, passes=3) for _ in range(2))
    same.load_state_dict(state)
    with (
        patch("torch.distributed.is_initialized", lambda: True),
        patch("torch.distributed.get_rank", lambda: 1),
    ):
        other.load_state_dict(state)
    assert list(same.targets) == [0] and not other.targets
    first.step = same.step = other.step = 2
    z = pictures(2, seed=9)
    kept, here, there = (gradient(one, z, condition(2), seed=2) for one in (first, same, other))
    assert torch.equal(here, kept) and not torch.equal(there, kept)


RUN = """
model:
  init_args:
    distillation:
      class_path: dreamfusion_pl.distillation.variants.reconstruction.IterativeReconstruction
      init_args: {guidance_scale: 3.0, weighting: {class_path: dreamfusion_pl.diffusion.noise.SigmaSquared}}
"""


def test_a_run_of_the_command_line_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text(RUN)
    small = str(Path(__file__).parents[1] / "small.yaml")
    words = ["fit", "--config", small, "--config", "own.yaml", "--prompt", "a red ball"]
    assert main(words) == 0, capsys.readouterr().err
    run = tmp_path / "lightning_logs" / "version_0"
    assert (run / "status.json").exists()
    longer = ["fit", "--resume", str(run), "--trainer.max_steps", "6"]
    assert main(longer) == 0, capsys.readouterr().err
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert list(state["distillation._extra_state"]["targets"]) == [0, 1, 2, 3]
    assert main(["validate", "--resume", str(run)]) == 0, capsys.readouterr().err


def test_going_back_after_bad_gradients_keeps_the_place_in_the_block():
    class Breaks(Callback):
        def on_after_backward(self, trainer, pl_module) -> None:
            if trainer.global_step in (3, 4):
                pl_module.scene.features.planes.grad.fill_(float("nan"))

    safety = Safety(every=1, patience=1)
    trainer = Trainer(
        max_steps=8,
        max_epochs=-1,
        accelerator="cpu",
        callbacks=[Breaks(), safety],
        logger=False,
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = small_model(distillation=reconstruction(batches=2, passes=2))
    trainer.fit(model, datamodule=RandomViews(views_per_step=2, look_resolution=8))
    assert safety.skipped == 2 and safety.notes
    assert list(model.distillation.targets) == [4, 5]  # views go on from step to step, and so do targets


def test_a_resumed_run_with_another_order_has_no_target_of_other_views():
    before, after = reconstruction(batches=4, passes=2), reconstruction(batches=2, passes=2)
    for before.step in range(6):
        gradient(before, pictures(2), condition(2), seed=before.step)
    after.load_state_dict(before.state_dict())
    assert list(after.targets) == [0, 1, 2, 3]
    with patch.object(GaussianPrior, "predict", autospec=True, side_effect=GaussianPrior.predict) as asked:
        for after.step in (6, 7):  # the second pass of the views of steps 4 and 5
            gradient(after, pictures(2), condition(2), seed=0)
    assert asked.call_count == 2 and list(after.targets) == [4, 5]


def test_a_bad_prediction_spoils_one_step_only():
    distillation = reconstruction(batches=1, passes=3)
    with patch.object(GaussianPrior, "predict", lambda self, z_t, t, text: z_t * float("nan")):
        assert not gradient(distillation, pictures(2), condition(2)).isfinite().any()
    for distillation.step in (1, 2):
        assert torch.equal(
            gradient(distillation, pictures(2), condition(2)), torch.zeros(2, 1, 2, 2).double()
        )
    distillation.step = 3
    assert gradient(distillation, pictures(2), condition(2)).abs().min() > 0.0


@pytest.mark.parametrize("option", [{"steps": 0}, {"batches": 0}, {"passes": 0}])
def test_bad_settings_are_refused(option):
    with pytest.raises(ValueError, match="steps, batches and passes must be 1 or more"):
        reconstruction(**option)
