"""A training step never waits for its device, nor reads a number from it: shown on the meta device.

Tensors on ``meta`` have shapes and no numbers. A step that reads one, as ``.item()``, ``bool``, ``nonzero``
and boolean indices do, fails there; so does most of what mixes devices. A dispatch mode sees the rest:
blocking copies from the host, and kernels with tensors of two devices.
"""

from __future__ import annotations

from contextlib import nullcontext, suppress

import pytest
import torch
from benchmarks.stand_in import build
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.strategies import SingleDeviceStrategy
from tiny_families import save_tiny_family
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dreamfusion_pl import rng
from dreamfusion_pl.callbacks.average import WeightAverage
from dreamfusion_pl.callbacks.progress import Progress
from dreamfusion_pl.callbacks.safety import Safety
from dreamfusion_pl.callbacks.signals import Signals
from dreamfusion_pl.callbacks.speed import Speed

META = torch.device("meta")
STEPS = 3  # with an update of the occupancy grid
SMALL = (
    "--model.scene.features.resolution=8",
    "--model.renderer.num_samples=8",
    "--model.renderer.occupancy_resolution=8",
    "--model.renderer.num_strata=16",
    "--model.occupancy_interval=2",
    "--data.resolution=8",
)
OVERLAYS = ("stable_diffusion", "stable_diffusion_xl", "deepfloyd", "stable_diffusion_3", "flux")


class MetaGenerator(torch.Generator):
    """A generator whose draws are on the meta device."""

    @property
    def device(self):
        return META


class MetaAccelerator(CPUAccelerator):
    """Trains wherever the strategy's device is."""

    def setup_device(self, device):
        pass


class Waited(AssertionError):
    """The step waits for the device."""


class Enough(Exception):
    """The steps are done."""


class Watch(TorchDispatchMode):
    """While it is on, refuses blocking copies from the host to the device and kernels on two devices."""

    on = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if self.on:
            given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
            made = [one for one in tree_leaves(result) if isinstance(one, torch.Tensor)]
            places = {one.device.type for one in [*given, *made] if one.ndim > 0}
            if func is torch.ops.aten._to_copy.default:  # a scalar, too, waits
                places = {one.device.type for one in [*given, *made]}
            if len(places) > 1:
                raise Waited(f"{func} has tensors on {sorted(places)}")
        return result


class WatchNumbers(TorchFunctionMode):
    """Refuses tensors that are made from Python's numbers on the device, which copies them from the host."""

    def __init__(self, watch):
        super().__init__()
        self.watch = watch

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self.watch.on and func in (torch.tensor, torch.as_tensor):
            device = torch.device(kwargs.get("device") or "cpu")
            if device == META and not isinstance(args[0], torch.Tensor):
                raise Waited(f"{func.__name__}({args[0]}) is copied from the host")
        return func(*args, **kwargs)


class Begin(Callback):
    """The first callback: the step begins."""

    def __init__(self, watch):
        self.watch = watch

    def on_train_batch_start(self, trainer, *_):
        self.watch.on = trainer.global_step > 0  # the first step moves what stays on the device


class End(Callback):
    """The last callback: the step has ended."""

    def __init__(self, watch):
        self.watch = watch

    def on_train_batch_end(self, trainer, *_):
        self.watch.on = False
        if trainer.global_step == STEPS:
            raise Enough


def steps_on_meta(model, data, monkeypatch, tmp_path):
    """Train with the callbacks of a fit on the meta device."""
    monkeypatch.setattr(rng, "generator", draws_on_meta)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which meta does not have
    watch = Watch()
    safety = Safety(every=1000)
    callbacks = [Begin(watch), WeightAverage(), safety, Signals(), Speed(), Progress(), End(watch)]
    trainer = Trainer(
        strategy=SingleDeviceStrategy(device=META, accelerator=MetaAccelerator()),
        max_steps=1000,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        limit_val_batches=0,
        default_root_dir=tmp_path,
        inference_mode=False,
    )
    monkeypatch.setattr(trainer, "_teardown", lambda: None)  # it would move the module to the CPU
    with watch, WatchNumbers(watch), suppress(Enough):
        trainer.fit(model, data)
    assert trainer.global_step == STEPS and model.device == META
    assert {one.device.type for one in model.state_dict().values()} == {"meta"}


