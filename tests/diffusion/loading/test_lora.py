"""LoRA: the weights W + scale B A, whatever file they come from; and files that do not fit."""

import copy

import pytest
import torch
from safetensors.torch import save_file
from tiny_families import save_tiny_family, tiny_family

from dreamfusion_pl.diffusion.families.pretrained import PretrainedPrior

pytest.importorskip("peft")
FAMILIES = ["deepfloyd", "stable_diffusion", "stable_diffusion_xl", "stable_diffusion_3", "flux"]
RANK = 2


def network_of(pipeline) -> tuple[str, torch.nn.Module]:
    name = "unet" if "unet" in pipeline.components else "transformer"
    return name, pipeline.components[name]


def hand_made(pipeline, layers: str = "to_q") -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A LoRA of attentions' ``layers``: weights as diffusers saves them, and the product B A by module."""
    name, network = network_of(pipeline)
    draw = torch.Generator().manual_seed(3)
    file, change = {}, {}
    for module, layer in network.named_modules():
        if module.endswith(layers):
            down = torch.randn(RANK, layer.in_features, generator=draw)
            up = torch.randn(layer.out_features, RANK, generator=draw)
            file |= {f"{name}.{module}.lora_A.weight": down, f"{name}.{module}.lora_B.weight": up}
            change[f"{module}.weight"] = up @ down
    assert change
    return file, change


def prior_of(folder, **options) -> PretrainedPrior:
    return PretrainedPrior(str(folder), dtype="float32", resolution=8, **options)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_network_is_that_with_weights_changed_by_hand(name, tmp_path):
    folder, pipeline = save_tiny_family(name, tmp_path / name), tiny_family(name)
    file, change = hand_made(pipeline)
    save_file(file, tmp_path / "lora.safetensors")
    plain = prior_of(folder)
    by_hand = copy.copy(plain)
    changed = prior_of(folder, lora=str(tmp_path / "lora.safetensors"), lora_scale=0.7)
    z_t, t = torch.randn(2, plain.channels, 8, 8), torch.tensor([0.3, 0.8])
    text = plain.embed(["a red chair", ""])
    before = plain.predict(z_t, t, text)
    weights = by_hand._adapter.network.state_dict()
    by_hand._adapter.network.load_state_dict(
        {key: value + 0.7 * change[key] if key in change else value for key, value in weights.items()}
    )
    expected = by_hand.predict(z_t, t, text)
    torch.testing.assert_close(changed.predict(z_t, t, text), expected, atol=1e-5, rtol=1e-5)
    assert float((expected - before).abs().max()) > 1e-3
    assert set(changed._adapter.network.state_dict()) == set(weights)  # no layers of peft are left
    assert not any(parameter.requires_grad for parameter in changed._adapter.network.parameters())


def test_the_part_for_text_encoders_is_left_out_with_a_warning(tmp_path):
    folder = save_tiny_family("stable_diffusion", tmp_path / "tiny")
    file, _ = hand_made(tiny_family("stable_diffusion"))
    file["text_encoder.layers.0.self_attn.q_proj.lora_A.weight"] = torch.zeros(2, 16)
    save_file(file, tmp_path / "lora.safetensors")
    with pytest.warns(UserWarning, match="also changes text encoders.*ignored"):
        prior_of(folder, lora=str(tmp_path / "lora.safetensors"))


