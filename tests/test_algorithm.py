import copy

import pytest
import torch
from fakes import ColorPrior, small_model
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import Checkpoint

from dreamfusion_pl.callbacks.average import WeightAverage
from dreamfusion_pl.callbacks.checkpoints import LastCheckpoints
from dreamfusion_pl.data.orbit import orbit
from dreamfusion_pl.data.views import RandomViews
from dreamfusion_pl.device.matmul import matmul_precision


def trainer(steps: int, **arguments) -> Trainer:
    defaults = {"callbacks": [], "enable_checkpointing": None, "limit_val_batches": 0}
    return Trainer(
        **(defaults | arguments),
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        inference_mode=False,
    )


def views(seed: int = 0) -> RandomViews:
    return RandomViews(views_per_step=2, look_resolution=8, num_val_views=2, seed=seed)


@pytest.mark.parametrize("latent_until", [None, 0.0, 0.5, 1.0])
def test_it_learns_the_colour_that_the_prior_likes(latent_until):
    model = small_model() if latent_until is None else small_model(latents=3, latent_until=latent_until)
    before = color(model)
    trainer(60, enable_checkpointing=False).fit(model, datamodule=views())
    after = color(model)
    target = torch.tensor([0.9, 0.1, 0.1])
    assert (after - target).abs().max() < 0.5 * (before - target).abs().max()


def color(model) -> torch.Tensor:
    rendering = model(orbit([0.0, 90.0, 180.0], 10.0, 1.5, 1.1, 8, 8))
    weight = rendering.opacity.detach()[..., None] + 1e-6
    return (rendering.albedo.detach() * weight).sum((0, 1, 2)) / weight.sum()


def test_the_scene_follows_each_step_before_the_average_sees_it():
    """A module that is stepped by hand with the same gradients, and then smoothed, has the same average."""
    rates, averages = [], []
    for is_by_hand in (False, True):
        model, average = small_model(), WeightAverage(0.5)
        planes = model.scene.features.planes

        def after_step(rate, planes=planes, is_by_hand=is_by_hand):
            if not is_by_hand:
                rates.append(rate)
                planes.data.mul_(0.9)

        class ByHand(Callback):
            def on_train_batch_end(self, *_, planes=planes, is_by_hand=is_by_hand):
                if is_by_hand:
                    planes.data.mul_(0.9)

        model.scene.after_step = after_step
        trainer(3, callbacks=[ByHand(), average], enable_checkpointing=False).fit(model, datamodule=views())
        averages.append(planes.detach().clone())
    assert torch.equal(*averages)
    assert rates == [0.03] * 3


def test_the_prior_is_no_part_of_the_module():
    model = small_model()
    assert copy.deepcopy(model).prior is model.prior
    names = [name for name, _ in model.named_modules()]
    assert not any("prior" in name for name in names)
    assert not any("prior" in key for key in model.state_dict())


def test_what_is_logged():
    fitted = trainer(3, enable_checkpointing=False)
    fitted.fit(small_model(), datamodule=views())
    metrics = fitted.callback_metrics
    for name in ("loss", "loss/distillation", "loss/opacity", "loss/orientation", "gradient_norm"):
        assert bool(metrics[name].isfinite()), name
    assert 0.0 < metrics["opacity"] < 1.0
    assert metrics["learning_rate"] == pytest.approx(0.03)


def run(folder, steps, callbacks=(), ckpt_path=None):
    model = small_model()
    if ckpt_path:  # nothing of a fresh model may survive the checkpoint
        torch.nn.init.zeros_(model.scene.features.planes)
    fitted = trainer(steps, callbacks=[WeightAverage(0.9), *callbacks], default_root_dir=folder)
    fitted.fit(model, datamodule=views(), ckpt_path=ckpt_path)
    return model


def test_resuming_is_exact(tmp_path):
    class Stop(Checkpoint):  # runs after the others, so that they have saved
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == 3:
                trainer.should_stop = True

    whole = run(tmp_path / "whole", 6, [LastCheckpoints(100)])
    run(tmp_path / "part", 6, [LastCheckpoints(3), Stop()])
    checkpoint = tmp_path / "part" / "checkpoints" / "last.ckpt"
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 3
    resumed = run(tmp_path / "rest", 6, [LastCheckpoints(100)], checkpoint)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_seeds_differ_and_repeat():
    states = []
    for seed in (0, 0, 1):
        model = small_model(0)
        model.seed = seed
        trainer(2, enable_checkpointing=False).fit(model, datamodule=views(seed))
        states.append(model.state_dict()["scene.features.planes"])
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_progress_and_prompt_are_in_the_checkpoint(tmp_path):
    run(tmp_path, 4, [LastCheckpoints(100)])
    checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["progress"] == 1.0
    assert checkpoint["prompt"] == "a red ball"
    again = small_model(5)
    again.on_load_checkpoint(checkpoint)
    assert again.progress == 1.0