def draws_on_meta(seed, stream, rank=0, step=0, device="cpu"):
    """As ``rng.generator``; the device that the step asks for must be its own."""
    assert torch.device(device) == META or stream == "views", f"{stream} is drawn on {device}"
    return torch.Generator().manual_seed(0) if stream == "views" else MetaGenerator()


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Lightning and torch, about the device
def test_the_default_step_does_not_wait(monkeypatch, tmp_path):
    steps_on_meta(*build("default", *SMALL, "--data.resolution=32"), monkeypatch, tmp_path)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", OVERLAYS)
def test_the_step_of_an_overlay_does_not_wait(name, monkeypatch, tmp_path):
    folder = save_tiny_family(name, tmp_path / "tiny")
    words = [f"--model.prior.model={folder}", "--model.prior.resolution=8", "--model.prior.dtype=float32"]
    if name == "stable_diffusion_xl":
        words += ["--model.prompts.view_embedding=interpolated", "--model.prompts.perp_neg=PerpNeg"]
        words += ["--model.prompts.directions=4"]
    steps_on_meta(*build(name, *SMALL, *words), monkeypatch, tmp_path)


D = "--model.distillation"
METHODS = {
    "draws, rescaled": [f"{D}.draws=2", f"{D}.adjustment=Rescale", f"{D}.time_law=PriorWeightedTimes"],
    "clipped": [f"{D}.adjustment=Clip", f"{D}.adjustment.bound=2", f"{D}.time_law=FallingTimes"],
    "csd": [f"{D}=ClassifierScoreDistillation"],
    "nfsd": [f"{D}=NoiseFreeDistillation", f"{D}.negative_text=a chair"],
    "bridge": [f"{D}=BridgeDistillation", f"{D}.source_text=a chair, {{}}"],
    "asd": [f"{D}=AsynchronousDistillation"],
    "sdi": [f"{D}=InversionDistillation", f"{D}.steps=2"],
    "ism": [f"{D}=IntervalScoreMatching"],
    "hifa": [f"{D}=DenoisedPictures"],
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("words", METHODS.values(), ids=METHODS)
def test_no_method_waits(words, monkeypatch, tmp_path):
    folder = save_tiny_family("stable_diffusion", tmp_path / "tiny")
    small = [f"--model.prior.model={folder}", "--model.prior.resolution=8", "--model.prior.dtype=float32"]
    scale = [f"{D}.guidance_scale=3"] if words[0].startswith(f"{D}=") else []
    steps_on_meta(*build("stable_diffusion", *SMALL, *small, *words, *scale), monkeypatch, tmp_path)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_papers_step_waits_where_it_leaves_out_empty_rays_and_only_there(monkeypatch, tmp_path):
    small = [*SMALL[1:], "--model.scene.features.width=8", "--model.optimizer=torch.optim.Adam"]
    with pytest.raises(NotImplementedError, match="nonzero"):
        steps_on_meta(*build("paper", *small), monkeypatch, tmp_path)
    words = ["--model.renderer.skip_empty_rays=false"]
    steps_on_meta(*build("paper", *small, *words), monkeypatch, tmp_path)


def test_the_watch_sees_what_would_wait():
    watch, here = Watch(), torch.ones(2, 2, device=META)
    with watch, WatchNumbers(watch):
        watch.on = True
        for waits in (
            lambda: torch.ones(2).to(META),
            lambda: torch.tensor(1.0).to(META),
            lambda: torch.tensor(1.0, device=META),
            lambda: here @ torch.ones(2, 2),
            lambda: here[torch.zeros(1, dtype=torch.long)],
        ):
            with pytest.raises(Waited):
                waits()
        for waits in (lambda: here.sum().item(), lambda: here[here > 0.0], lambda: here.cpu()):
            with pytest.raises((RuntimeError, NotImplementedError)):
                waits()
