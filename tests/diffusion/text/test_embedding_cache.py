"""Embeddings on disk: found again, bit by bit; never a reason to fail; enough without a text encoder."""

import errno
import os
import shutil
from pathlib import Path

import pytest
import torch
from tiny_families import FAMILIES, save_tiny_family
from tiny_pipeline import save_tiny_pipeline

from dreamfusion_pl.device.user_cache import user_cache
from dreamfusion_pl.diffusion.families.pretrained import PretrainedPrior
from dreamfusion_pl.diffusion.loading import pipelines
from dreamfusion_pl.diffusion.text import embedding_cache
from dreamfusion_pl.diffusion.text.embedding_cache import EmbeddingFolder
from dreamfusion_pl.types import TextEmbedding

TEXTS = ["a red chair, front view", "a red chair, side view", ""]


@pytest.fixture
def folder(tmp_path):
    return save_tiny_pipeline(tmp_path / "tiny")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "dreamfusion_pl" / "embeddings"


@pytest.fixture
def no_encoder(monkeypatch):
    """Nothing but tokenizers and networks can be loaded."""
    load = pipelines.load

    def checked(source, dtype, given):
        encoders = [part for part in source.parts if part.startswith("text_encoder")]
        assert encoders and all(part in given for part in encoders)
        return load(source, dtype, given)

    return lambda: monkeypatch.setattr(pipelines, "load", checked)


def prior_of(folder, **options) -> PretrainedPrior:
    return PretrainedPrior(str(folder), **({"dtype": "float32"} | options))


def entries(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.safetensors"))


def same(a: TextEmbedding, b: TextEmbedding) -> bool:
    return all(x is y if x is None or y is None else x.equal(y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", FAMILIES)
def test_known_texts_need_no_encoder_and_are_the_same_bits(name, tmp_path, cache, no_encoder):
    folder = save_tiny_family(name, tmp_path / name)
    first = prior_of(folder, resolution=8).embed(TEXTS)
    no_encoder()
    again = prior_of(folder, resolution=8)
    assert same(again.embed(TEXTS[::-1]).rows(torch.tensor([2, 1, 0])), first)
    assert again._texts._encoder is None


def test_a_text_that_is_new_is_embedded_and_the_others_are_found(folder, cache):
    prior_of(folder).embed(TEXTS)
    before = {file: file.stat().st_mtime_ns for file in entries(cache)}
    assert len(before) == 3
    prior_of(folder).embed([TEXTS[0], "a blue ball"])
    after = {file: file.stat().st_mtime_ns for file in entries(cache)}
    assert len(after) == 4 and before.items() <= after.items()


@pytest.mark.parametrize("damage", [b"", b"half", None])
def test_a_damaged_entry_is_written_anew(folder, cache, damage):
    expected = prior_of(folder).embed(TEXTS)
    broken = entries(cache)[0]
    whole = broken.read_bytes()
    broken.write_bytes(whole[:-7] if damage is None else damage)
    assert same(prior_of(folder).embed(TEXTS), expected)
    assert broken.read_bytes() == whole and sorted(broken.parent.iterdir()) == entries(cache)


def test_an_entry_of_another_text_is_not_taken(folder, cache):
    prior_of(folder).embed(TEXTS)
    one, other, _ = entries(cache)
    shutil.copy(one, other)
    expected = other.stat().st_size
    prior_of(folder).embed(TEXTS)
    assert one.read_bytes() != other.read_bytes() and other.stat().st_size <= expected + 64


def test_another_encoder_precision_or_release_is_another_identity(folder, cache, monkeypatch):
    prior_of(folder).embed(TEXTS[:1])
    prior_of(folder, dtype="bfloat16").embed(TEXTS[:1])
    assert len(entries(cache)) == 2
    weights = folder / "text_encoder" / "model.safetensors"
    with weights.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x01")
    prior_of(folder).embed(TEXTS[:1])
    assert len(entries(cache)) == 3
    monkeypatch.setattr(embedding_cache, "FORMAT", "next")
    prior_of(folder).embed(TEXTS[:1])
    assert len(entries(cache)) == 4


def test_a_full_disk_is_a_warning(folder, cache, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    expected = prior_of(folder).embed(TEXTS[:1])
    shutil.rmtree(cache)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(UserWarning, match="could not be kept.*No space left.*embeds again"):
        assert same(prior_of(folder).embed(TEXTS[:1]), expected)
    assert [file for file in cache.rglob("*") if file.is_file()] == []


def test_the_embedded_prior_leaves_no_files(cache):
    PretrainedPrior().embed(["a red chair"])
    assert not cache.exists()


def test_a_folder_of_embeddings_replaces_the_encoder(folder, cache, tmp_path):
    expected = prior_of(folder).embed(TEXTS)
    out = EmbeddingFolder(tmp_path / "out", "IFPipeline")
    for row, text in enumerate(TEXTS):
        out.write(text, expected.rows(slice(row, row + 1)))
    shutil.rmtree(folder / "text_encoder")
    shutil.rmtree(cache)
    prior = prior_of(folder, embeddings=str(tmp_path / "out"))
    assert same(prior.embed(TEXTS), expected)
    with pytest.raises(ValueError, match="no embedding of 'a blue ball' by a IFPipeline.*embed --out"):
        prior.embed(["a blue ball"])
    with pytest.raises(ValueError, match="no folder of embeddings at nowhere.*embed --out"):
        prior_of(folder, embeddings="nowhere")
    assert not cache.exists()


def test_embeddings_of_a_model_of_another_width_are_refused(folder, tmp_path):
    EmbeddingFolder(tmp_path / "out", "IFPipeline").write("a", TextEmbedding(torch.zeros(1, 77, 24)))
    with pytest.raises(ValueError, match="width 24.*expects 16"):
        prior_of(folder, embeddings=str(tmp_path / "out")).embed(["a"])


def test_a_user_without_a_home_has_a_cache_in_the_working_folder(tmp_path, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "home", no_home)
    for said in (None, ""):
        if said is None:
            monkeypatch.delenv("XDG_CACHE_HOME")
        else:
            monkeypatch.setenv("XDG_CACHE_HOME", said)
        assert user_cache() == tmp_path / ".cache" / "dreamfusion_pl"
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    assert user_cache() == tmp_path / "home" / ".cache" / "dreamfusion_pl"