def test_a_checkpoint_of_the_last_step_holds_the_scene_as_it_is_exported(tmp_path):
    """Callbacks save before the module's own hook: the progress must not be that of the step before."""

    class Save(Checkpoint):
        def on_train_batch_end(self, trainer, *_):
            steps = trainer.global_step
            trainer.save_checkpoint(tmp_path / f"{steps}.ckpt")
            saved.append(torch.load(tmp_path / f"{steps}.ckpt", weights_only=True)["progress"])

    saved = []
    run(tmp_path, 4, [Save()])
    assert saved == [0.25, 0.5, 0.75, 1.0]


def test_the_occupancy_grid_counts_steps_not_batches():
    class Count:
        calls = 0

        def update(self, *_):
            Count.calls += 1

    model = small_model()
    model.occupancy_interval, model.renderer.update_occupancy = 2, Count().update
    trainer(6, enable_checkpointing=False, accumulate_grad_batches=3).fit(model, datamodule=views())
    assert Count.calls == 3


@pytest.mark.parametrize("normals", ["surface", "exact"])
def test_rendering_and_losses_are_in_float32_under_autocast(normals):
    model = small_model()
    model.renderer.normals = normals
    batch = views().draw(0, 0.5, 8)
    whole = model(batch)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(batch)
    for name, one, other in zip(whole._fields, whole, mixed, strict=True):
        assert other.dtype == torch.float32 and torch.equal(one, other), name


def test_a_step_under_autocast_has_the_loss_of_one_without():
    losses = []
    for precision in ("32-true", "bf16-mixed"):
        fitted = trainer(1, enable_checkpointing=False, precision=precision)
        fitted.fit(small_model(), datamodule=views())
        losses.append(fitted.callback_metrics["loss"])
    assert losses[1].dtype == torch.float32
    torch.testing.assert_close(losses[1], losses[0])


def test_steps_must_be_known():
    endless = trainer(-1, enable_checkpointing=False)
    with pytest.raises(ValueError, match="max_steps"):
        endless.fit(small_model(), datamodule=views())


def test_latents_must_be_the_priors():
    with pytest.raises(ValueError, match=r"4 channels, .* have 3: pass --model.scene.latents 3"):
        trainer(1).fit(small_model(latents=4), datamodule=views())


@pytest.mark.parametrize("resolution", [-1, 0])
def test_a_prior_without_pixels_is_refused(resolution):
    with pytest.raises(ValueError, match="resolution and channels must be 1 or more"):
        small_model(prior=ColorPrior(resolution=resolution))


@pytest.mark.parametrize(("latent_until", "moves"), [(1.0, ["cpu"]), (0.0, [])])
def test_validation_of_latents_moves_the_prior_that_decodes_them(latent_until, moves):
    model = small_model(latents=3, latent_until=latent_until)
    moved = []
    model.prior.to = lambda device: moved.append(str(device))
    trainer(1, enable_checkpointing=False, limit_val_batches=1).validate(
        model, datamodule=views(), verbose=False
    )
    assert moved == moves


def test_learning_rate_follows_both_factors():
    from dreamfusion_pl.schedule import Cosine, Linear

    model = small_model(prior=ColorPrior())
    model.warmup, model.decay = Linear(0.0, 1.0, end=0.5), Cosine(1.0, 0.0)
    fitted = trainer(4, enable_checkpointing=False)
    fitted.fit(model, datamodule=views())
    factor = model.lr_schedulers().lr_lambdas[0]
    assert factor(0) == 0.0
    assert factor(1) == pytest.approx(0.5 * Cosine(1.0, 0.0)(0.25))
    assert factor(2) == pytest.approx(0.5)
    assert factor(4) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("precision", [None, "medium"])
def test_the_precision_of_matrix_products_is_that_of_training_steps_alone(precision, monkeypatch):
    class Watch(Callback):
        def on_after_backward(self, *_):
            outside.append(torch.get_float32_matmul_precision())

    class Noticed(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            inside.append(torch.get_float32_matmul_precision())
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            inside.append(torch.get_float32_matmul_precision())
            return gradient

    inside, outside, model = [], [], small_model()
    model.matmul_precision, encode = precision, model.encode
    monkeypatch.setattr(model, "encode", lambda rendering: Noticed.apply(encode(rendering)))
    trainer(2, callbacks=[Watch()], enable_checkpointing=False).fit(model, datamodule=views())
    assert inside == [precision or "highest"] * 4 and outside == ["highest"] * 2


def test_a_step_that_fails_leaves_the_precision_of_matrix_products(monkeypatch):
    def fail(*_):
        assert torch.get_float32_matmul_precision() == "medium"
        raise ValueError("no")

    model = small_model()
    model.matmul_precision = "medium"
    monkeypatch.setattr(model, "encode", fail)
    with pytest.raises(ValueError, match="no"):
        trainer(1, enable_checkpointing=False).fit(model, datamodule=views())
    assert torch.get_float32_matmul_precision() == "highest"


def test_computations_at_the_same_time_leave_the_precision_that_was_before_them():
    first, second = matmul_precision("medium"), matmul_precision("high")
    for step in (first.__enter__, second.__enter__):
        step()
    first.__exit__(None, None, None)
    assert torch.get_float32_matmul_precision() == "high"
    second.__exit__(None, None, None)
    assert torch.get_float32_matmul_precision() == "highest"
