"""What the prior wants each view to be, as a row of the previews."""

from pathlib import Path

import imageio.v3 as imageio
import pytest
import torch
from fakes import ColorPrior, small_model
from pytorch_lightning import Trainer

from dreamfusion_pl import rng
from dreamfusion_pl.callbacks.previews.prior_view import TIME, prior_view
from dreamfusion_pl.callbacks.previews.renders import Renders
from dreamfusion_pl.data.orbit import orbit, ring
from dreamfusion_pl.data.views import RandomViews


@pytest.mark.parametrize("spread", [0.01, 0.5])
def test_it_is_the_posterior_mean_of_a_gaussian(spread):
    model = small_model(prior=ColorPrior((0.2, 0.7, 0.4), spread, resolution=16))
    views = orbit([10.0, 100.0, 300.0], 15.0, 1.5, 1.1, 16, 16)
    rendering = model(views)
    found = prior_view(model, views, rendering)
    assert found.shape == rendering.rgb.shape and not found.requires_grad
    schedule, at = model.prior.schedule, torch.tensor([TIME])
    alpha, sigma = schedule.alpha(at), schedule.sigma(at)
    noise = torch.randn(1, 3, 16, 16, generator=rng.generator(0, "prior view"))
    mean = model.prior.mean
    for shown, rgb in zip(found, rendering.rgb, strict=True):
        z_t = alpha * (2.0 * rgb.permute(2, 0, 1) - 1.0) + sigma * noise[0]
        gain = alpha * spread**2 / (alpha**2 * spread**2 + sigma**2)
        x0 = mean + gain * (z_t - alpha * mean)
        torch.testing.assert_close(shown, 0.5 * x0.permute(1, 2, 0) + 0.5, rtol=1e-4, atol=1e-4)


def trainer_of(folder: Path, steps: int) -> Trainer:
    return Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        callbacks=[Renders()],
        logger=False,
        default_root_dir=folder,
        val_check_interval=2,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def test_previews_of_a_fit_have_it_as_a_row_and_those_without_a_prior_do_not(tmp_path, capsys):
    model = small_model(prior=ColorPrior((0.2, 0.7, 0.4), 0.01))
    views = RandomViews(views_per_step=2, look_resolution=16, num_val_views=3)
    trainer = trainer_of(tmp_path, 2)
    trainer.fit(model, datamodule=views)
    path = tmp_path / "renders" / "step_000002.png"
    picture = torch.from_numpy(imageio.imread(path)) / 255.0
    assert picture.shape == (4 * 16, 3 * 16, 3)
    (row,) = picture[3 * 16 :].split(16)
    assert (row - torch.tensor([0.2, 0.7, 0.4])).abs().max() < 0.05
    cameras = orbit(ring(3), 15.0, views.look_distance, views.look_focal, 16, 16)
    torch.testing.assert_close(picture[:16, :16], model(cameras).rgb[0].detach(), rtol=0.0, atol=0.02)
    path.unlink()
    assert capsys.readouterr().err == ""
    trainer.validate(model, datamodule=views, verbose=False)
    assert imageio.imread(path).shape == (3 * 16, 3 * 16, 3)


def test_where_memory_does_not_suffice_the_row_is_missing_and_the_fit_goes_on(tmp_path, capsys, monkeypatch):
    def full(self, z):
        asked.append(1)
        raise torch.OutOfMemoryError("tried to allocate 80 GiB")

    asked: list[int] = []
    monkeypatch.setattr(ColorPrior, "decode", full)
    trainer = trainer_of(tmp_path, 4)
    trainer.fit(small_model(), datamodule=RandomViews(views_per_step=2, look_resolution=16, num_val_views=2))
    assert trainer.global_step == 4 and len(asked) == 1  # it is not tried again
    assert capsys.readouterr().err.count("do not show what the prior wants: tried to allocate 80 GiB") == 1
    assert imageio.imread(tmp_path / "renders" / "step_000004.png").shape == (3 * 16, 2 * 16, 3)
