"""The pipelines that training writes: tokens, folder, reloading without this package, sampling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from torch import nn

from dreamfusion_pl.data.world.captions import VOCABULARY
from dreamfusion_pl.diffusion.text.vocabulary import known_words
from dreamfusion_pl.diffusion.training import folders
from dreamfusion_pl.diffusion.training.deepfloyd import DeepFloydFamily
from dreamfusion_pl.diffusion.training.denoiser import DenoiserTraining
from dreamfusion_pl.diffusion.training.family import PipelineFamily
from dreamfusion_pl.diffusion.training.stable_diffusion import StableDiffusionFamily, word_merges
from dreamfusion_pl.diffusion.training.tiny_autoencoder import build_autoencoder

WORDS = ["a", "an", "red", "blue", "chair", "ball", "3", "d", ",", "front", "view"]
KINDS = ("IFPipeline", "StableDiffusionPipeline")


def autoencoder(folder: Path) -> str:
    """Write an untrained autoencoder of a quarter of the side."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        build_autoencoder(8, (0, 1, 1), (1, 1, 1), 4).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PipelineFamily]:
    small: dict[str, Any] = {"channels": (8, 64), "attention_size": 4, "text_width": 32, "text_layers": 1}
    vae = autoencoder(tmp_path_factory.mktemp("autoencoder") / "vae")
    return {
        "IFPipeline": DeepFloydFamily(size=8, **small),
        "StableDiffusionPipeline": StableDiffusionFamily(vae, size=32, **small),
    }


@pytest.fixture(scope="module", params=KINDS)
def family(families: dict[str, PipelineFamily], request: pytest.FixtureRequest) -> PipelineFamily:
    return families[request.param]


def training(family: PipelineFamily) -> DenoiserTraining:
    return DenoiserTraining(family, WORDS)


