"""What a Mac's GPU would refuse, simulated: float64, and kernels that torch does not have for it (MPS).

Here all tensors are on the CPU. Those that would be on the GPU are the model's, and whatever is computed from
one of them; ``.cpu()`` and ``.numpy()`` lead back. This shows which data types and kernels a run asks of the
GPU, and nothing of what the GPU answers: no Mac has run this.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import pytest
import torch
import yaml
from pytorch_lightning import Callback, Trainer
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from dreamfusion_pl.cli import main
from dreamfusion_pl.scene.latent_colors import LatentColors

OF_THIS_CPU = (
    "_scaled_dot_product_flash_attention_for_cpu",
)  # attention, which has another form on each device
SMALL_FIT = [
    *[
        "--config",
        "draft.yaml",
        "--prompt",
        "a red chair",
        "--trainer.max_steps",
        "3",
        "--data.resolution",
        "16",
    ],
    *["--trainer.val_check_interval", "2", "--data.num_val_views", "2", "--data.num_test_views", "2"],
    *["--model.renderer.num_samples", "8"],
    *["--model.prior.dtype", "float32"],  # what "auto" takes for a Mac
]


class Refused(AssertionError):
    """A Mac's GPU would not do this."""


class Gpu(TorchDispatchMode):
    """Follows the tensors that would be on the GPU, and refuses float64 there."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors = WeakTensorKeyDictionary()
        self.kernels: set[str] = set()

    def has(self, tensor: torch.Tensor) -> bool:
        return tensor in self.tensors

    def put(self, tensors) -> None:
        for tensor in tensors:
            self.tensors[tensor] = None

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
        result = func(*args, **kwargs)
        if any(map(self.has, given)):
            made = [one for one in tree_leaves(result) if isinstance(one, torch.Tensor)]
            if any(one.dtype in (torch.float64, torch.complex128) for one in made):
                raise Refused(f"{func} makes float64 on the GPU")
            self.put(made)
            self.kernels.add(func.name().removeprefix("aten::"))
        return result


class Moves(TorchFunctionMode):
    """Copies to the CPU are no longer on the GPU."""

    def __init__(self, gpu: Gpu) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name == "cpu" or (name == "to" and "cpu" in args):
            result = result.detach().clone() if not result.requires_grad else result.clone()
            self.gpu.tensors.pop(result, None)
        return result


class OnGpu(Callback):
    """The model is on the GPU from the first hook on, and so are all views."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu

    def setup(self, trainer, pl_module, stage):
        self.gpu.put([*pl_module.parameters(), *pl_module.buffers()])


@cache
def kernels_of_macs() -> set[str]:
    """Names of the kernels that this torch has for a Mac's GPU, or composes of others."""
    table = (files("torchgen") / "packaged/ATen/native/native_functions.yaml").read_text("utf-8")
    rows = {row["func"].split("(")[0]: row for row in yaml.load(table, Loader=yaml.CSafeLoader)}

    def has(name: str) -> bool:
        keys = ", ".join(rows[name].get("dispatch") or ["CompositeImplicitAutograd"])
        is_there = "Composite" in keys or "MPS" in keys.split(", ")
        return is_there or ("structured_delegate" in rows[name] and has(rows[name]["structured_delegate"]))

    return {name for name in rows if has(name)}


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    gpu, fit = Gpu(), Trainer.fit

    def fit_on_gpu(trainer, *arguments, **options):
        trainer.callbacks.insert(0, OnGpu(gpu))
        fit(trainer, *arguments, **options)

    monkeypatch.setattr(Trainer, "fit", fit_on_gpu)
    return gpu


def test_a_fit_with_all_that_it_writes_asks_for_what_a_mac_has(gpu, tmp_path):
    with gpu, Moves(gpu):
        assert main(["fit", *SMALL_FIT]) == 0
    run = tmp_path / "lightning_logs" / "version_0"
    assert (run / "object.glb").is_file() and (run / "turntable.gif").is_file()
    # What it followed: a step and its gradient, the occupancy grid, the encoder, the extraction of the mesh.
    followed = {
        "grid_sampler_2d_backward",
        "max_pool3d_with_indices",
        "convolution_backward",
        "searchsorted.Tensor",
    }
    assert followed <= gpu.kernels and len(gpu.kernels) > 100
    assert gpu.kernels - kernels_of_macs() <= set(OF_THIS_CPU)


def test_colours_of_latents_are_fitted_on_the_cpu(gpu):
    colors, latents, map_between = torch.rand(20, 3), torch.rand(20, 4), LatentColors(4)
    gpu.put([colors, latents, *map_between.buffers()])
    with gpu, Moves(gpu):
        map_between.fit(colors, latents)
    assert bool(map_between.is_fitted)


def test_the_simulation_refuses_what_a_mac_does():
    gpu, here = Gpu(), torch.ones(3)
    gpu.put([here])
    with gpu, Moves(gpu):
        for wrong in (lambda: (2 * here).double(), lambda: here * torch.ones(3, dtype=torch.float64)):
            with pytest.raises(Refused, match="float64"):
                wrong()
        assert here.cpu().double().dtype == torch.float64 and not gpu.has(here.cpu())
        assert gpu.has((here + 1.0)[:2].view(2, 1)) and not gpu.has(torch.ones(3))
    assert "mul.Tensor" in kernels_of_macs() and OF_THIS_CPU[0] not in kernels_of_macs()
