"""Compiled, and called from host memory: the same numbers; where that cannot be, one message."""

import functools
import warnings

import pytest
import torch
from tiny_families import FAMILIES, save_tiny_family, tiny_autoencoder

from dreamfusion_pl.device import compilation
from dreamfusion_pl.diffusion.families.offload import Offloaded
from dreamfusion_pl.diffusion.families.pretrained import PretrainedPrior


def prior_of(folder, **options) -> PretrainedPrior:
    return PretrainedPrior(str(folder), dtype="float32", resolution=8, **options)


def question(prior):
    draw = torch.Generator().manual_seed(0)
    z_t = torch.randn(2, prior.channels, 8, 8, generator=draw)
    return z_t, torch.tensor([0.3, 0.8]), prior.embed(["a red chair", ""])


@pytest.mark.parametrize("name", FAMILIES)
def test_an_offloaded_network_gives_the_same_and_keeps_its_weights(name, tmp_path):
    prior = prior_of(save_tiny_family(name, tmp_path / name))
    z_t, t, text = question(prior)
    expected = prior.predict(z_t, t, text)
    network = prior._network
    weights = {key: value.data_ptr() for key, value in network.state_dict().items()}
    prior._adapter.network = Offloaded(network, torch.device("cpu"))
    z_t.requires_grad_()
    eps = prior.predict(z_t, t, text)
    torch.testing.assert_close(eps.detach(), expected)
    assert {key: value.data_ptr() for key, value in network.state_dict().items()} == weights
    (slope,) = torch.autograd.grad(eps.sum(), z_t)
    prior._adapter.network = network
    (expected_slope,) = torch.autograd.grad(prior.predict(z_t, t, text).sum(), z_t)
    torch.testing.assert_close(slope, expected_slope)


def test_an_offloaded_networks_weights_are_on_the_device_in_a_call_only():
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)).eval()
    offloaded = Offloaded(network, torch.device("meta"))  # has shapes and no numbers
    assert offloaded(torch.ones(4, 3, device="meta")).device.type == "meta"
    assert {tensor.device.type for tensor in network.state_dict().values()} == {"cpu"}


def test_offload_on_a_cpu_says_that_it_is_of_no_use(tmp_path):
    prior = prior_of(save_tiny_family("deepfloyd", tmp_path / "tiny"), offload=True)
    with pytest.warns(UserWarning, match="offload is of no use on a CPU"):
        prior.to("cpu")
    assert prior.predict(*question(prior)).isfinite().all()
    with pytest.raises(ValueError, match="compile or offload, not both"):
        PretrainedPrior(compile=True, offload=True)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # torch looks at it itself
def test_compiled_networks_give_the_same(tmp_path, monkeypatch):
    folder = save_tiny_family("stable_diffusion", tmp_path / "tiny")
    tiny_autoencoder().save_pretrained(tmp_path / "taesd")
    options = {"autoencoder": str(tmp_path / "taesd"), "autoencoder_until": 0.5}
    plain = prior_of(folder, **options)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))  # in seconds
    prior = prior_of(folder, compile=True, **options).to("cpu")
    assert prior._network._compiled_call_impl is not None
    torch.testing.assert_close(prior.predict(*question(prior)), plain.predict(*question(plain)))
    rgb = torch.rand(1, 16, 16, 3, generator=torch.Generator().manual_seed(1))
    for progress in (0.0, 1.0):
        slopes = []
        for one in (prior, plain):
            pixels = rgb.clone().requires_grad_()
            one.encode(pixels, progress).square().sum().backward()
            slopes.append(pixels.grad)
        torch.testing.assert_close(*slopes)


def test_without_a_compiler_it_goes_on_with_one_message(tmp_path, monkeypatch):
    def no_compiler(*_):
        raise RuntimeError("no C++ compiler here")

    folder = save_tiny_family("deepfloyd", tmp_path / "tiny")
    monkeypatch.setattr(torch, "compile", lambda function: no_compiler)
    prior = prior_of(folder, compile=True)
    with pytest.warns(
        UserWarning, match="torch.compile does not work on this cpu.*no C.. compiler here.*without"
    ):
        prior.to("cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prior.to("cpu")
    assert prior._network._compiled_call_impl is None
    assert prior.predict(*question(prior)).isfinite().all()


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method.:DeprecationWarning")
def test_a_missing_compiler_is_noticed(monkeypatch, tmp_path):
    from torch._inductor import config

    torch._dynamo.reset()
    monkeypatch.setattr(config.cpp, "cxx", ("no-such-compiler",))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with pytest.warns(UserWarning, match="torch.compile does not work.*C.. compiler"):
        assert not compilation.can_compile(torch.device("cpu"))


@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune"])
def test_a_mode_of_compilation_reaches_the_network_and_its_output_is_a_copy(mode, tmp_path, monkeypatch):
    """CUDA graphs overwrite the network's output in its next call; the autoencoder gets none."""
    modes = []

    def compiled(function=None, mode=None, **_):
        modes.append(mode)
        return function

    folder = save_tiny_family("stable_diffusion", tmp_path / "tiny")
    monkeypatch.setattr(torch, "compile", compiled)
    prior = prior_of(folder, compile=mode).to("cpu")
    assert modes == [None, mode, "max-autotune-no-cudagraphs" if mode == "max-autotune" else None]
    memory = torch.zeros(1)

    def call(z, *_):
        nonlocal memory
        memory = z + 1.0
        return memory

    monkeypatch.setattr(prior._adapter, "call", call)
    first = prior.predict(*question(prior))
    before = first.clone()
    memory.fill_(7.0)
    torch.testing.assert_close(first, before)


@pytest.mark.parametrize("compile", ["fast", 1, None, "true"])
def test_another_mode_of_compilation_is_refused(compile):
    with pytest.raises(ValueError, match="reduce-overhead or max-autotune"):
        PretrainedPrior(compile=compile)