@pytest.fixture(scope="module")
def folder(family: PipelineFamily, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training(family).save(tmp_path_factory.mktemp("pipeline") / "prior")


def reload(folder: Path) -> DiffusionPipeline:
    pipeline = DiffusionPipeline.from_pretrained(folder, low_cpu_mem_usage=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw(pipeline: DiffusionPipeline, family: PipelineFamily, prompt: str) -> torch.Tensor:
    images = pipeline(
        prompt,
        num_inference_steps=4,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
        **family.sampling,
    ).images
    return torch.as_tensor(images)


def test_every_word_is_one_token(family: PipelineFamily) -> None:
    tokenizer = family.tokenizer(WORDS)
    empty = {*tokenizer("").input_ids, tokenizer.convert_tokens_to_ids("▁")}  # T5: before a comma on its own
    ids = [[i for i in tokenizer(word).input_ids if i not in empty] for word in WORDS]
    assert all(len(word) == 1 for word in ids)
    assert len({word[0] for word in ids}) == len(ids)


def test_a_t5_tokenizer_has_one_token_for_all_other_words(families: dict[str, PipelineFamily]) -> None:
    tokenizer = families["IFPipeline"].tokenizer(WORDS)
    assert tokenizer.tokenize("a red chair, front view") == ["▁a", "▁red", "▁chair", ",", "▁front", "▁view"]
    assert tokenizer.unk_token_id in tokenizer("zebra").input_ids
    assert tokenizer.unk_token_id in tokenizer("chairs").input_ids
    assert tokenizer("").input_ids == [tokenizer.eos_token_id]


def test_a_clip_tokenizer_spells_other_words(families: dict[str, PipelineFamily]) -> None:
    tokenizer = families["StableDiffusionPipeline"].tokenizer(WORDS)
    assert tokenizer.tokenize("A red chair, front view") == [
        *("a</w>", "red</w>", "chair</w>", ",</w>", "front</w>", "view</w>")
    ]
    assert not all(piece.endswith("</w>") for piece in tokenizer.tokenize("cedar"))
    assert tokenizer("").input_ids == [tokenizer.bos_token_id, tokenizer.eos_token_id]
    parts = families["StableDiffusionPipeline"].tokenizer(["a", "3d", ",", "model"])
    assert parts.tokenize("a 3d model, a") == ["a</w>", "3</w>", "d</w>", "model</w>", ",</w>", "a</w>"]


def test_merges_make_one_piece_of_every_word_of_the_world_in_any_order() -> None:
    words = [word for word in VOCABULARY if word.isalpha()]
    for order in (words, words[::-1], sorted(words, key=len), ["on", "balloon", "loon", "ballon", "l"]):
        merges = {pair: rank for rank, pair in enumerate(word_merges(order))}
        for word in order:
            pieces = [*word[:-1], f"{word[-1]}</w>"]
            while len(pieces) > 1:  # byte-pair encoding: again and again the pair of the lowest rank
                at = min(range(len(pieces) - 1), key=lambda i: merges.get((pieces[i], pieces[i + 1]), 1e9))
                assert (pieces[at], pieces[at + 1]) in merges, (word, pieces)
                pieces = [*pieces[:at], pieces[at] + pieces[at + 1], *pieces[at + 2 :]]
            assert pieces == [f"{word}</w>"]


@pytest.mark.parametrize(("kind", "length", "empty"), [(KINDS[0], 77, 1), (KINDS[1], 32, 2)])
def test_padding_is_as_the_pipeline_asks_for_it(
    families: dict[str, PipelineFamily], kind: str, length: int, empty: int
) -> None:
    model = training(families[kind])
    found = families[kind].embed(model.tokenizer, model.networks["text_encoder"], ["a", ""])
    assert found.rows.shape == (2, length, 32) and found.tokens.shape == (2, length)
    assert found.mask.sum(dim=1).tolist() == [empty + 1, empty]
    assert found.tokens[1, empty:].eq(model.tokenizer.pad_token_id).all()


@pytest.mark.parametrize("vocabulary", [["red", "red"], ["Red"], ["two words"], [""]])
def test_a_bad_vocabulary_is_refused(family: PipelineFamily, vocabulary: list[str]) -> None:
    with pytest.raises(ValueError, match="vocabulary"):
        family.tokenizer(vocabulary)


def test_attention_must_be_at_a_resolution_of_the_unet(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"attention_size=5 .*\[8, 4\]"):
        training(DeepFloydFamily(size=8, channels=(8, 64), attention_size=5))
    vae = autoencoder(tmp_path / "vae")
    with pytest.raises(ValueError, match=r"attention_size=32 .*\[8, 4\]"):
        training(StableDiffusionFamily(vae, size=32, channels=(8, 64), attention_size=32))
    with pytest.raises(ValueError, match="multiple of 4"):
        StableDiffusionFamily(vae, size=30, channels=(8, 64), attention_size=4)


def test_a_missing_autoencoder_is_named_with_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no autoencoder at .*autoencoder.yaml"):
        StableDiffusionFamily(str(tmp_path / "vae"))


def test_the_unets_are_of_their_kind(families: dict[str, PipelineFamily]) -> None:
    pixels, latents = (training(families[kind]).networks["unet"].config for kind in KINDS)
    assert (pixels.in_channels, pixels.out_channels, latents.in_channels, latents.out_channels) == (
        3,
        6,
        4,
        4,
    )
    assert pixels.addition_embed_type == latents.addition_embed_type == "text"
    assert (
        pixels.down_block_types == latents.down_block_types == ("DownBlock2D", "SimpleCrossAttnDownBlock2D")
    )


def test_latents_are_those_of_the_pipelines_encoder(families: dict[str, PipelineFamily]) -> None:
    latent, pixels = families["StableDiffusionPipeline"], families["IFPipeline"]
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0
    vae = training(latent).pipeline().vae
    with torch.no_grad():
        expected = vae.encode(x).latents * vae.config.scaling_factor
    torch.testing.assert_close(latent.encode(x), expected)
    assert latent.encode(x).shape == (2, 4, 8, 8) and pixels.encode(x) is x


def test_reloaded_pipeline_is_the_one_that_was_saved(family: PipelineFamily, folder: Path) -> None:
    before, after = training(family).pipeline(), reload(folder)
    assert type(after).__name__ in KINDS and type(after) is type(before)
    prompt = "A red chair, front view"
    text = (
        [pipeline.encode_prompt(prompt, "cpu", 1, False)[0] for pipeline in (before, after)]
        if (type(after).__name__ == KINDS[1])
        else [pipeline.encode_prompt(prompt)[0] for pipeline in (before, after)]
    )
    torch.testing.assert_close(text[0], text[1])
    torch.testing.assert_close(draw(before, family, prompt), draw(after, family, prompt), atol=0.05, rtol=0.0)
    assert draw(after, family, prompt).shape == (1, family.picture_size, family.picture_size, 3)


def test_reloading_in_half_precision_works(family: PipelineFamily, folder: Path) -> None:
    pipeline = DiffusionPipeline.from_pretrained(folder, dtype=torch.bfloat16, low_cpu_mem_usage=False)
    pipeline.set_progress_bar_config(disable=True)
    assert draw(pipeline, family, "a blue ball").isfinite().all()


def test_the_folder_names_nothing_of_this_package(folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    libraries = {value[0] for value in index.values() if isinstance(value, list)}
    assert libraries <= {"diffusers", "transformers", None}
    assert not any("dreamfusion" in file.read_text() for file in folder.rglob("*.json"))


def test_the_folder_names_no_place_on_this_machine(folder: Path, tmp_path: Path) -> None:
    for file in folder.rglob("*.json"):
        assert str(tmp_path.parent) not in file.read_text(encoding="utf-8"), file


def test_the_unet_is_stored_in_half_precision(family: PipelineFamily, folder: Path) -> None:
    count = sum(parameter.numel() for parameter in training(family).networks["unet"].parameters())
    stored = (folder / "unet" / "diffusion_pytorch_model.safetensors").stat().st_size
    assert 2 * count < stored < 2.2 * count + 50_000


def test_saving_leaves_the_networks_alone_and_replaces_an_older_folder(
    family: PipelineFamily, tmp_path: Path
) -> None:
    model = training(family)
    averaged: Any = model.average.module
    for value in (0.0, 1.0):
        nn.init.constant_(averaged["unet"].conv_in.bias, value)
        model.save(tmp_path / "prior")
    assert averaged["unet"].dtype == torch.float32
    assert reload(tmp_path / "prior").unet.conv_in.bias.eq(1.0).all()
    assert [path.name for path in tmp_path.iterdir()] == ["prior"]


def test_weights_of_another_family_are_refused(families: dict[str, PipelineFamily]) -> None:
    message = "is a StableDiffusionPipeline, and a DeepFloydFamily makes a IFPipeline"
    with pytest.raises(ValueError, match=message):
        DenoiserTraining(families["IFPipeline"], WORDS, initial="builtin")


def test_other_folders_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for index, kind in ((folders.PIPELINE_INDEX, "a pipeline folder"), (folders.MODEL_INDEX, "a model's")):
        with pytest.raises(ValueError, match=f"not {kind}"):
            folders.write(tmp_path, index, lambda folder: folder.mkdir())
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_known_words_are_those_of_the_vocabulary(family: PipelineFamily) -> None:
    is_known = known_words(family.tokenizer([*(word for word in WORDS if len(word) > 1), "a", ",", "3d"]))
    assert is_known is not None
    assert all(map(is_known, ["a", "an", "red", "chair", ",", "front", "3d"]))
    assert not any(map(is_known, ["chairs", "air", "re", "wooden", "zebra", "3", "i", "fronta", "d"]))


def test_a_new_word_may_change_the_pieces_of_which_others_are_made(families, tmp_path):
    family = families["StableDiffusionPipeline"]
    first = DenoiserTraining(family, ["yellow", "red"])
    first.save(tmp_path / "first")
    more = DenoiserTraining(family, ["elevation", "yellow", "red"], initial=str(tmp_path / "first"))
    old, new = first.tokenizer.get_vocab(), more.tokenizer.get_vocab()
    assert "ye" in old and "ye" not in new
    with torch.no_grad():
        torch.testing.assert_close(more.embed(["yellow red"])[0], first.embed(["yellow red"])[0])
    with pytest.raises(ValueError, match="lacks: .*yellow</w>"):
        DenoiserTraining(family, ["elevation", "red"], initial=str(tmp_path / "first"))
