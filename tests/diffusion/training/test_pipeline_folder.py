"""The pipeline that training writes: tokens, folder, reloading without this package, sampling."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline, IFPipeline

from dreamfusion_pl.diffusion.training import pipeline_folder as pipelines

WORDS = ["a", "an", "red", "blue", "chair", "ball", "3d", ",", "front", "view"]


def small_pipeline() -> IFPipeline:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = pipelines.build_tokenizer(WORDS)
        return pipelines.assemble(
            tokenizer,
            pipelines.build_text_encoder(len(tokenizer), 32, 1).eval(),
            pipelines.build_unet(8, (8, 64), 1, 4, 32).eval(),
            pipelines.build_scheduler(),
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipelines.save_pipeline(small_pipeline(), tmp_path_factory.mktemp("pipeline") / "prior")


def reload(folder: Path) -> DiffusionPipeline:
    pipeline = DiffusionPipeline.from_pretrained(folder, low_cpu_mem_usage=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw(pipeline: DiffusionPipeline, prompt: str) -> torch.Tensor:
    images = pipeline(
        prompt,
        num_inference_steps=4,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
        clean_caption=False,
    ).images
    return torch.as_tensor(images)


def test_every_word_is_one_token_and_the_rest_is_unknown() -> None:
    tokenizer = pipelines.build_tokenizer(WORDS)
    ids = [tokenizer(word).input_ids for word in WORDS if word != ","]
    assert all(len(word) == 2 and word[0] != tokenizer.unk_token_id for word in ids)
    assert len({word[0] for word in ids}) == len(ids)
    assert tokenizer.tokenize("a red chair, front view") == ["▁a", "▁red", "▁chair", ",", "▁front", "▁view"]
    assert tokenizer.unk_token_id in tokenizer("zebra").input_ids
    assert tokenizer.unk_token_id in tokenizer("chairs").input_ids
    assert tokenizer("").input_ids == [tokenizer.eos_token_id]


def test_padding_is_as_the_pipeline_asks_for_it() -> None:
    tokenizer = pipelines.build_tokenizer(WORDS)
    tokens = tokenizer(["a", ""], padding="max_length", max_length=77, truncation=True, return_tensors="pt")
    assert tokens.input_ids.shape == (2, 77)
    assert tokens.attention_mask.sum(dim=1).tolist() == [2, 1]
    assert tokens.input_ids[1, 1:].eq(tokenizer.pad_token_id).all()


@pytest.mark.parametrize("vocabulary", [["red", "red"], ["Red"], ["two words"], [""]])
def test_a_bad_vocabulary_is_refused(vocabulary: list[str]) -> None:
    with pytest.raises(ValueError, match="vocabulary"):
        pipelines.build_tokenizer(vocabulary)


def test_attention_must_be_at_a_resolution_of_the_unet() -> None:
    with pytest.raises(ValueError, match="attention_size=5"):
        pipelines.build_unet(8, (8, 64), 1, 5, 32)


def test_the_unet_is_of_the_if_kind() -> None:
    config = small_pipeline().unet.config
    assert (config.out_channels, config.addition_embed_type, config.encoder_hid_dim) == (6, "text", 32)
    assert config.resnet_time_scale_shift == "scale_shift"
    assert config.down_block_types == ("DownBlock2D", "SimpleCrossAttnDownBlock2D")


def test_reloaded_pipeline_is_the_one_that_was_saved(folder: Path) -> None:
    before, after = small_pipeline(), reload(folder)
    assert type(after) is IFPipeline
    prompt = "A red chair, front view"
    text = [pipeline.encode_prompt(prompt)[0] for pipeline in (before, after)]
    torch.testing.assert_close(text[0], text[1])
    torch.testing.assert_close(draw(before, prompt), draw(after, prompt), atol=0.05, rtol=0.0)
    assert draw(after, prompt).shape == (1, 8, 8, 3)


def test_reloading_in_half_precision_works(folder: Path) -> None:
    pipeline = DiffusionPipeline.from_pretrained(folder, dtype=torch.bfloat16, low_cpu_mem_usage=False)
    pipeline.set_progress_bar_config(disable=True)
    assert draw(pipeline, "a blue ball").isfinite().all()


def test_the_folder_names_nothing_of_this_package(folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    libraries = {value[0] for value in index.values() if isinstance(value, list)}
    assert libraries <= {"diffusers", "transformers", None}
    assert not any("dreamfusion" in file.read_text() for file in folder.rglob("*.json"))


def test_the_unet_is_stored_in_half_precision(folder: Path) -> None:
    count = sum(parameter.numel() for parameter in small_pipeline().unet.parameters())
    stored = (folder / "unet" / "diffusion_pytorch_model.safetensors").stat().st_size
    assert 2 * count < stored < 2.2 * count + 50_000


def test_saving_leaves_the_pipeline_alone_and_replaces_an_older_folder(tmp_path: Path) -> None:
    pipeline = small_pipeline()
    for value in (0.0, 1.0):
        torch.nn.init.constant_(pipeline.unet.conv_in.bias, value)
        pipelines.save_pipeline(pipeline, tmp_path / "prior")
    assert pipeline.unet.dtype == torch.float32
    assert reload(tmp_path / "prior").unet.conv_in.bias.eq(1.0).all()
    assert [path.name for path in tmp_path.iterdir()] == ["prior"]


def test_other_folders_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="not a pipeline folder"):
        pipelines.save_pipeline(small_pipeline(), tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
