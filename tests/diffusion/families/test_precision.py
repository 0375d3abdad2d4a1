"""Which precision a machine gets: GPUs by what they compute in, and the parts that float16 would break."""

import json
from types import SimpleNamespace

import pytest
import torch
from tiny_families import save_tiny_family, tiny_family

from dreamfusion_pl.diffusion.families.autoencoder import LatentEncoder
from dreamfusion_pl.diffusion.families.precision import encoder_dtype, resolve_dtype, with_scaled_gradient
from dreamfusion_pl.diffusion.families.pretrained import PretrainedPrior

GPU = torch.device("cuda")


@pytest.fixture
def card(monkeypatch):
    """A GPU of any name and compute capability in this machine, for what torch says of it."""

    def put(name: str, major: int, minor: int) -> None:
        properties = SimpleNamespace(name=name, major=major, minor=minor)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda *_: properties)

    return put


@pytest.mark.parametrize(
    ("name", "capability", "dtype"),
    [
        ("NVIDIA H100", (9, 0), torch.bfloat16),
        ("NVIDIA A100", (8, 0), torch.bfloat16),
        ("Tesla T4", (7, 5), torch.float16),
        ("Tesla V100", (7, 0), torch.float16),
        ("NVIDIA GeForce GTX 1660", (7, 5), torch.float32),  # known for results that are not numbers
        ("Tesla P40", (6, 1), torch.float32),
    ],
)
def test_auto_takes_what_the_card_computes_in(card, name, capability, dtype):
    card(name, *capability)
    assert resolve_dtype("auto", GPU) == dtype
    assert resolve_dtype("float16", GPU) == torch.float16
    assert resolve_dtype("float32", GPU) == torch.float32
    if dtype == torch.bfloat16:
        assert resolve_dtype("bfloat16", GPU) == torch.bfloat16
    else:
        with pytest.raises(ValueError, match="does not compute in bfloat16.*auto"):
            resolve_dtype("bfloat16", GPU)


def test_float16_is_for_gpus(tmp_path):
    prior = PretrainedPrior(str(save_tiny_family("stable_diffusion", tmp_path / "tiny")), dtype="float16")
    with pytest.warns(UserWarning, match="float16 is for GPUs.*float32"):
        prior.to("cpu")
    assert prior._network.dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "upcast", "dtype"),
    [
        ("stable_diffusion", True, torch.float16),
        ("stable_diffusion_xl", True, torch.float32),
        ("stable_diffusion_xl", False, torch.float16),  # such as sdxl-vae-fp16-fix
        ("pixart_sigma", True, torch.float32),
        ("stable_diffusion_3", True, torch.float32),
        ("flux", True, torch.float32),
    ],
)
def test_an_autoencoder_that_overflows_stays_float32_and_t5_never_sees_float16(
    tmp_path, monkeypatch, name, upcast, dtype
):
    folder = save_tiny_family(name, tmp_path / "tiny")
    config = folder / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"force_upcast": upcast}))
    prior = PretrainedPrior(str(folder), dtype="float32", resolution=8)
    prior.embed(["a red chair"])
    for part in ("text_encoder", "text_encoder_2"):
        encoder = getattr(prior._texts._encoder, part, None)
        assert encoder is None or encoder.dtype == torch.float32
    fine = prior.predict(
        torch.ones(1, prior.channels, 8, 8), torch.tensor([0.5]), prior.embed(["a red chair"])
    )
    target = "dreamfusion_pl.diffusion.families.pretrained.resolve_dtype"
    monkeypatch.setattr(target, lambda *_: torch.float16)  # as on a T4
    prior._move(torch.device("cpu"))
    assert prior._network.dtype == torch.float16 and prior._encoder._vae.dtype == dtype
    rgb = torch.rand(1, 16, 16, 3, requires_grad=True)
    z = prior.encode(rgb, 0.0)
    coarse = prior.predict(torch.ones_like(z), torch.tensor([0.5]), prior.embed(["a red chair"]))
    assert coarse.dtype == z.dtype == torch.float32
    assert float((coarse - fine).norm() / fine.norm()) < 0.02
    (1e-7 * z).sum().backward()  # too small for float16
    assert rgb.grad is not None and float(rgb.grad.abs().max()) > 0.0


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e6])
def test_gradients_of_any_size_pass_a_float16_encoder(scale):
    draw = torch.Generator().manual_seed(0)
    wanted = scale * torch.randn(2, 4, 8, 8, generator=draw)
    wanted[1] *= 1e-4  # every view has a scale of its own
    pixels = torch.rand(2, 3, 16, 16, generator=draw).requires_grad_()
    gradients = []
    for dtype in (torch.float32, torch.float16):
        encoder = LatentEncoder(tiny_family("stable_diffusion").vae)
        encoder.to("cpu", dtype, torch.contiguous_format)
        gradients += torch.autograd.grad(encoder(pixels, 0.0), pixels, wanted)
    for fine, coarse in zip(*gradients, strict=True):
        assert float((fine - coarse).norm() / fine.norm()) < 0.01


def test_a_scaled_gradient_is_the_gradient():
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)

    def wave(x: torch.Tensor) -> torch.Tensor:
        return with_scaled_gradient(lambda y: (y**3).sin(), x)

    assert torch.autograd.gradcheck(wave, x, check_undefined_grad=False)
    zero = torch.autograd.grad(with_scaled_gradient(torch.sin, x), x, torch.zeros_like(x))[0]
    assert not zero.any()


def test_an_encoder_follows_the_network_but_into_float16_where_it_overflows():
    half, brain, full = torch.float16, torch.bfloat16, torch.float32
    assert [encoder_dtype(one, True) for one in (half, brain, full)] == [full, brain, full]
    assert [encoder_dtype(one, False) for one in (half, brain, full)] == [half, brain, full]