def test_a_file_that_does_not_fit_is_one_message(tmp_path, caplog):
    folder, file = save_tiny_family("stable_diffusion", tmp_path / "tiny"), tmp_path / "lora.safetensors"
    own, _ = hand_made(tiny_family("stable_diffusion"))
    other, _ = hand_made(tiny_family("flux"))
    for weights in (
        {key: torch.zeros(2, 40) if "lora_A" in key else value for key, value in own.items()},  # other shapes
        other,  # no key of this network
        own | {key.replace("mid_block", "no_block"): value.clone() for key, value in own.items()},
        {"unet.conv_in.weight": torch.zeros(8, 4, 3, 3)},  # no LoRA
    ):
        save_file(weights, file)
        with pytest.raises(ValueError, match="the LoRA .*another family than this StableDiffusionPipeline"):
            prior_of(folder, lora=str(file))
    assert not caplog.records
    file.write_bytes(b"half")
    with pytest.raises(ValueError, match="not a complete safetensors file.*pickled"):
        prior_of(folder, lora=str(file))
    with pytest.raises(ValueError, match="no LoRA 'nowhere': give a safetensors file"):
        prior_of(folder, lora="nowhere")


def test_a_family_without_lora_says_so(tmp_path):
    save_file({"transformer.a.lora_A.weight": torch.zeros(2, 2)}, tmp_path / "lora.safetensors")
    with pytest.raises(ValueError, match="no LoRA into a PixArtSigmaPipeline"):
        prior_of(save_tiny_family("pixart_sigma", tmp_path / "tiny"), lora=str(tmp_path / "lora.safetensors"))


def test_a_lora_of_xl_is_refused_by_the_smaller_model(tmp_path):
    weights, _ = hand_made(tiny_family("stable_diffusion_xl"), "to_k")  # they read wider texts
    save_file(weights, tmp_path / "lora.safetensors")
    folder = save_tiny_family("stable_diffusion", tmp_path / "tiny")
    with pytest.raises(ValueError, match="another family than this StableDiffusionPipeline"):
        prior_of(folder, lora=str(tmp_path / "lora.safetensors"))
    xl = save_tiny_family("stable_diffusion_xl", tmp_path / "xl")
    prior_of(xl, lora=str(tmp_path / "lora.safetensors"))


def dora(pipeline) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A DoRA as diffusers saves it, and the weights m (W + B A) / |W + B A| by module."""
    (name, network), (file, change) = network_of(pipeline), hand_made(pipeline)
    draw, weights = torch.Generator().manual_seed(4), network.state_dict()
    for key, product in list(change.items()):
        moved = weights[key] + product
        size = 0.5 + torch.rand(len(moved), generator=draw)
        file[f"{name}.{key.removesuffix('.weight')}.lora_magnitude_vector"] = size
        change[key] = size[:, None] * moved / moved.norm(dim=1, keepdim=True)
    return file, change


@pytest.mark.parametrize("name", FAMILIES)
def test_a_dora_of_diffusers_sets_direction_and_size(name, tmp_path):
    file, expected = dora(tiny_family(name))
    save_file(file, tmp_path / "dora.safetensors")
    prior = prior_of(save_tiny_family(name, tmp_path / name), lora=str(tmp_path / "dora.safetensors"))
    weights = prior._adapter.network.state_dict()
    for key, value in expected.items():
        torch.testing.assert_close(weights[key], value, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("suffixes", "kind"),
    [
        (("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"), "LoHa"),
        (("lokr_w1", "lokr_w2"), "LoKr"),
        (("lora_down.weight", "lora_up.weight", "dora_scale"), "DoRA in another format"),
        (("diff",), "full differences"),
    ],
)
def test_other_adaptations_are_refused_by_name(tmp_path, suffixes, kind):
    folder = save_tiny_family("stable_diffusion", tmp_path / "tiny")
    plain, _ = hand_made(tiny_family("stable_diffusion"))
    names = ("lora_unet_mid_block_attentions_0_to_q", "unet.mid_block.attentions.0.to_q")
    for prefix, beside in zip(names, (plain, {}), strict=True):  # beside a LoRA that fits, and alone
        odd = {f"{prefix}.{suffix}": torch.zeros(2, 2) for suffix in suffixes}
        save_file(odd | beside, tmp_path / "odd.safetensors")
        with pytest.raises(ValueError, match=f"no plain LoRA, it holds {kind}.*not supported"):
            prior_of(folder, lora=str(tmp_path / "odd.safetensors"))
