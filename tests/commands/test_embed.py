"""``embed``, and a fit that then needs no text encoder."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from fakes import SMALL_CALLBACKS
from tiny_pipeline import save_tiny_pipeline

from dreamfusion_pl.cli import main
from dreamfusion_pl.diffusion.families.pretrained import PretrainedPrior
from dreamfusion_pl.diffusion.text.embedding_cache import EmbeddingFolder
from dreamfusion_pl.diffusion.text.view_names import VIEW_NAMES
from dreamfusion_pl.evaluation.finished_runs import load

SMALL = {
    "model": {
        "init_args": {
            "scene": {"init_args": {"resolution": 8, "channels": 4, "width": 8}},
            "renderer": {"num_samples": 8, "occupancy_resolution": 8, "num_strata": 16},
            "prior": {"init_args": {"model": "tiny", "dtype": "float32"}},
            "directions": 4,
            "negative_prompt": "blue",
        }
    },
    "data": {"init_args": {"views_per_step": 1, "look_resolution": 16, "num_val_views": 2}},
    "trainer": {
        "max_steps": 2,
        "val_check_interval": 2,
        "log_every_n_steps": 1,
        "callbacks": SMALL_CALLBACKS,
    },
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    save_tiny_pipeline(tmp_path / "tiny")
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
    return tmp_path


def run(command, *words):
    return main([command, "--config", "small.yaml", *words])


def test_a_fit_without_a_text_encoder_and_an_object_without_its_prior(here, capsys):
    assert run("embed", "--prompt", "a red chair", "--out", "texts") == 0
    assert "tiny: 5 texts in texts" in capsys.readouterr().out
    expected = PretrainedPrior("tiny", dtype="float32").embed(["a red chair, back view", "blue"])
    shutil.rmtree("tiny/text_encoder")
    shutil.rmtree("cache")
    assert run("fit", "--prompt", "a red chair", "--model.prior.embeddings", "texts") == 0
    assert Path("lightning_logs/version_0/checkpoints/last.ckpt").is_file()
    known = EmbeddingFolder(Path("texts"), "IFPipeline")
    for row, text in enumerate(("a red chair, back view", "blue")):
        assert known.read(text).tokens.equal(expected.tokens[row : row + 1])
    assert run("fit", "--prompt", "a blue chair", "--model.prior.embeddings", "texts") == 2
    assert "no embedding of 'a blue chair, front view'" in capsys.readouterr().err
    shutil.rmtree("tiny")
    assert main(["render", "lightning_logs/version_0", "--stills", "--frames", "1", "--size", "8"]) == 0
    with pytest.raises(RuntimeError, match="without its prior"):
        load(Path("lightning_logs/version_0")).prior.encode(torch.zeros(1, 8, 8, 3), 1.0)


def test_many_prompts_into_the_cache(here, capsys):
    Path("prompts.csv").write_text("prompt,model.prompts.directions\na red chair,\na blue ball,0\n")
    assert run("embed", "--prompts", "prompts.csv") == 0
    assert "tiny: 6 texts in " in capsys.readouterr().out
    (cache,) = Path("cache/dreamfusion_pl/embeddings").iterdir()
    known = EmbeddingFolder(cache, "IFPipeline")
    texts = [f"a red chair, {name}" for name in VIEW_NAMES[4]] + ["a blue ball", "blue"]
    assert all(known.read(text) is not None for text in texts)
    assert len(list(cache.iterdir())) == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "embed is for a fit with a prompt"),
        (["--prompt", " "], "the prompt is empty"),
        (["--prompts", "nowhere.txt"], "nowhere.txt cannot be read"),
        (["--prompt", "a chair", "--model.prior", "fakes.ColorPrior"], "fakes.ColorPrior has no text encod"),
        (["--prompt", "a chair", "--model.prior.model", "builtin"], "pass --out FOLDER"),
        (["--prompt", "a chair", "--model.prior.modell", "tiny"], "modell"),
        (["--prompt", "a chair", "--out", "small.yaml"], "small.yaml"),
    ],
)
def test_bad_input_is_one_message(here, capsys, words, message):
    assert run("embed", *words) in (1, 2)
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_what_has_no_prompt_has_no_texts(capsys):
    assert main(["embed", "--config", "denoiser.yaml"]) == 2
    assert "embed is for a fit with a prompt" in capsys.readouterr().err


def test_embeddings_of_another_model_are_neither_mixed_nor_used(here, capsys):
    save_tiny_pipeline(here / "other")
    save_tiny_pipeline(here / "elsewhere" / "tiny")  # the same model, copied
    words = ["--prompt", "a red chair", "--out", "texts"]
    assert run("embed", *words) == 0
    label = json.loads(Path("texts/model.json").read_text())
    known = {"kind": "IFPipeline", "model": "tiny", "commit": None, "config": None, "dtype": "float32"}
    assert label == known
    assert run("embed", *words) == 0  # again
    capsys.readouterr()
    for more, message in (
        (["--model.prior.model", "other"], "model tiny (here other)"),
        (["--model.prior.dtype", "bfloat16"], "dtype float32 (here bfloat16)"),
    ):
        assert run("embed", *words, *more) == 2
        assert f"are of another model: {message}" in capsys.readouterr().err
    PretrainedPrior("elsewhere/tiny", embeddings="texts", dtype="bfloat16").embed(["a red chair, back view"])
    with pytest.raises(ValueError, match="are of another model: model tiny .here other"):
        PretrainedPrior("other", embeddings="texts")
    assert main(["doctor", "--model.prior.model", "other", "--model.prior.embeddings", "texts"]) == 1
    assert "are of another model" in capsys.readouterr().out
    Path("texts/model.json").write_text("half a")
    with pytest.raises(ValueError, match="model.json is damaged"):
        PretrainedPrior("tiny", embeddings="texts")
